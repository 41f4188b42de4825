from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from benchmarks.report import Report
from benchmarks.report_schema import report_schema
from tests.benchmarks.render.made_up import made_up_report
from tests.benchmarks.render.made_up_extremes import broken_report, crowded_report

COMMITTED = Path(__file__).parents[2] / "docs" / "report.schema.json"


def test_the_committed_schema_is_current() -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == report_schema(), (
        "compress schema --report > docs/report.schema.json"
    )


@pytest.mark.parametrize(
    "report", [made_up_report(), broken_report(), crowded_report()], ids=["whole", "broken", "crowded"]
)
def test_a_written_report_keeps_the_schema(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "report.json")
    Draft202012Validator(report_schema()).validate(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"seed": "zero"}, "'zero' is not of type 'integer'"),
        ({"schema_version": 1}, "2 was expected"),
        ({"rows": [{"target": "openvino"}]}, "'stage' is a required property"),
    ],
)
def test_what_is_no_report_is_refused(change: dict[str, object], found: str, tmp_path: Path) -> None:
    made_up_report().write(tmp_path / "report.json")
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    with pytest.raises(ValidationError, match=found):
        Draft202012Validator(report_schema()).validate(value | change)


def test_the_schema_is_sound_names_no_host_and_says_what_values_mean() -> None:
    schema = report_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == "urn:edge-compress:report:2"
    assert schema["title"] == "Report"
    assert schema["$defs"]["Latency"]["description"].startswith("Seconds per call of one engine")
    blocks = schema["$defs"]["Latency"]["properties"]["block_medians_s"]
    assert blocks["description"] == "One inner tuple a process; all blocks, the contended ones too."
