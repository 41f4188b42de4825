"""`compress check` on the screen."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compress.preflight import Plan


def print_plan(plan: Plan, console: Console) -> None:
    """The plan in words, the model's size, the data, and what each target can do here."""
    size = plan.size
    console.print(f"[bold]{escape(plan.name)}[/bold]: the recipe, its workload and its data are in order")
    console.print(
        f"model    {size.parameters:,} parameters, {size.macs / 1e6:,.1f} M MACs a sample, {size.size_bytes / 1e6:,.2f} MB"
    )
    console.print("data     " + ", ".join(f"{count:,} {name}" for name, count in plan.samples.items()) + " samples")
    for note in plan.notes:
        console.print(f"         {escape(note)}")
    console.print(f"metric   {plan.metric}; budget: {', '.join(plan.budget) or 'none'}")
    for number, words in enumerate(plan.steps, start=1):
        console.print(f"step {number}   {escape(words)}")
    table = Table("target", "compiles here", "runs here", "schemes", box=None, header_style="bold", pad_edge=False)
    for target in plan.targets:
        table.add_row(
            target.name,
            escape(target.compiles) if target.compiles else "yes",
            "" if target.compiles else escape(target.runs) if target.runs else "yes",
            ", ".join(target.schemes),
        )
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)
