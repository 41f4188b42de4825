"""The byte-level byte-pair tokenizer of GPT-2, from a tokenizer.json, without a package: a text to ids, and ids to a text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.wordpiece import Tokenize, load_tokenizer, split_special
from export.errors import UnsupportedError

_SPACES = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)
"""Unicode's White_Space, which is not what `str.isspace` goes by."""
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_WORD = re.compile(r" ?L+| ?N+| ?O+|[S ]+(?![^S ])|[S ]+")
"""Over kinds of letters: L a letter, N a number, S a space other than " ", O all else; as in the pattern of GPT-2's encoder.py."""


def load_any(path: Path) -> tuple[Tokenize, int]:
    """As `benchmarks.wordpiece.load_tokenizer`, and GPT-2's.

    Raises:
        UnsupportedError: also if it encodes byte pairs otherwise than GPT-2.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        pairs = value["model"]["type"] == "BPE"
        if pairs and BytePairs.reads(value):
            return BytePairs(value), int((value.get("padding") or {}).get("pad_id", 0))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pairs = False  # the other reader says what is wrong
    if pairs:
        raise UnsupportedError(
            f"{path.name}: encodes byte pairs otherwise than GPT-2 does, which is not read here; pack without preprocessing, and "
            "predict takes token ids"
        )
    return load_tokenizer(path)


class BytePairs:
    """Byte-pair encoding of Sennrich et al. 2016 (arXiv:1508.07909) over bytes, as Radford et al. 2019 cut a text into words."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        model = value["model"]
        self._ids: dict[str, int] = model["vocab"]
        pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._prefix = bool(value["pre_tokenizer"]["add_prefix_space"])
        added = [token for token in value["added_tokens"] if token["content"]]
        self._special: dict[str, int] = {token["content"]: token["id"] for token in added}
        self._letters = _letters()
        self._known: dict[str, list[int]] = {}

    @staticmethod
    def reads(value: Mapping[str, Any]) -> bool:
        """Whether a tokenizer.json asks for nothing that is not done here."""
        model, cut = value["model"], value["pre_tokenizer"] or {}
        plain = (
            "dropout",
            "unk_token",
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "byte_fallback",
            "ignore_merges",
        )
        marked = ("single_word", "lstrip", "rstrip")
        return (
            model.get("type") == "BPE"
            and not any(model.get(name) for name in plain)
            and cut.get("type") == "ByteLevel"
            and cut.get("use_regex", True)
            and value["normalizer"] is None
            and (value["post_processor"] or {"type": "ByteLevel"})["type"] == "ByteLevel"
            and not any(token[name] for token in value["added_tokens"] for name in marked)
        )

    def __call__(self, text: str, longest: int) -> list[int]:
        """At most `longest` ids; special tokens that stand in the text are themselves."""
        found: list[int] = []
        for part in split_special(text, self._special):
            if part in self._special:
                found.append(self._special[part])
            else:
                found += [number for word in self._words(part) for number in self._pieces(word)]
        return found[:longest]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids without special tokens; bytes that are no UTF-8 become U+FFFD."""
        special, names = set(self._special.values()), {number: piece for piece, number in self._ids.items()}
        byte_of = {letter: byte for byte, letter in enumerate(self._letters)}
        pieces = "".join(names.get(number, "") for number in ids if number not in special)
        return bytes(byte_of[letter] for letter in pieces if letter in byte_of).decode("utf-8", errors="replace")

    def _words(self, text: str) -> Iterator[str]:
        if self._prefix and not text.startswith(" "):
            text = " " + text
        kinds = "".join(map(_kind, text))
        place = 0
        while place < len(text):
            end = next((place + len(each) for each in _CONTRACTIONS if text.startswith(each, place)), 0)
            if not end:
                word = _WORD.match(kinds, place)
                assert word is not None, "every kind begins a word"
                end = word.end()
            yield text[place:end]
            place = end

    def _pieces(self, word: str) -> list[int]:
        """The pair that was learned first is joined first, until none is left that was."""
        if word not in self._known:
            parts = [self._letters[byte] for byte in word.encode("utf-8", errors="replace")]
            while len(parts) > 1:
                ranks = [self._ranks.get(pair, len(self._ranks)) for pair in zip(parts, parts[1:])]
                least = min(ranks)
                if least == len(self._ranks):
                    break
                parts = _joined(parts, ranks, least)
            self._known[word] = [self._ids[part] for part in parts if part in self._ids]
        return self._known[word]


def _joined(parts: list[str], ranks: list[int], rank: int) -> list[str]:
    """Parts with every pair of this rank in one, from the left."""
    found: list[str] = []
    place = 0
    while place < len(parts):
        pair = place < len(ranks) and ranks[place] == rank
        found.append(parts[place] + parts[place + 1] if pair else parts[place])
        place += 2 if pair else 1
    return found


def _kind(letter: str) -> str:
    if letter in _SPACES:
        return " " if letter == " " else "S"
    kind = unicodedata.category(letter)[0]
    return kind if kind in "LN" else "O"


def _letters() -> list[str]:
    """The letter that stands for each byte: itself where it can be seen, else one from U+0100 on."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]
