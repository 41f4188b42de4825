"""`huggingface`: a model of transformers from a local folder, with the data that its task takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from compress.ready import ReadyContext
from compress.ready.classified_texts import Judge, Table, classified_texts
from compress.ready.language_model import causal_lm, masked_lm
from compress.ready.model_folder import open_folder
from compress.ready.network import no_arguments
from compress.ready.tagging import token_classification
from compress.ready.text_csv import check_text_options, sequence_classifier
from compress.ready.translation import seq2seq
from compress.workload import Workload

Task = Literal["sequence-classification", "token-classification", "masked-lm", "causal-lm", "seq2seq"]

OPTIONS = {
    "text": ("sequence-classification",),
    "pair": ("sequence-classification",),
    "label": ("sequence-classification",),
    "metric": ("sequence-classification",),
    "source": ("seq2seq",),
    "target": ("seq2seq",),
    "beams": ("seq2seq", "causal-lm"),
    "new_tokens": ("seq2seq", "causal-lm"),
}
"""Options that only some tasks have a use for."""


@dataclass(frozen=True)
class HuggingFace:
    """A model of transformers from a folder on this machine; nothing is fetched, and no code of the folder is run."""

    path: str
    """The folder: config.json, weights and tokenizer, as save_pretrained writes them."""
    data: str
    """What the task is trained and judged on, a file or a folder with train, validation and test: .csv or .tsv with texts and
    labels (sequence-classification) or with two texts (seq2seq), .conll (token-classification), .txt (masked-lm, causal-lm)."""
    task: Task | None = None
    """What the model was trained for; told from config.json if left out."""
    tokenizer: str | None = None
    """A folder with a tokenizer.json or vocab.txt; the model's folder if left out."""
    max_length: int = 128
    """Tokens; longer texts are cut."""
    text: str | None = None
    """The column with the text; told from the header if left out."""
    pair: str | None = None
    """The column with the second text of a pair."""
    label: str | None = None
    """The column with the class: a name, or a number from 0 on; told from the header if left out."""
    metric: Judge | None = None
    """Of sequence-classification; accuracy if left out."""
    source: str | None = None
    """The column with what is to be answered, of seq2seq; the first of two if left out."""
    target: str | None = None
    """The column with the answer, of seq2seq; the second of two if left out."""
    beams: int | None = None
    """Answers followed side by side; as generation_config.json says, or 1, if left out."""
    new_tokens: int | None = None
    """Of an answer, at most; 64 of causal-lm and 48 of seq2seq if left out."""
    batch_size: int = 32
    """Of training."""
    baseline: float | None = None
    """What the model is known to score on the test split; the run stops if it does not."""

    kind: ClassVar[str] = "huggingface"

    def __post_init__(self) -> None:
        check_text_options(self.max_length, self.batch_size, self.text, self.pair)
        for name, value in (("beams", self.beams), ("new_tokens", self.new_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, found {value}")

    def build(self, context: ReadyContext) -> Workload:
        no_arguments(context)
        folder = open_folder(context, "path", self.path)
        task = self.task or folder.task
        if task not in MAKERS:
            raise context.refusal(
                "path",
                f"the architectures of config.json ({', '.join(folder.config.get('architectures') or ()) or 'none'}) are of no "
                f"task that is ready-made; add task: one of {', '.join(MAKERS)}",
            )
        for option, tasks in OPTIONS.items():
            if getattr(self, option) is not None and task not in tasks:
                raise context.refusal(option, f"is for {' and '.join(tasks)}, and the task is {task}; remove the line")
        return MAKERS[task](self, context)


def _sequence_classification(options: HuggingFace, context: ReadyContext) -> Workload:
    path = context.existing("data", options.data, "a .csv or .tsv file, or a folder with train.csv or train.tsv")
    network, words = sequence_classifier(context, "path", options.path, options.tokenizer, options.max_length)
    table = Table("data", path, options.text, options.pair, options.label, options.max_length, options.batch_size)
    return classified_texts(table, network, words, options.metric or "accuracy", options.baseline, context)


MAKERS: dict[str, Callable[[HuggingFace, ReadyContext], Workload]] = {
    "sequence-classification": _sequence_classification,
    "token-classification": token_classification,
    "masked-lm": masked_lm,
    "causal-lm": causal_lm,
    "seq2seq": seq2seq,
}
