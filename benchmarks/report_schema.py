"""The published JSON Schema of report.json, made from the values themselves."""

from __future__ import annotations

from typing import Any

from benchmarks.report import SCHEMA_VERSION, Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = f"urn:edge-compress:report:{SCHEMA_VERSION}"
"""A name, no address: nothing is to be fetched."""


def report_schema() -> dict[str, Any]:
    """Draft 2020-12; descriptions are the docstrings of the values and of their fields.

    docs/report.schema.json holds what this returns: `compress schema --report > docs/report.schema.json`.
    """
    from pydantic import ConfigDict, RootModel

    class Root(RootModel[Report]):
        """Hands its setting down to the dataclasses, which know nothing of pydantic."""

        model_config = ConfigDict(use_attribute_docstrings=True)

    schema = Root.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    top = definitions.pop("Report")
    top["properties"]["schema_version"] |= {"const": SCHEMA_VERSION}
    return {"$schema": DIALECT, "$id": SCHEMA_ID, **top, "$defs": definitions}
