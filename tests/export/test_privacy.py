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
import {package}
import nncf, numpy, onnxruntime, openvino
from onnx import TensorProto, helper

shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", shape[:1], shape[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
given = {{"x": numpy.ones(1, numpy.float32)}}
assert onnxruntime.InferenceSession(model).run(None, given)[0] == 1
core = openvino.Core()
assert core.compile_model(core.read_model(model), "CPU")(given)[0] == 1
assert type(openvino.tools.ovc.telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"
"""


@pytest.mark.parametrize("package", ["compress", "benchmarks", "targets", "export"])
def test_runtimes_that_are_imported_after_ours_report_to_nobody(package: str, tmp_path: Path) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name not in USED_IN_CI} | {
        "HOME": str(tmp_path)
    }
    subprocess.run([sys.executable, "-c", USE.format(package=package)], env=surroundings, check=True, cwd=ROOT)
    written = {file.relative_to(tmp_path).parts[:2] for file in tmp_path.rglob("*") if file.is_file()}
    assert not {parts for parts in written if parts[0] == "intel" or parts == (".cache", "Microsoft")}
