from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from benchmarks.charts import (
    accuracy_latency_chart,
    distillation_chart,
    latency_chart,
    median_interval,
    ratio_chart,
    steps_chart,
)
from benchmarks.compare import compare, shipped_ratios
from benchmarks.render_html import comparison_html, report_html
from benchmarks.report import Interval, Report, Stage
from tests.benchmarks.made_up import made_up_report, with_row

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(made_up_report())


def own_markup(page: str) -> str:
    """The page without plotly's own source."""
    return page.replace(get_plotlyjs(), "")


class Tags(HTMLParser):
    """Collects every tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_chart_is_on_the_page(page: str) -> None:
    for name in ("chart-accuracy", "chart-steps", "chart-latency", "chart-stage-2"):
        assert f'id="{name}"' in page
        assert re.search(rf'Plotly\.newPlot\(\s*"{name}"', page)


def test_every_row_every_stage_and_every_hash_is_on_the_page(page: str) -> None:
    text = " ".join(Tags(own_markup(page)).text.split())
    report = made_up_report()
    for row in report.rows:
        assert f"{row.stage} {row.scheme}" in text
    for part in (*report.hashes.values(), *report.versions.values(), *report.warnings, report.command, "epochs: 3"):
        assert part in text
    for part in (
        "blocks.0.conv1",
        "its channels reach the input of a padded shortcut",
        "largest difference",
        "not run here",
    ):
        assert part in text


def test_memory_is_in_words_and_the_card_says_why_it_ships() -> None:
    report = with_row(made_up_report(), 5, reason="the fastest inside the budget")
    text = " ".join(Tags(own_markup(report_html(report))).text.split())
    assert "16.0 GB" in text
    assert "ships distill int8 the fastest inside the budget" in text


def test_the_verdict_comes_first(page: str) -> None:
    text = own_markup(page)
    assert text.index("accepted") < text.index("Warnings") < text.index("chart-accuracy") < text.index("Every engine")


def test_it_is_one_small_file_that_loads_nothing(page: str) -> None:
    assert len(page.encode()) < 6_000_000
    assert page.count(get_plotlyjs()) == 1
    for tag, attributes in Tags(own_markup(page)).tags:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
    assert "@import" not in own_markup(page)
    assert "url(" not in own_markup(page)
    assert "default-src 'none'" in page


def test_names_from_users_stay_text() -> None:
    report = with_row(made_up_report(), 5, stage=HOSTILE, scheme=HOSTILE, reason=HOSTILE)
    report = replace(
        report,
        name=HOSTILE,
        command=HOSTILE,
        metric=HOSTILE,
        warnings=(HOSTILE,),
        recipe={HOSTILE: HOSTILE},
        hashes={HOSTILE: HOSTILE},
        stages=(Stage(HOSTILE, HOSTILE, 1, 1, 1, {HOSTILE: [{HOSTILE: HOSTILE}]}, {HOSTILE: HOSTILE}),),
    )
    for page in (report_html(report), comparison_html(compare([(HOSTILE, report), ("b", report)]))):
        parsed = Tags(own_markup(page))
        assert "img" not in {tag for tag, _ in parsed.tags}
        assert "<script>alert(1)" not in page
        assert HOSTILE in parsed.text


def test_charts_escape_what_plotly_would_read_as_markup() -> None:
    report = with_row(made_up_report(), 5, stage="<b>s</b>", scheme="<a href='x'>int8</a>")
    for chart in (accuracy_latency_chart(report), steps_chart(report), latency_chart(report)):
        drawn = chart.to_json()
        assert "<a href" not in drawn and "\\u003ca href" not in drawn
        assert "<b>s" not in drawn and "\\u003cb\\u003es" not in drawn


def test_only_what_ran_is_drawn() -> None:
    report = made_up_report()
    points = {trace.name: len(trace.x) for trace in accuracy_latency_chart(report).data}
    assert points == {"torch": 1, "openvino": 5, "onnxruntime_mobile": 4}
    assert sum(len(trace.x) for trace in latency_chart(report).data) == 10 * 40


def test_accuracy_against_latency_carries_both_intervals() -> None:
    openvino = accuracy_latency_chart(made_up_report()).data[1]
    assert openvino.error_y.array[4] == pytest.approx(0.48)
    assert openvino.error_y.arrayminus[4] == pytest.approx(0.51)
    assert min(openvino.error_x.array) > 0
    assert openvino.marker.symbol == ("circle",) * 4 + ("star",)


def test_steps_end_with_what_ships() -> None:
    bars = steps_chart(made_up_report()).data[0]
    assert tuple(bars.x) == ("original", "prune", "distill", "what ships")
    assert bars.y[3] == pytest.approx(0.523)


@pytest.mark.parametrize("size", [6, 10, 20, 40, 101])
def test_median_interval_covers_the_median_as_the_binomial_says(size: int) -> None:
    interval = median_interval([float(rank) for rank in range(1, size + 1)])
    assert interval.value == (size + 1) / 2
    # The median of the population lies between two ranks when at least `low` and fewer than `high` samples are below it.
    held = sum(math.comb(size, below) for below in range(int(interval.low), int(interval.high))) / 2**size
    assert 0.94 <= held <= 0.98


def test_median_interval_of_few_samples_is_their_range() -> None:
    assert median_interval([3.0, 1.0]) == Interval(2.0, 1.0, 3.0)


def test_distillation_facts_of_another_shape_are_no_chart() -> None:
    assert distillation_chart([{"step": 1}]) is None
    assert distillation_chart([{"epoch": 1, "loss": 0.5, "validation": "none"}]) is not None


def test_an_empty_run_still_renders() -> None:
    report = replace(made_up_report(), rows=(), stages=(), verdicts=(), warnings=(), hashes={}, versions={})
    assert "<h1>digits</h1>" in report_html(report)


def test_the_comparison_page_says_what_is_not_compared() -> None:
    report = made_up_report()
    other = replace(report, machine={**report.machine, "cpu": "Intel N100"})
    comparison = compare([("one", report), ("two", other)])
    text = Tags(own_markup(comparison_html(comparison))).text
    assert "the machines differ: cpu AMD Zen 5 → Intel N100" in text
    assert [trace.name for trace in ratio_chart(shipped_ratios(comparison)).data] == ["openvino", "onnxruntime_mobile"]


def test_a_report_read_back_renders_the_same(page: str, tmp_path: Path) -> None:
    made_up_report().write(tmp_path / "report.json")
    assert report_html(Report.read(tmp_path)) == page


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed; apt-get install chromium")
def test_a_browser_draws_every_chart_without_a_complaint(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = ["chromium", *flags, profile, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    for name in ("chart-accuracy", "chart-steps", "chart-latency", "chart-stage-2"):
        assert re.search(rf'id="{name}"[^>]*>\s*<div[^>]*>.*?<svg[^>]*class="main-svg"', done.stdout, re.DOTALL)
