"""Over a real OpenSSH server on the loopback address: the whole journey, refusals, and connections that break."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.comparison.device_report import read_device_report
from compress.cli import main
from compress.device.address import transport_to
from compress.device.bench import Asked, bench_there
from compress.device.device import Device
from compress.device.transport import ConnectionLost
from compress.run_directory import sha256_of
from export.bundle.verify import verify
from export.errors import CompressError, EnvironmentFailure, QualityError, SecurityError
from targets.isa import architecture
from tests.arm import emulated
from tests.compress.device.server import REASON, SSHD, Server, serve
from tests.compress.device.tiny_bundle import tiny_bundle

pytestmark = pytest.mark.skipif(SSHD is None, reason=REASON)
ROOT = Path(__file__).parents[3]
NO_ARM = emulated.unavailable()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """The server, in a list: a test that stops it puts another in its place."""
    held = [serve(tmp_path_factory.mktemp("server"))]
    yield held
    held[0].stop()


@pytest.fixture
def server(running: list[Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("PATH", f"{running[0].bin}{os.pathsep}{os.environ['PATH']}")
    return running[0]


@pytest.fixture
def away(running: list[Server], server: Server) -> Iterator[Callable[[], None]]:
    """Takes the server away for the rest of the test."""
    yield server.stop
    running[0] = serve(server.folder, server.port)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if architecture() != "amd64":
        pytest.skip("the tiny bundle is made for amd64")
    return tiny_bundle(tmp_path_factory.mktemp("made") / "tiny.compress", tmp_path_factory.mktemp("scratch"))


def device(server: Server, there: Path, told: list[str], python: str = sys.executable, **how: object) -> Device:
    return Device(transport_to(server.address(there), python), told.append, **how)  # type: ignore[arg-type]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def until(met: Callable[[], object], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_the_whole_journey(
    server: Server, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    monkeypatch.chdir(tmp_path)
    words = ["bench", str(bundle), "--on", server.address(there), "--python", sys.executable, "--seconds", "0.1"]
    monkeypatch.setattr(sys, "argv", ["compress", *words, "--label", "Board 4"])
    with pytest.raises(SystemExit) as left:
        main()
    out = capsys.readouterr().out
    assert left.value.code in (0, 5)  # 5: the machine that tests was not quiet
    for line in ("tiny.compress: whole", "copying app.compress", "pass: 4 golden inputs", "batch 1: median", "A/A"):
        assert line in out
    written = tmp_path / "tiny-board-4.json"
    found = read_device_report(written)
    assert (found.label, found.bundle.digest, found.target) == ("Board 4", verify(bundle).digest, "onnxruntime_mobile")
    assert found.machine["architecture"] and found.latency[0].median_s > 0
    told = written.read_text()
    assert socket.gethostname() not in told and server.address(there) not in told and str(tmp_path) not in told
    assert not there.exists()


def test_wrong_answers_on_the_device_are_exit_code_5(server: Server, tmp_path: Path) -> None:
    if architecture() != "amd64":
        pytest.skip("the tiny bundle is made for amd64")
    made = verify(tiny_bundle(tmp_path / "wrong.compress", tmp_path, wrong=True))
    there = tmp_path / "there"
    with pytest.raises(QualityError, match=r"on the device: output 'logits' differs by 9 .*"):
        bench_there(made, transport_to(server.address(there), sys.executable), Asked(), [].append)
    assert not there.exists()


def test_a_python_without_numpy(server: Server, bundle: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "bare", f'exec {sys.executable} -S -E "$@"')
    with pytest.raises(
        EnvironmentFailure, match=r"has no numpy and no onnxruntime; .* -m pip install numpy 'onnxruntime>="
    ):
        bench_there(verify(bundle), transport_to(server.address(tmp_path / "there"), python), Asked(), [].append)
    assert not (tmp_path / "there").exists()


def refusal(server: Server, there: Path, python: str = sys.executable) -> CompressError:
    with pytest.raises(CompressError) as refused:
        device(server, there, [], python).probe("numpy", ())
    return refused.value


def test_refusals_are_a_sentence_each(server: Server, tmp_path: Path) -> None:
    there, config = tmp_path / "there", server.config.read_text()
    assert "there is no /no/python" in str(refusal(server, there, "/no/python"))
    try:
        server.config.write_text(config.replace("/user\n", "/stranger\n"))
        refused = refusal(server, there)
        assert "refused the key" in str(refused) and "--identity" in str(refused) and refused.exit_code == 6
        server.config.write_text(config.replace("/known\n", "/nobody\n"))
        refused = refusal(server, there)
        assert "does not know its host key; connect once by hand" in str(refused) and refused.exit_code == 6
        known, other = (server.folder / "known").read_text(), (server.folder / "stranger.pub").read_text().split()[1]
        (server.folder / "changed").write_text(" ".join([*known.split()[:2], other]) + "\n")
        server.config.write_text(config.replace("/known\n", "/changed\n"))
        changed = refusal(server, there)
        assert isinstance(changed, SecurityError) and "not the one that this machine knows" in str(changed)
    finally:
        server.config.write_text(config)
    unknown = Device(transport_to("ssh://nowhere.invalid"), [].append)
    with pytest.raises(EnvironmentFailure, match=r"cannot be reached \(Could not resolve hostname"):
        unknown.probe("numpy", ())


def test_nobody_listens(server: Server, away: Callable[[], None], tmp_path: Path) -> None:
    away()
    assert "Connection refused); is it on" in str(refusal(server, tmp_path / "there"))


def large(path: Path, size: int = 120_000_000) -> str:
    """A file that takes a moment to send; its name on the device."""
    with path.open("wb") as file:
        file.truncate(size)
    return f"{sha256_of(path)}-large"


def when_half_there(there: Path, then: Callable[[], object]) -> threading.Thread:
    def watch() -> None:
        assert until(lambda: any(part.stat().st_size for part in there.glob("*.partial")))
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_copy_that_breaks_off_is_begun_anew(server: Server, tmp_path: Path) -> None:
    there, told, name = tmp_path / "there", list[str](), large(tmp_path / "large")
    watching = when_half_there(there, server.cut)
    device(server, there, told, waits_s=(0.1, 0.5)).put(tmp_path / "large", name)
    watching.join()
    assert any("broke" in line and "while copying; trying again in 0.1 s" in line for line in told)
    assert sha256_of(there / name) == name.partition("-")[0]
    assert until(lambda: [file.name for file in there.iterdir()] == [name])


def test_a_copy_that_cannot_go_on_leaves_nothing(server: Server, away: Callable[[], None], tmp_path: Path) -> None:
    there, name = tmp_path / "there", large(tmp_path / "large")
    watching = when_half_there(there, away)
    with pytest.raises(CompressError, match=r"while copying, and did not come back; nothing half-written"):
        device(server, there, [], waits_s=(0.1,)).put(tmp_path / "large", name)
    watching.join()
    assert until(lambda: not any(there.iterdir()))


def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    there, python = tmp_path / "there", script(tmp_path / "small", f'ulimit -f 64; exec {sys.executable} "$@"')
    with pytest.raises(EnvironmentFailure, match="the disk is full there"):
        device(server, there, [], python).put(tmp_path / "large", large(tmp_path / "large", 1_000_000))
    assert not any(there.iterdir())


def test_a_full_disk_of_its_own(server: Server, bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(there)]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system needs root")
    try:
        with pytest.raises(EnvironmentFailure, match=r"0\.5 MB are free in .* MB are needed"):
            bench_there(verify(bundle), transport_to(server.address(there), sys.executable), Asked(), [].append)
        there.mkdir(exist_ok=True)
        with pytest.raises(EnvironmentFailure, match="the disk is full there"):
            device(server, there, []).put(tmp_path / "large", large(tmp_path / "large", 1_000_000))
        assert not any(there.iterdir())
    finally:
        subprocess.run(["umount", str(there)], check=True)


def test_a_measurement_outlives_its_connection(server: Server, tmp_path: Path) -> None:
    there, told = tmp_path / "there", list[str]()
    found = device(server, there, told, waits_s=(0.1, 0.5))
    work = "import time; print('one'); time.sleep(2); print('two'); open('report.json', 'w').write('{}')"
    found.start([["-c", work], ["-c", "raise SystemExit(3)"], ["-c", "print('never')"]], ())
    cutting = threading.Thread(target=lambda: until(lambda: "one" in told) and server.cut())
    cutting.start()
    assert found.wait() == 3
    cutting.join()
    assert [line for line in told if line in ("one", "two", "never")] == ["one", "two"]
    assert any("the measurement goes on there, trying again" in line for line in told)
    assert json.loads(found.read("report.json")) == {}
    found.clean(())
    assert not there.exists()


def test_a_measurement_that_nobody_comes_back_for_ends_itself(
    server: Server, away: Callable[[], None], tmp_path: Path
) -> None:
    there, told = tmp_path / "there", list[str]()
    found = device(server, there, told, waits_s=(0.1,), patience_s=2.0)
    name = large(tmp_path / "small", 1000)
    found.put(tmp_path / "small", name)
    found.start([["-c", "import os, time; print(os.getpid()); time.sleep(60)"]], (name,))
    stopping = threading.Thread(target=lambda: until(lambda: told and told[0].isdigit()) and away())
    stopping.start()
    with pytest.raises(ConnectionLost, match=r"did not come back; the measurement there ends itself .* within 2 s"):
        found.wait()
    stopping.join()
    assert until(lambda: not there.exists())
    assert not psutil.pid_exists(int(told[0]))


@pytest.mark.skipif(NO_ARM is not None, reason=str(NO_ARM))
def test_a_device_whose_python_is_the_emulated_arm(server: Server, tmp_path: Path) -> None:
    from compress.pack.runner import make_runner

    there, told = tmp_path / "there", list[str]()
    made = tiny_bundle(tmp_path / "arm.compress", tmp_path, family="arm64")
    (tmp_path / "runner").write_bytes(make_runner("onnxruntime_mobile"))
    names = [f"{sha256_of(path)}-{path.name}" for path in (made, tmp_path / "runner")]
    found = device(server, there, told, str(emulated.PYTHON))
    for path, name in zip((made, tmp_path / "runner"), names, strict=True):
        found.put(path, name)
    asks = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pathlib; from benchmarks.sensors import emulator; "
    found.start(
        [
            [f"{{here}}/{names[1]}", "selftest", f"{{here}}/{names[0]}"],
            ["-c", asks + "print('emulated by', emulator(pathlib.Path('/')))"],
        ],
        names,
    )
    assert found.wait() == 0, told
    assert any("pass: 4 golden inputs" in line for line in told)
    assert told[-1].startswith("emulated by qemu-aarch64")
    found.clean(names)
    assert not there.exists()
