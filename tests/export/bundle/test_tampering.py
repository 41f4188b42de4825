"""Whatever is changed in a bundle after packing is noticed: every bit, every length, every file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from export.bundle.archive import write_archive
from export.bundle.manifest import SUMS
from export.bundle.verify import unpacked, verify
from export.errors import SecurityError
from tests.export.bundle.bundles import bundle_files, write_folder, zip_bytes

FILES = bundle_files()
ARCHIVE = zip_bytes(FILES)


def refused(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        verify(path)
    except SecurityError as error:
        assert str(error).startswith("x.compress: ") and str(error).isprintable()
        return True
    return False


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_every_byte_flipped_is_noticed(tmp_path: Path, flip: int) -> None:
    taken = bytearray(ARCHIVE)
    missed = []
    for place in range(len(taken)):
        taken[place] ^= flip
        if not refused(tmp_path / "x.compress", taken):
            missed.append(place)
        taken[place] ^= flip
    assert missed == []
    assert not refused(tmp_path / "x.compress", taken), "flipped back, it is whole"


def test_every_length_that_it_is_cut_to_is_noticed(tmp_path: Path) -> None:
    assert all(refused(tmp_path / "x.compress", ARCHIVE[:length]) for length in range(len(ARCHIVE)))


@pytest.mark.parametrize("more", [b"\0", b"\n", ARCHIVE[-22:], ARCHIVE, b"PK\5\6" + bytes(18)])
def test_what_is_put_behind_or_before_it_is_noticed(tmp_path: Path, more: bytes) -> None:
    assert refused(tmp_path / "x.compress", ARCHIVE + more)
    assert refused(tmp_path / "x.compress", more + ARCHIVE)


places = st.integers(0, len(ARCHIVE))


@given(
    how=st.sampled_from(["insert", "delete", "repeat", "swap", "write"]),
    ends=st.lists(places, min_size=4, max_size=4).map(sorted),
    content=st.binary(min_size=1, max_size=40),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutation_passes_but_the_same_bytes(tmp_path: Path, how: str, ends: list[int], content: bytes) -> None:
    one, two, three, four = ends
    mutated = {
        "insert": ARCHIVE[:one] + content + ARCHIVE[one:],
        "delete": ARCHIVE[:one] + ARCHIVE[two:],
        "repeat": ARCHIVE[:two] + ARCHIVE[one:],
        "swap": ARCHIVE[:one] + ARCHIVE[three:four] + ARCHIVE[two:three] + ARCHIVE[one:two] + ARCHIVE[four:],
        "write": ARCHIVE[:one] + content + ARCHIVE[one + len(content) :],
    }[how]
    assume(mutated != ARCHIVE)
    assert refused(tmp_path / "x.compress", mutated)


def written(files: Mapping[str, bytes], folder: Path, form: str) -> Path:
    if form == "folder":
        return write_folder(files, folder / "bundle")
    write_folder(files, folder / "files")
    write_archive({name: folder / "files" / name for name in files}, folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_removed_renamed_or_emptied_is_noticed(tmp_path: Path, form: str, name: str) -> None:
    left = {other: content for other, content in FILES.items() if other != name}
    for number, files in enumerate((left, left | {name + "x": FILES[name]}, FILES | {name: b""})):
        with pytest.raises(SecurityError):
            verify(written(files, tmp_path / str(number), form))


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_any_two_files_swapped_are_noticed(tmp_path: Path, form: str) -> None:
    names = sorted(FILES)
    pairs = [(one, other) for one in names for other in names if one < other and FILES[one] != FILES[other]]
    for number, (one, other) in enumerate(pairs):
        with pytest.raises(SecurityError):
            verify(written(FILES | {one: FILES[other], other: FILES[one]}, tmp_path / str(number), form))


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize("name", ["new", "model/new.bin", "model/model.ort.bak", "signature.json", "a/b/c/d/e/f"])
def test_a_file_added_is_noticed(tmp_path: Path, form: str, name: str) -> None:
    with pytest.raises(
        SecurityError, match=r"is not in the manifest; the bundle was changed|does not list the checksums"
    ):
        verify(written(FILES | {name: b"new"}, tmp_path, form))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (FILES | {"runner.pyz": b"pk"}, r"x: runner.pyz has the sha256 .*, the manifest says .*; it was changed after"),
        (FILES | {"runner.pyz": b"PKK"}, r"x: runner.pyz has 3 bytes, the manifest says 2; fetch the bundle again"),
        ({**FILES, SUMS: b""}, r"x: SHA256SUMS does not list the checksums of manifest.json and the files; fetch"),
        ({name: FILES[name] for name in FILES if name != SUMS}, r"x: it has no SHA256SUMS of at most 4 MiB"),
        ({name: FILES[name] for name in FILES if name != "runner.pyz"}, r"x: runner.pyz is missing; fetch"),
        ({"manifest.json": bytes(1 + (1 << 22)), SUMS: b""}, r"x: it has no manifest.json of at most 4 MiB"),
        ({"a": b"b"}, r"x: it has no manifest.json; it is no bundle of `compress pack`"),
    ],
)
def test_the_sentence_says_what_is_wrong(tmp_path: Path, files: Mapping[str, bytes], sentence: str) -> None:
    with pytest.raises(SecurityError, match=sentence):
        verify(write_folder(files, tmp_path / "x"))


def test_an_archive_changed_after_it_was_verified_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "x.compress").write_bytes(ARCHIVE)
    bundle = verify(tmp_path / "x.compress")
    place = ARCHIVE.index(b"ORTM") + 10
    (tmp_path / "x.compress").write_bytes(ARCHIVE[:place] + b"\xff" + ARCHIVE[place + 1 :])
    with pytest.raises(SecurityError, match=re.escape("model/model.ort")), unpacked(bundle):
        raise AssertionError("it must not come so far")
