"""Model files as engines, the inputs they get, and every sentence that refuses one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.bench import Bench, BenchRow, bench, input_shapes, line_up, misfit, names_of, random_inputs
from benchmarks.latency import Protocol
from benchmarks.measurements import Footprint, Interval
from benchmarks.model_files import engine_of
from export.errors import InputError, UnsupportedError
from export.model import TensorSpec
from targets import FP32, Engine, target_class
from tests.targets import networks, writers

QUICK = Protocol(seconds=0.2, processes=2, half_width=0.5)


def scaled(path: Path, shape: list[int | str | None], dtype: int = TensorProto.FLOAT, name: str = "x") -> Path:
    """y = x + x."""
    values = [helper.make_tensor_value_info(each, dtype, shape) for each in (name, "y")]
    graph = helper.make_graph([helper.make_node("Add", [name, name], ["y"])], "tiny", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def with_weights_outside(path: Path) -> Path:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 4]) for each in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "tiny", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    return path


def spec_of(*inputs: TensorSpec) -> Engine:
    return Engine("onnxruntime_mobile", "made up", Path("made-up.onnx"), (), inputs, (), build_s=0.0)


IDS, MASK = (TensorSpec(name, "int64", ("batch", "length")) for name in ("ids", "mask"))


def test_an_onnx_file_is_run_as_it_is(tmp_path: Path) -> None:
    model = networks.convolutional(tmp_path / "model.onnx")
    engine = engine_of(model.path)
    assert (engine.target, engine.inputs, engine.outputs) == ("onnxruntime_mobile", model.inputs, model.outputs)
    assert engine.size_bytes == model.size_bytes
    batch = networks.images(2)
    for on in ("onnxruntime", "openvino"):
        engine = engine_of(model.path, on)
        with target_class(engine.target)().load(engine, threads=1) as session:
            np.testing.assert_allclose(
                session.run(batch)["logits"], networks.float_outputs(model, batch), rtol=1e-4, atol=1e-5
            )


def test_an_ort_file_and_an_ir_have_the_interface_of_the_model(tmp_path: Path) -> None:
    model = networks.attention(tmp_path / "model.onnx")
    ort = engine_of(target_class("onnxruntime_mobile")().compile(model, FP32, tmp_path).path)
    assert (ort.inputs, ort.outputs, ort.target) == (model.inputs, model.outputs, "onnxruntime_mobile")
    openvino = target_class("openvino")()
    if reason := openvino.unavailable():
        pytest.skip(reason)
    ir = engine_of(openvino.compile(model, FP32, tmp_path).path)
    assert ir.inputs == tuple(TensorSpec(name, "int64", ("batch", f"{name}.1")) for name in ("ids", "mask"))
    assert ir.outputs == (TensorSpec("logits", "float32", ("batch", 4)),)
    assert {file.name for file in ir.files} == {"model.xml", "model.bin"}


def test_an_ir_of_tensors_without_names_and_of_other_types_runs(tmp_path: Path) -> None:
    """OpenVINO names inputs and outputs itself when it reads a file."""
    openvino = pytest.importorskip("openvino")
    x = openvino.opset13.parameter([-1, 3], np.float16)
    double = openvino.opset13.multiply(x, np.float16(2))
    openvino.save_model(openvino.Model([double, openvino.opset13.greater(x, np.float16(0))], [x]), tmp_path / "m.xml")
    engine = engine_of(tmp_path / "m.xml")
    [spec] = engine.inputs
    assert (spec.dtype, spec.shape) == ("float16", ("batch", 3))
    assert [output.dtype for output in engine.outputs] == ["float16", "bool"]
    with target_class("openvino")().load(engine, threads=1) as session:
        found = session.run({spec.name: np.ones((1, 3), np.float16)})
    assert [found[output.name].tolist() for output in engine.outputs] == [[[2.0] * 3], [[True] * 3]]


def test_an_ir_without_a_number_of_axes_is_refused(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    x = openvino.opset13.parameter(openvino.PartialShape.dynamic(), np.float32, name="x")
    openvino.save_model(openvino.Model([openvino.opset13.relu(x)], [x]), tmp_path / "m.xml")
    with pytest.raises(UnsupportedError, match=r"m\.xml: input '\w+' has no fixed number of axes"):
        engine_of(tmp_path / "m.xml")


def with_a_state(path: Path, shape: tuple[int, ...]) -> Path:
    """An IR that adds its input to a state, and keeps the sum in it."""
    openvino = pytest.importorskip("openvino")
    from openvino.op.util import Variable, VariableInfo

    info = VariableInfo()
    info.variable_id, info.data_type, info.data_shape = "sum", openvino.Type.f32, openvino.PartialShape(list(shape))
    variable, x = Variable(info), openvino.opset13.parameter(list(shape), np.float32, name="x")
    added = openvino.opset13.add(openvino.op.read_value(x, variable), x)
    kept = openvino.op.assign(added, variable)
    openvino.save_model(openvino.Model([added.output(0)], sinks=[kept], parameters=[x], name="summing"), path)
    return path


def test_a_decoder_with_its_cache_inside_the_runtime_is_refused(tmp_path: Path) -> None:
    """The hand-made decoder has one cache, so its IR has one state, and `beam_idx` in the place of the cache."""
    openvino = target_class("openvino")()
    if reason := openvino.unavailable():
        pytest.skip(reason)
    engine = openvino.compile(writers.decoder(tmp_path / "decoder.onnx"), FP32, tmp_path)
    with pytest.raises(
        UnsupportedError,
        match=r"model\.xml: keeps a cache inside the runtime \(1 state, past_key\.0\), which every call would make longer; "
        r"bench the bundle of its run \(compress pack RUN --target openvino, then compress bench BUNDLE\), or time its artifact: "
        r"python -m benchmarks\.studies\.tokens RUN/artifacts/openvino/SCHEME",
    ):
        engine_of(engine.path)
    assert {spec.name for spec in engine.inputs} == {"input_ids", "beam_idx"}


def test_only_a_state_that_grows_is_refused(tmp_path: Path) -> None:
    assert [spec.name for spec in engine_of(with_a_state(tmp_path / "kept.xml", (-1, 3))).inputs] == ["x"]
    with pytest.raises(UnsupportedError, match=r"grows\.xml: keeps a cache inside the runtime \(1 state, sum\)"):
        engine_of(with_a_state(tmp_path / "grows.xml", (2, -1)))


def test_weights_in_a_file_of_their_own_count_and_must_be_there(tmp_path: Path) -> None:
    engine = engine_of(with_weights_outside(tmp_path / "model.onnx"))
    assert [file.name for file in engine.files] == ["model.onnx", "weights.data"]
    assert engine.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    (tmp_path / "weights.data").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: its weights are in 'weights\.data', which is not beside it"):
        engine_of(tmp_path / "model.onnx")


def test_weights_are_not_read_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = with_weights_outside(tmp_path / "inside" / "model.onnx")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../weights.data"
    onnx.save(model, path)
    (tmp_path / "inside" / "weights.data").rename(tmp_path / "weights.data")
    with pytest.raises(InputError, match=r"'\.\./weights\.data', which is not beside it"):
        engine_of(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.pt2: found a file of kind '\.pt2', allowed: \.onnx, \.ort .* \.xml"):
        engine_of(tmp_path / "model.pt2")
    with pytest.raises(InputError, match=r"absent\.onnx: no such file; give model files: \.onnx, \.ort"):
        engine_of(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match=r"--on: found 'tflite', allowed: onnxruntime, openvino"):
        engine_of(scaled(tmp_path / "model.onnx", ["n", 2]), on="tflite")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("noise.onnx", r"noise\.onnx: not an ONNX model"),
        ("empty.onnx", r"empty\.onnx: not an ONNX model: it has no outputs"),
        ("noise.ort", r"noise\.ort: ONNX Runtime cannot read it: "),
        ("noise.xml", r"noise\.xml: OpenVINO cannot read it: Unable to read the model"),
    ],
)
def test_damaged_files_are_refused(name: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"hello" * 100)
    (tmp_path / "noise.bin").write_bytes(b"")
    if name.endswith("xml"):
        pytest.importorskip("openvino")
    with pytest.raises(InputError, match=sentence):
        engine_of(tmp_path / name)


def test_an_ir_needs_its_weights(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(InputError, match=r"model\.xml: its weights, model\.bin, are not beside it; copy both files"):
        engine_of(tmp_path / "model.xml")


def test_a_runtime_that_is_not_here_is_named_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("targets.openvino.find_spec", lambda _: None)
    with pytest.raises(UnsupportedError, match=r"openvino cannot run here: openvino not installed; pip install"):
        engine_of(scaled(tmp_path / "model.onnx", ["n", 2]), on="openvino")


def test_only_tensors_are_taken(tmp_path: Path) -> None:
    values = [helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "tiny", values[:1], values[1:])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match=r"'x' is not a tensor; only tensor inputs and outputs can be timed"):
        engine_of(tmp_path / "model.onnx")


def test_dynamic_axes_get_their_sizes() -> None:
    text = spec_of(IDS, MASK)
    assert input_shapes(text, None, {"length": 7}) == {"ids": (1, 7), "mask": (1, 7)}
    assert input_shapes(text, 4, {"length": 7}) == {"ids": (4, 7), "mask": (4, 7)}
    assert input_shapes(spec_of(TensorSpec("x", "float32", (2, 3))), None, {}) == {"x": (2, 3)}
    assert input_shapes(spec_of(TensorSpec("x", "float32", (2, 3))), 2, {}) == {"x": (2, 3)}


def test_unnamed_axes_are_named_by_their_place(tmp_path: Path) -> None:
    engine = engine_of(scaled(tmp_path / "model.onnx", [None, 3, None]))
    assert engine.inputs[0].shape == ("batch", 3, "x.2")
    assert input_shapes(engine, 2, {"x.2": 5}) == {"x": (2, 3, 5)}


@pytest.mark.parametrize(
    ("spec", "batch", "sizes", "sentence"),
    [
        (IDS, None, {}, r"made-up\.onnx: axis 'length' of input 'ids' has no size of its own; add --size length=N"),
        (IDS, None, {"width": 2}, r"--size width: made-up\.onnx has no such dynamic axis; its axes: batch, length"),
        (TensorSpec("x", "float32", (1, 3)), None, {"n": 2}, r"no such dynamic axis; its axes: none"),
        (
            TensorSpec("x", "float32", (1, 3)),
            4,
            {},
            r"--batch 4: made-up\.onnx has its batch fixed at 1; leave --batch",
        ),
    ],
)
def test_sizes_that_do_not_suit_are_refused(
    spec: TensorSpec, batch: int | None, sizes: dict[str, int], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        input_shapes(spec_of(spec), batch, sizes)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (spec_of(IDS), None),
        (spec_of(replace(IDS, shape=(1, 7))), None),
        (spec_of(IDS, MASK), r"its inputs are ids, mask, not ids"),
        (spec_of(replace(IDS, dtype="int32")), r"input 'ids' is int32, not int64"),
        (spec_of(replace(IDS, shape=(1, 8))), r"input 'ids' has shape (1, 8), which (1, 7) does not fit"),
        (spec_of(replace(IDS, shape=("batch",))), r"input 'ids' has shape (batch), which (1, 7) does not fit"),
    ],
)
def test_models_with_other_inputs_are_told_apart(other: Engine, sentence: str | None) -> None:
    assert misfit(other, spec_of(IDS), {"ids": (1, 7)}) == sentence


def test_a_misfit_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    one, other = scaled(tmp_path / "one.onnx", ["n", 2]), scaled(tmp_path / "other.onnx", ["n", 2], name="z")
    with pytest.raises(
        InputError, match=r"^other\.onnx: cannot be timed on the inputs of one\.onnx: its inputs are z, not x; bench it"
    ):
        line_up([one, other])


def test_names_are_short_where_they_can_be() -> None:
    assert names_of([Path("a/one.onnx"), Path("b/two.onnx")]) == ["one.onnx", "two.onnx"]
    assert names_of([Path("a/one.onnx"), Path("b/one.onnx")]) == ["a/one.onnx", "b/one.onnx"]
    with pytest.raises(InputError, match=r"one\.onnx: stands twice; the first file is measured against itself anyway"):
        names_of([Path("one.onnx"), Path("one.onnx")])
    with pytest.raises(InputError, match=r"no file given"):
        names_of([])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_inputs_are_distinct_seeded_and_of_the_type(dtype: str) -> None:
    spec = TensorSpec("x", dtype, ("n", 40))
    pool = [inputs["x"] for inputs in random_inputs([spec], {"x": (2, 40)}, seed=1)]
    again = [inputs["x"] for inputs in random_inputs([spec], {"x": (2, 40)}, seed=1)]
    assert len({array.tobytes() for array in pool}) == 8
    assert all(np.array_equal(*pair) for pair in zip(pool, again, strict=True))
    assert {(array.dtype.name, array.shape) for array in pool} == {(dtype, (2, 40))}
    if not dtype.startswith("float"):
        assert set(np.unique(pool)) == {0, 1}
        assert all(array[:, 0].all() for array in pool)


def test_scalars_are_made_and_strings_are_not() -> None:
    [scalar, *_] = random_inputs([TensorSpec("x", "int64", ())], {"x": ()}, seed=0)
    assert scalar["x"].shape == ()
    with pytest.raises(InputError, match=r"input 'x' is object; bench makes inputs of floats, integers and booleans"):
        random_inputs([TensorSpec("x", "object", (1,))], {"x": (1,)}, seed=0)


def test_two_files_are_measured_against_each_other_and_the_first_against_itself(tmp_path: Path) -> None:
    """At batch 64 the convolutions take many times as long as one addition."""
    slow = networks.convolutional(tmp_path / "slow.onnx").path
    fast = scaled(tmp_path / "fast.onnx", ["n", 3, 12, 12], name="image")
    found = bench(line_up([slow, fast], batch=64), QUICK)
    first, second = found.rows
    assert (first.name, second.name) == ("slow.onnx", "fast.onnx")
    assert first.faster_than_reference is None
    assert second.faster_than_reference is not None
    assert second.faster_than_reference.low > 2
    assert found.inputs == {"image": (64, 3, 12, 12)}
    assert first.latency is not None
    assert first.latency.batch_size == 64
    assert [tail.needed for tail in first.latency.tails] == [64, 662, 6636]
    assert first.size_bytes == slow.stat().st_size
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["schema"] == "edge-compress bench 1"
    assert written["machine"]["cores"] >= 1
    assert str(tmp_path) not in json.dumps(written)


def test_throughput_is_measured_as_such(tmp_path: Path) -> None:
    found = bench(
        line_up([networks.convolutional(tmp_path / "model.onnx").path]),
        replace(QUICK, mode="throughput", threads=2),
    )
    [row] = found.rows
    assert row.latency is None
    assert row.throughput is not None
    assert row.throughput.requests == 2
    assert row.throughput.samples_per_s > 0


@pytest.mark.parametrize(
    ("control", "stable"),
    [
        (Interval(1.0, 0.99, 1.01), True),
        (Interval(1.02, 1.01, 1.03), False),
        (Interval(1.0, 0.9, 1.1), False),
    ],
)
def test_no_speed_is_claimed_where_the_reference_is_not_itself(control: Interval, stable: bool) -> None:
    footprint = Footprint(0.1, 0.01, 2, 1)
    row = BenchRow("model.onnx", "onnxruntime_mobile", 1, None, None, None, 0, 40, footprint, (), {})
    found = Bench("2025-01-01T00:00:00+00:00", (row,), control, QUICK, {"x": (1,)}, {}, {})
    assert (found.unstable is None) == stable
    assert stable or "the machine was unstable while measuring (A/A 1.0" in str(found.to_json()["unstable"])
