from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.run_directory import RunDirectory, digest_of
from export.errors import EnvironmentFailure, InputError


def fill(folder: Path, text: str = "x") -> None:
    (folder / "content").write_text(text)


def test_a_part_is_built_once_and_reused_by_its_key(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        folder, reused = directory.part("stages/1-prune", {"ratio": 2}, lambda new: fill(new, "first"))
        assert (reused, (folder / "content").read_text()) == (False, "first")
        folder, reused = directory.part("stages/1-prune", {"ratio": 2}, lambda new: fill(new, "second"))
        assert (reused, (folder / "content").read_text()) == (True, "first")
        folder, reused = directory.part("stages/1-prune", {"ratio": 3}, lambda new: fill(new, "third"))
        assert (reused, (folder / "content").read_text()) == (False, "third")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("broken")])
def test_an_interrupted_part_leaves_nothing_under_its_name(tmp_path: Path, failure: BaseException) -> None:
    def build(folder: Path) -> None:
        fill(folder)
        raise failure

    with RunDirectory(tmp_path / "run") as directory:
        with pytest.raises(type(failure)):
            directory.part("stages/1-prune", {}, build)
        assert list((tmp_path / "run" / "stages").iterdir()) == []


def test_an_older_part_survives_a_failed_replacement(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunDirectory(tmp_path / "run") as directory:
        directory.part("artifacts/a/fp32", {"v": 1}, fill)
        with pytest.raises(
            EnvironmentFailure, match=r"the disk is full while writing artifacts/a/fp32 .*MB free"
        ) as full:
            directory.part("artifacts/a/fp32", {"v": 2}, fail)
        assert full.value.exit_code == 6
        folder, reused = directory.part("artifacts/a/fp32", {"v": 1}, fill)
        assert reused
        assert (folder / "content").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        with RunDirectory(small / "run") as directory:
            with pytest.raises(EnvironmentFailure, match=r"the disk is full"):
                directory.part(
                    "stages/1-prune", {}, lambda folder: (folder / "big").write_bytes(b"0" * 3_000_000) and None
                )
            assert list((small / "run" / "stages").iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_second_run_names_the_holder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from compress.run_directory import RunDirectory; "
        "RunDirectory(Path(sys.argv[1])).__enter__()"
    )
    with RunDirectory(tmp_path / "run"):
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=False
        )
    assert f"another run holds this folder (process {os.getpid()})" in second.stderr
    with RunDirectory(tmp_path / "run"):
        pass


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds 'thesis.tex', which is not of a run"), RunDirectory(tmp_path):
        pass
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match=r"is a file; --out takes a folder"), RunDirectory(file):
        pass


def test_scratch_is_tied_to_its_key_and_outlives_the_process(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        (directory.scratch("stages/2-distill", {"epochs": 3}) / "checkpoint").write_text("epoch 1")
    with RunDirectory(tmp_path / "run") as directory:
        assert (directory.scratch("stages/2-distill", {"epochs": 3}) / "checkpoint").read_text() == "epoch 1"
        assert list(directory.scratch("stages/2-distill", {"epochs": 4}).iterdir()) == []
        directory.drop_scratch()
        assert list(directory.scratch("stages/2-distill", {"epochs": 3}).iterdir()) == []


def test_what_an_earlier_recipe_left_goes_and_what_this_run_used_stays(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        for place in ("stages/1-prune", "stages/2-distill", "artifacts/openvino/int8", "artifacts/tensorrt/fp16"):
            directory.part(place, {}, fill)
    with RunDirectory(tmp_path / "run") as directory:
        directory.part("stages/1-prune", {}, fill)
        directory.part("artifacts/openvino/int8", {"new": 1}, fill)
        directory.drop_leftovers()
    left = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_dir()}
    assert left == {"stages", "stages/1-prune", "artifacts", "artifacts/openvino", "artifacts/openvino/int8"}


def test_a_key_does_not_depend_on_the_order_of_its_entries() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
