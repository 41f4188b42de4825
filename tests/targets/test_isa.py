"""Features from the kernel's CPU flags, as published cpuinfo listings show them."""

from __future__ import annotations

import pytest

from targets.isa import features_of, instruction_sets, slow_int8


@pytest.mark.parametrize(
    ("flags", "features"),
    [
        ("fma avx2 bmi2", {"avx2"}),  # Zen 3
        ("avx2 avx_vnni", {"avx2", "vnni"}),  # Alder Lake
        ("avx2 avx512f avx512_vnni avx512_bf16", {"avx2", "avx512f", "vnni", "bf16"}),  # Zen 5
        ("fp asimd fphp asimdhp asimddp", {"dotprod", "fp16"}),  # Cortex-A76
        (
            "avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile",
            {"avx512f", "vnni", "bf16", "fp16", "amx"},
        ),  # Sapphire Rapids
        ("", set()),
    ],
)
def test_features_follow_from_flags(flags: str, features: set[str]) -> None:
    assert features_of(flags.split()) == features


def test_a_system_without_cpuinfo_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: False)
    assert instruction_sets.__wrapped__() == frozenset()


def test_a_cpu_without_int8_dot_products_is_named() -> None:
    told = slow_int8({"avx2"}, "amd64")
    assert told is not None
    assert told.startswith("this CPU has no INT8 VNNI instructions: INT8 is bound to about 2x FP32 here")
    assert slow_int8({"avx2", "vnni"}, "amd64") is None
    assert slow_int8({"dotprod"}, "arm64") is None
    assert slow_int8(set(), "arm64") is None
