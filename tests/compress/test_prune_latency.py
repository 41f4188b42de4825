import json

import numpy as np
import pytest

from compress.prune.choose import latency_table
from compress.prune.choose.latency import LatencyModel
from compress.prune.choose.latency_table import LatencyTable, Operator, cache_folder
from compress.prune.choose.search import rank
from compress.prune.follow import follow
from compress.prune.products import Window, products, products_and_pools
from compress.step import TimedCall
from targets import FP32, LayerTime, Profile
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from targets.openvino import OpenVino
from tests.compress import prune_models as models

WINDOW = Window((3, 3), (1, 1), (1, 1), (1, 1), 1, False)
OPERATORS = [
    Operator(32, 32, (1, 16, 16), WINDOW),
    Operator(32, 16, (1, 16, 16), WINDOW),
    Operator(64, 32, (10,), None),
]
NONE = np.zeros((1, 0), bool)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))


def test_what_was_measured_once_is_read_the_second_time():
    first = LatencyTable(OnnxRuntimeMobile(), 1)
    seconds = first.seconds([*OPERATORS, OPERATORS[0]])
    assert first.measured == 3 and all(0 < each < 0.1 for each in seconds.values())
    second = LatencyTable(OnnxRuntimeMobile(), 1)
    assert second.seconds(OPERATORS) == seconds and second.measured == 0
    other = LatencyTable(OnnxRuntimeMobile(), 2)
    other.seconds(OPERATORS[:1])
    assert other.measured == 1


@pytest.mark.parametrize("target", [OnnxRuntimeMobile(), OpenVino()], ids=lambda target: target.name)
def test_int8_has_a_table_of_its_own(target):
    schemes = {scheme.name: scheme for scheme in target.schemes()}
    LatencyTable(target, 1).seconds(OPERATORS)
    for name in ("int8", "int8-dynamic"):
        if name in schemes:
            table = LatencyTable(target, 1, scheme=schemes[name])
            seconds = table.seconds(OPERATORS)
            assert table.measured == 3 and all(0 < each < 0.1 for each in seconds.values())


def test_an_interrupted_table_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(latency_table, "TOGETHER", 1)
    plain = LatencyTable._at_one_pace

    def interrupted(self, operators):
        if operators[0] == OPERATORS[2]:
            raise KeyboardInterrupt
        return plain(self, operators)

    with monkeypatch.context() as there, pytest.raises(KeyboardInterrupt):
        there.setattr(LatencyTable, "_at_one_pace", interrupted)
        LatencyTable(OnnxRuntimeMobile(), 1).seconds(OPERATORS)
    again = LatencyTable(OnnxRuntimeMobile(), 1)
    again.seconds(OPERATORS)
    assert again.measured == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seconds": {"a": "b"}}', '{"seconds": 3}', '{"seconds": null}'])
def test_a_damaged_file_is_measured_anew(content):
    LatencyTable(OnnxRuntimeMobile(), 1).seconds(OPERATORS[2:])
    [file] = cache_folder().iterdir()
    file.write_text(content)
    table = LatencyTable(OnnxRuntimeMobile(), 1)
    table.seconds(OPERATORS[2:])
    assert table.measured == 1
    assert set(json.loads(file.read_text())["seconds"]) == {
        OPERATORS[2].key,
        latency_table.IDLE.key,
        latency_table.PACE.key,
    }


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache" / "latency"
    monkeypatch.delenv("COMPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "edge-compress" / "latency"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "edge-compress" / "latency"


def test_operators_are_found_in_the_profile_by_their_node():
    layers = [
        LayerTime("product_1_", "Convolution", "fp32", 2e-6),
        LayerTime("product_1_/reorder", "Reorder", "fp32", 9e-6),
        LayerTime("product_11_", "Convolution", "fp32", 5e-6),
    ]
    assert latency_table._time_of("product_1_", layers) == 2e-6
    assert latency_table._time_of("product_11_", layers) == 5e-6


def test_depthwise_and_grouped_operators_keep_their_groups():
    [stem, *others] = products(models.made(models.Mobile), models.images())
    [depthwise] = [each for each in others if each.window is not None and each.window.groups == 16]
    assert Operator.at(depthwise, 3, 12) == Operator(
        12, 12, (2, 8, 8), Window((3, 3), (1, 1), (1, 1), (1, 1), groups=12, transposed=False)
    )
    assert Operator.at(stem, 3, 5).inputs == 3


def test_max_pools_are_found_by_the_weight_that_reads_their_channels():
    found = products_and_pools(models.made(models.Vgg), models.images())
    assert [each.pools for each in found] == [False, True, False, False, False]
    pool = found[1]
    assert (pool.module, pool.weight, pool.axes) == ("features.3", "features.4.weight", (1, 1))
    assert (pool.activations, pool.macs) == ((2, 8, 8, 8), 0)
    assert pool.window == Window((2, 2), (2, 2), (0, 0), (1, 1), groups=1, transposed=False)
    assert Operator.at(pool, 6, 8) == Operator(6, 6, (2, 8, 8), pool.window, pools=True)


@pytest.mark.parametrize("target", [OnnxRuntimeMobile(), OpenVino()], ids=lambda target: target.name)
@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_a_max_pool_is_measured_between_convolutions(target, scheme):
    chosen = {"fp32": FP32} | {each.name: each for each in target.schemes()}
    pool = Operator(48, 48, (1, 32, 32), Window((3, 3), (1, 1), (1, 1), (1, 1), groups=1, transposed=False), pools=True)
    table = LatencyTable(target, 1, scheme=chosen[scheme])
    [seconds] = table.seconds([pool]).values()
    assert table._known[latency_table.IDLE.key] < seconds < 0.1


class AtAnotherPace(LatencyTable):
    """Operators of 5 us and 50 us whose first batch is measured undisturbed and the second at half the pace, when the
    profiler takes 8 us more of each."""

    batches = 0

    def _profile(self, proto, inputs):
        if len(inputs) == 1:
            return Profile((LayerTime("product_0_", "Conv", "fp32", 2e-6),), 1.0)
        slow = self.batches
        self.batches += 1
        times = {latency_table.IDLE: 2e-6, latency_table.PACE: 30e-6, OPERATORS[0]: 5e-6, OPERATORS[1]: 50e-6}
        layers = tuple(
            LayerTime(f"product_{number}_", "Conv", "fp32", (1 + slow) * times[each] + slow * 8e-6 + 1e-6)
            for number, each in enumerate(inputs.values())
        )
        return Profile(layers, 1.0)


def test_what_was_measured_at_another_pace_can_be_compared():
    table = AtAnotherPace(OnnxRuntimeMobile(), 1)
    assert table.seconds(OPERATORS[:1])[OPERATORS[0]] == pytest.approx(5e-6)
    assert table.seconds(OPERATORS[1:2])[OPERATORS[1]] == pytest.approx(50e-6)
    assert table.batches == 2


class HandMade(LatencyTable):
    """1 ns for each input times output channel, 10 ns for each channel of a max pool and 40 more for the last odd one: no
    runtime, no file."""

    def __init__(self):
        pass

    def seconds(self, operators):
        return {each: _by_hand(each) for each in operators}


def _by_hand(operator):
    if operator.pools:
        return 10e-9 * operator.inputs + 40e-9 * (operator.inputs % 2)
    return 1e-9 * operator.inputs * operator.outputs


def test_a_latency_is_the_sum_of_its_products_and_of_what_is_left_of_the_rest():
    model, inputs = models.made(models.Vgg), models.images()
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.75, 1)
    profile = Profile((LayerTime("all", "Conv", "fp32", 4e-6), LayerTime("other", "Relu", "fp32", 1e-6)), 7e-6)
    cost = LatencyModel(model, [TimedCall(model, inputs, profile)], HandMade()).cost(families, ())
    assert cost(np.zeros((1, 3), int), NONE) == pytest.approx(7e-6)
    counts = np.array([[2, 4, 8]])
    by_hand = 1e-9 * (3 * 6 + 10 * 6 + 6 * 4 + 4 * 16 * 8 + 8 * 5)
    before = 1e-9 * (3 * 8 + 10 * 8 + 8 * 8 + 8 * 16 * 16 + 16 * 5)
    made = np.array([8 * 64, 8 * 16, 16, 5]) / (8 * 64 + 8 * 16 + 16 + 5)
    others = (5e-6 - before) * (made @ [6 / 8, 4 / 8, 8 / 16, 1])
    assert cost(counts, NONE) == pytest.approx(by_hand + others + 2e-6)
    for channels in range(2, 9):
        assert cost(np.array([[8 - channels, 0, 0]]), NONE) == pytest.approx(
            1e-9 * ((3 + 8) * channels + 10 * channels + 40 * (channels % 2) + 8 * 16 * 16 + 16 * 5)
            + (5e-6 - before) * (made @ [channels / 8, 1, 1, 1])
            + 2e-6
        )


def test_a_table_that_exceeds_the_profile_is_scaled_to_it():
    model, inputs = models.made(models.Vgg), models.images()
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.75, 1)
    calls = [TimedCall(model, inputs, Profile((LayerTime("all", "Conv", "fp32", 1e-6),), 1.5e-6))]
    cost = LatencyModel(model, calls, HandMade()).cost(families, ())
    assert cost(np.zeros((1, 3), int), NONE) == pytest.approx(1.5e-6)
    left = (3 * 6 + 60 + 6 * 4 + 4 * 16 * 8 + 8 * 5) / (3 * 8 + 80 + 8 * 8 + 8 * 16 * 16 + 16 * 5)
    assert cost(np.array([[2, 4, 8]]), NONE) == pytest.approx(1e-6 * left + 0.5e-6)


def test_a_runtime_that_names_every_product_says_how_long_they_take():
    model, inputs = models.made(models.Vgg), models.images()
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.75, 1)
    products = tuple(LayerTime(name, "Convolution", "fp32", 0.5e-6) for name in "abcd")
    pool = LayerTime("pool", "MaxPool", "fp32", 1e-6)
    cost = LatencyModel(model, [TimedCall(model, inputs, Profile((*products, pool), 4e-6))], HandMade()).cost(
        families, ()
    )
    before = 1e-9 * (3 * 8 + 8 * 8 + 8 * 16 * 16 + 16 * 5)
    after = 1e-9 * (3 * 6 + 6 * 4 + 4 * 16 * 8 + 8 * 5)
    made = np.array([8 * 64, 8 * 16, 16, 5]) / (8 * 64 + 8 * 16 + 16 + 5)
    scale = 2e-6 / before
    others = (3e-6 - 2e-6 - scale * 80e-9) * (made @ [6 / 8, 4 / 8, 8 / 16, 1])
    assert cost(np.zeros((1, 3), int), NONE) == pytest.approx(4e-6)
    assert cost(np.array([[2, 4, 8]]), NONE) == pytest.approx(scale * (after + 60e-9) + others + 1e-6)
