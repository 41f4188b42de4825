"""Where student and teacher are compared inside: the last block of every run of blocks whose outputs have one size, or all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from compress.prune.blocks import Skip
from export.calling import as_tensors, call
from export.errors import UnsupportedError
from export.trace import evaluating

PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("to_q", "to_k", "to_v"), ("q", "k", "v"))
"""What attention layers call their three linear layers."""

RELATION_HEADS = 12
"""Into which relations are cut, at most (arXiv:2012.15828 finds more heads than the networks have to help)."""


@dataclass(frozen=True)
class Place:
    """A module of the student and one of the teacher whose outputs are compared; shapes of a batch of examples."""

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]

    @property
    def widths(self) -> tuple[int, int]:
        return _width(self.student_shape), _width(self.teacher_shape)

    @property
    def heads(self) -> int:
        """The largest number, up to RELATION_HEADS, into which both widths can be cut."""
        return max(count for count in range(1, RELATION_HEADS + 1) if not any(width % count for width in self.widths))

    def projection(self) -> nn.Module:
        """From the student's channels to the teacher's; nothing where the student's channels are the teacher's own."""
        mine, taught = self.widths
        if mine == taught and self.student == self.teacher:
            return nn.Identity()
        return nn.Conv2d(mine, taught, 1, bias=False) if len(self.student_shape) == 4 else nn.Linear(mine, taught)


def block_places(student: nn.Module, teacher: nn.Module, example_inputs: Mapping[str, Tensor]) -> tuple[Place, ...]:
    """Where the two agree: by position among the runs of blocks whose outputs have the same size but for channels.

    A pruned student has the teacher's paths, so its places do too; a network of its own is met stage by stage.

    Raises:
        UnsupportedError: if no run of blocks of the one has its like in the other.
    """
    mine, taught = (_stages(model, example_inputs) for model in (student, teacher))
    places = []
    for path, shape in taught:
        like = next((at for at, (_, other) in enumerate(mine) if _size(other) == _size(shape)), None)
        if like is None:
            continue
        own, own_shape = mine[like]
        if any(entry[0] == path for entry in mine):
            own, own_shape = path, dict(mine)[path]
        places.append(Place(own, path, own_shape, shape))
        mine = mine[like + 1 :]
    if not places:
        raise UnsupportedError(
            "distill: hints: no block of the student has an output of the size of one of the teacher's; "
            "set hints to none"
        )
    return tuple(places)


def every_block(student: nn.Module, teacher: nn.Module, example_inputs: Mapping[str, Tensor]) -> tuple[Place, ...]:
    """Every block of the teacher that the student still has under the same path; one that pruning skipped is none.

    A plain chain of layers, as in VGG, has no blocks: each convolution and linear layer but the last is one then.

    Raises:
        UnsupportedError: if there is no such block, as with a student of its own making.
    """
    present = dict(student.named_modules())
    paths = [
        path for path in _blocks(teacher) or _layers(teacher) if path in present and not isinstance(present[path], Skip)
    ]
    mine, taught = (_shapes(model, example_inputs, paths) for model in (student, teacher))
    places = tuple(
        Place(path, path, mine[path], shape)
        for path, shape in taught.items()
        if path in mine and _size(mine[path]) == _size(shape)
    )
    if not places:
        raise UnsupportedError(
            "distill: hint_places: blocks compares the blocks that student and teacher share, and they share none; "
            "set hint_places to stages"
        )
    return places


def attention_places(student: nn.Module, teacher: nn.Module, example_inputs: Mapping[str, Tensor]) -> tuple[Place, ...]:
    """Queries, keys and values of the last layer of both networks; where they are no layers of their own, its output.

    Raises:
        UnsupportedError: if that gives no vector for each token.
    """
    found = [_projections(model, example_inputs) for model in (student, teacher)]
    if all(found):
        places = tuple(Place(own, path, shape, other) for (own, shape), (path, other) in zip(*found, strict=True))
    else:
        places = block_places(student, teacher, example_inputs)[-1:]
    if any(len(place.teacher_shape) != 3 for place in places):
        raise UnsupportedError(
            f"distill: hints: relation compares tokens, and {places[-1].teacher} gives shape "
            f"{places[-1].teacher_shape}, not (batch, length, width); set hints to features or attention"
        )
    return places


@contextmanager
def listening(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While this lasts, the last output of each of these modules, by its path."""
    heard: dict[str, Tensor] = {}

    def listener(path: str) -> Any:
        def hear(module: nn.Module, inputs: object, output: object) -> None:
            heard[path] = as_tensors(output)[0]

        return hear

    handles = [model.get_submodule(path).register_forward_hook(listener(path)) for path in paths]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _stages(model: nn.Module, example_inputs: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """The last of each run of blocks of one output size, in the order of execution, with its output's shape."""
    shapes = _shapes(model, example_inputs, _blocks(model) or _layers(model))
    return [list(run)[-1] for _, run in groupby(shapes.items(), key=lambda entry: _size(entry[1]))]


def _blocks(model: nn.Module) -> list[str]:
    """Modules that hold layers and have a sibling of their own class in a list: residual blocks, transformer layers."""
    found: list[str] = []
    for path, parent in model.named_modules():
        if not isinstance(parent, (nn.Sequential, nn.ModuleList)) or any(path.startswith(f"{own}.") for own in found):
            continue
        kinds = [type(child) for child in parent.children()]
        for name, child in parent.named_children():
            layers = [module for module in child.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
            skipped = isinstance(child, nn.Identity) and len(set(kinds) - {nn.Identity}) == 1
            if (len(layers) > 1 and kinds.count(type(child)) > 1) or skipped:
                found.append(f"{path}.{name}" if path else name)
    return found


def _layers(model: nn.Module) -> list[str]:
    """Every convolution and linear layer but the last, which gives the logits."""
    return [path for path, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))][:-1]


def _projections(model: nn.Module, example_inputs: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """The last query, key and value layers with their outputs' shapes; empty where there are none."""
    paths = dict(model.named_modules())
    for names in PROJECTIONS:
        parents = [path.rpartition(".")[0] for path in paths if path.rpartition(".")[2] == names[0]]
        for parent in reversed(parents):
            wanted = [f"{parent}.{name}" if parent else name for name in names]
            if all(isinstance(paths.get(path), nn.Linear) for path in wanted):
                return list(_shapes(model, example_inputs, wanted).items())
    return []


def _shapes(model: nn.Module, example_inputs: Mapping[str, Tensor], paths: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Output shapes of those of the modules that run and give a tensor, in the order of execution."""
    with evaluating(model), listening(model, paths) as heard:
        call(model, example_inputs)
    return {path: tuple(tensor.shape) for path, tensor in heard.items() if tensor.ndim in (2, 3, 4)}


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without batch and channels: (height, width) of an image, (length,) of a sentence."""
    return shape[2:] if len(shape) == 4 else shape[1:-1]


def _width(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 4 else shape[-1]


def mask_of(inputs: Mapping[str, Tensor], tokens: Tensor) -> Tensor | None:
    """The input that says which tokens are padding, where there is one of that name and shape."""
    mask = inputs.get("attention_mask")
    return mask if mask is not None and mask.shape == tokens.shape[:2] else None


def check_maps(places: Sequence[Place]) -> None:
    """Refuse attention transfer where there is no image to look over.

    Raises:
        UnsupportedError: names a module that gives none.
    """
    odd = next((place for place in places if len(place.teacher_shape) != 4), None)
    if odd is not None:
        raise UnsupportedError(
            f"distill: hints: attention compares maps over images, and {odd.teacher} gives shape {odd.teacher_shape}; "
            "set hints to relation (for transformers) or features"
        )
