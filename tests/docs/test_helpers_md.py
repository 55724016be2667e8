"""docs/policies.md says what helpers there are."""

from __future__ import annotations

from scripts.gen_helpers_md import PAGE, page


def test_the_helpers_are_those_that_there_are() -> None:
    assert PAGE.read_text() == page(PAGE.read_text()), "run: python -m scripts.gen_helpers_md"
