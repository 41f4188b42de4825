"""What may ship on one target: the final model in every scheme that the target offers, quantized and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import GivenBack
from compress.engines import compiled, quantized
from compress.generation.assembly import Shipped, main_part
from compress.measuring import Bench
from export.errors import QualityError, UnsupportedError
from targets import FP32, Engine, Scheme, Target


@dataclass(frozen=True)
class Candidate:
    """A compiled model that may ship.

    Args:
        stage: name of the stage whose model it is.
        model: what was compiled: with Q/DQ nodes where the scheme inserts them.
        given_back: the layers that accuracy control returned to float.
    """

    scheme: Scheme
    engine: Engine
    stage: str
    model: Shipped
    given_back: tuple[GivenBack, ...] = ()


def offered(target: Target, bench: Bench) -> list[Scheme]:
    """The schemes that the recipe lets this target try, FP32 among them."""
    quantize, model = bench.job.recipe.quantize, main_part(bench.final.ships)
    if quantize is not None:
        return quantize.chosen(target, model)
    return [scheme for scheme in target.schemes(model) if scheme.quantizer == "none"]


def compile_candidates(
    target: Target, schemes: Sequence[Scheme], fp32: Engine, bench: Bench
) -> tuple[list[Candidate], list[tuple[Scheme, Exception]]]:
    """A candidate for each scheme of the final model, and what went wrong with each that could not be built."""
    candidates: list[Candidate] = []
    failures: list[tuple[Scheme, Exception]] = []
    for scheme in bench.job.show.track(schemes, f"{target.name}: quantizing and compiling", len(schemes)):
        if scheme == FP32:
            candidates.append(Candidate(scheme, fp32, bench.final.name, bench.final.ships))
            continue
        try:
            directory, final = bench.job.directory, bench.final.ships
            model = quantized(directory, target, final, scheme, bench.calibration, bench.calibration_key)
            candidates.append(compile_candidate(target, scheme, model, bench))
        except (UnsupportedError, QualityError) as error:
            failures.append((scheme, error))
    return candidates, failures


def compile_candidate(target: Target, scheme: Scheme, model: Shipped, bench: Bench) -> Candidate:
    """The final model as `scheme` changed it (`model`) on a target.

    Raises:
        UnsupportedError: if the target refuses it.
    """
    engine = compiled(bench.job.directory, f"artifacts/{target.name}/{scheme.name}", model, target, scheme)
    return Candidate(scheme, engine, bench.final.name, model)
