"""docs/events.md says what the types say."""

from __future__ import annotations

from scripts.gen_events_md import PAGE, page


def test_the_page_is_the_one_that_the_types_give() -> None:
    assert PAGE.read_text() == page(), "run: python -m scripts.gen_events_md"
