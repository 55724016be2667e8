"""The soak's judgement: what is missing, told twice or out of order, and what a gap excuses."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from bench.page import MB, replaced, section
from bench.soak.churn import planned
from bench.soak.page import LEAST_SAMPLES, Result
from bench.soak.stream import read_stream
from bench.soak.verdict import SECOND_NS, Away, Gap, Seen, Start, Told, Verdict, growth, judge

T = 1_795_463_172 * SECOND_NS
LONG_S = 600


def start(container: str = "a", at_s: float = 0, **changes: Any) -> Start:
    begun_ns = T + int(at_s * SECOND_NS)
    made = Start("docker", container, begun_ns, begun_ns + SECOND_NS // 2, sure=True, life_s=1)
    return made._replace(**changes)


def told(event: str = "container_create", birth: str = "1", at_s: float = 0.2, **more: Any) -> Told:
    suffix = {"container_remove": "-remove", "container_update": "-update-1"}.get(event, "")
    return Told(event, birth + suffix, "a", T + int(at_s * SECOND_NS), "complete")._replace(**more)


BORN, GONE = told(), told("container_remove", at_s=1.2)
GAP = Gap("restart", T - SECOND_NS, T + 3 * SECOND_NS)


def kinds(seen: Seen) -> dict[str, int]:
    return {kind: len(said) for kind, said in judge(seen).faults.items() if said}


def test_a_birth_told_once_and_its_end_is_no_fault() -> None:
    verdict = judge(Seen([start()], [BORN, GONE]))

    assert not verdict.faults
    assert (verdict.starts["docker"], verdict.births) == (1, 1)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(Seen([start()], []), {"missing": 1}, id="never-told"),
        pytest.param(Seen([start()], [BORN, BORN, GONE]), {"double": 1}, id="told-twice"),
        pytest.param(
            Seen([start()], [BORN, GONE, told(birth="2"), told("container_remove", "2")]),
            {"double": 1},
            id="two-births-of-one-start",
        ),
        pytest.param(
            Seen([start()], [told("existing_container"), GONE]),
            {"existing": 1, "order": 1, "missing": 1},
            id="told-as-existing-only",
        ),
        pytest.param(
            Seen([start()], [GONE, BORN]), {"order": 2}, id="removed-before-it-was-created"
        ),
        pytest.param(
            Seen([start()], [BORN, GONE, told("container_update")]),
            {"order": 1},
            id="updated-after-its-removal",
        ),
        pytest.param(
            Seen([start(), start(at_s=5, again=True)], [BORN, GONE]),
            {"missing": 1},
            id="its-second-start-was-not-told",
        ),
        pytest.param(
            Seen([start()], [BORN, told("container_update"), told("container_update"), GONE]),
            {"double": 1},
            id="an-update-told-twice",
        ),
        pytest.param(Seen([start()], [BORN]), {"end": 1}, id="its-end-was-not-told"),
        pytest.param(
            Seen([start()], [BORN, GONE], running=frozenset("a")),
            {"end": 1},
            id="told-as-gone-while-it-runs",
        ),
        pytest.param(
            Seen([start(sure=False)], [], started=frozenset("a")),
            {"missing": 1},
            id="its-client-failed-and-its-runtime-lists-it-as-started",
        ),
        pytest.param(
            Seen([start(sure=False)], [BORN, GONE, told(birth="2"), told("container_remove", "2")]),
            {"double": 1},
            id="its-client-failed-and-it-was-told-twice",
        ),
    ],
)
def test_faults(seen: Seen, expected: dict[str, int]) -> None:
    assert kinds(seen) == expected


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(Seen([start(sure=False)], []), id="its-client-failed-and-nothing-was-born"),
        pytest.param(Seen([start(sure=False)], [BORN, GONE]), id="its-client-failed-after-it"),
        pytest.param(
            Seen([start(), start(at_s=5, again=True)],
                 [BORN, GONE, told(birth="2", at_s=5.1), told("container_remove", "2")]),
            id="started-again",
        ),
        pytest.param(
            Seen([start()], [BORN, told("existing_container"), GONE]),
            id="listed-after-a-restart-of-ctrwatch",
        ),
        pytest.param(Seen([start()], [BORN], running=frozenset("a")), id="it-runs"),
        pytest.param(Seen([start()], [BORN], there=frozenset("a")), id="its-cgroup-is-there"),
    ],
)  # fmt: skip
def test_no_faults(seen: Seen) -> None:
    assert not kinds(seen)


@pytest.mark.parametrize(
    ("changes", "more", "excused"),
    [
        pytest.param({"kept": False}, {}, True, id="came-and-went"),
        pytest.param({"again": True}, {}, True, id="its-record-is-of-an-earlier-start"),
        pytest.param({"runtime": "podman"}, {}, True, id="podmans-records-are-elsewhere"),
        pytest.param({}, {}, False, id="its-record-was-there"),
        pytest.param({"begun_ns": T - 2 * SECOND_NS}, {}, True, id="it-was-made-before-the-gap"),
        pytest.param({}, {"removed_ns": {"a": T + SECOND_NS}}, True, id="its-record-had-gone"),
        pytest.param(
            {},
            {"aways": [Away(frozenset({"docker"}), T, T + 4 * SECOND_NS, dead=True)]},
            True,
            id="its-daemon-could-not-be-asked",
        ),
        pytest.param(
            {"kept": False, "life_s": LONG_S}, {}, False, id="it-lived-when-ctrwatch-was-back"
        ),
        pytest.param(
            {"kept": False, "life_s": LONG_S},
            {"aways": [Away(frozenset({"docker"}), T, T + SECOND_NS, dead=True)]},
            True,
            id="its-dockerd-was-killed-and-ended-it",
        ),
        pytest.param(
            {"kept": False, "begun_ns": T + 9 * SECOND_NS, "done_ns": T + 10 * SECOND_NS},
            {},
            False,
            id="after-the-gap",
        ),
    ],
)
def test_what_a_gap_excuses(
    changes: dict[str, Any], more: dict[str, Any], *, excused: bool
) -> None:
    verdict = judge(Seen([start(**changes)], [], gaps=[GAP], **more))

    assert bool(verdict.faults) != excused
    assert verdict.excused == ({"restart": 1} if excused else {})


def test_of_what_the_kernel_dropped_only_the_living_must_be_told() -> None:
    lost = GAP._replace(reason="lost")

    assert judge(Seen([start()], [], gaps=[lost])).excused == {"lost": 1}
    assert kinds(Seen([start(life_s=LONG_S)], [], gaps=[lost])) == {"missing": 1}


def test_partial_ones_are_counted_by_what_they_miss() -> None:
    usual = {"container_image_digest": "not_recorded"}
    other = BORN._replace(id="2", container="b", missing=usual)
    part = BORN._replace(status="partial", missing={**usual, "container_image": "unavailable"})
    update = told("container_update")._replace(id="1-update-1")
    seen = Seen([start(), start("b")], [part, update, GONE, other], there=frozenset("b"))

    verdict = judge(seen)

    assert not verdict.faults
    assert verdict.partial == {"unavailable": 1}
    assert verdict.completed == 1
    assert verdict.statuses == {"partial": 1, "complete": 1}


def test_a_stream_is_of_ours_and_of_the_watch() -> None:
    event = {"event": "container_create", "id": "1", "container_id": "a",
             "time": "2026-11-23T19:46:12.460562493Z",
             "evidence": {"status": "complete", "missing": {"creator": "unheard"}}}  # fmt: skip
    gap = {
        "event": "watch_gap",
        "reason": "restart",
        "since": event["time"],
        "until": event["time"],
    }
    lines = [
        json.dumps(each, separators=(",", ":")).encode()
        for each in (event, {**event, "container_id": "another's"}, gap)
    ]

    stream = read_stream([*lines, lines[0][:40]], {"a"})

    at_ns = 1_795_463_172_460_562_493
    assert stream.told == [
        Told("container_create", "1", "a", at_ns, "complete", {"creator": "unheard"})
    ]
    assert stream.gaps == [Gap("restart", at_ns, at_ns)]
    assert stream.torn == 1


def test_growth_is_of_the_last_third_over_the_second() -> None:
    assert growth([90, 10, 10, 20, 21, 22, 30, 31, 99]) == (21, 31)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        pytest.param({}, True, id="all-met"),
        pytest.param({"torn": 1}, False, id="a-torn-line"),
        pytest.param({"samples": [MB] * 6 + [3 * MB] * 3}, False, id="memory-grows"),
        pytest.param({"samples": [MB] * (LEAST_SAMPLES - 1)}, True, id="too-short-for-memory"),
        pytest.param({"verdict": judge(Seen([start()], []))}, False, id="a-missing-one"),
    ],
)
def test_the_bar(changes: dict[str, Any], *, passed: bool) -> None:
    fine: Verdict = judge(Seen([start()], [BORN, GONE]))
    none = judge(Seen([], [])).starts
    result = Result(fine, 7, 30, none, none, 0, none, 0, [MB] * 9)

    assert result._replace(**changes).passed == passed


def test_a_seed_gives_the_same_plans() -> None:
    first, second = (
        [planned(chance, f"soak-{n}") for n in range(101)]
        for chance in (random.Random(7), random.Random(7))
    )

    assert first == second
    assert {plan.keep for plan in first} == {True, False}
    assert {plan.restarts for plan in first} == {0, 1, 2}


PAGE = "# Page\n\ntext\n\n## One\na\n\n## Soak\nold\n"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(PAGE, "# Page\n\ntext\n\n## One\na\n\n## Soak\nnew\n", id="last"),
        pytest.param(
            PAGE.replace("One", "Soak", 1).replace("Soak\nold", "Two\nb"),
            "# Page\n\ntext\n\n## Soak\nnew\n\n## Two\nb\n",
            id="in-the-middle",
        ),
        pytest.param("# Page\n", "# Page\n\n## Soak\nnew\n", id="not-there"),
    ],
)
def test_a_section_is_replaced_where_it_stands(page: str, expected: str) -> None:
    assert replaced(page, "Soak", "## Soak\nnew\n") == expected


def test_a_section_outlives_the_page_around_it() -> None:
    assert replaced("# New\n", "Soak", section(PAGE, "Soak")) == "# New\n\n## Soak\nold\n"
    assert replaced("# New\n", "Soak", section("# Old\n", "Soak")) == "# New\n"
