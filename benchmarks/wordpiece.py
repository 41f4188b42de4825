"""BERT's tokenizer from a tokenizer.json, without a package: lower case, words, pieces.

GPT-2's is read by `benchmarks.byte_pairs`, for models that write; other kinds need the package `tokenizers`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from export.errors import InputError, UnsupportedError

Tokenize = Callable[[str, int], "list[int]"]
"""A text and the most tokens allowed -> ids, special tokens included."""

_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""Code points that are words of their own."""


def load_tokenizer(path: Path) -> tuple[Tokenize, int]:
    """What turns a text into ids, and the id of padding.

    Raises:
        InputError: if the file is no tokenizer.json.
        UnsupportedError: if it is of another kind than BERT's, and the package `tokenizers` is not installed.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        kinds = [value[part]["type"] for part in ("normalizer", "pre_tokenizer", "post_processor", "model")]
        padding = int((value.get("padding") or {}).get("pad_id", 0))
        if kinds == ["BertNormalizer", "BertPreTokenizer", "TemplateProcessing", "WordPiece"]:
            return WordPiece(value), padding
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        raise InputError(f"{path.name}: is no tokenizer.json ({error})") from error
    if find_spec("tokenizers") is None:
        raise UnsupportedError(
            f"{path.name}: is a {kinds[-1]} tokenizer; without a package BERT's is read alone; pip install tokenizers"
        )
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(json.dumps(value))
    made.no_padding()

    def tokenize(text: str, longest: int) -> list[int]:
        made.enable_truncation(longest)
        return list(made.encode(text).ids)

    return tokenize, padding


class WordPiece:
    """The tokenizer of Devlin et al. 2018, arXiv:1810.04805, with the settings of a tokenizer.json."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        model, normalizer = value["model"], value["normalizer"]
        self._ids: dict[str, int] = model["vocab"]
        self._unknown = self._ids[model["unk_token"]]
        self._prefix: str = model["continuing_subword_prefix"]
        self._longest_word: int = model["max_input_chars_per_word"]
        self._lower: bool = normalizer["lowercase"]
        accents = normalizer["strip_accents"]
        self._strip: bool = self._lower if accents is None else accents
        self._clean: bool = normalizer["clean_text"]
        self._chinese: bool = normalizer["handle_chinese_chars"]
        self._special = {added["content"]: added["id"] for added in value["added_tokens"] if added["content"]}
        single, known = value["post_processor"]["single"], value["post_processor"]["special_tokens"]
        place = next(index for index, part in enumerate(single) if "Sequence" in part)
        before, after = single[:place], single[place + 1 :]
        self._before, self._after = (
            [number for part in parts for number in known[part["SpecialToken"]["id"]]["ids"]]
            for parts in (before, after)
        )

    def __call__(self, text: str, longest: int) -> list[int]:
        room = longest - len(self._before) - len(self._after)
        return [*self._before, *self._tokens(text)[:room], *self._after]

    def _tokens(self, text: str) -> list[int]:
        """Special tokens that stand in the text are themselves."""
        found: list[int] = []
        for part in split_special(text, self._special):
            if part in self._special:
                found.append(self._special[part])
            else:
                found += [number for word in self._words(part) for number in self._pieces(word)]
        return found

    def _words(self, text: str) -> Iterator[str]:
        text = self._normal(text)
        word = ""
        for letter in text:
            if letter.isspace() or _punctuation(letter):
                if word:
                    yield word
                word = ""
                if not letter.isspace():
                    yield letter
            else:
                word += letter
        if word:
            yield word

    def _normal(self, text: str) -> str:
        if self._clean:
            text = "".join(" " if letter.isspace() else letter for letter in text if not _control(letter))
        if self._chinese:
            text = "".join(f" {letter} " if _is_cjk(letter) else letter for letter in text)
        if self._strip:
            text = "".join(
                letter for letter in unicodedata.normalize("NFD", text) if unicodedata.category(letter) != "Mn"
            )
        return text.lower() if self._lower else text

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that fits, from the left; the whole word is unknown if any part is."""
        if len(word) > self._longest_word:
            return [self._unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else self._prefix + word[start:end]
                if piece in self._ids:
                    found.append(self._ids[piece])
                    start = end
                    break
            else:
                return [self._unknown]
        return found


def split_special(text: str, special: Iterable[str]) -> Iterator[str]:
    """Parts of a text: special tokens, and what stands between them."""
    while text:
        places = [(text.find(token), token) for token in special if token in text]
        place, token = min(places, key=lambda found: (found[0], -len(found[1])), default=(len(text), ""))
        if place:
            yield text[:place]
        if token:
            yield token
        text = text[place + len(token) :]


def _control(letter: str) -> bool:
    if letter in "\t\n\r":
        return False
    return letter in "\0\ufffd" or unicodedata.category(letter) in ("Cc", "Cf", "Co")


def _punctuation(letter: str) -> bool:
    """ASCII that is neither letter nor digit, and Unicode's punctuation."""
    code = ord(letter)
    ascii_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_sign or unicodedata.category(letter).startswith("P")


def _is_cjk(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in _CJK)
