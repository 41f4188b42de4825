"""Put an emulated ARM into .arm: `make arm`. Debian or Ubuntu on x86; no root, nothing of the machine changes.

A step whose result is there is not done again; what was interrupted is downloaded on from where it was.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from export.errors import CompressError, EnvironmentFailure
from targets.isa import architecture
from tests.arm.debian import run, unpack
from tests.arm.emulated import FOLDER, INSTALLED, PYTHON, wanted_wheels

EMULATOR = FOLDER / "bin" / "qemu-aarch64-static"
ROOT = FOLDER / "root"
SCRATCH = FOLDER / ".scratch"

LAUNCHER = """\
#!/bin/sh
# Python on an emulated ARM; made by: make arm. Never take a time from it.
arm=$(dirname "$(dirname "$(readlink -f "$0")")")
export QEMU_CPU="${QEMU_CPU:-cortex-a76}"
exec "$arm/bin/qemu-aarch64-static" -0 "$arm/bin/python" -L "$arm/root" "$arm/root/usr/bin/python3" "$@"
"""

CORE = """\
processor\t: {index}
BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
"""A Cortex-A76, as its kernel describes it.

qemu 7.2 shows the emulated program this machine's /proc/cpuinfo, and over an x86 one ONNX Runtime 1.31 dies (SIGSEGV)
while it is imported. A file in the root stands before it.
"""

PROBE = "import onnxruntime, platform; print(platform.machine(), platform.python_version(), onnxruntime.__version__)"


def main() -> None:
    try:
        install()
    except CompressError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def install() -> None:
    """Emulator, root and wheels, then the proof that they work together.

    Raises:
        EnvironmentFailure: if a step fails, or this machine is an ARM itself.
    """
    host = architecture()
    if host == "arm64":
        raise EnvironmentFailure("arm: this machine is an ARM itself; nothing needs to be emulated")
    wheels = wanted_wheels()
    _step("the emulator, of which one program is kept", EMULATOR, lambda made: _emulator(host, made))
    _step("an arm64 Python with its libraries", ROOT, _root)
    libraries = FOLDER / "lib" / _python_version() / "site-packages"
    if INSTALLED.is_file() and json.loads(INSTALLED.read_text()) != wheels:
        shutil.rmtree(libraries, ignore_errors=True)
        INSTALLED.unlink()
    _step(
        " and ".join(f"{name} {version}" for name, version in wheels.items()),
        libraries,
        lambda made: _pip(wheels, made),
    )
    _virtual_environment()
    found = run([str(PYTHON), "-c", PROBE], "a first program on the emulated ARM").strip()
    INSTALLED.write_text(json.dumps(wheels))
    shutil.rmtree(SCRATCH, ignore_errors=True)
    print(f"arm: {PYTHON.relative_to(FOLDER.parent)} works: {found.splitlines()[-1]}")


def _step(what: str, result: Path, make: Callable[[Path], int]) -> None:
    """Make `result` under another name and rename it when whole; `make` returns the bytes downloaded."""
    if result.exists():
        print(f"arm: {what}: is there")
        return
    print(f"arm: {what}: ...", flush=True)
    made = SCRATCH / result.name
    if made.is_dir():
        shutil.rmtree(made)
    made.parent.mkdir(parents=True, exist_ok=True)
    downloaded = make(made)
    result.parent.mkdir(parents=True, exist_ok=True)
    made.rename(result)
    fetched = f"{downloaded / 1e6:.0f} MB downloaded, " if downloaded else ""
    print(f"arm: {what}: {fetched}{_size(result) / 1e6:.0f} MB on disk")


def _emulator(host: str, made: Path) -> int:
    """Newer releases keep the program in qemu-user, and qemu-user-static holds links to it."""
    unpacked = SCRATCH / "emulator-package"
    downloaded = unpack(["qemu-user-static"], host, SCRATCH / "apt-host", unpacked)
    shutil.copy(unpacked / "usr" / "bin" / "qemu-aarch64-static", made)
    return downloaded


def _root(made: Path) -> int:
    downloaded = unpack(["python3", "libstdc++6"], "arm64", SCRATCH / "apt-arm64", made)
    if not (made / "lib").exists():
        (made / "lib").symlink_to("usr/lib")
    (made / "proc").mkdir()
    (made / "proc" / "cpuinfo").write_text("".join(CORE.format(index=index) for index in range(2)))
    return downloaded


def _python_version() -> str:
    """What the root's python3 is a link to, for example python3.11."""
    return (ROOT / "usr" / "bin" / "python3").readlink().name


def _pip(wheels: Mapping[str, str], made: Path) -> int:
    """By pip's own account of what fits, for glibc 2.35 (Ubuntu 22.04) and all before it."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 36)]
    chosen = ["--implementation=cp", f"--python-version={_python_version().removeprefix('python')}", *platforms]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", *chosen, f"--target={made}"]
    named = [f"{name}=={version}" for name, version in wheels.items()]
    run([sys.executable, "-m", "pip", "install", *options, *named], f"{', '.join(named)} for arm64")
    return 0


def _virtual_environment() -> None:
    home = f"home = {ROOT / 'usr' / 'bin'}\ninclude-system-site-packages = false\n"
    (FOLDER / "pyvenv.cfg").write_text(home)
    PYTHON.write_text(LAUNCHER)
    PYTHON.chmod(0o755)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if not file.is_symlink() and file.is_file()]
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
