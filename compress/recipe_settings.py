"""What a recipe sets besides its steps and targets: the export, the measuring, the budget; each checked when made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from benchmarks.report import allowed_drop


@dataclass(frozen=True)
class Export:
    """How the model becomes ONNX, and how far the ONNX model's outputs may be from torch's."""

    opset: int = 18
    tolerance: float = 1e-3
    """Largest difference allowed, relative to the largest absolute output of the original."""
    fuse_preprocessing: bool = False
    """The exported model takes 8-bit pixels (batch, height, width, channels); needs the workload's preprocessing."""

    def __post_init__(self) -> None:
        require(17 <= self.opset <= 23, f"opset must be from 17 to 23, found {self.opset}")
        require(0 < self.tolerance < 1, f"tolerance must be between 0 and 1, found {self.tolerance}")


@dataclass(frozen=True)
class Benchmark:
    """How latency is measured."""

    batch_sizes: tuple[int, ...] = (1,)
    threads: int = 1
    sizes: dict[str, int] = field(default_factory=dict)
    """Size of each dynamic axis but the batch: {length: 64}."""
    lengths: tuple[int, ...] = ()
    """Of prompts besides `sizes`: what ships of a model that writes is timed at each of them too."""
    seconds: float = 6.0
    """Measuring time of each engine at each batch size, at most."""
    processes: int = 5
    """Fresh processes of each engine, at least; twice as many at most. With fewer than five no speed is claimed."""
    half_width: float = 0.01
    """Measuring stops when the 95 % intervals of the ratios are this narrow on either side: 0.01 is 1 %."""
    half_width_limit: float = 0.05
    """Above this half-width of the reference against itself the machine is called unstable."""
    throughput: bool = True
    """Measure requests under way at once as well, in each runtime's throughput mode, on all cores."""

    def __post_init__(self) -> None:
        require(bool(self.batch_sizes), "batch_sizes is empty; name at least one, for example [1]")
        require(min(self.batch_sizes, default=1) >= 1, f"batch_sizes must be 1 or more, found {list(self.batch_sizes)}")
        require(
            len(set(self.batch_sizes)) == len(self.batch_sizes), f"batch_sizes repeats a size: {list(self.batch_sizes)}"
        )
        require(self.threads >= 1, f"threads must be 1 or more, found {self.threads}")
        require(all(size >= 1 for size in self.sizes.values()), f"sizes must be 1 or more, found {self.sizes}")
        require(all(size >= 1 for size in self.lengths), f"lengths must be 1 or more, found {list(self.lengths)}")
        require(0 < self.seconds <= 600, f"seconds must be above 0 and at most 600, found {self.seconds}")
        require(1 <= self.processes <= 20, f"processes must be from 1 to 20, found {self.processes}")
        for name, share in (("half_width", self.half_width), ("half_width_limit", self.half_width_limit)):
            require(0 < share < 1, f"{name} must be between 0 and 1, found {share}")


@dataclass(frozen=True)
class Budget:
    """What the artifact that ships must hold to; a line that is left out is not checked."""

    metric_drop: float | None = None
    """Largest loss of the metric against the original, in the metric's own unit (0.01 is one percentage point)."""
    metric_drop_percent: float | None = None
    """The same in percent of what the original scores: 3 lets a perplexity of 20 rise to 20.6, and BLEU fall from 30 to
    29.1. With both the stricter counts."""
    speedup: float | None = None
    """Smallest ratio of latencies, the same runtime's FP32 original over the artifact."""
    size_ratio: float | None = None
    """Largest ratio of bytes, the artifact over the same runtime's FP32 original."""
    worst_class_drop: float | None = None
    """Largest loss of the share predicted right of any single class, of a metric that classifies."""

    def __post_init__(self) -> None:
        require(
            self.metric_drop is None or self.metric_drop >= 0,
            f"metric_drop must be 0 or more, found {self.metric_drop}",
        )
        require(
            self.metric_drop_percent is None or self.metric_drop_percent >= 0,
            f"metric_drop_percent must be 0 or more, found {self.metric_drop_percent}",
        )
        require(self.speedup is None or self.speedup > 0, f"speedup must be above 0, found {self.speedup}")
        require(self.size_ratio is None or self.size_ratio > 0, f"size_ratio must be above 0, found {self.size_ratio}")
        require(
            self.worst_class_drop is None or self.worst_class_drop >= 0,
            f"worst_class_drop must be 0 or more, found {self.worst_class_drop}",
        )

    def against(self, original: float) -> Budget:
        """The budget where the original scores `original`: `metric_drop` is then all that limits the metric's loss."""
        return dataclasses.replace(self, metric_drop=allowed_drop(vars(self), original))


def require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
