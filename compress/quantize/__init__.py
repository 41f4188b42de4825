"""The quantize step: INT8 after training, by the schemes of each target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from compress.qat.settings import Qat
from export.model import OnnxModel
from targets.base import FP32, Ranges, Scheme, Target


@dataclass(frozen=True)
class Quantize:
    """INT8 after training, once for each target.

    Args:
        calibration_samples: how many samples of the calibration data set the ranges of static schemes.
        schemes: names of the schemes to try, also of those that a target offers on request only; empty: its usual ones.
        ranges: how a static scheme chooses an activation's range; None: as the target's scheme says (mse).
        bias_correction: put each layer's mean output error into its bias; None: as the target's scheme says (yes).
        adaround: round each weight up or down so that the layer's output stays, slower to make; False rounds to the nearest;
            None: as the target's scheme says.
        equalize: share out the ranges of weights between neighbouring convolutions first; for depthwise networks.
        smooth: SmoothQuant's alpha, from 0 to 1: how much of the activations' outliers goes into the weights of matrix
            products; 0 leaves them.
        accuracy_control: where every scheme loses more than the budget allows on validation data, return the costliest layers of the
            best static scheme to float, as few as it takes, as one more candidate.
        qat: how each target's best static scheme is fine-tuned, to be one more candidate; None leaves it out.
    """

    kind: ClassVar[str] = "quantize"

    calibration_samples: int = 300
    schemes: tuple[str, ...] = ()
    ranges: Ranges | None = None
    bias_correction: bool | None = None
    adaround: bool | None = None
    equalize: bool = False
    smooth: float = 0.0
    accuracy_control: bool = True
    qat: Qat | None = None

    def __post_init__(self) -> None:
        if self.calibration_samples < 1:
            raise ValueError(
                f"calibration_samples: found {self.calibration_samples}, allowed: 1 or more (300 is usual)"
            )
        if not 0 <= self.smooth <= 1:
            raise ValueError(f"smooth: found {self.smooth:g}, allowed: from 0 (none) to 1; 0.5 is usual")
        repeated = sorted({name for name in self.schemes if self.schemes.count(name) > 1})
        if repeated:
            raise ValueError(f"schemes: found {', '.join(repeated)} more than once, allowed: each scheme once")

    def chosen(self, target: Target, model: OnnxModel) -> list[Scheme]:
        """The target's schemes for `model` that this step lets it try, FP32 among them, changed as its fields say."""
        usual = list(target.schemes(model))
        if self.schemes:
            known = {scheme.name: scheme for scheme in (*target.schemes(), *usual)}
            usual = [known[name] for name in self.schemes if name in known and known[name] != FP32] + [FP32]
        return [self.changed(scheme) for scheme in usual]

    def changed(self, scheme: Scheme) -> Scheme:
        """A static scheme with what the recipe sets; any other as it is."""
        if not scheme.needs_calibration:
            return scheme
        return replace(
            scheme,
            ranges=self.ranges or scheme.ranges,
            bias_correction=scheme.bias_correction if self.bias_correction is None else self.bias_correction,
            adaround=scheme.adaround if self.adaround is None else self.adaround,
            equalize=self.equalize or scheme.equalize,
            smooth=self.smooth or scheme.smooth,
        )
