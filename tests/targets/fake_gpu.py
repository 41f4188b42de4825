"""A GPU for tests on machines without one: the driver in fake_cuda.c, and a TensorRT whose engines compute y = 2 x + 1.

What is tested with them is the order of calls and what is handed over, never a figure.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.model import TensorSpec
from targets.base import Engine

SOURCE = Path(__file__).with_name("fake_cuda.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc) to build the fake CUDA driver with")

_KERNEL = ctypes.CFUNCTYPE(None)


@pytest.fixture
def driver(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake driver in place of libcuda, with no call made yet. On leaving, everything taken was given back."""
    if COMPILER is None:
        pytest.skip("no C compiler (cc) to build the fake CUDA driver with")
    library = ctypes.CDLL(str(_built(tmp_path_factory.getbasetemp())))
    library.fake_calls.restype = ctypes.c_char_p
    library.fake_memory.restype = ctypes.c_void_p
    monkeypatch.setattr("targets.cuda._driver", lambda: library)
    library.fake_reset()
    library.fake_capability(8, 9)
    before = library.fake_live()
    yield library
    assert library.fake_live() == before, "memory, streams or graphs were not given back"


@cache
def _built(folder: Path) -> Path:
    library = folder / "libfakecuda.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library


def calls(driver: Any) -> list[str]:
    """What was called since the last time this was asked."""
    made: list[str] = driver.fake_calls().decode().split()
    driver.fake_reset()
    return made


def install(monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt) -> None:
    """`trt` is the only provider there is."""
    monkeypatch.setitem(sys.modules, trt.__name__, trt)  # type: ignore[arg-type]
    monkeypatch.setattr("targets.tensorrt.find_spec", lambda name: trt if name == trt.__name__ else None)


class FakeTensorRt:
    """The part of the module `tensorrt` that targets/ uses; `log` keeps what it was told, `layers` what it inspects."""

    ILogger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0, "__init__": lambda self: None})
    Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})
    IProfiler = type("IProfiler", (), {"__init__": lambda self: None})
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph", DISABLED="no graph")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager", NONE="general")

    def __init__(self, driver: Any, name: str = "tensorrt", version: str = "10.9.0") -> None:
        self.__name__, self.__version__ = name, version
        self.driver, self.log = driver, list[str]()
        self.largest_batch = 8
        self.spoils_recordings = False
        self.layers: list[Any] = [{"Name": "conv1", "LayerType": "CaskConvolution", "Outputs": []}]

    def Runtime(self, _: object) -> Any:  # noqa: N802
        return SimpleNamespace(deserialize_cuda_engine=self._deserialise)

    def _deserialise(self, plan: bytes) -> FakeEngine:
        self.log.append("deserialise")
        return FakeEngine(self, plan)

    def Builder(self, _: object) -> Any:  # noqa: N802
        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(flags=flags, model=b""),
            create_builder_config=lambda: _Config(self),
            create_optimization_profile=_Profile,
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, _: object) -> Any:  # noqa: N802
        return SimpleNamespace(parse=lambda model: bool(setattr(network, "model", model)) or True)

    def _build(self, network: Any, config: _Config) -> bytes:
        self.log.append("build")
        config.timings = config.timings + b"+conv"
        told = {"model": len(network.model), "profile": config.profile, "workspace": config.workspace}
        return json.dumps(told).encode()


class _Profile(dict[str, Any]):
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self[name] = shapes


class _Config:
    """Timings of another GPU begin with "other" and are refused."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt, self.profile, self.workspace, self.timings = trt, dict[str, Any](), 0, b"none"

    def set_memory_pool_limit(self, _: str, size_bytes: int) -> None:
        self.workspace = size_bytes

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.profile = dict(profile)

    def create_timing_cache(self, known: bytes) -> bytes:
        return known or b"new"

    def set_timing_cache(self, timings: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if timings.startswith(b"other"):
            return False
        self.timings = timings
        self._trt.log.append(f"timings {timings.decode()}")
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.timings)


class FakeEngine:
    def __init__(self, trt: FakeTensorRt, plan: bytes) -> None:
        self.trt, self.plan = trt, plan

    def create_execution_context(self, runtime_config: Any = None) -> FakeContext:
        if runtime_config is not None:
            kernels = runtime_config.dynamic_shapes_kernel_specialization_strategy
            self.trt.log.append(f"{runtime_config.cuda_graph_strategy}, {kernels}, {runtime_config.kernels.content!r}")
        return FakeContext(self.trt)

    def create_runtime_config(self) -> Any:
        config = SimpleNamespace(create_runtime_cache=_Kernels)
        config.set_runtime_cache = lambda kernels: setattr(config, "kernels", kernels)
        return config

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": self.trt.layers}))


class _Kernels:
    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, content: bytes) -> bool:
        self.content = content
        return True

    def serialize(self) -> bytes:
        return b"compiled kernels"


class FakeContext:
    """Input x and output y of shape (batch, 3). At the first run of a shape it allocates, as TensorRT may."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt, self._driver = trt, trt.driver
        self._shape, self._new = (0, 3), True
        self._at = dict[str, int]()
        self._kernels = list[Any]()
        self._scratch = ctypes.c_uint64()
        self.profiler: Any = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name != "x" or len(shape) != 2 or shape[1] != 3 or not 1 <= shape[0] <= self._trt.largest_batch:
            return False
        self._shape, self._new = shape, True
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape if name in ("x", "y") else (-1, 3)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return name in ("x", "y")

    def execute_async_v3(self, stream: int) -> bool:
        if self._new or self._trt.spoils_recordings:
            self._driver.cuMemAlloc_v2(ctypes.byref(self._scratch), ctypes.c_size_t(16))
            if self._scratch.value:
                self._driver.cuMemFree_v2(self._scratch)
                self._scratch = ctypes.c_uint64()
        self._new = False
        x, y = (self._view(self._at[name]) for name in ("x", "y"))
        kernel = _KERNEL(lambda: np.copyto(y, 2 * x + 1))
        self._kernels.append(kernel)
        if self.profiler:
            self.profiler.report_layer_time("conv1", 0.5)
        self._driver.fake_kernel(ctypes.c_void_p(stream), kernel)
        return True

    def _view(self, address: int) -> np.ndarray:
        at = self._driver.fake_memory(ctypes.c_uint64(address))
        count = self._shape[0] * self._shape[1]
        return np.frombuffer((ctypes.c_float * count).from_address(at), np.float32).reshape(self._shape)


def engine_of(folder: Path, settings: dict[str, Any] | None = None) -> Engine:
    """What the fake engines answer to; the plan itself is whatever is in model.engine."""
    x, y = (TensorSpec(name, "float32", ("batch", 3)) for name in ("x", "y"))
    path = folder / "model.engine"
    return Engine("tensorrt", "fp16", path, (path,), (x,), (y,), build_s=0.1, settings=settings or {})
