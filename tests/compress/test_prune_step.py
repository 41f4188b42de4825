import copy
import json
from dataclasses import replace

import pytest
import torch
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated
from torch import nn

from benchmarks.metrics import Accuracy
from compress.prune import Prune
from compress.step import StepContext, Timed, TimedCall
from compress.workload import TensorBatches, Workload
from export.calling import call
from export.errors import InputError, UnsupportedError
from targets import LayerTime, Profile
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from tests.compress import prune_models as models


def context_of(model, inputs, folder, speedup=None):
    repeated = {name: torch.cat([tensor] * 4) for name, tensor in inputs.items()}
    samples = len(next(iter(repeated.values())))
    train = TensorBatches(repeated, torch.arange(samples) % 5, batch_size=2)
    workload = Workload(
        model=model,
        example_inputs=inputs,
        dynamic_axes={name: {0: "batch"} for name in inputs},
        train=train,
        evaluation=train,
        validation=train,
        loss=nn.functional.cross_entropy,
        metric=Accuracy(),
    )
    return StepContext(workload, copy.deepcopy(model), folder, folder, seed=0, speedup=speedup)


def pruned(step, make, inputs, folder, speedup=None):
    model = models.made(make)
    return step.apply(model, context_of(model, inputs, folder, speedup))


@pytest.mark.parametrize("importance", ["obs", "fisher", "l1", "l2", "bn_scale", "taylor", "random"])
def test_macs_really_fall_by_every_importance(importance, tmp_path):
    step = Prune(macs_ratio=1.5, importance=importance, multiple_of=1)
    result = pruned(step, models.PaddedResNet, models.images(), tmp_path)
    macs = result.facts["macs"]
    assert macs["before"] / macs["after"] == macs["ratio"] == result.facts["reached"]["macs_ratio"] >= 1.5
    parameters = result.facts["parameters"]
    assert parameters["after"] == sum(each.numel() for each in result.model.parameters()) < parameters["before"]
    assert result.facts["exactness"] <= 1e-4
    json.dumps(result.facts)


def test_the_facts_name_every_layer_and_what_stays(tmp_path):
    result = pruned(Prune(channels_removed=0.5), models.PaddedResNet, models.images(), tmp_path)
    assert result.facts["layers"] == [{"name": "two.conv1", "before": 16, "after": 8}]
    stays = {each["where"]: each["reason"] for each in result.facts["left_alone"]}
    assert stays["conv, one.conv1"] == "max_removed and multiple_of=8 leave nothing to remove"
    assert stays["two.conv2"] == "8 of 16 channels stay: pad in two: padding adds constant channels"
    assert stays["linear"] == "5 of 5 channels stay: they are the model's output"


def test_the_share_of_channels_counts_the_removable_ones(tmp_path):
    result = pruned(Prune(channels_removed=0.25, multiple_of=1), models.Vgg, models.images(), tmp_path)
    removed = sum(each["before"] - each["after"] for each in result.facts["layers"])
    assert removed == 0.25 * (8 + 8 + 16)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_bert_loses_heads_and_neurons(implementation, tmp_path):
    pytest.importorskip("transformers")
    step = Prune(macs_ratio=1.3)
    result = pruned(step, lambda: models.Bert(implementation), models.sentences(), tmp_path)
    layers = {each["name"].removeprefix("bert.encoder.layer."): each for each in result.facts["layers"]}
    assert any(name.endswith("attention.self.query") for name in layers)
    for name, each in layers.items():
        assert each["after"] % (4 if "self" in name else 8) == 0
    self_attention = result.model.bert.encoder.layer[0].attention.self
    assert self_attention.num_attention_heads * 4 == self_attention.query.out_features == self_attention.all_head_size
    assert call(result.model, models.sentences())[0].shape == (2, 16)


class FakeSpeedup:
    """A runtime on which time is proportional to the width between two layers, plus half as much that never goes."""

    def __init__(self, figure, target=None, crowded=None):
        self.figure, self.target, self.asked, self.arithmetic = figure, target or OnnxRuntimeMobile(), [], []
        self.crowded = lambda: crowded

    def measure(self, model, on, arithmetic):
        self.asked.append(on)
        self.arithmetic.append(arithmetic)
        return self.figure(model)

    def time(self, model, on, arithmetic):
        layers = (LayerTime("all", "Conv", arithmetic, 1e-3),)
        scheme = next(each for each in self.target.schemes() if each.name == arithmetic)
        return Timed(self.target, 1, (TimedCall(model, models.images(), Profile(layers, 1.1e-3)),), scheme)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("COMPRESS_CACHE", str(folder))
    return folder


@pytest.mark.timing
def test_speedup_is_measured_on_candidates_until_it_is_reached(tmp_path, cache):
    speedup = FakeSpeedup(lambda model: 128 / model.classifier[0].in_features)
    result = pruned(Prune(speedup=2.0, on="openvino", multiple_of=1), models.Vgg, models.images(), tmp_path, speedup)
    assert result.facts["reached"]["speedup"] >= 2.0 and result.facts["asked"] == {"speedup": 2.0}
    told = result.facts["speedup"]
    assert told["measured"] == result.facts["reached"]["speedup"] == 128 / result.model.classifier[0].in_features
    assert told["measured_over_predicted"] == told["measured"] / told["predicted"]
    assert told["measured_over_macs_ratio"] == told["measured"] / result.facts["macs"]["ratio"]
    assert set(speedup.asked) == {"openvino"} and len(told["candidates"]) == len(speedup.asked) <= 8


def test_a_search_beside_other_programs_says_so(tmp_path, cache):
    speedup = FakeSpeedup(lambda model: 128 / model.classifier[0].in_features, crowded="others kept 0.9 cores busy")
    result = pruned(Prune(speedup=1.5, multiple_of=1), models.Vgg, models.images(), tmp_path, speedup)
    assert "prune.speedup: while candidates were timed, others kept 0.9 cores busy" in result.warnings
    alone = pruned(Prune(macs_ratio=1.5, multiple_of=1), models.Vgg, models.images(), tmp_path, speedup)
    assert not any("busy" in warning for warning in alone.warnings)


def test_int8_starts_from_what_int8_alone_gives(tmp_path, cache):
    """The model as it is runs 2 times as fast as the original in FP32, so that 3 asks for 1.5 more."""
    speedup = FakeSpeedup(lambda model: 2 * 128 / model.classifier[0].in_features)
    step = Prune(speedup=3.0, precision="int8", multiple_of=1)
    result = pruned(step, models.Vgg, models.images(), tmp_path, speedup)
    assert result.facts["reached"]["speedup"] >= 3.0 and result.facts["macs"]["ratio"] > 1.2
    assert set(speedup.arithmetic) == {"int8"}
    [table] = (cache / "latency").iterdir()
    assert json.loads(table.read_text())["scheme"]["name"] == "int8"
    whole = pruned(replace(step, speedup=1.5), models.Vgg, models.images(), tmp_path, speedup)
    assert whole.facts["macs"]["ratio"] == 1.0
    assert whole.warnings == (
        "prune.speedup: asked 1.5, and the model as it is reaches 2: nothing was removed; ask for more, or leave the step out",
    )


def test_more_than_can_be_reached_is_refused_with_the_best_measured(tmp_path, cache):
    with pytest.raises(
        UnsupportedError, match=r"prune.speedup: asked 9, but the most that may be removed reaches 1.2;"
    ):
        pruned(Prune(speedup=9.0), models.PaddedResNet, models.images(), tmp_path, FakeSpeedup(lambda model: 1.2))
    assert not (tmp_path / "plan.json").exists()


def test_restore_gives_the_original_the_pruned_structure(tmp_path):
    step = Prune(macs_ratio=1.5, multiple_of=4)
    result = pruned(step, models.PaddedResNet, models.images(), tmp_path)
    restored = step.restore(models.made(models.PaddedResNet), tmp_path)
    restored.load_state_dict(result.model.state_dict(), strict=True)
    assert torch.equal(call(restored, models.images())[0], call(result.model, models.images())[0])


def test_the_same_seed_gives_the_same_plan(tmp_path):
    plans = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pruned(Prune(macs_ratio=1.3, importance="random", multiple_of=1), models.Vgg, models.images(), tmp_path / name)
        plans.append((tmp_path / name / "plan.json").read_text())
    assert plans[0] == plans[1]


def test_a_width_baked_into_the_code_is_left_alone_and_named(tmp_path):
    result = pruned(Prune(channels_removed=0.2), models.BakedWidth, models.rows(), tmp_path)
    assert [each["name"] for each in result.facts["layers"]] == ["middle"]
    assert result.warnings[0].startswith("prune: baked is left alone: forward fails without them: RuntimeError: shape")
    assert any(each["where"] == "baked" for each in result.facts["left_alone"])


def test_removing_much_more_than_asked_is_a_warning(tmp_path):
    result = pruned(Prune(channels_removed=0.1), models.Vgg, models.images(), tmp_path)
    message = "prune.channels_removed: asked 0.1, reached 0.5, for widths change in steps; a lower multiple_of"
    assert result.warnings[0].startswith(message)


def test_a_model_of_which_nothing_can_go_is_refused_with_reasons(tmp_path):
    message = (
        r"prune: no channel of Linear can be removed\. the model: 5 of 5 channels stay: they are the model's output"
    )
    with pytest.raises(UnsupportedError, match=message):
        pruned(Prune(macs_ratio=2.0), lambda: nn.Linear(6, 5), {"input": models.rows()["x"]}, tmp_path)


def test_a_model_of_which_nothing_can_go_exactly_is_refused_with_reasons(tmp_path):
    message = r"prune: no channel of Baked can be removed exactly \(baked: forward fails without them: RuntimeError"
    with pytest.raises(UnsupportedError, match=message):
        pruned(Prune(macs_ratio=2.0), Baked, models.rows(), tmp_path)


class Baked(models.BakedWidth):
    """Only the baked width could go."""

    def forward(self, x):
        return self.out(nn.functional.relu(self.baked(x)).reshape(-1, 16))


def test_a_model_that_breaks_between_the_extremes_is_refused_in_words(tmp_path):
    message = r"prune: Picky fails without \d+ of its 16 removable channels, .* ValueError: no 10.*in prune\.exclude"
    with pytest.raises(UnsupportedError, match=message):
        pruned(Prune(macs_ratio=1.5, multiple_of=1), Picky, models.rows(), tmp_path)


class Picky(nn.Module):
    """Takes any width but ten."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x):
        y = self.first(x)
        if y.shape[1] == 10:
            raise ValueError("no 10")
        return self.last(y)


def test_a_pruned_model_can_be_pruned_again(tmp_path):
    step = Prune(macs_ratio=1.2, multiple_of=1)
    once = pruned(step, models.PaddedResNet, models.images(), tmp_path)
    twice = step.apply(once.model, context_of(once.model, models.images(), tmp_path))
    assert twice.facts["macs"]["before"] == once.facts["macs"]["after"]
    assert twice.facts["macs"]["ratio"] >= 1.2 and twice.facts["exactness"] <= 1e-4


def test_exclude_reaches_the_search(tmp_path):
    with pytest.raises(InputError, match=r"prune\.exclude: 'head' matches no module"):
        pruned(Prune(macs_ratio=2.0, exclude=("head",)), models.Vgg, models.images(), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give exactly one of macs_ratio, channels_removed, speedup; found none of them"),
        ({"macs_ratio": 2.0, "speedup": 2.0}, "give exactly one of .*; found macs_ratio and speedup"),
        ({"macs_ratio": 0.5}, r"macs_ratio must be greater than 1 \(2 asks for half the cost\), found 0.5"),
        ({"channels_removed": 30.0}, "channels_removed must lie between 0 and 1, found 30"),
        ({"macs_ratio": 2.0, "on": "openvino"}, "on: 'openvino' is where speedup is measured; give speedup too"),
        (
            {"macs_ratio": 2.0, "precision": "int8"},
            "precision: int8 is what speedup is timed in, in one round; give sp",
        ),
        ({"speedup": 2.0, "precision": "int8", "rounds": 2}, "precision: int8 is .* leave rounds out"),
        ({"macs_ratio": 2.0, "multiple_of": 0}, "multiple_of must be 1 or more, found 0"),
        ({"macs_ratio": 2.0, "max_removed": 1.0}, "max_removed must lie between 0 and 1, found 1"),
        ({"macs_ratio": 2.0, "rounds": 0}, "rounds must be from 1 to 20, found 0"),
        ({"macs_ratio": 2.0, "repair_samples": 1}, "repair_samples must be 2 or more, found 1"),
        (
            {"macs_ratio": 2.0, "depth": True},
            "depth: blocks are weighed by the rise of the loss or of what cannot be mended, .* found importance: l2",
        ),
    ],
)
def test_impossible_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Prune(**fields)


def test_a_recipe_can_hold_every_field():
    strict = validated(config=ConfigDict(extra="forbid", strict=True), frozen=True)(Prune)
    text = '{"speedup": 2, "on": "openvino", "importance": "taylor", "exclude": ["layer1.*"], "multiple_of": 16}'
    step = TypeAdapter(strict).validate_json(text, strict=True)
    assert (step.speedup, step.exclude, step.kind) == (2.0, ("layer1.*",), "prune")


def test_what_falls_with_the_cut_and_what_the_repair_brings_back_is_told(tmp_path):
    result = pruned(Prune(macs_ratio=1.5, multiple_of=1), models.PaddedResNet, models.images(), tmp_path)
    validation = result.facts["validation"]
    assert list(validation) == ["before", "after_the_cut", "after_the_repair"]
    assert all(0 <= value <= 1 for value in validation.values())
    bare = pruned(Prune(macs_ratio=1.5, multiple_of=1, repair=False), models.PaddedResNet, models.images(), tmp_path)
    assert list(bare.facts["validation"]) == ["before", "after_the_cut"]


@pytest.mark.parametrize("asked", [{"macs_ratio": 2.0}, {"channels_removed": 0.4}])
def test_rounds_come_to_one_plan_of_the_original(asked, tmp_path):
    step = Prune(**asked, multiple_of=1, rounds=3, importance="taylor")
    result = pruned(step, models.PaddedResNet, models.images(), tmp_path)
    ((name, value),) = asked.items()
    assert value <= result.facts["reached"][name] <= 1.1 * value
    told = result.facts["rounds"]
    assert [each["round"] for each in told] == [1, 2, 3]
    assert told[0][name] < told[1][name] < told[2][name] == result.facts["reached"][name]
    restored = step.restore(models.made(models.PaddedResNet), tmp_path)
    restored.load_state_dict(result.model.state_dict(), strict=True)
    assert torch.equal(call(restored, models.images())[0], call(result.model, models.images())[0])


def test_rounds_together_keep_to_max_removed(tmp_path):
    step = Prune(channels_removed=0.45, multiple_of=1, rounds=3, max_removed=0.5)
    result = pruned(step, models.Vgg, models.images(), tmp_path)
    assert all(each["after"] >= 0.5 * each["before"] for each in result.facts["layers"])


@pytest.mark.parametrize("importance", ["fisher", "obs"])
def test_whole_blocks_may_go(importance, tmp_path):
    step = Prune(macs_ratio=1.4, multiple_of=16, depth=True, importance=importance)
    result = pruned(step, models.PaddedResNet, models.images(), tmp_path)
    assert result.facts["skipped_blocks"] == ["one"] and result.facts["macs"]["ratio"] >= 1.4
    restored = step.restore(models.made(models.PaddedResNet), tmp_path)
    restored.load_state_dict(result.model.state_dict(), strict=True)
    kept = Prune(macs_ratio=1.2, multiple_of=1, depth=True, importance=importance, exclude=("one.conv1",))
    assert "skipped_blocks" not in pruned(kept, models.PaddedResNet, models.images(), tmp_path).facts
