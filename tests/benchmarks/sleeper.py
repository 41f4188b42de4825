"""A target whose engine is a file that holds the seconds to sleep; negative ones fail in their own ways."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from targets import Engine


def sleeping_engine(folder: Path, seconds: float) -> Engine:
    path = folder / f"{seconds}.txt"
    path.write_text(str(seconds))
    return Engine("tests.benchmarks.sleeper:Sleeper", str(seconds), path, (path,), (), (), build_s=0.0)


class Sleeper:
    name = "sleeper"

    @classmethod
    def runtime_module(cls) -> str:
        return "json"

    def load(self, engine: Engine, threads: int) -> Asleep:
        return Asleep(float(engine.path.read_text()))

    def load_concurrent(self, engine: Engine, threads: int) -> list[Asleep]:
        return [self.load(engine, 1)] * threads


class Asleep:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.seconds == -2:
            print("last words", file=sys.stderr, flush=True)
            os._exit(3)
        if self.seconds < 0:
            raise RuntimeError("the kernel refused\nsecond line")
        time.sleep(self.seconds)
        print("a runtime that prints does not break the pipe")
        return {"out": np.full((len(inputs["x"]), 2), self.seconds)}
