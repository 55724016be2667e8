"""A history whose bytes are broken is read, or refused by name: fuzzed as the boundaries are."""

from __future__ import annotations

from tests.fuzz.runner import run
from tests.fuzz.stores import store

INPUTS = 500  # three milliseconds each: too slow for the million of `make fuzz`


def test_a_value_or_a_named_error() -> None:
    done = run(store(), inputs=INPUTS, seconds=60, seed=1)

    assert "\n".join(finding.details for finding in done.findings) == ""
    assert done.outcomes > 10
