"""`huggingface` for encoder-decoders: pairs of texts, a source and its answer, judged by what is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.metrics import BLEU, IGNORED, Perplexity
from benchmarks.preprocessing import TextPreprocessing
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import Seq2SeqLM, seq2seq_parts
from compress.ready import ReadyContext
from compress.ready.holding_out import split
from compress.ready.language_model import ending, token_loss, words_of, written_by
from compress.ready.model_folder import ModelFolder, load_network, open_folder
from compress.ready.tables import header_of, read_rows, split_files
from compress.ready.unknown import check_known
from compress.ready.words import Words, check_length, padded
from compress.workload import Batch, TensorBatches, Workload

if TYPE_CHECKING:
    from compress.ready.huggingface import HuggingFace

WANTED = "a .tsv or .csv file of two columns, or a folder with train.tsv"
CALIBRATION = 256
NEW_TOKENS = 48
PROMPTS = 20
"""Sources that are answered at once."""
BLEU_TOLERANCE = 0.05


@dataclass(frozen=True)
class Pair:
    """A source and its answer."""

    source: str
    answer: str


@dataclass(frozen=True)
class Decode:
    """A row of token ids to text: what stands before the end token, without special tokens."""

    words: Words = field(repr=False)
    end: int

    def __call__(self, ids: Sequence[int]) -> str:
        kept = list(ids)[: list(ids).index(self.end)] if self.end in ids else list(ids)
        return str(self.words.tokenizer.decode(kept, skip_special_tokens=True)).strip()


@dataclass(frozen=True)
class PairBatches:
    """Batches of pairs of similar length, padded at the end: what the whole forward of an encoder-decoder is trained on.

    Inputs `input_ids`, `attention_mask` (1 token, 0 padding) and `decoder_input_ids` (the start token, then the answer); target
    the answer with its end token, IGNORED behind it. Shuffled, each pass draws a new order from torch's global generator.
    """

    source: Sequence[Sequence[int]] = field(repr=False)
    answer: Sequence[Sequence[int]] = field(repr=False)
    padding: int
    start: int
    batch_size: int
    shuffle: bool = False
    pool: int = 50

    @property
    def samples(self) -> int:
        return len(self.source)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        pools = [torch.arange(self.samples)]
        if self.shuffle:
            pools = list(torch.split(torch.randperm(self.samples), self.pool * self.batch_size))
        batches = [rows for pool in pools for rows in self._by_length(pool)]
        order = torch.randperm(len(batches)).tolist() if self.shuffle else range(len(batches))
        for index in order:
            yield self.batch(batches[index].tolist())

    def batch(self, rows: Sequence[int]) -> Batch:
        """The pairs of these numbers."""
        inputs = sources([self.source[row] for row in rows], self.padding)
        answers = [self.answer[row] for row in rows]
        given = padded([[self.start, *answer[:-1]] for answer in answers], self.padding)
        return {**inputs, "decoder_input_ids": given}, padded(answers, IGNORED)

    def _by_length(self, pool: Tensor) -> list[Tensor]:
        lengths = torch.tensor([len(self.source[row]) + len(self.answer[row]) for row in pool.tolist()])
        return list(torch.split(pool[lengths.argsort(stable=True)], self.batch_size))


def seq2seq(options: HuggingFace, context: ReadyContext) -> Workload:
    """The workload: trained on given answers, judged by the BLEU of written ones."""
    path, folder = context.existing("data", options.data, WANTED), open_folder(context, "path", options.path)
    check_length(options.max_length, folder, context)
    words = words_of(options, folder, context)
    model = Seq2SeqLM(load_network(folder, "seq2seq", context, "path")).eval()
    end, padding = ending(folder, context)
    start = _start(folder, context)
    pairs, told = _read(path, options, words, context)
    encoded = {name: _encoded(words, some, end, options.max_length) for name, some in pairs.items()}
    batches = {
        name: PairBatches(*encoded[name], padding, start, options.batch_size, shuffle=name == "train") for name in pairs
    }
    held = [pair.answer for name in ("validation", "evaluation") for pair in pairs[name]]
    train = batches["train"]
    example, _ = train.batch([0, min(1, train.samples - 1)])
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    return Workload(
        model=model,
        example_inputs=example,
        dynamic_axes=axes | {"decoder_input_ids": {0: "batch", 1: "answer"}},
        train=train,
        validation=batches["validation"],
        evaluation=batches["evaluation"],
        calibration=_calibration(train, batches["evaluation"], context),
        loss=token_loss,
        metric=Perplexity(),
        baseline=options.baseline,
        baseline_tolerance=BLEU_TOLERANCE,
        licence=folder.licence,
        preprocessing=_preprocessing(words, end, options.max_length),
        writing=Writing(
            seq2seq_parts,
            _generation(options, folder, end, padding, start),
            BLEU(tuple(held), Decode(words, end)),
            validation=_prompts(encoded["validation"][0], padding, 0),
            evaluation=_prompts(encoded["evaluation"][0], padding, len(pairs["validation"])),
            timed_tokens=min(16, options.new_tokens or NEW_TOKENS),
        ),
        notes=told,
    )


def sources(rows: Sequence[Sequence[int]], padding: int) -> dict[str, Tensor]:
    """Token ids and mask (1 token, 0 padding), int64, shape (rows, length of the longest)."""
    return {"input_ids": padded(rows, padding), "attention_mask": padded([[1] * len(row) for row in rows], 0)}


def _read(
    path: Path, options: HuggingFace, words: Words, context: ReadyContext
) -> tuple[dict[str, list[Pair]], tuple[str, ...]]:
    """The pairs of each split, from tables whose columns are the options' `source` and `target`, or the only two."""
    files = split_files(path, (".tsv", ".csv"), context, "data")
    header = header_of(files["train"])
    columns = [options.source or header[0], options.target or header[-1]]
    if len(header) != 2 and None in (options.source, options.target):
        raise context.refusal(
            "data",
            f"{files['train'].name} has the columns {', '.join(header)}; say by source and target which two are meant",
        )
    rows = {name: read_rows(file, columns) for name, file in files.items()}
    given = {name: [Pair(row.texts[0], row.label) for row in some] for name, some in rows.items()}
    keys = {name: [pair.source for pair in some] for name, some in given.items()}
    sides = {files[name].name: [side for pair in given[name] for side in (pair.source, pair.answer)] for name in files}
    unknown = check_known(words, sides, context, "data")
    found, told = split(given, keys, context.seed, f"{path.name}: pairs")
    return found, (*told, *unknown)


def _encoded(words: Words, pairs: Sequence[Pair], end: int, longest: int) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of sources and answers, special tokens and all; each ends with the end token."""
    words.tokenizer.enable_truncation(longest)
    words.tokenizer.no_padding()
    sides = []
    for texts in ([pair.source for pair in pairs], [pair.answer for pair in pairs]):
        found = [list(each.ids) for each in words.tokenizer.encode_batch(texts)]
        sides.append([ids if ids[-1:] == [end] else [*ids[: longest - 1], end] for ids in found])
    return sides[0], sides[1]


def _preprocessing(words: Words, end: int, longest: int) -> TextPreprocessing | None:
    """How a source becomes the encoder's input; the end token is put behind it where the tokenizer puts none."""
    if words.file is None:
        return None
    return TextPreprocessing(str(words.file), longest=longest, end=None if words.ids("")[-1:] == [end] else end)


def _prompts(rows: Sequence[Sequence[int]], padding: int, first_reference: int) -> list[Batch]:
    """Sources in batches of similar length; targets number the references from `first_reference` on."""
    order = torch.tensor([len(ids) for ids in rows]).argsort(stable=True)
    return [
        (sources([rows[row] for row in some.tolist()], padding), some + first_reference)
        for some in torch.split(order, PROMPTS)
    ]


def _calibration(train: PairBatches, evaluation: PairBatches, context: ReadyContext) -> TensorBatches:
    """Pairs evenly spread over training, none of which is an evaluation pair, padded to one length so that they make tensors."""
    seen = {tuple(ids) for ids in evaluation.source}
    rows = torch.tensor([row for row, ids in enumerate(train.source) if tuple(ids) not in seen])
    if not len(rows):
        raise context.refusal(
            "data", "every training source is an evaluation source as well; give other training pairs"
        )
    spread = rows[torch.linspace(0, len(rows) - 1, min(CALIBRATION, len(rows))).long()]
    inputs, target = train.batch(spread.tolist())
    return TensorBatches(inputs, target, batch_size=1)


def _start(folder: ModelFolder, context: ReadyContext) -> int:
    """The decoder's first token."""
    said = {**folder.config} | {name: value for name, value in written_by(folder).items() if value is not None}
    start = said.get("decoder_start_token_id", said.get("bos_token_id"))
    if not isinstance(start, int):
        raise context.refusal(
            "path", "config.json names no decoder_start_token_id, the first token of an answer; add it there"
        )
    return start


def _generation(options: HuggingFace, folder: ModelFolder, end: int, padding: int, start: int) -> Generation:
    """How answers are written: as many beams as the options say, or the folder's generation_config.json, or one."""
    said = written_by(folder)
    beams = options.beams or int(said.get("num_beams") or 1)
    tokens = options.new_tokens or NEW_TOKENS
    return Generation(end=end, padding=padding, start=start, new_tokens=tokens, beams=beams)
