"""The reading example: rows of digits and what is written in them, and its workload."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compress.checkpoint import save_weights
from export.errors import InputError
from tests.examples.conftest import Load

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")
pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install edge-compress[examples]")


def test_a_row_shows_what_is_written_and_is_the_same_at_every_call(load: Load) -> None:
    rows = load("reading", "rows")
    pictures, tokens = rows.rows("test", 40)
    again, _ = rows.rows("test", 40)
    assert torch.equal(pictures, again)
    assert pictures.shape == (40, 1, rows.HEIGHT, rows.WIDTH) and pictures.min() >= 0 and pictures.max() == 1
    for picture, written in zip(pictures[:, 0], tokens.tolist(), strict=True):
        digits = written.index(rows.END)
        boxes = picture.reshape(rows.HEIGHT, rows.LONGEST, rows.SIDE).sum((0, 2)) > 0
        assert boxes.tolist() == [True] * digits + [False] * (rows.LONGEST - digits)
        assert len(rows.spelled(written)) == digits and written[digits + 1 :] == [rows.PADDING] * (
            rows.LONGEST - digits
        )
    train, _ = rows.rows("train", 40)
    assert not any(torch.equal(one, other) for one in train for other in pictures)


def test_each_token_is_told_after_those_before_it(load: Load) -> None:
    rows = load("reading", "rows")
    pictures, tokens = rows.rows("validation", 6)
    [(inputs, target)] = rows.forced(pictures, tokens, 6)
    for given, wanted, written in zip(
        inputs["decoder_input_ids"].tolist(), target.tolist(), tokens.tolist(), strict=True
    ):
        end = written.index(rows.END)
        assert given == [rows.START, *written[:-1]]
        assert wanted == [*written[: end + 1], *[-100] * (rows.LONGEST - end)]


def test_the_workload_judges_characters(load: Load, tmp_path: Path) -> None:
    workload, rows = load("reading", "workload"), load("reading", "rows")
    model = load("reading", "reader").reader()
    save_weights(model, tmp_path / "reader.safetensors", {"test_cer": 0.5})
    found = workload.digits_in_rows(weights=str(tmp_path / "reader.safetensors"))
    assert found.baseline == 0.5 and found.writing.metric.name == "cer"
    for split in ("validation", "test"):
        prompts, (_, tokens) = workload.prompts(split), rows.rows(split)
        texts = [found.writing.metric.references[number] for number in prompts.target]
        assert texts == [rows.spelled(written) for written in tokens.tolist()]


def test_missing_weights_name_the_command_that_makes_them(load: Load, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"reader.safetensors is missing; make it with: python examples/reading/train.py"
    ):
        load("reading", "workload").digits_in_rows(weights=str(tmp_path / "reader.safetensors"))
