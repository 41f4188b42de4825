from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from compress.recipe import load_recipe
from compress.recipe_schema import recipe_schema
from compress.yaml_source import read_yaml
from export.errors import InputError

GOOD = """\
name: tiny
seed: 3
workload: workload.py:tiny
arguments: {width: 8}
steps:
  - prune: {macs_ratio: 2.0}
  - distill: {epochs: 2, learning_rate: 1e-2}
  - quantize: {calibration_samples: 200}
targets:
  - openvino
  - onnxruntime_mobile: {}
benchmark: {batch_sizes: [1, 8], threads: 2, seconds: 1}
budget: {metric_drop: 0.01, speedup: 1.5}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_good_recipe_becomes_typed_values(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD), ["benchmark.seconds=2"])
    assert [step.kind for step in recipe.steps] == ["prune", "distill"]
    assert recipe.quantize is not None
    assert recipe.quantize.calibration_samples == 200
    assert [target.name for target in recipe.targets] == ["openvino", "onnxruntime_mobile"]
    assert recipe.benchmark.batch_sizes == (1, 8)
    assert recipe.benchmark.seconds == 2
    assert recipe.budget.size_ratio is None
    assert recipe.plain["benchmark"]["seconds"] == 2


BAD = [
    ("name: tiny", "name: 'a/b'", r"recipe.yaml:1: top level: name must be letters, digits.*found 'a/b'"),
    ("name: tiny\n", "", r"'name' is missing; add it"),
    ("seed: 3", "seed: three", r"recipe.yaml:2: seed: must be a valid integer, found 'three'"),
    ("seed: 3", "seed: -1", r"seed must be from 0 to 2147483647, found -1"),
    ("seed: 3", "sede: 3", r"recipe.yaml:2: top level: unknown key 'sede'; known: .*Did you mean 'seed'\?"),
    ("workload.py:tiny", "workload.py", r"workload must be FILE.py:FUNCTION or MODULE:FUNCTION, found 'workload.py'"),
    ("arguments: {width: 8}", "arguments: 8", r"recipe.yaml:4: arguments: must be an object, found 8"),
    ("prune: {macs_ratio", "prune: {mac_ratio", r"recipe.yaml:6: steps\[0\].prune: unknown key 'mac_ratio'.*Did you mean 'macs_ratio'\?"),
    ("prune: {macs_ratio: 2.0}", "prune: {macs_ratio: two}", r"recipe.yaml:6: steps\[0\].prune.macs_ratio: .*found 'two'"),
    ("prune: {macs_ratio: 2.0}", "prune: {macs_ratio: 0.5}", r"recipe.yaml:6: steps\[0\].prune: .*0.5"),
    ("prune: {macs", "prnue: {macs", r"recipe.yaml:6: steps\[0\]: unknown 'prnue'; known: .*Did you mean 'prune'\?"),
    ("  - prune: {macs_ratio: 2.0}", "  - [prune]", r"recipe.yaml:6: steps\[0\]: expected one of vocabulary, prune, distill, quantize"),
    ("epochs: 2", "epochs: 2.5", r"recipe.yaml:7: steps\[1\].distill.epochs: .*found 2.5"),
    ("epochs: 2", "epochs: true", r"recipe.yaml:7: steps\[1\].distill.epochs: .*found True"),
    ("calibration_samples: 200", "calibration_samples: 0", r"recipe.yaml:8: steps\[2\].quantize: calibration_samples.*found 0"),
    ("  - openvino\n", "  - openvion\n", r"recipe.yaml:10: targets\[0\]: unknown 'openvion'; .*Did you mean 'openvino'\?"),
    ("  - openvino\n", "  - onnxruntime_mobile\n", r"targets\[1\]: onnxruntime_mobile stands twice"),
    ("onnxruntime_mobile: {}", "onnxruntime_mobile: {threads: 1}", r"targets\[1\].onnxruntime_mobile: unknown key 'threads'"),
    ("batch_sizes: [1, 8]", "batch_sizes: [0]", r"batch_sizes must be 1 or more, found \[0\]"),
    ("batch_sizes: [1, 8]", "batch_sizes: []", r"batch_sizes is empty"),
    ("batch_sizes: [1, 8]", "batch_sizes: [1, 1]", r"batch_sizes repeats a size"),
    ("threads: 2", "threads: 0", r"recipe.yaml:12: benchmark: threads must be 1 or more, found 0"),
    ("seconds: 1", "seconds: 0", r"seconds must be above 0 and at most 600, found 0"),
    ("metric_drop: 0.01", "metric_drop: -1", r"recipe.yaml:13: budget: metric_drop must be 0 or more, found -1"),
    ("speedup: 1.5", "speedup: 0", r"speedup must be above 0, found 0"),
    ("speedup: 1.5", "metric_drop_percent: -3", r"recipe.yaml:13: budget: metric_drop_percent must be 0 or more, found -3"),
    ("speedup: 1.5", "worst_class_drop: -0.1", r"recipe.yaml:13: budget: worst_class_drop must be 0 or more, found -0.1"),
    ("budget: {", "budget: {size_ration: 2, ", r"unknown key 'size_ration'.*Did you mean 'size_ratio'\?"),
    ("budget: {metric_drop: 0.01, speedup: 1.5}", "budget: fast", r"budget: expected keys .* found 'fast'"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "replacement", "message"), BAD)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, found: str, replacement: str, message: str) -> None:
    assert found in GOOD
    with pytest.raises(InputError, match=message) as refused:
        load_recipe(write(tmp_path, GOOD.replace(found, replacement)))
    assert refused.value.exit_code == 2


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("seed: 3", "seed: x").replace("epochs: 2", "epochs: y").replace("threads: 2", "threads: -2")
    with pytest.raises(InputError) as refused:
        load_recipe(write(tmp_path, text))
    assert len(str(refused.value).splitlines()) == 3


def test_a_quantize_step_in_the_middle_is_in_the_wrong_place(tmp_path: Path) -> None:
    text = GOOD.replace("  - prune: {macs_ratio: 2.0}\n", "  - quantize\n")
    with pytest.raises(InputError, match=r"recipe.yaml:6: steps\[0\]: quantize must be the last step and stand once"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_what_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"a recipe is a mapping with at least name, workload, steps, targets"):
        load_recipe(write(tmp_path, text))


def test_the_schema_takes_the_good_recipe_and_refuses_a_typo(tmp_path: Path) -> None:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good = read_yaml(write(tmp_path, GOOD)).value
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(good | {"sede": 1})) != []
    assert list(validator.iter_errors(good | {"steps": [{"prune": {"mac_ratio": 2}}]})) != []
    json.dumps(schema)
