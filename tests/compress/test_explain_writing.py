"""`compress explain` on a model that writes: each part as it is called, and what an answer is made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from compress import explain as explaining
from compress.cli import app
from compress.engines import read_engine
from compress.explain import explain_run
from compress.profile_inputs import EXTENT, calls_of
from tests.compress.test_explain import ROOFLINE
from tests.compress.writer_run import TARGET, writer_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return writer_run(folder / "decoder"), writer_run(folder / "translator", encodes=True, beams=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roofline has tests of its own."""
    monkeypatch.setattr(explaining, "measure_roofline", lambda target, threads: ROOFLINE)


def test_parts_are_given_what_they_are_given_in_an_answer(runs: tuple[Path, Path]) -> None:
    decoder, translator = (read_engine(run / "artifacts" / TARGET / "fp32") for run in runs)
    reads, step = calls_of(decoder, 2, {"length": 9, "tokens": 5})
    assert (reads.part, reads.words, reads.times) == ("decoder", "a prompt of 9", 1)
    assert (step.part, step.words, step.times) == ("decoder", "one step after 11 tokens", 4)
    shapes = [{name: array.shape for name, array in call.inputs.items()} for call in (reads, step)]
    assert shapes[0] == {"input_ids": (2, 9), "past_key.0": (2, 1, 0, 1)}
    assert shapes[1] == {"input_ids": (2, 1), "past_key.0": (2, 1, 11, 1)}
    encodes, step = calls_of(translator, 2, {})
    assert {name: array.shape for name, array in encodes.inputs.items()} == dict.fromkeys(
        ("input_ids", "attention_mask"), (2, EXTENT)
    )
    # six tokens, three of them behind; each of two prompts has three beams
    assert step.words == "one step after 3 tokens, 3 beams" and step.times == 6
    assert {name: array.shape for name, array in step.inputs.items()} == {
        "input_ids": (6, 1),
        "past_key.0": (6, 1, 3, 1),
        "attention_mask": (6, EXTENT),
        "cross_key.0": (6, 1, EXTENT, 1),
    }


def test_every_part_is_explained_and_an_answer_is_their_sum(runs: tuple[Path, Path]) -> None:
    for run, first, second in zip(
        runs, ("decoder, a prompt of", "encoder, a prompt of"), ("decoder, one step after", "decoder, one step after"),
        strict=True,
    ):  # fmt: skip
        found = explain_run(run, TARGET, None, Console(quiet=True))
        assert found.left_out == ()
        reads, step = found.explanations
        assert reads.part.startswith(first) and step.part.startswith(second)
        assert reads.times == 1 and step.times > 1 and all(layer.share >= 0 for layer in step.layers)
        whole_s = reads.call_s + step.times * step.call_s
        [told] = [note for note in found.notes if "an answer's calls take" in note]
        assert told.startswith(f"{TARGET} fp32: ") and f"{step.times * step.call_s / whole_s:.0%}" in told


def test_the_command_names_the_part(runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "explanation.json"
    done = CliRunner().invoke(
        app, ["explain", str(runs[0]), "--target", TARGET, "--json", str(out)], env={"COLUMNS": "150"}
    )
    assert done.exit_code == 0, done.output
    assert f"{TARGET} fp32, decoder, one step after " in done.output
    assert [each["times"] > 1 for each in json.loads(out.read_text())["explanations"]] == [False, True]
    assert np.isfinite(json.loads(out.read_text())["explanations"][0]["call_s"])
