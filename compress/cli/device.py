"""The verbs of what ships: pack it, verify it, try it where it shall run. Registered by compress.cli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundlePath = Annotated[
    Path,
    typer.Argument(help="A bundle: a file or folder made by `compress pack`.", metavar="BUNDLE", show_default=False),
]
Threads = Annotated[int, typer.Option(help="Threads of the runtime.", min=1)]


def pack(
    run: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN", show_default=False)],
    target: Annotated[str, typer.Option(help="The target whose artifact is packed.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The bundle: NAME.compress, or a folder.", show_default="RUN-TARGET.compress"),
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="amd64 or arm64, of onnxruntime_mobile.", show_default="what was measured")
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Pack what the report rejects, too.")] = False,
    sign: Annotated[
        Path | None, typer.Option(help="Sign with this private key (PEM, elliptic curve).", metavar="KEY")
    ] = None,
) -> None:
    """One file with everything that a device needs: model, manifest, golden inputs, runner."""
    from compress.pack import pack as make
    from compress.pack.told import packed_lines

    place = out or Path(f"{run.resolve().name}-{target}.compress")
    made = make(run, target, place, platform=platform, anyway=anyway, key=sign)
    for line in packed_lines(made):
        typer.echo(line)


def verify(
    bundle: BundlePath,
    key: Annotated[
        Path | None, typer.Option(help="Check the signature with this public key (PEM).", metavar="KEY")
    ] = None,
) -> None:
    """Is every byte of a bundle as it was packed? Exit code 4 if not; nothing is loaded."""
    from benchmarks.device.words import verified_line
    from export.bundle.verify import verify as check

    found = check(bundle)
    if key is not None:
        from compress.pack.signing import check_signature

        check_signature(found, key)
        typer.echo(f"{bundle.name}: the signature is that of {key.name}")
    typer.echo(verified_line(found))


def selftest(bundle: BundlePath, threads: Threads = 1) -> None:
    """Load a bundle's model here and compare its answers with those where it was packed; exit code 5 if they differ."""
    from benchmarks.device.selftest import selftest as test
    from benchmarks.device.words import selftest_lines
    from export.bundle.verify import unpacked
    from export.bundle.verify import verify as check

    found = check(bundle)
    with unpacked(found) as folder:
        tested = test(found.manifest, folder, threads)
    for line in selftest_lines(found, tested):
        typer.echo(line)
    raise typer.Exit(0 if tested.passed else 5)
