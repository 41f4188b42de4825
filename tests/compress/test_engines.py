"""What engines are kept under: the code that makes them is part of it."""

from pathlib import Path

import pytest

from compress.engines import code_of


def test_a_change_in_any_file_of_a_package_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "maker"
    (package / "inner").mkdir(parents=True)
    for file in ("__init__.py", "inner/__init__.py", "inner/rule.py"):
        (package / file).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for text in ("", "RATIO = 2\n", "RATIO = 3\n", ""):
        (package / "inner" / "rule.py").write_text(text)
        code_of.cache_clear()
        found.append(code_of("maker"))
    assert found[0] == found[3] and len(set(found)) == 3
    code_of.cache_clear()
