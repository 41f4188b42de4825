"""Explanations of made-up profiles: every kind of advice with a gain worked out by hand, and silence without a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.explain.changes import changes
from benchmarks.explain.explain import CHANGES_SHOWN, explain
from benchmarks.explain.figures import Change, Subject, dispatch_total, figures, floors
from benchmarks.explain.graph import Quantized
from benchmarks.explain.layer_work import Work, padded, work_of
from benchmarks.explain.roofline import Roofline
from benchmarks.explain.tables import explanation_tables, island_table, kind_table, layer_table
from benchmarks.measurements import Interval
from targets import LayerTime, Profile

MS = 1e-3
ROOFLINE = Roofline(
    peaks={"convolution": {"fp32": 50e9, "int8": 100e9}, "matmul": {"fp32": 50e9, "int8": 40e9}},
    memory_bytes_per_s=10e9,
    cache_bytes_per_s=100e9,
    cache_bytes=32_000_000,
    dispatch_s=1e-6,
    empty_call_s=0.0,
)


def matmul(
    name: str, time_s: float, precision: str = "fp32", rows: int = 64, inside: int = 384, out: int = 384
) -> LayerTime:
    shapes = ((1, rows, inside), (out, inside)), ((1, rows, out),)
    return LayerTime(name, "FullyConnected", precision, time_s, *shapes)


def conv(
    name: str, time_s: float, precision: str = "fp32", inside: int = 32, out: int = 32, extent: int = 16
) -> LayerTime:
    shapes = ((1, inside, extent, extent), (out, inside, 3, 3), (out,)), ((1, out, extent, extent),)
    return LayerTime(name, "Convolution", precision, time_s, *shapes)


def simple(
    name: str, operator: str, time_s: float, precision: str = "fp32", shape: tuple[int, ...] = (1, 8)
) -> LayerTime:
    return LayerTime(name, operator, precision, time_s, (shape,), (shape,))


def subject(
    layers: Sequence[LayerTime], call_s: float, fp32: Sequence[LayerTime] = (), fp32_call_s: float = 0.0, **more: object
) -> Subject:
    """Nothing else advises: `others` and Q/DQ are empty unless given."""
    known = Subject("openvino", "int8" if fp32 else "fp32", Profile(tuple(layers), call_s), ROOFLINE)
    if fp32:
        known = replace(known, fp32=Profile(tuple(fp32), fp32_call_s))
    return replace(known, **more)  # type: ignore[arg-type]


def advice(about: Subject, telling: str) -> Change | None:
    return next((change for change in changes(figures(about), about) if telling in change.sentence), None)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # 16 * 16 * 20 * 3 * 9 multiply-adds; three colours are not padded, 20 channels are to 32
        (
            LayerTime("stem", "Conv", "fp32", 1.0, ((1, 3, 16, 16), (20, 3, 3, 3), (20,)), ((1, 20, 16, 16),)),
            ("convolution", 138_240, 221_184, 3, 20, 1),
        ),
        # depthwise: 16 groups of one channel, OpenVINO's five axes
        (
            LayerTime("dw", "Convolution", "int8", 1.0, ((1, 16, 8, 8), (16, 1, 1, 3, 3)), ((1, 16, 8, 8),)),
            ("convolution", 9_216, 9_216, 1, 16, 16),
        ),
        # ONNX Runtime's INT8 kernel: channels last, scales between
        (
            LayerTime(
                "q",
                "QLinearConv",
                "int8",
                1.0,
                ((1, 8, 8, 16), (), (), (32, 16, 1, 1), (32,), (32,), (), (), (32,)),
                ((1, 8, 8, 32),),
            ),
            ("convolution", 32_768, 32_768, 16, 32, 1),
        ),
        (
            LayerTime("heads", "MatMul", "fp32", 1.0, ((1, 12, 64, 32), (1, 12, 32, 64)), ((1, 12, 64, 64),)),
            ("matmul", 1_572_864, 1_572_864, 32, 64, 1),
        ),
        (LayerTime("soft", "Softmax", "fp32", 1.0, ((1, 8),), ((1, 8),)), ("other", 0, 0, 0, 0, 1)),
        (LayerTime("bare", "Conv", "fp32", 1.0), ("other", 0, 0, 0, 0, 1)),
    ],
)
def test_work_follows_from_the_shapes(layer: LayerTime, expected: tuple[object, ...]) -> None:
    work = work_of(layer)
    found = (work.kind, work.macs, work.padded_macs, work.channels_in, work.channels_out, work.groups)
    assert found == expected


def test_bytes_have_the_width_of_the_precision() -> None:
    fp32, int8 = work_of(matmul("m", 1.0)), work_of(matmul("m", 1.0, "int8"))
    assert (fp32.weight_bytes, fp32.activation_bytes) == (4 * 384 * 384, 4 * 2 * 64 * 384)
    assert (int8.weight_bytes, int8.activation_bytes) == (384 * 384, 2 * 64 * 384)
    assert work_of(LayerTime("h", "MatMul", "fp32", 1.0, ((2, 4, 8), (2, 8, 4)), ((2, 4, 4),))).weight_bytes == 0


def test_padding_is_the_share_that_is_not_there() -> None:
    assert [padded(channels) for channels in (1, 16, 17, 32)] == [16, 16, 32, 32]
    assert Work("convolution", macs=20, padded_macs=32).padding == pytest.approx(0.375)


def test_the_floors_are_peak_memory_and_dispatch() -> None:
    work = Work("matmul", macs=50_000_000, weight_bytes=10_000_000, activation_bytes=1_000_000)
    asked = floors(work, "fp32", ROOFLINE, streamed=True)
    assert asked == pytest.approx({"compute": 1e-3, "memory": 1e-3 + 1e-5, "dispatch": 1e-6})
    assert floors(work, "fp32", ROOFLINE, streamed=False)["memory"] == pytest.approx(1.1e-4)
    assert floors(work, "bf16", ROOFLINE, streamed=False)["compute"] == pytest.approx(1e-3)


def test_layers_carry_share_peak_bound_and_their_time_in_fp32() -> None:
    int8, fp32 = conv("c/WithoutBiases", 0.1 * MS, "int8"), conv("c", 0.15 * MS)
    found = figures(subject([int8, simple("r", "Reorder", 1e-6)], 0.2 * MS, [fp32], 0.3 * MS))
    product, reorder = found.layers
    assert product.share == pytest.approx(0.5)
    assert product.peak_share == pytest.approx(256 * 32 * 32 * 9 / 100e9 / (0.1 * MS))
    assert (product.bound, product.fp32_s) == ("compute", 0.15 * MS)
    assert (reorder.bound, reorder.peak_share, reorder.reached) == ("dispatch", None, 1.0)
    assert found.conversions == (reorder,)


def test_products_are_paired_by_what_they_multiply_not_by_name() -> None:
    int8 = [matmul("a", MS, "int8"), matmul("b", MS, "int8"), matmul("only", MS, "int8", out=16)]
    found = figures(subject(int8, 4 * MS, [matmul("x", 2 * MS), matmul("y", 3 * MS)], 5 * MS))
    assert [layer.fp32_s for layer in found.layers] == [2 * MS, 3 * MS, None]


def test_a_size_that_the_engines_hold_in_different_numbers_is_not_paired() -> None:
    found = figures(subject([matmul("a", MS, "int8")], 4 * MS, [matmul("x", MS), matmul("y", MS)], 5 * MS))
    assert found.layers[0].fp32_s is None


def test_a_peak_is_no_less_than_what_a_layer_reached() -> None:
    fast = conv("fast", 256 * 32 * 32 * 9 / 60e9)  # 60 G a second where the roofline found 50
    raised = replace(ROOFLINE, peaks={"convolution": {"fp32": 10e9}, "matmul": {"fp32": 50e9}})
    found = figures(replace(subject([replace(fast, time_s=60e-6)], MS), roofline=raised))
    assert found.roofline.peaks["convolution"]["fp32"] == pytest.approx(256 * 32 * 32 * 9 / 60e-6)
    short = figures(replace(subject([fast], MS), roofline=raised))
    assert short.roofline.peaks["convolution"]["fp32"] == 10e9


def test_dispatch_is_the_larger_of_gap_and_expectation_and_at_most_the_call() -> None:
    layers = (simple("a", "Softmax", 3e-6),) * 10
    assert dispatch_total(Profile(layers, 50e-6), ROOFLINE) == pytest.approx(20e-6)
    assert dispatch_total(Profile(layers, 31e-6), ROOFLINE) == pytest.approx(10e-6)
    assert dispatch_total(Profile(layers, 31e-6), replace(ROOFLINE, empty_call_s=1.0)) == pytest.approx(31e-6)


SLOWER = subject(
    [matmul("a", 4 * MS, "int8")],
    5 * MS,
    [matmul("a", 3 * MS)],
    4 * MS,
    slow_int8="this CPU has no VNNI",
    measured=Interval(0.82, 0.8, 0.84),
)


def test_where_int8_loses_fp32_is_the_advice_and_the_reasons_are_told() -> None:
    found = explain(SLOWER)
    assert found.changes[0].sentence == "Ship FP32 on this machine: 4.00 ms instead of 5.00 in INT8."
    assert found.changes[0].gain_s == pytest.approx(1 * MS)
    told = " ".join(found.findings)
    assert "INT8 is slower than FP32 here: 5.00 ms against 4.00 (0.80x; the run measured 0.82x [0.80, 0.84])" in told
    assert "1 matrix product: 3.00 ms in FP32, 4.00 in INT8 (0.75x)" in told
    assert "50.0 G multiply-adds/s in FP32 and 40.0 G multiply-adds/s in INT8" in told
    assert "0.80x says that INT8 has nothing to gain on matrix products here" in told
    assert "This CPU has no VNNI." in told


def test_the_products_that_lose_stay_float_where_others_win() -> None:
    int8 = [conv("c", 1 * MS, "int8"), matmul("m", 3 * MS, "int8")]
    about = subject(int8, 4 * MS, [conv("c", 3 * MS), matmul("m", 2 * MS)], 5 * MS)
    change = advice(about, "Leave 1 matrix product float")
    assert change is not None
    assert "3.00 ms in INT8, 2.00 ms in FP32 (m)" in change.sentence
    assert change.gain_s == pytest.approx(1 * MS)
    assert advice(about, "Ship FP32") is None


@pytest.mark.parametrize(
    ("quantized", "why"),
    [
        (None, "made by the runtime"),
        (Quantized("Conv", (False, False), False), "not quantized in the model"),
        (Quantized("Conv", (True, False), True), "quantized on one side only"),
        (Quantized("Conv", (True, True), False), "its inputs are quantized, its output is not"),
        (Quantized("Conv", (True, True), True), "the runtime has no INT8 kernel for it"),
    ],
)
def test_a_float_product_between_int8_ones_is_an_island_with_its_reason(quantized: Quantized | None, why: str) -> None:
    """The other convolution is twice as fast in INT8, so half of the island's 2 ms are to gain."""
    int8 = [conv("c", 1 * MS, "int8"), conv("island", 2 * MS, extent=8)]
    fp32 = [conv("c", 2 * MS), conv("island", 2 * MS, extent=8)]
    about = subject(int8, 4 * MS, fp32, 5 * MS, quantization={"island": quantized} if quantized else {})
    change = advice(about, "Quantize 1 Convolution that stays float (island)")
    assert change is not None
    assert why in change.sentence
    assert change.gain_s == pytest.approx(1 * MS)


def test_conversions_cost_what_the_fp32_engine_does_not_convert() -> None:
    int8 = [conv("c", MS, "int8"), *(simple(f"q{each}", "QuantizeLinear", 0.2 * MS, "other") for each in range(3))]
    about = subject(int8, 2 * MS, [conv("c", 2 * MS), simple("r", "Reorder", 0.1 * MS)], 3 * MS)
    change = advice(about, "3 QuantizeLinear run on their own")
    assert change is not None
    assert "take 0.600 ms, in FP32 0.100" in change.sentence
    assert change.gain_s == pytest.approx(0.5 * MS + 2e-6)


def test_twenty_channels_cost_like_thirty_two() -> None:
    about = subject([conv("c", 2 * MS, out=20), conv("last", MS, inside=20, out=10)], 3 * MS)
    change = advice(about, "Keep 16 instead of 20 channels")
    assert change is not None
    assert "or take 32 for the same price" in change.sentence
    assert change.gain_s == pytest.approx(1 * MS)


def test_the_last_product_and_full_rows_are_not_advised_on() -> None:
    assert advice(subject([conv("c", 2 * MS, out=32), conv("last", MS, out=20)], 3 * MS), "for the same price") is None


def test_a_layer_too_fast_to_be_padded_is_not_advised_on() -> None:
    """256 * 32 * 20 * 9 multiply-adds at 45 of 50 G a second; padded to 32 channels it would need 72."""
    layer = conv("c", 256 * 32 * 20 * 9 / 45e9, out=20)
    assert advice(subject([layer, conv("last", 1e-6)], layer.time_s), "for the same price") is None


def test_dispatch_asks_for_a_larger_batch() -> None:
    about = subject([simple(f"s{each}", "Softmax", 5e-6) for each in range(10)], 100e-6, batch_size=2)
    change = advice(about, "Batch the samples")
    assert change is not None
    assert "take 50 % at batch 2 (10 operators); at batch 16 each sample pays an eighth" in change.sentence
    assert change.gain_s == pytest.approx(50e-6 * 7 / 8)
    assert advice(subject([conv("c", 99 * MS)], 100 * MS), "Batch the samples") is None


def test_a_chain_of_elementwise_operators_would_take_its_longest() -> None:
    chain = [simple(name, name, time_s) for name, time_s in (("Div", MS), ("Erf", 4 * MS), ("Add", MS), ("Mul", MS))]
    about = subject([*chain, simple("n", "Softmax", MS), simple("lone", "Add", MS)], 10 * MS)
    change = advice(about, "elementwise operators that it can fuse")
    assert change is not None
    assert "1 Div, 1 Erf, 1 Add, 1 Mul" in change.sentence
    assert change.gain_s == pytest.approx(3 * MS)


def test_weights_that_do_not_fit_the_cache_ask_for_8_bits() -> None:
    """16 M weights in FP32: 64 MB, beyond the cache of 32; 6.4 ms at 10 GB/s, one row to multiply."""
    about = subject(
        [matmul("wide", 8 * MS, rows=1, inside=4000, out=4000), matmul("head", MS, rows=1, out=10)], 10 * MS
    )
    change = advice(about, "weights of 8 bits")
    assert change is not None
    assert "read 64.0 MB a call in 8.00 ms" in change.sentence
    assert change.gain_s == pytest.approx(6 * MS)


def test_the_most_costly_size_is_where_pruning_pays() -> None:
    layers = [conv("a", MS, out=64, inside=64), conv("b", MS, out=64, inside=64), conv("s", MS), conv("last", MS)]
    change = advice(subject(layers, 5 * MS), "Prune here first")
    assert change is not None
    assert (
        "2 convolutions of 64 to 64 channels take 2.00 ms, 40 % of a call (a, b). 16 output channels" in change.sentence
    )
    assert change.gain_s == pytest.approx(2 * MS / 4)


def test_another_target_of_the_run_that_is_faster_is_named() -> None:
    about = subject([conv("c", MS)], 2 * MS, others={"onnxruntime_mobile int8": MS, "slow fp32": 3 * MS})
    change = advice(about, "Ship onnxruntime_mobile int8 where the device allows it")
    assert change is not None
    assert change.gain_s == pytest.approx(1 * MS)
    assert advice(replace(about, others={"slow fp32": 3 * MS}), "where the device allows") is None


def test_three_changes_at_most_the_most_valuable_first() -> None:
    layers = [
        conv("c", 2 * MS, out=36, inside=64),
        *(simple(f"s{each}", "Add", MS) for each in range(4)),
        conv("l", MS),
    ]
    about = subject(layers, 10 * MS, others={"onnxruntime_mobile fp32": 1 * MS})
    gains = [change.gain_s for change in explain(about).changes]
    assert len(changes(figures(about), about)) > CHANGES_SHOWN == len(gains)
    assert gains == sorted(gains, reverse=True)


def test_without_a_figure_there_is_no_advice() -> None:
    assert explain(subject([simple("s", "Softmax", 99 * MS)], 100 * MS)).changes == ()


def test_what_only_fp32_fuses_is_told() -> None:
    int8 = [matmul("a", 4 * MS, "int8"), simple("s", "Softmax", MS)]
    found = explain(subject(int8, 6 * MS, [matmul("a", 3 * MS), simple("f", "Subgraph", MS)], 5 * MS))
    assert any("Only FP32 has 1 Subgraph (1.00 ms)" in finding for finding in found.findings)


def test_no_scheme_beats_amdahls_ceiling() -> None:
    """3 of 4 ms are convolutions that INT8 halves at best: 4 / 2.5."""
    found = explain(subject([conv("c", 2 * MS, "int8")], 3 * MS, [conv("c", 3 * MS)], 4 * MS))
    assert any("INT8 would be 1.60x as fast as FP32" in finding for finding in found.findings)


def test_the_tables_account_for_the_whole_call() -> None:
    int8 = [conv("c", 2 * MS, "int8"), simple("q", "QuantizeLinear", MS, "other"), simple("s", "Softmax", MS)]
    found = figures(subject(int8, 5 * MS, [conv("c", 3 * MS), simple("s", "Softmax", MS)], 5 * MS))
    lines = {line.cells[0]: line.cells[1:] for line in kind_table(found).lines}
    assert lines["convolutions, int8"] == ("1", "2.00", "40.0", "3.00")
    assert lines["conversions"] == ("1", "1.00", "20.0", "–")
    assert lines["around and between them"] == ("", "1.00", "20.0", "1.00")
    assert lines["one call"] == ("3", "5.00", "100", "5.00")
    assert layer_table(found).lines[0].cells[:3] == ("c", "Convolution int8", "compute")
    islands = island_table(found)
    assert islands is not None
    assert islands.lines[0].cells[0] == "Softmax"
    assert island_table(figures(subject([conv("c", MS)], MS))) is None
    assert len(explanation_tables(found)) == 3
