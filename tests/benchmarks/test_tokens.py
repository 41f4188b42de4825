"""The study that times tokens: its arithmetic on a clock made by hand, and real engines of a tiny writer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from benchmarks.studies import tokens as study
from benchmarks.studies.tokens import TokenTimes, Writer, names_of, random_prompts, read_writer, time_tokens
from export.errors import InputError, SecurityError, UnsupportedError
from targets import Arrays
from targets.generation.session import GenerationSession
from targets.onnxruntime_mobile import OnnxRuntimeMobile
from tests.compress.writer_run import TARGET, writer_run
from tests.targets.writers import WORDS


class Clock:
    def __init__(self) -> None:
        self.now_s, self.asked = 0.0, list[tuple[str, int]]()

    def writer(self, name: str, first_s: list[float], each_s: float) -> Writer:
        """Takes `first_s` in its rounds, and for a whole answer of 4 tokens `each_s` three times more."""
        return Writer(self.session(name, first_s), self.session(name, [each + 3 * each_s for each in first_s]))

    def session(self, name: str, seconds: list[float]) -> GenerationSession:
        clock = self

        class Session:
            def run(self, inputs: Arrays) -> Arrays:
                round_ = int(inputs["input_ids"])
                clock.asked.append((name, round_))
                clock.now_s += seconds[round_]
                return {}

        return cast("GenerationSession", Session())


def test_the_least_of_the_measured_rounds_is_told() -> None:
    """The first two rounds do not count, though they are the fastest here."""
    clock = Clock()
    writers = {"slow": clock.writer("slow", [1, 1, 9, 7, 8], 2.0), "quick": clock.writer("quick", [0, 0, 4, 3, 5], 0.5)}
    prompts = [{"input_ids": np.array(round_)} for round_ in range(5)]
    found = time_tokens(writers, prompts, 4, lambda: clock.now_s)
    assert {name: (each.first, each.further) for name, each in found.items()} == {"slow": (7, 2.0), "quick": (3, 0.5)}
    # In turns: every round has both, each for one token and for four.
    assert [sorted(clock.asked[4 * round_ : 4 * round_ + 4]) for round_ in range(5)] == [
        [("quick", round_), ("quick", round_), ("slow", round_), ("slow", round_)] for round_ in range(5)
    ]
    told = study.table(found).splitlines()
    assert told[1].split() == ["slow", "7000.00", "ms", "2000.000", "ms", "1.00"]
    assert told[2].split() == ["quick", "3000.00", "ms", "500.000", "ms", "0.25"]


def test_a_further_token_is_what_the_least_answer_takes_more() -> None:
    assert TokenTimes([3.0, 2.0], [9.0, 12.0], tokens=8).further == 1.0


@pytest.mark.parametrize("encodes", [False, True])
def test_engines_of_a_run_are_timed(
    encodes: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "pin", lambda threads: None)  # the other tests want all cores
    folder = writer_run(tmp_path, encodes=encodes) / "artifacts" / TARGET / "fp32"
    monkeypatch.setattr(sys, "argv", ["tokens", str(folder), "--prompt", "5", "--tokens", "3", "--rounds", "2"])
    study.main()
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{TARGET}/fp32 ")
    assert line.endswith(" 1.00")
    prompts = random_prompts([read_writer(folder)], 9, 5)
    assert {prompt["input_ids"].shape for prompt in prompts} == {(1, 5)}
    assert len({prompt["input_ids"].tobytes() for prompt in prompts}) == 9
    assert max(prompt["input_ids"].max() for prompt in prompts) < WORDS


def test_what_does_not_write_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = writer_run(tmp_path) / "artifacts" / TARGET / "fp32"
    told = json.loads((folder / "engine.json").read_text())
    with pytest.raises(
        InputError, match=r"artifacts: has no engine\.json; name the folder of an artifact: RUN/artifacts/T"
    ):
        read_writer(folder.parent.parent)
    (folder / "engine.json").write_text(json.dumps({key: told[key] for key in told if key != "generation"}))
    with pytest.raises(
        InputError, match=r"fp32: answers in one call and writes no tokens; measure its file with compress b"
    ):
        read_writer(folder)
    (folder / "engine.json").write_text(json.dumps(told | {"target": "os:system"}))
    with pytest.raises(SecurityError, match=r"engine\.json: is for target 'os:system'; known: "):
        read_writer(folder)
    monkeypatch.setattr(sys, "argv", ["tokens", str(folder)])
    with pytest.raises(SystemExit, match="4"):
        study.main()
    assert "tokens: " in capsys.readouterr().err
    (folder / "engine.json").write_text(json.dumps(told))
    monkeypatch.setattr(OnnxRuntimeMobile, "cannot_run", lambda _: "not today")
    with pytest.raises(UnsupportedError, match=f"fp32: {TARGET} cannot run here: not today"):
        read_writer(folder)
    monkeypatch.setattr(sys, "argv", ["tokens", str(folder), "--tokens", "1"])
    with pytest.raises(SystemExit, match="2"):
        study.main()
    assert "--tokens 2 or more" in capsys.readouterr().err


def test_names_are_short_where_they_can_be() -> None:
    runs = [Path("runs") / run / "artifacts" / "openvino" / "fp32" for run in ("a", "b")]
    assert names_of([runs[0], runs[0].with_name("int8")]) == ["openvino/fp32", "openvino/int8"]
    assert names_of(runs) == [str(run) for run in runs]
