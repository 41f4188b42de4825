"""The quantize step: INT8 after training, by the schemes of each target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Quantize:
    """INT8 after training, once for each target.

    Args:
        calibration_samples: how many samples of the calibration data set the ranges of static schemes.
        schemes: names of the schemes to try; empty: all that the target offers.
    """

    kind: ClassVar[str] = "quantize"

    calibration_samples: int = 300
    schemes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.calibration_samples < 1:
            raise ValueError(
                f"calibration_samples: found {self.calibration_samples}, allowed: 1 or more (300 is usual)"
            )
        repeated = sorted({name for name in self.schemes if self.schemes.count(name) > 1})
        if repeated:
            raise ValueError(f"schemes: found {', '.join(repeated)} more than once, allowed: each scheme once")
