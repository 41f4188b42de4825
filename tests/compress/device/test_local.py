"""The device's side by the transport without a network, and what the desk makes of strange answers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compress.device.device import Device
from compress.device.local import Local
from compress.device.transport import ConnectionLost, Ran, Told
from export.errors import EnvironmentFailure


def here(folder: Path, python: str = sys.executable) -> Device:
    return Device(Local("local://", str(folder), python), [].append)


def named(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return f"{hashlib.sha256(content).hexdigest()}-file"


def test_a_file_arrives_whole_and_is_known_again(tmp_path: Path) -> None:
    found, there = here(tmp_path / "there"), tmp_path / "there"
    name = named(tmp_path / "file", os.urandom(3_000_000))
    assert found.probe("json", [name]).here == ()
    found.put(tmp_path / "file", name)
    assert (there / name).read_bytes() == (tmp_path / "file").read_bytes()
    assert there.stat().st_mode & 0o077 == 0
    assert found.probe("no_such_module", [name]).here == (name,)
    assert found.probe("no_such_module", []).missing == ("no_such_module",)
    (there / name).write_bytes(b"damaged")
    assert found.probe("json", [name]).here == ()
    found.clean([name])
    assert not there.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    found, there = here(tmp_path / "there"), tmp_path / "there"
    there.mkdir()
    (there / "photo.jpg").touch()
    found.probe("json", ())
    found.clean(["f" * 64 + "-file"])
    assert [file.name for file in there.iterdir()] == ["photo.jpg"]


def test_another_file_than_its_name_says_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(EnvironmentFailure, match="came as another file; nothing was kept"):
        here(tmp_path / "there").put(tmp_path / "file", "0" * 64 + "-file")
    assert not any((tmp_path / "there").iterdir())


def test_what_a_crash_left_half_written_goes_in_time(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for name, age_s in (("old.1.partial", 7200), ("new.2.partial", 10)):
        (there / name).touch()
        os.utime(there / name, (time.time() - age_s,) * 2)
    here(there).probe("json", ())
    assert [file.name for file in there.iterdir()] == ["new.2.partial"]


def test_a_job_stops_when_it_is_cleaned_up(tmp_path: Path) -> None:
    found, there = here(tmp_path / "there"), tmp_path / "there"
    found.start([["-c", "import time; time.sleep(60)"]], ())
    start = time.monotonic()
    found.clean(())
    assert not there.exists()
    assert time.monotonic() - start < 5


def test_scratch_of_the_commands_goes_with_the_job(tmp_path: Path) -> None:
    found = here(tmp_path / "there")
    found.start([["-c", "import tempfile; print(tempfile.mkdtemp())"]], ())
    told: list[str] = []
    found.told = told.append
    assert found.wait() == 0
    assert Path(told[0]).parent == tmp_path / "there" / found.job
    found.clean(())
    assert not Path(told[0]).exists()


def test_a_job_that_went_down_with_its_device_is_told_and_removed(tmp_path: Path) -> None:
    found, told = here(tmp_path / "there"), list[str]()
    found.told = told.append
    found.start([["-c", "import os; print(os.getpid(), os.getppid()); import time; time.sleep(60)"]], ())
    job = tmp_path / "there" / found.job
    end = time.monotonic() + 10
    while not (job / "log").read_text() and time.monotonic() < end:
        time.sleep(0.02)
    assert here(tmp_path / "there").probe("json", ())
    assert job.exists()
    for process in reversed((job / "log").read_text().split()):
        os.kill(int(process), signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match=r"is gone without a result; did the device restart\?"):
        found.wait()
    assert here(tmp_path / "there").probe("json", ())
    assert not job.exists()


@dataclass
class Scripted:
    """A device that answers what it is told to, a list of lines and an exit code a call."""

    answers: list[tuple[list[str], int, str]]
    address: str = "test://"
    python: str = "python3"
    folder: str = "/x"
    asked: list[str] = field(default_factory=list)

    def run(self, words: Sequence[str], told: Told, source: Path | None = None) -> Ran:
        self.asked.append(words[3])
        lines, code, error = self.answers.pop(0)
        for line in lines:
            told(line)
        return Ran(code, error)


def probed(version: str) -> str:
    return json.dumps({"done": {"python": version, "missing": [], "free_bytes": 1, "here": []}})


def test_greetings_of_a_login_script_are_no_answer() -> None:
    device = Device(Scripted([(["Welcome!", "17", probed("3.9.2")], 0, "")]), [].append)
    assert device.probe("numpy", ()).python == "3.9.2"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (([probed("3.8.10")], 0, ""), "is Python 3.8.10, the runner needs 3.9"),
        (([], 127, "sh: 1: python3: not found"), r"there is no python3 \(sh: 1: python3: not found\)"),
        (([], 1, "SyntaxError: invalid syntax"), "python3 failed: SyntaxError"),
        (([json.dumps({"done": {"failed": "Permission denied"}})], 0, ""), "probe: Permission denied"),
    ],
)
def test_what_is_wrong_there_is_a_sentence(answer: tuple[list[str], int, str], message: str) -> None:
    with pytest.raises(EnvironmentFailure, match=message):
        Device(Scripted([answer]), [].append).probe("numpy", ())


def test_no_line_is_told_twice_and_none_commands_the_terminal() -> None:
    first = [json.dumps({"line": "one", "at": 4}), json.dumps({"line": "\x1b[2Jtwo", "at": 11})]
    transport = Scripted([(first, -9, ""), ([json.dumps({"done": {"code": 0}})], 0, "")])
    told: list[str] = []
    assert Device(transport, told.append, waits_s=(0.0,)).wait() == 0
    assert (told[0], told[1]) == ("one", "?[2Jtwo")
    assert transport.asked == ["follow", "follow"]


def test_a_report_that_came_over_changed_is_refused() -> None:
    answer = json.dumps({"done": {"content": "{}", "sha256": "0" * 64}})
    with pytest.raises(EnvironmentFailure, match="did not come over whole"):
        Device(Scripted([([answer], 0, "")]), [].append).read("report.json")


def test_a_device_that_stays_away_is_given_up() -> None:
    with pytest.raises(ConnectionLost, match="while fetching the report, and did not come back"):
        Device(Scripted([([], -9, ""), ([], -9, "")]), [].append, waits_s=(0.0,)).read("report.json")
