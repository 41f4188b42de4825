"""The `compress` command. Each verb is a few lines; heavy modules are imported by the verb that needs them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import compress
from compress.cli import device, measured
from export.errors import CompressError, EnvironmentFailure, InputError

app = typer.Typer(
    name="compress",
    help="Prune, distill, quantize, export, compile and measure a PyTorch model: a recipe in, artifacts and a report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Interrupted(CompressError):
    """The user pressed Ctrl-C."""

    exit_code = 130


RecipeFile = Annotated[Path, typer.Argument(help="The YAML recipe.", metavar="RECIPE.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a value of the recipe: steps.0.prune.speedup=2.5", metavar="PATH=VALUE"),
]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    if version:
        typer.echo(f"edge-compress {compress.__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeFile,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/NAME")] = None,
    overrides: Overrides = None,
    skip_unavailable: Annotated[
        bool, typer.Option("--skip-unavailable", help="Leave out targets that cannot be compiled here.")
    ] = False,
) -> None:
    """Compress, compile and measure; write report and artifacts."""
    from rich.console import Console

    from benchmarks.render.terminal import print_report
    from compress import pipeline
    from compress.recipe import load_recipe
    from compress.show import Terminal
    from compress.training.companion import accompany
    from compress.training.processes import together

    console = Console()
    with together() as processes:
        if processes.rank > 0:
            accompany(recipe, overrides or (), processes)
            raise typer.Exit
        folder = out or Path("runs") / load_recipe(recipe, overrides or ()).name
        try:
            with Terminal(console) as show:
                report = pipeline.run(
                    recipe,
                    folder,
                    overrides or (),
                    skip_unavailable=skip_unavailable,
                    show=show,
                    command=shlex.join(["compress", *sys.argv[1:]]),
                )
        except KeyboardInterrupt as interrupt:
            raise Interrupted(
                f"interrupted: finished parts are kept in {folder}; run the same command to continue"
            ) from interrupt
    print_report(report, console, folder)
    raise typer.Exit(pipeline.exit_code(report))


@app.command()
def check(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Everything that can be known before work starts: mistakes, plan, targets, data, model size."""
    from rich.console import Console

    from compress import preflight
    from compress.cli.plan import print_plan

    plan = preflight.check(recipe, overrides or ())
    print_plan(plan, Console())
    if any(target.compiles for target in plan.targets):
        raise typer.Exit(3)


@app.command()
def sensitivity(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write sensitivity.json and sensitivity.html there.", show_default="runs/NAME-sensitivity"),
    ] = None,
    samples: Annotated[int, typer.Option(help="Validation samples to rank on.")] = 128,
) -> None:
    """Which layers suffer most when they alone are pruned or quantized; cheap enough to run first."""
    from rich.console import Console

    from benchmarks.render.sensitivity import print_sensitivity, sensitivity_html
    from benchmarks.report import write_text_whole
    from compress.sensitivity import sensitivity as rank_layers
    from compress.show import Terminal

    console = Console()
    with Terminal(console) as show:
        found = rank_layers(recipe, overrides or (), samples, show)
    print_sensitivity(found, console)
    folder = out or Path("runs") / f"{found.name}-sensitivity"
    folder.mkdir(parents=True, exist_ok=True)
    found.write(folder / "sensitivity.json")
    write_text_whole(folder / "sensitivity.html", sensitivity_html(found))
    typer.echo(f"written: {folder / 'sensitivity.html'}, {folder / 'sensitivity.json'}")


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN", show_default=False)],
    target: Annotated[str | None, typer.Option(help="Only this target.", show_default="all")] = None,
    scheme: Annotated[str | None, typer.Option(help="A scheme that was tried.", show_default="what ships")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures there as JSON.")] = None,
) -> None:
    """Why it is not faster: profile what ships, layer by layer, and say what would help most."""
    from rich.console import Console

    from compress import explain as explaining

    console = Console()
    found = explaining.explain_run(run, target, scheme, console)
    explaining.print_explanations(found, console)
    if json_file is not None:
        explaining.write_json(found, json_file)
        typer.echo(f"written: {json_file}")


@app.command()
def doctor() -> None:
    """Which targets, accelerators and instruction sets this machine has, and how to install what is missing."""
    from rich.console import Console

    from compress.cli.doctor import print_doctor

    print_doctor(Console())


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or its report.json.", metavar="RUN")],
    html: Annotated[
        Path | None, typer.Option(help="Write the HTML there.", show_default="report.html in the run's folder")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="Log the run to this MLflow tracking store.", metavar="URI", show_default=False)
    ] = None,
) -> None:
    """Draw the report of a finished run again from its report.json; nothing is measured."""
    from compress.cli.report import write_report

    for line in write_report(folder, html, mlflow):
        typer.echo(line)


@app.command()
def schema(
    of_report: Annotated[bool, typer.Option("--report", help="That of report.json instead.")] = False,
) -> None:
    """The recipe's JSON Schema, so that an editor completes it."""
    from benchmarks.report_schema import report_schema
    from compress.recipe_schema import recipe_schema

    typer.echo(json.dumps(report_schema() if of_report else recipe_schema(), indent=2))


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Where recipe.yaml, and workload.py without --model, are written.")
    ] = Path(),
    name: Annotated[
        str | None, typer.Option(help="Name of the run; the folder's own, if left out.", show_default=False)
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A folder in transformers' format: a recipe alone, with a ready-made workload.", show_default=False
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="What that model is judged on.", show_default=False)] = None,
) -> None:
    """Write a commented recipe and workload file for a model of your own."""
    from compress.cli.init import name_of, write_for_model, write_starter

    name = name_of(folder) if name is None else name
    if model is not None:
        recipe = write_for_model(folder, name, model, data)
        typer.echo(f"written: {recipe}")
        typer.echo(f"next: {'name your data in it, then: ' if data is None else ''}compress check {recipe}")
        return
    if data is not None:
        raise InputError("--data goes with --model, the folder of the model; add it, or leave both out")
    for path in write_starter(folder, name):
        typer.echo(f"written: {path}")
    typer.echo(f"next: fill in workload.py, then: compress check {folder / 'recipe.yaml'}")


for verb in (
    measured.compare,
    measured.bench,
    device.pack,
    device.verify,
    device.selftest,
):
    app.command()(verb)


def main() -> NoReturn:
    """Run the command line; a failure is one sentence on standard error and the exit code of its kind."""
    debug = "--debug" in sys.argv[1:]
    try:
        app(args=[word for word in sys.argv[1:] if word != "--debug"], standalone_mode=True)
    except CompressError as error:
        _fail(error, error.exit_code, debug)
    except MemoryError:
        _fail(EnvironmentFailure("out of memory; use a smaller batch_size in the workload"), 6, debug)
    except OSError as error:
        _fail(EnvironmentFailure(f"{error.filename or 'the system'}: {error.strerror or error}"), 6, debug)
    sys.exit(0)


def _fail(error: CompressError, code: int, debug: bool) -> NoReturn:
    if debug:
        raise error
    for line in str(error).splitlines():
        typer.echo(f"compress: {line}", err=True)
    sys.exit(code)
