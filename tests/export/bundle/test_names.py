from __future__ import annotations

import re
import time

import pytest

from export.bundle.names import check_names
from export.errors import SecurityError

LETTERS = "is not made of letters, digits and . _ + - alone, or begins or ends with a dot"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x", LETTERS),
        ("model/../../x", LETTERS),
        ("model/..", LETTERS),
        ("./x", LETTERS),
        ("/etc/passwd", LETTERS),
        ("//host/share", LETTERS),
        ("model//x", LETTERS),
        ("model/", LETTERS),
        ("", LETTERS),
        ("C:/x", LETTERS),
        ("C:x", LETTERS),
        ("x:stream", LETTERS),
        ("..\\x", LETTERS),
        ("model\\x", LETTERS),
        ("a\0b", LETTERS),
        ("a\nb", LETTERS),
        ("a\x1b[2Jb", LETTERS),
        ("~root", LETTERS),
        ("$HOME", LETTERS),
        ("-rf", LETTERS),
        (".hidden", LETTERS),
        (".git/config", LETTERS),
        ("x.", LETTERS),
        ("x ", LETTERS),
        (" x", LETTERS),
        ("a b", LETTERS),
        ("mod\u0435l", LETTERS),
        ("\uff0e\uff0e/x", LETTERS),
        ("a\u2215b", LETTERS),
        ("a\u202etxt", LETTERS),
        ("x\u0301", LETTERS),
        ("\u0661", LETTERS),
        ("\udcff", LETTERS),
        ("con", "Windows takes 'con' for a device"),
        ("model/NUL.txt", "Windows takes 'NUL.txt' for a device"),
        ("COM1.tar.gz/x", "Windows takes 'COM1.tar.gz' for a device"),
        ("lpt9", "for a device"),
        ("a" * 161, "it has 161 characters, at most 160 are allowed"),
        ("a/b/c/d/e/f/g", "it lies 7 folders deep, at most 6 are allowed"),
    ],
)
def test_a_name_that_could_mean_another_place_is_refused(name: str, reason: str) -> None:
    with pytest.raises(SecurityError, match=f"the file name .* is refused: .*{re.escape(reason)}") as found:
        check_names(["fine", name])
    assert str(found.value).isprintable() and len(str(found.value)) < 300


@pytest.mark.parametrize("pair", [("a", "A"), ("model/x", "Model/X"), ("x", "x")])
def test_names_that_are_one_file_on_some_systems(pair: tuple[str, str]) -> None:
    with pytest.raises(SecurityError, match="are one file on systems that do not tell small from capital letters"):
        check_names(pair)


@pytest.mark.parametrize("pair", [("model", "model/x"), ("a/b/c", "a/b"), ("Model", "model/x")])
def test_a_name_that_is_file_and_folder(pair: tuple[str, str]) -> None:
    with pytest.raises(SecurityError, match=r"is a file and, by .*, a folder; nothing was read"):
        check_names(pair)


def test_ordinary_names_are_taken() -> None:
    check_names(
        [
            "model/model.xml",
            "golden/0-in-0.npy",
            "SHA256SUMS",
            "_x",
            "a.b-c+d",
            "0",
            "console",
            "com",
            "nul_",
            "a" * 160,
            "a/b/c/d/e/f",
        ]
    )


def test_many_names_take_no_quadratic_time() -> None:
    """A manifest of 4 MiB can list 40,000 files; pair by pair they would take minutes."""
    start = time.process_time()
    check_names(f"{number}/x" for number in range(40_000))
    assert time.process_time() - start < 5
