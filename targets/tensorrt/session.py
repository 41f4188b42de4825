"""A TensorRT engine that answers: tensors by name, pinned host memory, one stream, and a CUDA graph while shapes stay.

Written from NVIDIA's documentation and tested against tests/targets/fake_cuda.c; not yet run on a GPU. Runs on Python 3.9.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from export.errors import EnvironmentFailure, InputError, UnsupportedError
from export.model import TensorSpec
from targets import cuda
from targets.base import Arrays, Engine, Profile
from targets.tensorrt.builder import AHEAD_OF_TIME
from targets.tensorrt.cache import keep, read_cached
from targets.tensorrt.profile import collecting_profiler, read_layers

if TYPE_CHECKING:
    from typing import Self

Shapes = tuple[tuple[int, ...], ...]


class TensorRtSession:
    """One execution context on one stream.

    The first inference at new shapes is put on the stream call by call, for TensorRT then settles what it cannot while
    being recorded; the second is recorded, copies included, and later ones launch that graph. TensorRT-RTX records by
    itself, for it alone knows when its kernels are specialised.

    Args:
        kernels: where TensorRT-RTX keeps the kernels that it compiles for this GPU; None keeps none.
    """

    cuda_graph: str
    """What became of the CUDA graph: "none yet", "recorded", "by TensorRT-RTX", or why there is none."""

    def __init__(self, trt: Any, deserialised: Any, engine: Engine, kernels: Path | None = None) -> None:
        self._stream = cuda.Stream()
        self._engine = deserialised
        self._inputs, self._outputs = engine.inputs, engine.outputs
        self._profile: Mapping[str, Sequence[Sequence[int]]] = engine.settings.get("profile", {})
        specs = (*self._inputs, *self._outputs)
        self._device = {spec.name: cuda.Buffer() for spec in specs}
        self._pinned = {spec.name: cuda.PinnedBuffer() for spec in specs}
        self._host: dict[str, np.ndarray] = {}
        self._shapes: Shapes | None = None
        self._runs_at_shapes = 0
        self._graph: cuda.Graph | None = None
        self._kernels_file = kernels
        self._kernels: Any = None
        self._records = trt.__name__ != AHEAD_OF_TIME
        self.cuda_graph = "none yet" if self._records else "none: the cache grows" if self._grows else "by TensorRT-RTX"
        self._context = deserialised.create_execution_context() if self._records else self._specialising(trt)
        if self._context is None:
            self._stream.close()
            raise EnvironmentFailure(
                f"{engine.path.name}: no execution context; the GPU's memory is full or its driver too old (nvidia-smi)"
            )

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Raises InputError for a shape outside the engine's profile."""
        self._stream.use()
        given = {spec.name: np.asarray(inputs[spec.name], spec.dtype) for spec in self._inputs}
        shapes = tuple(array.shape for array in given.values())
        if shapes != self._shapes:
            self._take(given)
            self._shapes, self._runs_at_shapes = shapes, 0
        for name, array in given.items():
            np.copyto(self._host[name], array)
        if self._records and self._runs_at_shapes == 1:
            self._record()
        if self._graph:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
        self._stream.wait()
        self._runs_at_shapes += 1
        return {spec.name: self._host[spec.name].copy() for spec in self._outputs}

    def profile(self, trt: Any, inputs: Mapping[str, np.ndarray], runs: int) -> Profile:
        """The call includes the copies to and from the device and may be a graph's; the layers are timed one by one."""
        taken = []
        for _ in range(max(2, runs // 10) + runs):
            start = time.perf_counter()
            self.run(inputs)
            taken.append(time.perf_counter() - start)
        self._drop_graph()  # no profiler hears of its launch; it is recorded at new shapes alone
        profiler = collecting_profiler(trt)
        self._context.profiler = profiler
        for _ in range(runs):
            self.run(inputs)
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        layers = read_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON), profiler.times_ms)
        return Profile(layers, median(taken[-runs:]))

    def _take(self, given: Mapping[str, np.ndarray]) -> None:
        """Shapes and addresses of every tensor for inputs like these; a graph holds the old ones and goes."""
        self._drop_graph()
        self._shapes = None
        for name, array in given.items():
            if not self._context.set_input_shape(name, array.shape):
                raise InputError(self._outside_profile(name, array.shape))
        shapes = {name: array.shape for name, array in given.items()}
        shapes.update({spec.name: self._output_shape(spec) for spec in self._outputs})
        for spec in (*self._inputs, *self._outputs):
            self._host[spec.name] = self._pinned[spec.name].of(shapes[spec.name], spec.dtype)
            address = self._device[spec.name].of(self._host[spec.name].nbytes)
            if not self._context.set_tensor_address(spec.name, address):
                raise EnvironmentFailure(f"tensorrt: the engine has no tensor '{spec.name}'; build it again")

    def _outside_profile(self, name: str, shape: tuple[int, ...]) -> str:
        found = f"tensorrt: input '{name}': found shape {shape}, outside the engine's profile"
        if name not in self._profile:
            return found
        smallest, _, largest = (tuple(extents) for extents in self._profile[name])
        return f"{found}, allowed: from {smallest} to {largest}; name wider `axes` of tensorrt in the recipe"

    def _output_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        shape = tuple(self._context.get_tensor_shape(spec.name))
        if any(extent < 0 for extent in shape):
            raise UnsupportedError(
                f"tensorrt: output '{spec.name}' has a size that depends on the values of the input ({shape}); "
                "sessions give every output a place before they run"
            )
        return shape

    def _enqueue(self) -> None:
        """One inference on the stream: copies to the device, the engine, copies back."""
        for spec in self._inputs:
            if self._host[spec.name].nbytes:  # a decoder's first cache is empty
                self._stream.upload(self._host[spec.name], self._address(spec))
        if not self._context.execute_async_v3(self._stream.handle):
            raise EnvironmentFailure("tensorrt: the GPU refused to run the engine; see nvidia-smi")
        for spec in self._outputs:
            self._stream.download(self._address(spec), self._host[spec.name])

    def _record(self) -> None:
        """Engines with loops, or with sizes that depend on values, cannot be recorded: they go on without a graph."""
        try:
            self._graph = self._stream.record(self._enqueue)
            self.cuda_graph = "recorded"
        except EnvironmentFailure as error:
            self._records, self.cuda_graph = False, f"cannot be recorded: {error}"

    def _address(self, spec: TensorSpec) -> int:
        return self._device[spec.name].of(self._host[spec.name].nbytes)

    @property
    def _grows(self) -> bool:
        """Whether an input may be empty: a decoder's cache, which is longer at every call."""
        return any(0 in smallest for smallest, _, _ in self._profile.values())

    def _specialising(self, trt: Any) -> Any:
        """A context of TensorRT-RTX: kernels for the very shapes before the first answer, then a graph of them.

        Left to itself it answers with general kernels until the special ones are compiled, some hundred calls later. Where a
        cache grows no shape comes twice, and compiling for each would be all that it does: there general kernels are the right ones.
        """
        config, strategy = self._engine.create_runtime_config(), trt.DynamicShapesKernelSpecializationStrategy
        graphs = trt.CudaGraphStrategy
        config.cuda_graph_strategy = graphs.DISABLED if self._grows else graphs.WHOLE_GRAPH_CAPTURE
        config.dynamic_shapes_kernel_specialization_strategy = strategy.NONE if self._grows else strategy.EAGER
        if self._kernels_file:
            self._kernels = config.create_runtime_cache()
            if compiled := read_cached(self._kernels_file):
                self._kernels.deserialize(compiled)
            config.set_runtime_cache(self._kernels)
        return self._engine.create_execution_context(runtime_config=config)

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.close()
            self._graph, self.cuda_graph = None, "none yet"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.use()
        self._drop_graph()
        if self._kernels is not None and self._kernels_file:
            keep(self._kernels_file, bytes(self._kernels.serialize()))
        del self._context, self._engine
        self._kernels, self._host = None, {}
        for name, pinned in self._pinned.items():
            pinned.close()
            self._device[name].close()
        self._stream.close()
