"""The exporter's table of operators is made once, and torch is left as it was."""

from __future__ import annotations

import pytest

from export.operator_table import made_once

registration = pytest.importorskip(
    "torch.onnx._internal.exporter._registration", reason="this torch keeps it elsewhere"
)


def test_an_opset_has_one_table_and_other_exports_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.operator_table._TABLES", {})
    registry = registration.ONNXRegistry
    before = vars(registry)["from_torchlib"]
    found = []
    for opset in (18, 18, 20):
        with made_once():
            found.append(registry().from_torchlib(opset_version=opset))
    assert found[0] is found[1] is not found[2]
    assert [table.opset_version for table in found] == [18, 18, 20]
    assert vars(registry)["from_torchlib"] is before
    assert registry.from_torchlib(opset_version=18) is not found[0]


def test_torch_is_left_as_it_was_where_an_export_fails() -> None:
    before = vars(registration.ONNXRegistry)["from_torchlib"]
    with pytest.raises(ValueError, match="no form"), made_once():
        raise ValueError("no form")
    assert vars(registration.ONNXRegistry)["from_torchlib"] is before
