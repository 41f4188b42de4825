"""The products of a model, one by one: every convolution, linear layer and attention product that one pass computes.

And the max pools right before them, which take time too, by the channels that they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from compress.model_size import countable
from compress.prune.plan import named_tensors
from export.calling import call
from export.trace import evaluating


@dataclass(frozen=True)
class Window:
    """How a convolution slides; one number a spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool


@dataclass(frozen=True)
class Product:
    """One product of a pass.

    Args:
        module: path of the innermost module that computes it.
        weight: name of the parameter that it multiplies by; None where both factors are computed, as in attention.
        macs: multiply-accumulates of the pass.
        activations: shape of what the weight meets: (batch, channels, ...) or (rows, features).
        outputs: channels or features that it makes.
        axes: the weight's axes of the outputs and of the inputs.
        window: of a convolution.
        pools: no product, but a max pool whose answer this weight reads first.
    """

    module: str
    weight: str | None
    macs: int
    activations: tuple[int, ...]
    outputs: int
    axes: tuple[int, int] = (0, 1)
    window: Window | None = None
    pools: bool = False

    @property
    def inputs(self) -> int:
        """Channels or features that it reads."""
        return self.activations[1] if len(self.activations) > 1 else 1


def products(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Product, ...]:
    """What one pass over `inputs` multiplies, in order; counted as `compress.model_size` counts."""
    return tuple(each for each in products_and_pools(model, inputs) if not each.pools)


def products_and_pools(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Product, ...]:
    """The same with two-dimensional max pools among them, of which a weight reads the channels."""
    with evaluating(model), countable(), _running(model) as stack, _Recorder(model, stack) as recorder:
        call(model, inputs)
    return tuple(recorder.found)


def one_name(model: nn.Module) -> dict[str, str]:
    """Name of a parameter or buffer -> the first name of the same tensor: a tied one has several."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named_tensors(model).items()}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, model: nn.Module, stack: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Product] = []
        self._stack = stack
        self._weights: dict[int, str] = {}
        self._pools: dict[int, tuple[str, Tensor, Tensor, Window]] = {}
        """By where its answer lies: path, what it read, its answer (which keeps its place meanwhile), window."""
        for name, parameter in model.named_parameters():
            self._weights.setdefault(parameter.untyped_storage().data_ptr(), name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry:
            with self:
                decomposed = func.decompose(*args, **kwargs)
            if decomposed is not NotImplemented:
                return decomposed
        result = func(*args, **kwargs)
        if packet is torch.ops.aten.max_pool2d_with_indices:
            self._pools[result[0].untyped_storage().data_ptr()] = (self._where, args[0], result[0], _window(*args[1:]))
        if packet in flop_registry:
            macs = int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
            self.found.append(self._product(packet, args, result, macs))
        return result

    @property
    def _where(self) -> str:
        return self._stack[-1] if self._stack else ""

    def _note(self, pool: tuple[str, Tensor, Tensor, Window], reader: str | None, axis: int) -> None:
        """A max pool, by the weight that reads its channels along `axis`."""
        path, read, _, window = pool
        channels = int(read.shape[1])
        self.found.append(Product(path, reader, 0, tuple(read.shape), channels, (axis, axis), window, pools=True))

    def _product(self, packet: Any, args: tuple[Any, ...], result: Tensor, macs: int) -> Product:
        where = self._where
        factors = [each for each in args if isinstance(each, Tensor) and each.dim() > 1]
        names = [self._weights.get(factor.untyped_storage().data_ptr()) for factor in factors]
        known = [place for place, name in enumerate(names) if name is not None]
        if not known:
            return Product(where, None, macs, tuple(factors[0].shape), int(result.shape[-1]))
        weight, met = factors[known[0]], factors[known[0] - 1]
        pool = self._pools.pop(met.untyped_storage().data_ptr(), None) if met.dim() == 4 else None
        if packet is torch.ops.aten.convolution:
            _, _, _, stride, padding, dilation, transposed, _, groups = args
            window = Window(tuple(weight.shape[2:]), tuple(stride), tuple(padding), tuple(dilation), groups, transposed)
            axes = (1, 0) if transposed else (0, 1)
            if pool is not None and groups == 1:
                self._note(pool, names[known[0]], axes[1])
            return Product(where, names[known[0]], macs, tuple(met.shape), int(result.shape[1]), axes, window)
        is_turned = weight.stride(-2) < weight.stride(-1)  # x @ w.T reads a weight of shape (outputs, inputs)
        axes = (0, 1) if is_turned else (1, 0)
        return Product(where, names[known[0]], macs, tuple(met.shape), int(result.shape[-1]), axes)


def _window(
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Window:
    """Of a max pool, whose arguments may be one number for both axes; no stride is the kernel's."""
    size, step, rim, gap = (tuple(each) * (2 // len(each)) for each in (kernel, stride or kernel, padding, dilation))
    return Window(size, step, rim, gap, groups=1, transposed=False)


@contextmanager
def _running(model: nn.Module) -> Iterator[list[str]]:
    """The paths of the modules whose forward is running, innermost last."""
    stack: list[str] = []
    with ExitStack() as hooks:
        for path, module in model.named_modules():
            hooks.enter_context(module.register_forward_pre_hook(lambda *_, path=path: stack.append(path)))
            hooks.enter_context(module.register_forward_hook(lambda *_: _drop(stack)))
        yield stack


def _drop(stack: list[str]) -> None:
    stack.pop()
