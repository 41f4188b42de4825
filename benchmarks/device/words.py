"""What the device's commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.device.heat import emulation
from benchmarks.sensors import emulator
from export.bundle.verify import Bundle

if TYPE_CHECKING:  # they need numpy, to say that a bundle is whole does not
    from benchmarks.device.golden import Selftest
    from benchmarks.device.predict import Guess


def verified_line(bundle: Bundle) -> str:
    """One line: what it is, and that it is whole."""
    manifest, engine = bundle.manifest, bundle.manifest.engine
    signed = "; signed, the signature is checked with a key" if bundle.signed else ""
    return (
        f"{bundle.path.name}: whole. {printable(manifest.name)} for {printable(engine['target'])} "
        f"({printable(engine['scheme'])}), "
        f"{len(bundle.contents.sizes)} files, {bundle.size_bytes:,} bytes, {bundle.digest[:12]}{signed}"
    )


def selftest_lines(bundle: Bundle, tested: Selftest) -> Iterable[str]:
    """The times, then pass or what differs."""
    yield (
        f"{bundle.path.name}: loaded in {_ms(tested.load_s)}, first inference {_ms(tested.first_s)}, "
        f"the following {_ms(tested.following_s)}"
    )
    if tested.passed:
        yield (
            f"pass: {tested.samples} golden inputs answered as by {printable(bundle.manifest.golden.answered_by)}; "
            f"largest difference {tested.closest:.0%} of what is allowed"
            + (f"; {tested.unlike} answers differ in a token that is as likely" if tested.unlike else "")
        )
    for finding in tested.findings:
        yield f"fail: {printable(finding)}"
    emulated = emulator(Path("/"))
    for warning in emulation({} if emulated is None else {"emulated_by": emulated}):
        yield f"warning: {warning}"


def bench_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """A line for each batch size; the A/A row tells how far the machine can be trusted."""
    for latency in found["latency"]:
        size = latency["batch_size"]
        again = found["control"][str(size)]
        yield (
            f"batch {size}: median {_ms(latency['median_s'])} a call over {latency['calls']:,} calls; "
            f"A/A {again['value']:.3f} [{again['low']:.3f}, {again['high']:.3f}]"
        )
    if "first_token" in found:
        from benchmarks.device.answers_timed import answer_times

        yield from answer_times(found)
    for finding in (*found["findings"], *found["warnings"]):
        yield f"warning: {finding}"


def guess_lines(guesses: Iterable[Guess]) -> Iterable[str]:
    """A class a line, the likeliest first."""
    for guess in guesses:
        yield f"{guess.probability:7.2%}  {printable(guess.label)}"


def printable(text: str) -> str:
    """Without the control characters by which a name would write elsewhere on a terminal, at most 200 characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"
