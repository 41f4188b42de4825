"""A tokenizer whose pieces are single characters, for networks trained from nothing on little text."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The first ids, in this order, as in BERT's vocabularies."""

INSIDE = "##"
"""Before a character that is not the first of its word."""

ALWAYS = string.ascii_letters + string.digits


def character_tokenizer(texts: Iterable[str], least: int = 2, lowercase: bool = True) -> Tokenizer:
    """BERT's tokenizer with a vocabulary of characters: each Chinese character is a word, others are spelled.

    It is a WordPiece tokenizer in all its parts, so that a bundle's runner reads its `tokenizer.json` without a package.
    ASCII letters and digits are in the vocabulary whatever the texts hold.

    Args:
        texts: the vocabulary is made from; training text alone.
        least: how often a character must occur. The others become [UNK], about which a network then learns something; a word
            with one of them in it is [UNK] as a whole.
        lowercase: read upper case as lower case, and letters without their accents.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer, words = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    seen = Counter(
        piece
        for text in texts
        for word, _ in words.pre_tokenize_str(normalizer.normalize_str(text))
        for piece in _spelled(word)
    )
    pieces = {piece for piece, count in seen.items() if count >= least}
    pieces |= {mark + letter for letter in normalizer.normalize_str(ALWAYS) for mark in ("", INSIDE)}
    numbered = {piece: number for number, piece in enumerate((*SPECIAL, *sorted(pieces)))}
    made = Tokenizer(models.WordPiece(numbered, unk_token="[UNK]", continuing_subword_prefix=INSIDE))
    made.normalizer, made.pre_tokenizer = normalizer, words
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, numbered[token]) for token in ("[CLS]", "[SEP]")]
    )
    made.add_special_tokens(list(SPECIAL))
    return made


def _spelled(word: str) -> Iterator[str]:
    yield word[0]
    yield from (INSIDE + letter for letter in word[1:])
