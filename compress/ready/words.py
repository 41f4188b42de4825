"""Texts to token ids with the tokenizer of a local folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from compress.ready import ReadyContext
from compress.ready.model_folder import ModelFolder, read_json
from export.errors import EnvironmentFailure, InputError

TOKENIZER, VOCABULARY = "tokenizer.json", "vocab.txt"


@dataclass(frozen=True)
class Encoded:
    """Token ids of texts, padded at the end.

    Args:
        ids, mask, types: int64, shape (texts, tokens of the longest): ids, 1 for a token and 0 for padding, and the number of
            the text of a pair that a token is of.
        cut: how many texts had more tokens than were allowed.
    """

    ids: Tensor
    mask: Tensor
    types: Tensor
    cut: int


@dataclass(frozen=True)
class Words:
    """A tokenizer, and the file that holds it: None where there is only a vocabulary.

    Args:
        padding: the id that fills up.
    """

    tokenizer: Any = field(repr=False)
    file: Path | None
    padding: int

    def encode(self, texts: Sequence[Sequence[str]], longest: int) -> Encoded:
        """Texts, or pairs of them, special tokens and all, cut at `longest` tokens."""
        self.tokenizer.enable_truncation(longest)
        self.tokenizer.no_padding()
        rows = [row[0] if len(row) == 1 else tuple(row) for row in texts]
        found = self._asked(lambda: self.tokenizer.encode_batch(rows))
        return Encoded(
            ids=padded([each.ids for each in found], self.padding),
            mask=padded([each.attention_mask for each in found], 0),
            types=padded([each.type_ids for each in found], 0),
            cut=sum(bool(each.overflowing) for each in found),
        )

    def ids(self, text: str, special: bool = True) -> list[int]:
        """The ids of one text, however long."""
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        return list(self._asked(lambda: self.tokenizer.encode(text, add_special_tokens=special)).ids)

    def _asked(self, encode: Callable[[], Any]) -> Any:
        try:
            return encode()
        except Exception as error:  # tokenizers raises plain Exceptions
            if type(error) is not Exception:
                raise
            raise InputError(
                f"{self.file.name if self.file else VOCABULARY}: the tokenizer cannot read a text of the data: {error}; give it a "
                "token for what it does not know (unk_token, or unk_id of a Unigram model), or texts of its own script"
            ) from error


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of integers as one tensor, int64, shape (rows, length of the longest)."""
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=value)


def open_words(path: Path, padding: int | None, context: ReadyContext, option: str) -> Words:
    """The tokenizer of a folder, or of a tokenizer.json.

    Args:
        padding: of the model; None takes the tokenizer's own, or 0.

    Raises:
        InputError: if there is none that can be read.
        EnvironmentFailure: if the package is not installed.
    """
    file = path if path.is_file() else path / TOKENIZER
    try:
        from tokenizers import Tokenizer
        from tokenizers.implementations import BertWordPieceTokenizer
    except ImportError as error:
        raise EnvironmentFailure(
            "a text workload needs the package tokenizers, which is not installed; pip install 'edge-compress[nlp]'"
        ) from error
    vocabulary = path / VOCABULARY
    try:
        if file.is_file():
            tokenizer = Tokenizer.from_file(str(file))
        elif vocabulary.is_file():
            lower = bool(read_json(path / "tokenizer_config.json").get("do_lower_case", True))
            tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=lower)._tokenizer
        else:
            raise context.refusal(
                option,
                f"the folder '{path.name}' has neither {TOKENIZER} nor {VOCABULARY}; write the former with transformers: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            )
    except Exception as error:  # tokenizers raises plain Exceptions
        if not type(error).__module__.startswith("builtins"):
            raise
        raise context.refusal(option, f"{file.name} cannot be read as a tokenizer: {error}") from error
    own = (tokenizer.padding or {}).get("pad_id", 0)
    return Words(tokenizer, file if file.is_file() else None, own if padding is None else padding)


def check_words(words: Words, folder: ModelFolder, context: ReadyContext, option: str) -> None:
    """Refuse a tokenizer that has tokens the model has no embedding for: it is another model's."""
    known = folder.config.get("vocab_size")
    largest = max(words.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if known is not None and largest >= int(known):
        raise context.refusal(
            option,
            f"the tokenizer has {largest + 1:,} tokens, the model {int(known):,}; name the tokenizer of this model",
        )


def check_length(max_length: int, folder: ModelFolder, context: ReadyContext) -> None:
    """Refuse more tokens than the model can tell apart by their place."""
    places = folder.positions()
    if places is not None and max_length > places:
        raise context.refusal(
            "max_length",
            f"found {max_length}, the model reads at most {places} tokens; set max_length: {places} or less",
        )
