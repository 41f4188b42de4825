"""No runtime reports to its vendor: what they would keep for that, a number of the machine and a queue, is not written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
USED_IN_CI = (
    "CI",
    "TF_BUILD",
    "JENKINS_URL",
    "NNCF_CI",
    "ORT_DISABLE_TELEMETRY",
    "ORT_RUNNING_UNIT_TESTS",
    "XDG_CACHE_HOME",
)
"""Variables by which the runtimes keep silent anyway, or write elsewhere."""
USE = """
import export
import nncf, numpy, onnxruntime, openvino
from onnx import TensorProto, helper

shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", shape[:1], shape[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
given = {"x": numpy.ones(1, numpy.float32)}
assert onnxruntime.InferenceSession(model).run(None, given)[0] == 1
core = openvino.Core()
assert core.compile_model(core.read_model(model), "CPU")(given)[0] == 1
assert type(openvino.tools.ovc.telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"
"""


FIRST = """
import os, sys
import {package}
loaded = list(sys.modules)
assert os.environ["ORT_DISABLE_TELEMETRY"] == os.environ["NNCF_CI"] == "1" and sys.modules["openvino_telemetry"] is None
runtimes = [name for name in loaded if name in ("nncf", "onnxruntime", "openvino", "tensorrt")]
assert all(loaded.index("export.privacy") < loaded.index(name) for name in runtimes), runtimes
"""


def test_runtimes_that_are_imported_after_ours_report_to_nobody(tmp_path: Path) -> None:
    _run(USE, tmp_path)
    written = {file.relative_to(tmp_path).parts[:2] for file in tmp_path.rglob("*") if file.is_file()}
    assert not {parts for parts in written if parts[0] == "intel" or parts == (".cache", "Microsoft")}


@pytest.mark.parametrize("package", ["compress", "benchmarks", "targets"])
def test_each_package_switches_it_off_before_any_runtime(package: str, tmp_path: Path) -> None:
    _run(FIRST.format(package=package), tmp_path)


def _run(program: str, home: Path) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name not in USED_IN_CI} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", program], env=surroundings, check=True, cwd=ROOT)
