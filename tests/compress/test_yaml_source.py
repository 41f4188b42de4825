from __future__ import annotations

from pathlib import Path

import pytest

from compress.yaml_source import override, parse_yaml, read_yaml, spell
from export.errors import InputError, SecurityError


def test_values_are_plain_and_keep_their_lines() -> None:
    source = parse_yaml("name: a\nrate: 1e-3\nwhen: 2024-01-01\nsteps:\n  - prune: {macs_ratio: 2}\n", "r.yaml")
    assert source.value == {"name": "a", "rate": 0.001, "when": "2024-01-01", "steps": [{"prune": {"macs_ratio": 2}}]}
    assert source.where(("steps", 0, "prune", "macs_ratio")) == "r.yaml:5"
    assert source.where(("steps", 0, "prune", "unknown")) == "r.yaml:5"
    assert spell(("steps", 0, "prune")) == "steps[0].prune"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", r"r.yaml:2: top level: key 'a' stands twice"),
        ("a: [1, 2\n", r"r.yaml:\d: not valid YAML"),
        ("a: .nan\n", r"r.yaml:1: a: found .nan; a finite number is needed"),
        ("? [1, 2]\n: 3\n", r"a key must be a word"),
        ("x: &x {a: 1}\ny: {<<: *x}\n", r"merge keys are not supported"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_yaml(text, "r.yaml")


def test_a_tag_is_refused_and_never_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(SecurityError, match=r"r.yaml:1: a: YAML tag .* refused") as refused:
        parse_yaml(f"a: !!python/object/apply:os.mknod ['{canary}']\n", "r.yaml")
    assert refused.value.exit_code == 4
    assert not canary.exists()


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(SecurityError, match=r"81 YAML aliases"):
        parse_yaml("\n".join(lines), "r.yaml")


def test_override_sets_changes_and_removes() -> None:
    source = parse_yaml("steps:\n  - prune: {macs_ratio: 2.0}\n", "r.yaml")
    changed = override(source, ["steps.0.prune.macs_ratio=null", "steps.0.prune.speedup=2.5", "benchmark.threads=2"])
    assert changed.value == {"steps": [{"prune": {"speedup": 2.5}}], "benchmark": {"threads": 2}}
    assert changed.where(("steps", 0, "prune", "speedup")) == "--set steps.0.prune.speedup=2.5"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps.0.prune.speedup", r"expected PATH=VALUE"),
        ("steps.3.prune.speedup=2", r"no steps\[3\]; found a list of 1"),
        ("steps.prune.speedup=2", r"no steps.prune; found a list of 1"),
        ("name.a.b=2", r"no name.a; found 'n' there"),
    ],
)
def test_override_says_where_its_path_ends(assignment: str, message: str) -> None:
    source = parse_yaml("name: n\nsteps:\n  - prune: {macs_ratio: 2.0}\n", "r.yaml")
    with pytest.raises(InputError, match=message):
        override(source, [assignment])


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the recipe: No such file"):
        read_yaml(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 0\)"):
        read_yaml(tmp_path / "binary.yaml")
    (tmp_path / "large.yaml").write_bytes(b"a" * 1_000_001)
    with pytest.raises(InputError, match=r"1000001 bytes; a recipe has at most 1000000"):
        read_yaml(tmp_path / "large.yaml")
