"""The share of the data that a tokenizer has no token for: one of another language makes the same ids of all texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import torch

from compress.ready import ReadyContext
from compress.ready.words import Words

TOLD, REFUSED = 0.2, 0.9
"""Above these shares of unknown tokens in a file a note says so, and the data are refused."""
READ = 2000
"""Texts of a file, evenly spread; they tell a share to about one point in a hundred."""


def check_known(
    words: Words, texts: Mapping[str, Sequence[str]], context: ReadyContext, option: str
) -> tuple[str, ...]:
    """What is to be told of a tokenizer that does not know the data.

    Args:
        texts: by the file they are of.
        option: that names the data.

    Raises:
        InputError: if hardly a token of a file is known: a model learns nothing from texts that are all alike.
    """
    token = unknown_token(words)
    if token is None:
        return ()
    told = []
    for file, some in texts.items():
        share = unknown_share(words, some)
        found = f"{file}: {share:.0%} of the tokens are {words.tokenizer.id_to_token(token)}, what the tokenizer does not know"
        if share > REFUSED:
            raise context.refusal(
                option,
                f"{found} (allowed: {REFUSED:.0%}), so that texts are hardly told apart; give texts in the language and script of "
                "the model, or the tokenizer that it was trained with",
            )
        if share > TOLD:
            told.append(f"{found}; language, script and case should be those that the model was trained on")
    return tuple(told)


def unknown_share(words: Words, texts: Sequence[str]) -> float:
    """Unknown tokens among those of `texts`, READ of them at most, without the tokens that are put around each."""
    words.tokenizer.no_truncation()
    words.tokenizer.no_padding()
    rows = torch.linspace(0, len(texts) - 1, min(READ, len(texts))).long().tolist()
    found = words.tokenizer.encode_batch([texts[row] for row in rows], add_special_tokens=False)
    ids = [number for each in found for number in each.ids]
    return ids.count(unknown_token(words)) / max(len(ids), 1)


def unknown_token(words: Words) -> int | None:
    """The id of what stands for anything unknown; None where every text has tokens, as with bytes."""
    model = json.loads(words.tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    name = model.get("unk_token")
    number = None if name is None else words.tokenizer.token_to_id(name)
    return None if number is None else int(number)
