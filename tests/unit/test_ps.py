"""The table of `ctrwatch ps`: what strangers wrote stays in its cell."""

from __future__ import annotations

import msgspec
import pytest

from ctrwatch.commands import ps
from tests.unit.test_render import BARE

HOSTILE = "a\x1b[2J\u202e\r\n\x00\x9b"


@pytest.mark.parametrize("field", ["container_id", "container_name", "container_image", "pod_name"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "short"])
def test_a_cell_is_one_printable_line(field: str, whole: bool) -> None:
    event = msgspec.structs.replace(BARE, **{field: HOSTILE})

    row = ps._row(event, whole=whole)

    assert all(cell.isprintable() for cell in row)
    assert any(cell.startswith("a\\x1b[2J\\u202e") for cell in row)


def test_any_number_is_an_age() -> None:
    """A state, or a journal, may have any."""
    ages = [ps._age(sign * 10**400) for sign in (1, -1)]

    assert ages[0] == "0s"
    assert ages[1].endswith("d")
