"""A hundred strangers' inputs at every boundary (`make fuzz` feeds a million); and the fuzzer itself."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from tests.fuzz.boundary import Boundary
from tests.fuzz.mutate import Mutator
from tests.fuzz.registry import BOUNDARIES
from tests.fuzz.runner import Run, run
from tests.fuzz.table import HEAD, PAGE, ROW, rows, written

INPUTS = 120  # of each: a second in all


@pytest.mark.parametrize("name", BOUNDARIES)
def test_a_value_or_a_named_error(name: str) -> None:
    done = run(BOUNDARIES[name].made(), inputs=INPUTS, seconds=60, seed=1)

    assert "\n".join(finding.details for finding in done.findings) == ""
    assert done.inputs == INPUTS
    assert done.outcomes > 1


# --- the fuzzer -----------------------------------------------------------------------------


def digits(raw: bytes) -> int:
    """Breaks for one number, and for what is none."""
    number = int(raw)
    if number == 77:
        raise KeyError(number)
    return number.bit_length()


def test_what_is_no_named_error_is_found_with_its_input() -> None:
    boundary = Boundary([b"70"], lambda mutator, seeds: mutator.raw(seeds), digits, (ValueError,))

    [found] = run(boundary, inputs=20_000, seconds=60, seed=1).findings

    assert int(found.case) == 77
    assert found.what.startswith("KeyError")


def test_what_does_not_end_in_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.runner._ENDLESS_S", 0.05)

    def endless(raw: bytes) -> int:
        while raw == b"x":
            pass
        return 0

    boundary = Boundary([b"a"], lambda _mutator, _seeds: b"x", endless)
    [found] = run(boundary, inputs=1, seconds=60, seed=1).findings

    assert "does not end" in found.what


def test_what_leads_to_something_new_is_built_on() -> None:
    """Three letters in a row are too many for chance; each alone is a new outcome."""

    def steps(raw: bytes) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(raw, b"\x00\xff\x80", strict=False)) if a != b), 3
        )

    boundary = Boundary([b"...."], lambda mutator, seeds: mutator.raw(seeds, times=1), steps)

    assert run(boundary, inputs=20_000, seconds=60, seed=1).outcomes == 4


def test_the_same_seed_gives_the_same_inputs() -> None:
    seeds = [json.dumps({"a": [1, {"b": "c"}]}).encode(), b"{}"]

    def some(seed: int) -> list[bytes]:
        mutator = Mutator(seed)
        return [mutator.json(seeds) for _ in range(50)]

    assert some(1) == some(1)
    assert some(1) != some(2)


def test_a_changed_document_is_whole_again() -> None:
    seeds = [json.dumps({"a": [1, {"b": "c"}], "d": None, "e": "f"}).encode()]
    mutator = Mutator(1)
    for _ in range(500):
        mutator.json(seeds)
    document = mutator._documents[seeds[0]]

    assert document is not None
    assert document.holder == [json.loads(seeds[0])]


# --- its table ------------------------------------------------------------------------------


def test_every_boundary_has_a_million_inputs_in_the_table() -> None:
    fed = {each["name"]: each["inputs"] for each in ROW.finditer(PAGE.read_text())}

    assert list(fed) == list(BOUNDARIES)
    assert min(int(inputs.replace(",", "")) for inputs in fed.values()) >= 1_000_000


def test_a_row_is_written_in_its_place_and_the_others_stay() -> None:
    day = dt.date(2026, 1, 2)
    done = Run(inputs=1_000_000, seconds=12.4, slowest_ms=3.6, outcomes=7, lines=9, findings=[])
    empty = f"# Fuzzed\n{HEAD}\n## Bounds\n"
    page = written(empty, {"text": (done, 1, day), "record": (done, 2, day)})

    changed = written(page, {**rows(page), "path": (done, 5, day)})

    assert list(rows(changed)) == ["record", "path", "text"]  # as in the registry
    assert rows(changed)["path"].endswith("| 1,000,000 | 5 | 2026-01-02 | 12 | 7 | 4 ms |")
    assert changed.replace(rows(changed)["path"] + "\n", "") == page
    assert page.startswith(empty[: empty.index("\n## Bounds")])
    assert page.endswith("|\n\n## Bounds\n")
