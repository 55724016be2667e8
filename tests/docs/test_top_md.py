"""docs/top.md says what the types, the keys and the columns say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ctrwatch.commands.top_app import TopApp
from ctrwatch.core.columns import COLUMNS
from ctrwatch.core.frame import Container, Frame, HostFigures

PAGE = (Path(__file__).parents[2] / "docs/top.md").read_text()
_REFS = re.compile(r".*/")


def type_of(schema: dict[str, Any]) -> str:
    """As docs/events.md writes it."""
    if "anyOf" in schema:
        return " or ".join(map(type_of, schema["anyOf"]))
    if "$ref" in schema:
        return "object"
    if "enum" in schema:
        return "string"
    return str(schema["type"])


def rows(kind: type[msgspec.Struct]) -> list[str]:
    """The rows that the type gives."""
    _, definitions = msgspec.json.schema_components((kind,))
    properties = definitions[kind.__name__]["properties"]
    return [
        f"| `{name}` | {type_of(schema)} | {schema.get('description', 'as in its events')} |"
        for name, schema in properties.items()
    ]


@pytest.mark.parametrize("kind", [Frame, HostFigures, Container], ids=lambda kind: kind.__name__)
def test_the_fields_are_the_types(kind: type[msgspec.Struct]) -> None:
    assert "\n".join(rows(kind)) in PAGE


def test_every_column_is_explained() -> None:
    _, _, columns = PAGE.partition("## Columns")
    table = columns.partition("## Keys")[0]

    assert {each.title for each in COLUMNS} <= set(re.findall(r"`([^`]+)`", table))


def test_every_key_is_explained() -> None:
    _, _, keys = PAGE.partition("## Keys")
    table = keys.partition("## How fresh")[0]
    shown = {
        binding.key_display or binding.key
        for binding in TopApp.BINDINGS
        if not isinstance(binding, tuple) and binding.show
    }

    assert {key for key in shown if f"`{key}`" not in table} == {"enter"}
