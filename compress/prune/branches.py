"""Depth where networks are wide: branches that end in concatenations and may go as a whole.

Without a branch a concatenation is that of the others, and what reads it loses the branch's channels. What only the
branch needs goes with it. Source: of blocks between additions Veit et al. 2016, arXiv:1605.06431; of concatenations own work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn

from compress.prune.blocks import Block
from compress.prune.channels import Group
from compress.prune.exactness import check
from compress.prune.follow.trace import modules_around, operator_name, traced
from compress.prune.plan import PrunePlan, named_tensors
from compress.prune.sizes import output_axis

CONCATENATIONS = ("cat", "concat")
Joined = frozenset[tuple[int, int]]
"""Concatenations: for each its number in the graph and how many operands it has."""


@dataclass(frozen=True)
class Branch:
    """A branch and what reads it.

    Args:
        block: its modules.
        families: the channels that the concatenations take from it, each family whole.
        joined: the concatenations.
    """

    block: Block
    families: tuple[tuple[Group, ...], ...]
    joined: Joined

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(group for family in self.families for group in family)

    @property
    def empties(self) -> frozenset[tuple[tuple[str, int], ...]]:
        """The axes of its families."""
        return frozenset(family[0].family for family in self.families)


def branches_of(
    model: nn.Module,
    example_inputs: Mapping[str, Tensor],
    families: Iterable[Sequence[Group]],
    batches: Sequence[Mapping[str, Tensor]],
) -> tuple[Branch, ...]:
    """The branches that may go one by one, in the order in which the model runs.

    The result of such a branch is read by concatenations alone, and all of its channels can be followed to what reads
    them. Each is proven on `batches`: without it the model computes what it does with these channels at zero.

    Args:
        model: in eval mode.
        families: of its groups, see compress.prune.follow.

    Raises:
        UnsupportedError: the model cannot be traced.
    """
    graph = traced(model, example_inputs).graph
    known = [tuple(family) for family in families]
    found: dict[tuple[str, ...], Branch] = {}
    for operand, joined, width in _operands(graph):
        paths = _only_for(operand, graph, model)
        produced = _produced(model, paths, known)
        if not paths or paths in found or sum(each for _, each in produced) != width:
            continue
        for block in (Block(paths[-1], feeding=paths[:-1], is_branch=True), Block(paths[-1], is_branch=True)):
            branch = Branch(block, tuple(family for family, _ in produced), joined)
            if check(model, PrunePlan.of(model, branch.groups, [block]), batches).refusal is None:
                found[paths] = branch
                break
    return tuple(found.values())


def offered_together(branches: Sequence[Branch], losses: Sequence[float]) -> list[int]:
    """The numbers of the branches that may be offered: of no concatenation may all operands go, the dearest stays.

    Args:
        losses: what is lost with each branch.
    """
    offered = set(range(len(branches)))
    for number, operands in {pair for branch in branches for pair in branch.joined}:
        members = [place for place in offered if (number, operands) in branches[place].joined]
        if len(members) == operands:
            offered.remove(max(members, key=lambda place: losses[place]))
    return sorted(offered)


def _operands(graph: fx.Graph) -> Iterator[tuple[fx.Node, Joined, int]]:
    """What only concatenations read, and not alone: with these, and its width in them."""
    joins = {node: _joined(node) for node in graph.nodes if operator_name(node) in CONCATENATIONS}
    numbers = {node: number for number, node in enumerate(joins)}
    for operand in dict.fromkeys(each for operands in joins.values() for each in operands):
        readers = list(operand.users)
        if all(len(joins.get(node, ())) > 1 for node in readers):
            dim = readers[0].args[1] if len(readers[0].args) > 1 else readers[0].kwargs.get("dim", 0)
            yield (
                operand,
                frozenset((numbers[node], len(joins[node])) for node in readers),
                operand.meta["val"].shape[dim],
            )


def _joined(node: fx.Node) -> dict[fx.Node, None]:
    """The operands of a concatenation, each once, without those that are absent."""
    operands = node.args[0] if node.args else node.kwargs["tensors"]
    assert isinstance(operands, list | tuple)
    return {each: None for each in operands if isinstance(each, fx.Node) and each.meta["val"].shape != (0,)}


def _only_for(operand: fx.Node, graph: fx.Graph, model: nn.Module) -> tuple[str, ...]:
    """The modules that do nothing but for this operand, in the order in which they run; none if they multiply by no weight."""
    needless = {operand}
    inside: dict[str, set[fx.Node]] = {}
    for node in reversed(graph.nodes):
        if node.op == "call_function":
            if node.users and all(user in needless for user in node.users):
                needless.add(node)
            for path in modules_around(node):
                inside.setdefault(path, set()).add(node)
    modules = dict(model.named_modules())
    gone = [path for path in reversed(inside) if path and path in modules and inside[path] <= needless]
    outermost = [path for path in gone if not any(Block(other).holds(path) for other in gone if other != path)]
    weights = [
        tensor for name, tensor in named_tensors(model).items() if any(Block(path).holds(name) for path in outermost)
    ]
    return tuple(outermost) if any(tensor.dim() >= 2 for tensor in weights) else ()


def _produced(
    model: nn.Module, paths: Sequence[str], families: Iterable[tuple[Group, ...]]
) -> list[tuple[tuple[Group, ...], int]]:
    """The families that layers at these paths make, and no others, for readers elsewhere, with their channels."""
    modules, tensors = dict(model.named_modules()), named_tensors(model)
    block = Block("", feeding=tuple(paths))
    found = []
    for family in families:
        made = [
            piece
            for piece in family[0].slices
            if tensors[piece.tensor].dim() >= 2 and piece.dim == output_axis(modules[piece.tensor.rpartition(".")[0]])
        ]
        elsewhere = not all(block.holds(piece.tensor) for piece in family[0].slices)
        if made and elsewhere and all(block.holds(piece.tensor) for piece in made):
            found.append((family, len(family) * len(made[0].indices)))
    return found
