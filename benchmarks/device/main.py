"""The runner: `python runner.pyz verify | selftest | bench | predict`, beside the bundle or with its path."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.device.words import bench_lines, guess_lines, selftest_lines, verified_line
from export.bundle.manifest import FILE, WRITES, Manifest
from export.bundle.verify import Bundle, unpacked, verify
from export.errors import CompressError, EnvironmentFailure, InputError
from export.files import write_whole


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is that of `compress`: 0 right, 2 wrong input, 4 refused, 5 differs, 6 cannot run."""
    asked = _parser().parse_args(words)
    try:
        bundle = verify(_bundle(asked.bundle))
        code = _carried_out(asked, bundle)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` has read enough; what is left must not be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except CompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print("error: the memory of this machine is full", file=sys.stderr)
        return EnvironmentFailure.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


def _carried_out(asked: argparse.Namespace, bundle: Bundle) -> int:
    if asked.command == "verify":
        print(verified_line(bundle))
        return 0
    if find_spec("numpy") is None:
        raise EnvironmentFailure(f"{asked.command} needs numpy, which is not installed; pip install numpy")
    from benchmarks.device.measure import measured_here
    from benchmarks.device.selftest import selftest
    from benchmarks.latency import Protocol

    if asked.command == "bench" and asked.json and not Path(asked.json).parent.is_dir():
        raise InputError(f"--json {asked.json}: there is no such folder")
    with unpacked(bundle) as folder:
        if asked.command == "selftest":
            tested = selftest(bundle.manifest, folder, asked.threads)
            print("\n".join(selftest_lines(bundle, tested)))
            return 0 if tested.passed else 5
        if asked.command == "predict":
            print("\n".join(_predicted(bundle.manifest, folder, asked.given, asked.threads)))
            return 0
        protocol = Protocol(threads=asked.threads, seconds=asked.seconds)
        found = measured_here(bundle, folder, protocol, asked.batch)
    print("\n".join(bench_lines(found)))
    if asked.json:
        write_whole(Path(asked.json), (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
    return 0


def _predicted(manifest: Manifest, folder: Path, given: str, threads: int) -> Iterable[str]:
    if manifest.schema == WRITES:
        from benchmarks.device.answer import answer_lines

        return answer_lines(manifest, folder, given, threads)
    from benchmarks.device.predict import predict

    return guess_lines(predict(manifest, folder, given, threads))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runner.pyz", description="Checks, times and asks a model in a bundle.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, told in (
        ("verify", "is the bundle what was packed"),
        ("selftest", "does the model answer here as where it was packed"),
        ("bench", "how long does a call take here"),
        ("predict", "what does the model say of an image or a text, or write on"),
    ):
        command = commands.add_parser(name, help=told, description=told)
        if name == "predict":
            command.add_argument("given", metavar="IMAGE_OR_TEXT")
        command.add_argument("bundle", nargs="?", help="file or folder; by default the folder of the runner")
        if name != "verify":
            command.add_argument("--threads", type=_from_one, default=1)
        if name == "bench":
            command.add_argument("--batch", type=_from_one, nargs="+", default=[1], help="batch sizes")
            command.add_argument(
                "--seconds", type=_above_0, default=6.0, help="measuring time of a batch size, at most"
            )
            command.add_argument("--json", metavar="FILE", help="write all of it there")
    return parser


def _from_one(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"found {word}, a number from 1 is meant")
    return int(word)


def _above_0(word: str) -> float:
    value = float(word)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {word}, a number above 0 is meant")
    return value


def _bundle(given: str | None) -> Path:
    if given is not None:
        return Path(given)
    beside = Path(sys.argv[0]).resolve().parent
    if not (beside / FILE).is_file():
        raise InputError("no bundle given, and the runner does not lie in one; give the path of a bundle")
    return beside
