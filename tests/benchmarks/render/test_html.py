from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from benchmarks.comparison.compare import compare, shipped_ratios
from benchmarks.render.charts import ratio_chart
from benchmarks.render.html import comparison_html, report_html
from benchmarks.report import Report, Stage
from tests.benchmarks.render.made_up import made_up_report, with_row
from tests.benchmarks.render.made_up_extremes import SHIPS, broken_report, crowded_report, unstable_report

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


def words(report: Report) -> str:
    """The page's text, on one line."""
    return " ".join(Tags(own_markup(report_html(report))).text.split())


CHARTS = (
    "chart-accuracy",
    *(
        f"chart-{kind}-{target}"
        for kind in ("steps", "distribution", "blocks", "throughput", "layers", "classes")
        for target in (0, 1)
    ),
    *(f"image-{index}" for index in range(10)),
    "chart-stage-2",
)
"""Of the made-up report: OpenVINO is target 0, the mobile runtime 1; on the other nothing ran."""


def test_every_chart_is_on_the_page(page: str) -> None:
    for name in CHARTS:
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
    assert len(get_plotlyjs().encode()) < 5_000_000
    assert len(page.encode()) < 6_000_000
    assert page.count(get_plotlyjs()) == 1
    for tag, attributes in Tags(own_markup(page)).tags:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
    assert "@import" not in own_markup(page)
    assert "url(" not in own_markup(page)
    assert "default-src 'none'" in page


def test_a_crowded_page_stays_below_six_megabytes() -> None:
    page = report_html(crowded_report())
    assert len(page.encode()) < 6_000_000
    assert "24 of 60 kept in report.json" in page
    assert "the 30 of 120 classes with the largest drop" in page


def test_the_reference_against_itself_is_told_plainly(page: str) -> None:
    text = " ".join(Tags(own_markup(page)).text.split())
    assert "A/A: the reference against itself 1.001 [0.996, 1.006]: stable" in text
    assert "no claim" not in text


def test_an_unstable_machine_comes_first_and_its_ratios_are_struck() -> None:
    page = own_markup(report_html(unstable_report()))
    text = " ".join(Tags(page).text.split())
    assert text.index("The machine was unstable: no speed claim is made") < text.index("inconclusive ·")
    assert "openvino: the machine was unstable while measuring (A/A 1.062 [1.031, 1.094]" in text
    assert "A/A: the reference against itself 1.062 [1.031, 1.094]: unstable, no speed claim" in text
    assert page.count("<s>2.31x [2.28, 2.35]</s>") == page.count("2.31x [2.28, 2.35]") == 1
    assert "<b>1.52x [1.50, 1.55]</b>" in page


def test_wrong_answers_have_a_section_of_their_own() -> None:
    text = words(broken_report())
    found = text.index("Wrong answers openvino: distill int8: answers were remembered")
    assert found < text.index("Accuracy against latency")
    assert "distill int8: every sample is given class '6': the artifact no longer tells its inputs apart" in text
    assert "6: 97.00 → 0.00 %" in text


def test_what_is_missing_for_a_verdict_is_on_its_card() -> None:
    assert "inconclusive · ships distill int8 needs about 1,200 more samples and 38 s more of measuring" in words(
        made_up_report()
    )


def test_a_tail_without_enough_calls_says_how_many_more(page: str) -> None:
    text = " ".join(Tags(own_markup(page)).text.split())
    shipped = made_up_report().rows[SHIPS].latency[0]
    assert f"needs {6636 - shipped.calls:,} more" in text
    assert f"{shipped.contended} of {len(shipped.blocks_s)}" in text


def test_the_machine_s_state_is_told(page: str) -> None:
    assert "state: governorperformance" in " ".join(Tags(own_markup(page)).text.split())


def test_sections_without_values_are_left_out() -> None:
    bare = tuple(
        replace(
            row,
            throughput=None,
            layers=(),
            evaluation=row.evaluation and replace(row.evaluation, classes=(), mcnemar=None, calibration_error=None),
            latency=tuple(replace(found, calls=0, tails=(), distribution_s=()) for found in row.latency[:1]),
        )
        for row in made_up_report().rows
    )
    text, full = words(replace(made_up_report(), rows=bare, gallery=())), words(made_up_report())
    for title in (
        "Throughput: concurrent requests",
        "Where the time goes, layer by layer",
        "What the answers lost",
        "Images whose prediction changed",
        "Tails",
        "Every call, slowest to the right",
        "Latency by batch size",
    ):
        assert title in full
        assert title not in text
    assert "Block by block" in text


def test_what_a_device_has_to_know_of_what_ships_is_told() -> None:
    text = words(made_up_report())
    section = text.partition("On the device")[2].partition("How it was made")[0]
    for part in (
        "onnxruntime_mobile int8",
        "platformarm64",
        "spinningno",
        "smallest ONNX Runtime for it: library at least1.56 MB",
        "smallest ONNX Runtime for it: commands: Android, arm64./build.sh --android --minimal_build",
        "Would an accelerator take it (2)",
        "NNAPI no yes takes fixed shapes only 1",
    ):
        assert part in section
    assert "also for" not in section, "what is empty is left out"
    silent = tuple(replace(row, settings={}, facts={}) for row in made_up_report().rows)
    assert "On the device" not in words(replace(made_up_report(), rows=silent))


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
