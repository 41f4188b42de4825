"""Run a model on the same batches again and again, each time a little further, without computing the start anew.

Layer-by-layer work needs the inputs of every layer after all layers before it have changed. Running the model from its
start for each layer costs half the layers' number of full passes. Here the results of modules in which nothing will
change any more are kept on disk, and the module gives them back: ResNet-56's 56 layers cost about three passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from export.calling import call

Inputs = Mapping[str, Tensor]
ADDITIONS = (
    torch.add,
    torch.Tensor.add,
    torch.Tensor.add_,
    torch.Tensor.__add__,
    torch.Tensor.__iadd__,
    torch.Tensor.__radd__,
)


class KeptBatches:
    """Batches written to a folder, read one at a time; whatever gave them is iterated once.

    Where they are many and small (sentences one by one, so that nothing is padded), those of the same shape are joined:
    512 sentences of SST-2 become some 60 batches, on which a model runs several times faster.

    Args:
        folder: where they are kept.
    """

    def __init__(self, batches: Iterable[Inputs], folder: Path) -> None:
        self._folder = folder
        shapes: list[tuple[object, ...]] = []
        sizes: list[int] = []
        for inputs in batches:
            save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, self._file(len(sizes)))
            self._names = tuple(inputs)
            shapes.append(tuple(tensor.shape[1:] for tensor in inputs.values()))
            sizes.append(len(next(iter(inputs.values()))))
        self._joined = _joined(shapes, sizes)
        self.count = len(self._joined)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        parts = [load_file(self._file(each)) for each in self._joined[number]]
        return {name: torch.cat([part[name] for part in parts]) for name in self._names}

    def _file(self, number: int) -> Path:
        return self._folder / f"inputs-{number}.safetensors"


FEWEST_BATCHES = 16
LARGEST_JOINED = 32


def _joined(shapes: Sequence[tuple[object, ...]], sizes: Sequence[int]) -> list[list[int]]:
    """Which batches go together: of one shape, until there are enough samples in one."""
    enough = min(LARGEST_JOINED, sum(sizes) // FEWEST_BATCHES)
    found: list[list[int]] = []
    filling: dict[tuple[object, ...], tuple[list[int], int]] = {}
    for number, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        members, samples = filling.get(shape, ([], enough))
        if samples + size > enough:
            members, samples = [], 0
            found.append(members)
        members.append(number)
        filling[shape] = members, samples + size
    return found


@dataclass(frozen=True)
class Sum:
    """A layer's output that becomes one operand of an addition.

    Args:
        norm: path of the batch norm between, if there is one.
        tail: path of the module whose output is the operand: the layer, its norm, or a dropout behind.
    """

    norm: str | None
    tail: str


@dataclass(frozen=True)
class Order:
    """How a model runs.

    Args:
        spans: path -> how many layers (modules with parameters of their own) had begun when it began and ended, for
            modules that are called once.
        whole: those of them whose result is one tensor.
        norms: path of a layer -> the batch norm that reads its output.
        sums: path of a layer -> the sum that it feeds.
    """

    spans: Mapping[str, tuple[int, int]]
    whole: frozenset[str]
    norms: Mapping[str, str]
    sums: Mapping[str, Sum]


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TRANSPARENT = (*BATCH_NORMS, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)


def order_of(model: nn.Module, inputs: Inputs, is_layer: Callable[[nn.Module], bool]) -> Order:
    """Watch one forward pass of a model in eval mode."""
    watch = _Watch(is_layer)
    with torch.no_grad(), ExitStack() as hooks, watch:
        for path, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(watch.entering(path)).remove)
            hooks.callback(module.register_forward_hook(watch.leaving(path)).remove)
        call(model, inputs)
    once = {path: span for path, span in watch.spans.items() if watch.calls[path] == 1}
    return Order(once, frozenset(watch.whole & once.keys()), watch.norms, watch.sums)


class Replay:
    """A model, its order and the results kept so far. Modules called twice are run, never replayed.

    Args:
        folder: where results are kept; only this object's.
    """

    def __init__(self, model: nn.Module, order: Order, batches: KeptBatches, folder: Path) -> None:
        self._modules = dict(model.named_modules())
        self._numbers = {path: number for number, path in enumerate(self._modules)}
        self._model, self._order, self._batches, self._folder = model, order, batches, folder
        self._kept: list[str] = []
        self._batch = 0

    @contextmanager
    def up_to(self, path: str) -> Iterator[Callable[[int], None]]:
        """Inside, the function given runs one batch; modules that end before `path` begins are not run again.

        The caller's hooks or modes raise Enough where they have seen what they wanted.
        """
        begin = self._order.spans[path][0]
        done = [each for each in self._order.whole if each and self._finished(each, begin)]
        outermost = [each for each in done if not any(each.startswith(f"{other}.") for other in done)]
        with ExitStack() as changes:
            for each in self._kept:  # also inside of a module that runs for the last time
                module = self._modules[each]
                module.forward = self._giving(each)
                changes.callback(module.__delattr__, "forward")
            for each in set(outermost) - set(self._kept):
                changes.callback(self._modules[each].register_forward_hook(self._keeping(each)).remove)
            yield self._run
        for each in set(self._kept) - set(outermost):
            self._forget(each)
        self._kept = outermost

    def _run(self, batch: int) -> None:
        self._batch = batch
        with torch.no_grad(), suppress(Enough):  # whoever has seen what it wanted ends the pass
            call(self._model, self._batches[batch])

    def _finished(self, path: str, begin: int) -> bool:
        first, last = self._order.spans[path]
        return first < last <= begin

    def _keeping(self, path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, arguments, result: _save(result, self._file(path))

    def _giving(self, path: str) -> Callable[..., Tensor]:
        if self._next_in_chain(path) in self._kept:
            return lambda *arguments, **options: torch.empty(0)  # the next one gives its own result without a look
        return lambda *arguments, **options: _load(self._file(path))

    def _next_in_chain(self, path: str) -> str | None:
        """The module right behind one in an nn.Sequential that is called itself."""
        parent, _, name = path.rpartition(".")
        if type(self._modules[parent]) is not nn.Sequential or parent not in self._order.spans:
            return None
        names = [each for each, _ in self._modules[parent].named_children()]
        following = names[names.index(name) + 1 : names.index(name) + 2]
        return f"{parent}.{following[0]}" if following and parent else (following[0] if following else None)

    def _forget(self, path: str) -> None:
        for batch in range(self._batches.count):
            self._file(path, batch).unlink(missing_ok=True)

    def _file(self, path: str, batch: int | None = None) -> Path:
        return self._folder / f"{self._numbers[path]}-{self._batch if batch is None else batch}.safetensors"


def _save(result: Tensor, file: Path) -> None:
    """Images laid out channels last stay so: what reads them is computed faster."""
    last = result.ndim == 4 and not result.is_contiguous() and result.is_contiguous(memory_format=torch.channels_last)
    save_file({"images": result.permute(0, 2, 3, 1)} if last else {"result": result.contiguous()}, file)


def _load(file: Path) -> Tensor:
    kept: dict[str, Tensor] = load_file(file)
    return kept["images"].permute(0, 3, 1, 2) if "images" in kept else kept["result"]


class Enough(Exception):
    """Raised inside a forward pass to end it."""


class OtherOperand(TorchFunctionMode):
    """Sees the addition of which `tensor` is one operand, hands the other one to `found`."""

    def __init__(self, found: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.tensor: Tensor | None = None
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.tensor is not None and func in ADDITIONS:
            one, other = _operands(args, kwargs or {})
            if one is self.tensor or other is self.tensor:
                self._found(other if one is self.tensor else one)
        return func(*args, **(kwargs or {}))


class _Watch(TorchFunctionMode):
    """Counts layers as they begin, and follows their outputs to batch norms and additions."""

    def __init__(self, is_layer: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.whole: set[str] = set()
        self.norms: dict[str, str] = {}
        self.sums: dict[str, Sum] = {}
        self._is_layer = is_layer
        self._begun = 0
        self._made: dict[int, tuple[Any, int]] = {}
        self._outputs: dict[int, tuple[Tensor, str, Sum]] = {}

    def entering(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            self.calls[path] = self.calls.get(path, 0) + 1
            self.spans[path] = (self._begun, self._begun)
            self._begun += any(True for _ in module.parameters(recurse=False))

        return hook

    def leaving(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, result: Any) -> None:
            self.spans[path] = (self.spans[path][0], self._begun)
            if not isinstance(result, Tensor):
                return
            self.whole.add(path)
            if self._is_layer(module):
                self._outputs[id(result)] = (result, path, Sum(None, path))
            elif type(module) in TRANSPARENT and arguments and id(arguments[0]) in self._outputs:
                _, layer, before = self._outputs[id(arguments[0])]
                norm = before.norm
                if isinstance(module, BATCH_NORMS) and norm is None:
                    norm = self.norms[layer] = path
                self._outputs[id(result)] = (result, layer, Sum(norm, path))

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ADDITIONS:
            one, other = _operands(args, kwargs or {})
            self._sum(one, other)
            self._sum(other, one)
        result = func(*args, **(kwargs or {}))
        self._made[id(result)] = (result, self._begun)  # kept alive, or its id could be another's
        return result

    def _sum(self, operand: Any, partner: Any) -> None:
        """Remember a sum with something that was there before the layer began: only that can be compensated."""
        if id(operand) in self._outputs and isinstance(partner, Tensor) and partner.shape == operand.shape:
            _, layer, found = self._outputs[id(operand)]
            if self._made.get(id(partner), (None, 0))[1] <= self.spans[layer][0]:
                self.sums[layer] = found


def _operands(args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    both = [*args, *(kwargs[name] for name in ("input", "other") if name in kwargs)]
    return both[0], both[1]
