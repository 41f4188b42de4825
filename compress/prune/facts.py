"""What the report tells of a pruning step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from compress.model_size import ModelSize
from compress.prune.channels import LeftAlone
from compress.prune.choose.goal import FAR_BEYOND, Goal
from compress.prune.choose.search import Found
from compress.prune.plan import PrunePlan


def step_facts(
    goal: Goal,
    found: Found,
    plan: PrunePlan,
    sizes: tuple[ModelSize, ModelSize],
    layers: tuple[Mapping[str, int], Mapping[str, int]],
    left_alone: Sequence[LeftAlone],
) -> dict[str, Any]:
    """Plain JSON values; `exactness` is the largest relative difference between the pruned and the zeroed model.

    Args:
        found: of the last round.
        plan: of all rounds.
        sizes: before and after.
        layers: widths before and after, see `widths`.
    """
    before, after = sizes
    wide, narrow = layers
    return {
        "asked": {goal.name: goal.asked},
        "reached": {goal.name: found.reached.measured},
        **(_prediction(found, before.macs / after.macs) if goal.name == "speedup" else {}),
        "macs": {"before": before.macs, "after": after.macs, "ratio": before.macs / after.macs},
        "parameters": {"before": before.parameters, "after": after.parameters},
        "exactness": found.difference,
        **({"skipped_blocks": list(plan.skipped)} if plan.skipped else {}),
        "layers": [
            {"name": name, "before": wide[name], "after": narrow[name]}
            for name in wide
            if name in narrow and wide[name] != narrow[name]
        ],
        "left_alone": [{"where": where, "reason": reason} for reason, where in _by_reason(left_alone).items()],
    }


def step_warnings(goal: Goal, found: Found, crowded: str | None) -> tuple[str, ...]:
    """What the rules promised and the exactness check refused; and a removal much larger than asked.

    Args:
        crowded: what to say of other programs beside the measurements.
    """
    warnings = [f"prune: {each.where} is left alone: {each.reason}" for each in found.left_alone]
    if not found.plan.cuts and not found.plan.skipped:
        warnings.append(
            f"prune.{goal.name}: asked {goal.asked:g}, and the model as it is reaches {found.reached.measured:.3g}: nothing "
            "was removed; ask for more, or leave the step out"
        )
    elif found.reached.measured > FAR_BEYOND * goal.asked:
        warnings.append(
            f"prune.{goal.name}: asked {goal.asked:g}, reached {found.reached.measured:.3g}, for widths change in steps; "
            "a lower multiple_of or a higher max_removed comes closer"
        )
    if crowded:
        warnings.append(f"prune.{goal.name}: while candidates were timed, {crowded}")
    return tuple(warnings)


def widths(model: nn.Module) -> dict[str, int]:
    """Output channels of every convolution, linear layer and embedding, by path."""
    names = ("out_channels", "out_features", "embedding_dim")
    return {
        path: getattr(module, name)
        for path, module in model.named_modules()
        for name in names
        if isinstance(getattr(module, name, None), int)
    }


def listed_reasons(left_alone: Sequence[LeftAlone]) -> str:
    """`conv1, conv2: why; linear: why`."""
    return "; ".join(f"{where}: {reason}" for reason, where in _by_reason(left_alone).items())


def _prediction(found: Found, macs_ratio: float) -> dict[str, Any]:
    """`measured_over_macs_ratio` tells how much of the saved arithmetic became speed."""
    reached = found.reached
    return {
        "speedup": {
            "predicted": reached.predicted,
            "measured": reached.measured,
            "measured_over_predicted": reached.measured / reached.predicted,
            "measured_over_macs_ratio": reached.measured / macs_ratio,
            "candidates": [{"predicted": told, "measured": measured} for told, measured in reached.tried],
        }
    }


def _by_reason(left_alone: Sequence[LeftAlone]) -> dict[str, str]:
    places: dict[str, list[str]] = {}
    for each in left_alone:
        places.setdefault(each.reason, []).append(each.where)
    return {reason: ", ".join(dict.fromkeys(where)) for reason, where in places.items()}
