"""`text_csv`: texts with a class each, from CSV or TSV files."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar

from compress.ready import ReadyContext
from compress.ready.classified_texts import Judge, Network, Table, classified_texts
from compress.ready.encoder import encoder_logits, takes_types
from compress.ready.model_folder import load_network, open_folder
from compress.ready.network import is_function, no_arguments, own_network
from compress.ready.words import Words, check_length, check_words, open_words
from compress.workload import Workload

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class TextCsv:
    """Texts, or pairs of texts, with a class each, from CSV or TSV files with a header."""

    path: str
    """A .csv or .tsv file, or a folder with train, validation and test as such files."""
    model: str
    """A folder in transformers' format, trained for sequence classification; or FILE.py:FUNCTION, which returns a network
    that takes input_ids and attention_mask."""
    tokenizer: str | None = None
    """A folder with a tokenizer.json or vocab.txt; the model's folder if left out."""
    weights: str | None = None
    """Of a network of FILE.py:FUNCTION: a .safetensors file or one of torch.save."""
    max_length: int = 128
    """Tokens; longer texts are cut."""
    text: str | None = None
    """The column with the text; told from the header if left out."""
    pair: str | None = None
    """The column with the second text of a pair."""
    label: str | None = None
    """The column with the class: a name, or a number from 0 on; told from the header if left out."""
    metric: Judge = "accuracy"
    batch_size: int = 32
    """Of training."""
    baseline: float | None = None
    """What the model is known to score on the test split; the run stops if it does not."""

    kind: ClassVar[str] = "text_csv"

    def __post_init__(self) -> None:
        check_text_options(self.max_length, self.batch_size, self.text, self.pair)
        if is_function(self.model) and self.tokenizer is None:
            raise ValueError("tokenizer is missing; name the folder of its tokenizer.json")

    def build(self, context: ReadyContext) -> Workload:
        path = context.existing("path", self.path, "a .csv or .tsv file, or a folder with train.csv or train.tsv")
        network, words = self._own(context) if is_function(self.model) else self._of_folder(context)
        table = Table("path", path, self.text, self.pair, self.label, self.max_length, self.batch_size)
        return classified_texts(table, network, words, self.metric, self.baseline, context)

    def _own(self, context: ReadyContext) -> tuple[Network, Words]:
        assert self.tokenizer is not None
        place = context.existing("tokenizer", self.tokenizer, "a folder with a tokenizer.json or vocab.txt")
        words = open_words(place, None, context, "tokenizer")
        model = own_network(self.model, self.weights, context)
        known = inspect.signature(model.forward).parameters
        inputs = tuple(name for name in INPUTS if name in known)
        if inputs[:2] != INPUTS[:2]:
            raise context.refusal(
                "model",
                f"forward of {self.model} must take input_ids and attention_mask, it takes {', '.join(known) or 'nothing'}",
            )
        return Network(model, inputs, (), "model"), words

    def _of_folder(self, context: ReadyContext) -> tuple[Network, Words]:
        no_arguments(context, self.weights)
        return sequence_classifier(context, "model", self.model, self.tokenizer, self.max_length)


def sequence_classifier(
    context: ReadyContext, option: str, model: str, tokenizer: str | None, max_length: int
) -> tuple[Network, Words]:
    """A folder's sequence classifier and its tokenizer.

    Raises:
        InputError: if it has one logit, or one decision for each class.
    """
    folder = open_folder(context, option, model)
    if folder.config.get("problem_type") in ("regression", "multi_label_classification"):
        raise context.refusal(
            option,
            f"the model does {folder.config['problem_type']}; ready-made is one class a text. Write a workload in Python",
        )
    check_length(max_length, folder, context)
    network = load_network(folder, "sequence-classification", context, option)
    padding = folder.config.get("pad_token_id")
    place, named = (folder.path, option) if tokenizer is None else (
        context.existing("tokenizer", tokenizer, "a folder with a tokenizer.json or vocab.txt"), "tokenizer"
    )  # fmt: skip
    words = open_words(place, padding, context, named)
    check_words(words, folder, context, named)
    inputs = INPUTS if takes_types(network) else INPUTS[:2]
    logits = encoder_logits(network, words.padding, context, option)
    return Network(logits, inputs, folder.labels, option, folder.licence), words


def check_text_options(max_length: int, batch_size: int, text: str | None, pair: str | None) -> None:
    """Refuse what no text workload can do, as a step's `__post_init__` does."""
    if max_length < 3:
        raise ValueError(f"max_length must be 3 or more, found {max_length}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, found {batch_size}")
    if pair is not None and text is None:
        raise ValueError("pair names the second text; name the first one by text")
