"""The answer of a model that writes to a text, to token ids where the bundle holds no tokenizer, or to a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.byte_pairs import BytePairs, load_any
from benchmarks.device.selftest import engine_of, loaded
from benchmarks.images import read_image
from benchmarks.preprocessing import ImagePreprocessing, TextPreprocessing, from_json
from benchmarks.wordpiece import Tokenize, WordPiece
from export.bundle.manifest import Manifest
from export.errors import InputError
from targets.generation import SOURCE_TOKENS, Generation


def answer_lines(manifest: Manifest, folder: Path, given: str, threads: int = 1) -> list[str]:
    """The lines of the answer; without a tokenizer one line of ids. What does not go on with the prompt has no space around it.

    Args:
        given: a text, or ids with spaces or commas between them, or the path of an image, as the model takes it.

    Raises:
        InputError: if `given` is no row of ids where ids are meant, or an image that cannot be read.
    """
    target, engine = engine_of(manifest, folder)
    generation = engine.generation
    assert generation is not None, "the bundle's model writes"
    taken = {spec.name for spec in engine.inputs}
    if SOURCE_TOKENS in taken:
        ids, say = _read(manifest, folder, given)
        prompt = {SOURCE_TOKENS: np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64)}
    else:
        prompt, say = _seen(manifest, given), _named(manifest.class_names)
    with loaded(target, engine, threads) as session:
        tokens = session.run({name: array for name, array in prompt.items() if name in taken})["tokens"][0]
    text = say(_written(tokens.tolist(), generation))
    return _printable(text if generation.start is None else text.strip())


def _seen(manifest: Manifest, given: str) -> dict[str, np.ndarray]:
    """The image at a path, as the encoder reads it."""
    recipe = None if manifest.preprocessing is None else from_json(manifest.preprocessing)
    if not isinstance(recipe, ImagePreprocessing):
        read = ", ".join(spec["name"] for spec in manifest.engine["inputs"])
        raise InputError(
            f"the bundle does not say how a file becomes the model's input ({read}); give the workload a `preprocessing`, run and "
            "pack again"
        )
    return recipe(read_image(Path(given), recipe.channels))


def _named(names: Sequence[str]) -> Callable[[list[int]], str]:
    """Tokens by the names that the workload gives them; those that it does not name by their numbers."""
    return lambda tokens: " ".join(names[token] if token < len(names) else str(token) for token in tokens)


def _read(manifest: Manifest, folder: Path, given: str) -> tuple[list[int], Callable[[list[int]], str]]:
    """The prompt's ids, and what turns the answer's into words."""
    recipe = None if manifest.preprocessing is None else from_json(manifest.preprocessing)
    if isinstance(recipe, TextPreprocessing):
        path = folder / recipe.tokenizer
        tokenize, _ = load_any(path)
        ids = recipe.ids_of(given, tokenize)
        if not ids:
            raise InputError("the prompt is empty; give a text")
        return ids, lambda tokens: decoded(tokens, tokenize, path)
    words = re.split(r"[,\s]+", given.strip())
    if not all(re.fullmatch(r"\d{1,9}", word) for word in words):
        raise InputError(
            f"found {given[:60]!a}; the bundle holds no tokenizer, so give token ids, for example '12 7 44' (or give the "
            "workload a `preprocessing`, run and pack again)"
        )
    return [int(word) for word in words], lambda tokens: " ".join(map(str, tokens))


def decoded(tokens: list[int], tokenize: Tokenize, path: Path) -> str:
    """The text of ids."""
    if isinstance(tokenize, BytePairs):
        return tokenize.decode(tokens)
    if isinstance(tokenize, WordPiece):
        return _joined(tokens, json.loads(path.read_text(encoding="utf-8")))
    from tokenizers import Tokenizer  # it took the package to read the prompt, too

    return str(Tokenizer.from_file(str(path)).decode(tokens))


def _joined(tokens: list[int], tokenizer: Mapping[str, Any]) -> str:
    """WordPieces without special tokens, with a space between words."""
    model, special = tokenizer["model"], {added["id"] for added in tokenizer["added_tokens"]}
    names = {number: piece for piece, number in model["vocab"].items()}
    pieces = " ".join(names.get(number, "") for number in tokens if number not in special)
    return str(pieces.replace(f" {model['continuing_subword_prefix']}", ""))


def _written(tokens: list[int], generation: Generation) -> list[int]:
    """Without the end token and the padding behind it."""
    return tokens[: tokens.index(generation.end)] if generation.stops and generation.end in tokens else tokens


def _printable(text: str) -> list[str]:
    """Lines without the control characters by which a text would write elsewhere on a terminal."""
    return ["".join(_shown(line)) for line in text.split("\n")]


def _shown(line: str) -> Iterable[str]:
    return (letter if letter.isprintable() or letter == "\t" else "?" for letter in line)
