"""The verbs of measurements: time model files or a bundle, here or on a device, and put reports side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from export.errors import InputError

if TYPE_CHECKING:
    from compress.device.bench import Asked
    from compress.device.transport import Transport

FILE_SECONDS, BUNDLE_SECONDS = 20.0, 6.0
HALF_WIDTH = 0.01


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs, the first is compared against; or a run and what devices reported.",
            metavar="RUN RUN|DEVICE.json",
        ),
    ],
    html: Annotated[Path | None, typer.Option(help="Write the comparison there as HTML.")] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Compare latencies between different machines and runtime versions.")
    ] = False,
) -> None:
    """Put the reports of several runs side by side; exit code 5 if something really got worse than in the first."""
    from benchmarks.comparison.device_report import is_device_report

    if len(runs) < 2:
        raise InputError(f"compress compare: needs two runs or more, found {len(runs)}")
    if any(map(is_device_report, runs)):
        if across:
            raise InputError("--across: is for runs; speed is never compared between a desk and a device")
        raise typer.Exit(_compare_devices(runs, html))
    raise typer.Exit(_compare_runs(runs, html, across))


def bench(
    files: Annotated[
        list[Path],
        typer.Argument(help="Models: .onnx, .ort, .xml; the first is the reference. Or one bundle.", metavar="FILE"),
    ],
    batch: Annotated[
        list[int] | None,
        typer.Option(help="Size of axis 0; of a bundle, once for each.", min=1, show_default="1, or what is fixed"),
    ] = None,
    size: Annotated[list[str] | None, typer.Option(help="Size of another dynamic axis.", metavar="AXIS=N")] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="What .onnx files run on: onnxruntime or openvino. Where a bundle runs: ssh://user@host, adb://SERIAL.",
            show_default="onnxruntime; a bundle: this machine",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each runtime.", min=1)] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(help="Measuring time of each model, at most.", min=0.1, show_default="20, of a bundle 6"),
    ] = None,
    half_width: Annotated[
        float | None,
        typer.Option(
            help="Of the ratios' 95 % intervals; measuring stops there.", min=0.0001, show_default=str(HALF_WIDTH)
        ),
    ] = None,
    throughput: Annotated[bool, typer.Option("--throughput", help="Samples a second, several at once.")] = False,
    python: Annotated[
        str | None, typer.Option(help="The interpreter on the device.", metavar="PATH", show_default="python3")
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="Private key, for ssh.", metavar="KEY")] = None,
    label: Annotated[
        str | None, typer.Option(help="What the report calls the device.", show_default="its board or processor")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the bundle on the device for the next time.")] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write everything there as JSON.", show_default="of a bundle BUNDLE-LABEL.json"),
    ] = None,
) -> None:
    """Measure any model files side by side, without a recipe; or a bundle, here or on a device."""
    from compress.device.address import is_address, transport_to
    from compress.device.bench import Asked

    if _is_bundle(files[0]) or (on is not None and is_address(on)):
        _refuse(f"is for model files, not for the bundle {files[0].name}", size, half_width, throughput)
        if len(files) > 1:
            raise InputError(f"bench: found {len(files)} files; a bundle is measured by itself")
        if on is not None and not is_address(on):
            raise InputError(f"--on {on}: of a bundle the address of a device is meant, such as ssh://user@host")
        transport = transport_to(on or "local://", python, identity)
        asked = Asked(tuple(dict.fromkeys(batch or [1])), threads, seconds or BUNDLE_SECONDS, label, keep)
        raise typer.Exit(_bench_bundle(files[0], transport, asked, json_file))
    for option, given in (("--python", python), ("--identity", identity), ("--label", label), ("--keep", keep)):
        if given:
            raise InputError(f"{option}: is for a bundle on a device: compress bench BUNDLE --on ssh://user@host")
    if batch and len(batch) > 1:
        raise InputError("--batch: stands twice; several sizes at once are measured of a bundle only")
    raise typer.Exit(
        _bench_files(
            files, on or "onnxruntime", batch[0] if batch else None, size or (), threads, seconds, half_width,
            throughput, json_file,
        )
    )  # fmt: skip


def _compare_runs(runs: Sequence[Path], html: Path | None, across: bool) -> int:
    from rich.console import Console

    from benchmarks.comparison import compare as comparing
    from benchmarks.render.html import comparison_html
    from benchmarks.render.terminal import print_comparison
    from benchmarks.report import Report, write_text_whole
    from benchmarks.samples_file import read_samples

    reports = [(str(folder), Report.read(folder)) for folder in runs]
    samples = {str(folder): read_samples(folder) for folder in runs}
    comparison = comparing.compare(reports, samples, across=across)
    print_comparison(comparison, Console())
    if html is not None:
        write_text_whole(html, comparison_html(comparison))
        typer.echo(f"written: {html}")
    return 5 if comparison.worse else 0


def _compare_devices(paths: Sequence[Path], html: Path | None) -> int:
    from rich.console import Console

    from benchmarks.comparison.device_report import is_device_report, read_device_report
    from benchmarks.comparison.devices import Desk, made_digests, side_by_side
    from benchmarks.render.html import devices_html
    from benchmarks.render.terminal import print_devices
    from benchmarks.report import Report, write_text_whole

    desks = []
    for path in (path for path in paths if not is_device_report(path)):
        report = Report.read(path)
        desks.append(Desk(str(path), report, made_digests(path if path.is_dir() else path.parent, report)))
    devices = [(str(path), read_device_report(path)) for path in paths if is_device_report(path)]
    found = side_by_side(desks, devices)
    print_devices(found, Console())
    if html is not None:
        write_text_whole(html, devices_html(found))
        typer.echo(f"written: {html}")
    return 5 if found.worse else 0


def _bench_bundle(path: Path, transport: Transport, asked: Asked, json_file: Path | None) -> int:
    from benchmarks.device.words import verified_line
    from compress.device.bench import bench_there, report_name
    from compress.device.told import result_lines
    from export.bundle.verify import verify

    bundle = verify(path)
    typer.echo(verified_line(bundle))
    found = bench_there(bundle, transport, asked, lambda line: typer.echo(f"  {line}"))
    out = json_file or Path(report_name(path, found))
    found.write(out)
    for line in result_lines(found):
        typer.echo(line)
    typer.echo(f"written: {out}")
    unstable = any(found.unstable(each.batch_size) for each in found.latency)
    return 5 if found.findings or (unstable and not found.emulated) else 0  # of an emulator only answers are wanted


def _bench_files(
    files: list[Path],
    on: str,
    batch: int | None,
    size: Sequence[str],
    threads: int,
    seconds: float | None,
    half_width: float | None,
    throughput: bool,
    json_file: Path | None,
) -> int:
    from rich.console import Console

    from benchmarks.bench import bench as measure_all
    from benchmarks.bench import line_up
    from benchmarks.latency import Protocol
    from compress.cli.bench import axis_sizes, print_bench, write_bench
    from compress.show import Terminal

    console = Console()
    lineup = line_up(files, on, batch, axis_sizes(size))
    protocol = Protocol(
        threads=threads,
        seconds=seconds or FILE_SECONDS,
        half_width=half_width or HALF_WIDTH,
        mode="throughput" if throughput else "latency",
    )
    with Terminal(console) as show:
        show.expect(1)
        with show.unit(f"{len(files)} model{'' if len(files) == 1 else 's'}"):
            found = measure_all(lineup, protocol, show.track)
    print_bench(found, console)
    if json_file is not None:
        write_bench(found, json_file)
        typer.echo(f"written: {json_file}")
    return 5 if found.unstable or any(row.findings for row in found.rows) else 0


def _is_bundle(path: Path) -> bool:
    from export.bundle.manifest import FILE

    return path.suffix == ".compress" or (path / FILE).is_file()


def _refuse(why: str, size: Sequence[str] | None, half_width: float | None, throughput: bool) -> None:
    for option, given in (("--size", size), ("--half-width", half_width), ("--throughput", throughput)):
        if given:
            raise InputError(f"{option}: {why}")
