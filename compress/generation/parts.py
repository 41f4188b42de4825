"""What a model that writes is made of when it ships: a decoder with its cache, and an encoder where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from benchmarks.metrics import Metric
from export.errors import InputError
from targets.generation import Generation


@dataclass(frozen=True)
class Part:
    """A module that is exported by itself, as a Workload describes a whole model.

    The names are those of targets.generation: a decoder takes `input_ids`, `past_key.N` and `past_value.N` and gives `logits`,
    `present_key.N` and `present_value.N`; an encoder gives `cross_key.N` and `cross_value.N`.
    """

    module: nn.Module
    example_inputs: Mapping[str, Tensor]
    dynamic_axes: Mapping[str, Mapping[int, str]]
    output_names: tuple[str, ...]


@dataclass(frozen=True)
class Writing:
    """How a workload's model writes answers.

    Args:
        parts: from a model of the run (the original, or pruned) to its parts by name: "decoder", and "encoder" where there
            is one. `causal_parts` and `seq2seq_parts` of compress.generation.transformers_parts do it for that library.
        generation: end and start tokens, how many tokens, beams, or sampling.
        metric: judges the written tokens, on `validation` and `evaluation`. None: the workload's own metric judges the logits
            of given tokens (perplexity), on the workload's own batches, through the same parts.
        timed_tokens: of the answers that are timed, all of them written; a typical answer's number. None: `new_tokens`.
        validation, evaluation: prompts and what `metric` holds the answers against; as those of the workload otherwise.
    """

    parts: Callable[[nn.Module], Mapping[str, Part]]
    generation: Generation
    metric: Metric | None = None
    validation: Iterable[tuple[dict[str, Tensor], Tensor]] | None = None
    evaluation: Iterable[tuple[dict[str, Tensor], Tensor]] | None = None
    timed_tokens: int | None = None

    @property
    def timed(self) -> int:
        return self.timed_tokens or self.generation.new_tokens

    def __post_init__(self) -> None:
        lacking = [name for name in ("validation", "evaluation") if getattr(self, name) is None]
        if self.metric is not None and lacking:
            raise InputError(
                f"Writing: metric '{self.metric.name}' judges written tokens, and {' and '.join(lacking)} is None; give the "
                "prompts on which it does, with their targets"
            )
