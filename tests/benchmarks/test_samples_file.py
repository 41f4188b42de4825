from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.samples_file import FILE, key_of, read_samples, write_samples
from export.errors import InputError


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = {
        key_of("torch"): np.arange(6, dtype=np.float64).reshape(2, 3) / 7,
        key_of("openvino"): np.ones((2, 3), np.float32),
    }
    write_samples(tmp_path / FILE, rows)
    for place in (tmp_path, tmp_path / "report.json"):
        found = read_samples(place)
        assert sorted(found) == ["openvino/evaluation", "torch/evaluation"]
        for name, expected in rows.items():
            np.testing.assert_array_equal(found[name], expected)
            assert found[name].dtype == expected.dtype
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_a_run_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 but cut off"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(
        InputError, match=r"samples.npz: not the samples of a run .*; delete it, or run the recipe again"
    ):
        read_samples(tmp_path)


def test_pickled_objects_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, rows=np.array([{"code": 1}], dtype=object))
    with pytest.raises(InputError, match=r"samples.npz: not the samples of a run \(Object arrays cannot be loaded"):
        read_samples(tmp_path)


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, rows=np.zeros(3, int))
    with pytest.raises(InputError, match=r"'rows' must be rows of floating-point numbers, found shape \(3,\) of int64"):
        read_samples(tmp_path)
