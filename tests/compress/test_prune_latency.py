import json

import numpy as np
import pytest

from compress.prune.choose import latency_table
from compress.prune.choose.latency import LatencyModel
from compress.prune.choose.latency_table import LatencyTable, Operator, cache_folder
from compress.prune.choose.search import rank
from compress.prune.follow import follow
from compress.prune.products import Window, products
from compress.step import TimedCall
from targets import LayerTime, Profile
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


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seconds": {"a": "b"}}', '{"seconds": 3}', '{"seconds": null}'])
def test_a_damaged_file_is_measured_anew(content):
    LatencyTable(OnnxRuntimeMobile(), 1).seconds(OPERATORS[2:])
    [file] = cache_folder().iterdir()
    file.write_text(content)
    table = LatencyTable(OnnxRuntimeMobile(), 1)
    table.seconds(OPERATORS[2:])
    assert table.measured == 1
    assert list(json.loads(file.read_text())["seconds"]) == [OPERATORS[2].key]


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


class HandMade(LatencyTable):
    """1 ns for each input times output channel: no runtime, no file."""

    def __init__(self):
        pass

    def seconds(self, operators):
        return {each: 1e-9 * each.inputs * each.outputs for each in operators}


def test_a_latency_is_the_sum_of_its_products_and_of_what_is_left_of_the_rest():
    model, inputs = models.made(models.Vgg), models.images()
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.75, 1)
    profile = Profile((LayerTime("all", "Conv", "fp32", 4e-6), LayerTime("other", "Relu", "fp32", 1e-6)), 7e-6)
    cost = LatencyModel(model, [TimedCall(model, inputs, profile)], HandMade()).cost(families, ())
    assert cost(np.zeros((1, 3), int), NONE) == pytest.approx(7e-6)
    counts = np.array([[2, 4, 8]])
    by_hand = 1e-9 * (3 * 6 + 6 * 4 + 4 * 16 * 8 + 8 * 5)
    before = 1e-9 * (3 * 8 + 8 * 8 + 8 * 16 * 16 + 16 * 5)
    made = np.array([8 * 64, 8 * 16, 16, 5]) / (8 * 64 + 8 * 16 + 16 + 5)
    others = (5e-6 - before) * (made @ [6 / 8, 4 / 8, 8 / 16, 1])
    assert cost(counts, NONE) == pytest.approx(by_hand + others + 2e-6)


def test_a_table_that_exceeds_the_profile_is_scaled_to_it():
    model, inputs = models.made(models.Vgg), models.images()
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.75, 1)
    calls = [TimedCall(model, inputs, Profile((LayerTime("all", "Conv", "fp32", 1e-6),), 1.5e-6))]
    cost = LatencyModel(model, calls, HandMade()).cost(families, ())
    assert cost(np.zeros((1, 3), int), NONE) == pytest.approx(1.5e-6)
    left = (3 * 6 + 6 * 4 + 4 * 16 * 8 + 8 * 5) / (3 * 8 + 8 * 8 + 8 * 16 * 16 + 16 * 5)
    assert cost(np.array([[2, 4, 8]]), NONE) == pytest.approx(1e-6 * left + 0.5e-6)
