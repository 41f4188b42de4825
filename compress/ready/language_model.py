"""`huggingface` for causal language models, which write, and for masked ones, which fill in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.metrics import IGNORED, Perplexity
from benchmarks.preprocessing import TextPreprocessing
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import CausalLM, causal_parts
from compress.ready import ReadyContext
from compress.ready.classified_texts import BASELINE_TOLERANCE
from compress.ready.encoder import encoder_logits
from compress.ready.model_folder import ModelFolder, load_network, open_folder, read_json
from compress.ready.plain_text import ShiftedWindows, next_tokens, read_texts, windows
from compress.ready.unknown import check_known
from compress.ready.words import Words, check_length, check_words, open_words
from compress.workload import Batch, TensorBatches, Workload

if TYPE_CHECKING:
    from compress.ready.huggingface import HuggingFace

WANTED = "a .txt file, or a folder with train.txt"
CALIBRATION = 512
"""Training windows, evenly spread, for INT8 ranges."""
NEW_TOKENS = 64
MASKED, TO_MASK, TO_ANY = 0.15, 0.8, 0.1
"""Of the tokens that are asked for; of those, become [MASK], and become any token. Source: Devlin et al. 2018, arXiv:1810.04805."""


def token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the tokens that count: logits (batch, length, classes), target (batch, length)."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)


def words_of(options: HuggingFace, folder: ModelFolder, context: ReadyContext) -> Words:
    """The tokenizer that the options name, or the model's own; refused if it is another model's."""
    option, place = "path", folder.path
    if options.tokenizer is not None:
        option, place = (
            "tokenizer",
            context.existing("tokenizer", options.tokenizer, "a folder with a tokenizer.json or vocab.txt"),
        )
    words = open_words(place, folder.config.get("pad_token_id"), context, option)
    check_words(words, folder, context, option)
    return words


def causal_lm(options: HuggingFace, context: ReadyContext) -> Workload:
    """A model that goes on with a text, judged by its perplexity."""
    path, folder = context.existing("data", options.data, WANTED), open_folder(context, "path", options.path)
    check_length(options.max_length, folder, context)
    words = words_of(options, folder, context)
    model = CausalLM(load_network(folder, "causal-lm", context, "path")).eval()
    texts, told = _read(path, words, context)
    tokens = {name: torch.tensor(words.ids(text, special=False)) for name, text in texts.items()}
    length = options.max_length
    held = {name: next_tokens(tokens[name], length, options.batch_size, f"{path.name}: {name}") for name in tokens}
    train = ShiftedWindows(tokens["train"], length, options.batch_size)
    if train.samples < 1:
        raise context.refusal(
            "data", f"the training text has {len(tokens['train'])} tokens; more than {2 * length} are needed"
        )
    first = held["validation"].inputs["input_ids"]
    return Workload(
        model=model,
        example_inputs={"input_ids": first[:1].expand(2, -1).contiguous()},
        dynamic_axes={"input_ids": {0: "batch", 1: "length"}},
        train=train,
        validation=held["validation"],
        evaluation=held["evaluation"],
        calibration=_spread(held["train"]),
        loss=token_loss,
        metric=Perplexity(),
        baseline=options.baseline,
        baseline_tolerance=BASELINE_TOLERANCE if options.baseline is None else options.baseline * BASELINE_TOLERANCE,
        licence=folder.licence,
        preprocessing=None if words.file is None else TextPreprocessing(str(words.file), mask=None, longest=length),
        writing=Writing(causal_parts, _generation(options, folder, context)),
        notes=told,
    )


def masked_lm(options: HuggingFace, context: ReadyContext) -> Workload:
    """A model that fills in masked tokens, judged by its perplexity on them: the same ones at every evaluation."""
    path, folder = context.existing("data", options.data, WANTED), open_folder(context, "path", options.path)
    check_length(options.max_length, folder, context)
    words = words_of(options, folder, context)
    model = encoder_logits(load_network(folder, "masked-lm", context, "path"), words.padding, context, "path")
    texts, told = _read(path, words, context)
    masks = MaskedTokens.of(words, context)
    batches = {
        name: MaskedBatches(
            _wrapped(words, text, options.max_length, f"{path.name}: {name}"),
            masks,
            options.batch_size,
            seed=None if name == "train" else context.seed,
        )
        for name, text in texts.items()
    }
    every = MaskedBatches(batches["train"].windows, masks, options.batch_size, seed=context.seed)
    names = ("input_ids", "attention_mask")
    inputs, target = every.masked(every.windows, torch.Generator().manual_seed(context.seed))
    return Workload(
        model=model,
        example_inputs={name: inputs[name][:1].expand(2, -1).contiguous() for name in names},
        dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
        train=batches["train"],
        validation=batches["validation"],
        evaluation=batches["evaluation"],
        calibration=_spread(TensorBatches(inputs, target, options.batch_size)),
        loss=token_loss,
        metric=Perplexity(),
        baseline=options.baseline,
        baseline_tolerance=BASELINE_TOLERANCE if options.baseline is None else options.baseline * BASELINE_TOLERANCE,
        licence=folder.licence,
        notes=told,
    )


def _read(path: Path, words: Words, context: ReadyContext) -> tuple[dict[str, str], tuple[str, ...]]:
    """The text of each split, whose lines the tokenizer knows, and what is to be told."""
    texts, told = read_texts(path, context, "data")
    lines = {f"{path.name}: {name}": text.splitlines() for name, text in texts.items()}
    return texts, (*told, *check_known(words, lines, context, "data"))


@dataclass(frozen=True)
class MaskedTokens:
    """The token that asks, those that are never asked for, and how many there are."""

    mask: int
    special: Tensor
    words: int

    @classmethod
    def of(cls, words: Words, context: ReadyContext) -> MaskedTokens:
        """Those of a tokenizer.

        Raises:
            InputError: if it has no mask token.
        """
        added: Mapping[int, Any] = words.tokenizer.get_added_tokens_decoder()
        special = {number: str(token.content) for number, token in added.items() if token.special}
        found = [number for number, name in special.items() if name.strip("[]<>").lower() == "mask"]
        if not found:
            raise context.refusal(
                "path", "the tokenizer has no mask token ([MASK] or <mask>); name one that has, by tokenizer"
            )
        return cls(found[0], torch.tensor(sorted(special)), int(words.tokenizer.get_vocab_size()))


@dataclass(frozen=True)
class MaskedBatches:
    """Windows in which tokens are masked; the target is what they were, IGNORED elsewhere.

    Args:
        windows: token ids, int64, shape (windows, length).
        seed: of masks that are the same at every pass; None shuffles and masks anew, from torch's global generator.
    """

    windows: Tensor
    tokens: MaskedTokens
    batch_size: int
    seed: int | None

    @property
    def samples(self) -> int:
        return len(self.windows)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        rows = torch.randperm(self.samples) if self.seed is None else torch.arange(self.samples)
        for some in torch.split(rows, self.batch_size):
            yield self.masked(self.windows[some], generator)

    def masked(self, ids: Tensor, generator: torch.Generator | None) -> Batch:
        """15 % of the tokens asked for: 80 % of them masked, 10 % any token, 10 % left; at least one."""
        asked = torch.rand(ids.shape, generator=generator)
        asked[torch.isin(ids, self.tokens.special)] = 2.0
        chosen = (asked < MASKED) | (asked == asked.min(dim=1, keepdim=True).values) & (asked < 1.0)
        how = torch.rand(ids.shape, generator=generator)
        anything = torch.randint(0, self.tokens.words, ids.shape, generator=generator)
        given = torch.where(chosen & (how < TO_MASK + TO_ANY), anything, ids)
        given = torch.where(chosen & (how < TO_MASK), self.tokens.mask, given)
        return {"input_ids": given, "attention_mask": torch.ones_like(ids)}, torch.where(chosen, ids, IGNORED)


def _wrapped(words: Words, text: str, length: int, what: str) -> Tensor:
    """Windows of a text with the tokens around each that the tokenizer puts around a text."""
    around = words.ids("")
    before, after = around[: len(around) // 2], around[len(around) // 2 :]
    inner = windows(torch.tensor(words.ids(text, special=False)), length - len(around), what)
    sides = [torch.tensor(side, dtype=torch.long).expand(len(inner), -1) for side in (before, after)]
    return torch.cat([sides[0], inner, sides[1]], dim=1)


def _spread(batches: TensorBatches) -> TensorBatches:
    """Evenly spread samples, one a batch, for INT8 ranges."""
    rows = torch.linspace(0, batches.samples - 1, min(CALIBRATION, batches.samples)).long()
    return batches.take(rows, batch_size=1)


def _generation(options: HuggingFace, folder: ModelFolder, context: ReadyContext) -> Generation:
    """How the model ends and fills up an answer, by its generation_config.json and config.json."""
    end, padding = ending(folder, context)
    return Generation(end=end, padding=padding, new_tokens=options.new_tokens or NEW_TOKENS, beams=options.beams or 1)


def ending(folder: ModelFolder, context: ReadyContext) -> tuple[int, int]:
    """The token that ends an answer, and the one that fills up behind it.

    Raises:
        InputError: if the folder names no end token.
    """
    said = {**folder.config, **{key: value for key, value in written_by(folder).items() if value is not None}}
    end = said.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if not isinstance(end, int):
        raise context.refusal("path", "config.json names no eos_token_id, the token that ends an answer; add it there")
    padding = said.get("pad_token_id")
    return end, padding if isinstance(padding, int) else end


def written_by(folder: ModelFolder) -> dict[str, Any]:
    """What the folder says of how its model writes."""
    return read_json(folder.path / "generation_config.json")
