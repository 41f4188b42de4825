"""Rows of handwritten digits, scikit-learn's, as in the boxes of a form, and what is written in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from compress.workload import TensorBatches

END, START, PADDING = 10, 11, 12
WORDS = (*"0123456789", "end", "start", "padding")
"""Names of the tokens."""
SIDE, SHORTEST, LONGEST = 16, 3, 6
HEIGHT, WIDTH = 24, SIDE * LONGEST
TRAIN, VALIDATION = 900, 297
"""Of the 1,797 digits, which are in the order of their writers: most of the last 600, for the test, are by hands of their own."""
ROWS = {"train": 8_000, "validation": 600, "test": 1_200}


def rows(split: str, samples: int | None = None) -> tuple[Tensor, Tensor]:
    """Pictures, float32 (rows, 1, HEIGHT, WIDTH) from 0 to 1, and their tokens up to END, padded: int64 (rows, LONGEST + 1).

    Three to six digits of a split, drawn anew for each row, from the left, as in the boxes of a form, but not all at one height;
    the same rows at every call.
    """
    digits, labels = load_digits(return_X_y=True)
    places = np.split(np.arange(len(digits)), [TRAIN, TRAIN + VALIDATION])[list(ROWS).index(split)]
    # 8x8 pixels of 0 to 16, each as 2x2 of them.
    glyphs = np.kron(digits.reshape(-1, 8, 8), np.ones((2, 2))).astype(np.float32) / 16
    random = np.random.default_rng(list(ROWS).index(split))
    count = samples or ROWS[split]
    pictures = np.zeros((count, 1, HEIGHT, WIDTH), np.float32)
    tokens = np.full((count, LONGEST + 1), PADDING)
    for picture, written in zip(pictures[:, 0], tokens, strict=True):
        chosen = random.choice(places, random.integers(SHORTEST, LONGEST + 1))
        for box, glyph in enumerate(glyphs[chosen]):
            top = random.integers(0, HEIGHT - SIDE + 1)
            picture[top : top + SIDE, box * SIDE : (box + 1) * SIDE] = glyph
        written[: len(chosen) + 1] = [*labels[chosen], END]
    return torch.from_numpy(pictures), torch.from_numpy(tokens)


def forced(pictures: Tensor, tokens: Tensor, batch_size: int, shuffle: bool = False) -> TensorBatches:
    """Batches that give each token to the model which is to tell the next one; padding is -100 in the target."""
    given = torch.cat([torch.full((len(tokens), 1), START), tokens[:, :-1]], dim=1)
    inputs = {"pixel_values": pictures, "decoder_input_ids": given}
    return TensorBatches(inputs, torch.where(tokens == PADDING, -100, tokens), batch_size, shuffle=shuffle)


def spelled(ids: Sequence[int]) -> str:
    """The digits up to the end token, without spaces: each is a character."""
    tokens = list(ids)
    written = tokens[: tokens.index(END)] if END in tokens else tokens
    return "".join(WORDS[token] for token in written if token < END)
