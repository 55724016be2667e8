"""Rules on use: broken for as long as the hold, told once, and not again before it was calm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ctrwatch.core import figures, helpers
from ctrwatch.core.figures import FIGURES, IDLE
from ctrwatch.core.holding import Holding, expected
from ctrwatch.core.judge import Judge
from ctrwatch.core.ledger import Reading
from ctrwatch.core.policy import Policy
from ctrwatch.event import Unread
from tests.unit.readings import FREE, MB, QUIET, S, busy, reading, unsure
from tests.unit.test_policy import policies, verdicts
from tests.unit.test_render import WEB

HOG: Final = "usage.cpu_cores > 2.0"
CALM_S: Final = 10


def rule(condition: str = HOG, hold: str | None = "30s", **more: str) -> list[Policy]:
    held = {"for": hold} if hold is not None else {}
    extra = "".join(f"    {key}: {value}\n" for key, value in {**held, **more}.items())
    return policies(f"rules:\n  - name: r\n    deny: {condition}\n{extra}")


def told_at(holding: Holding, looks: list[Reading]) -> list[float]:
    """The seconds at which something is told."""
    return [look.boot_ns / S for look in looks for _ in holding.read(look, 0)]


# --- the hold ---------------------------------------------------------------------------------


def test_it_is_told_when_it_was_broken_at_all_looks_of_the_hold_and_not_again() -> None:
    holding = Holding(rule())

    assert told_at(holding, [busy(at) for at in range(60, 3660)]) == [90]


def test_without_a_hold_it_is_told_at_once() -> None:
    assert told_at(Holding(rule(hold=None)), [busy(60), busy(61)]) == [60]


def test_one_fine_look_begins_the_hold_anew() -> None:
    looks = [busy(at) if at != 80 else reading(at) for at in range(60, 130)]

    assert told_at(Holding(rule()), looks) == [111]


def test_a_look_that_can_not_tell_neither_breaks_nor_mends() -> None:
    holding = Holding(rule())

    assert told_at(holding, [unsure(at) for at in range(60, 120)]) == []
    assert len(holding) == 0
    assert told_at(holding, [busy(120), *map(unsure, range(121, 150)), busy(150)]) == [150]


def test_it_is_told_again_only_after_it_was_fine_for_as_long() -> None:
    holding = Holding(rule())
    calm_too_short = [
        *[busy(at) for at in range(60, 100)],
        *[reading(at) for at in range(100, 129)],
        *[busy(at) for at in range(129, 200)],
    ]
    calm = [
        *[reading(at) for at in range(200, 231)],
        *[busy(at) for at in range(231, 300)],
    ]

    assert told_at(holding, calm_too_short) == [90]
    assert told_at(holding, calm) == [261]


def test_what_comes_and_goes_within_ten_seconds_is_one_episode() -> None:
    holding = Holding(rule(hold=None))

    looks = [busy(at) if at % 10 == 0 else reading(at) for at in range(60, 600)]

    assert told_at(holding, looks) == [60]


State = Literal["broken", "fine", "unsure"]
MADE: Final[dict[State, Callable[[float], Reading]]] = {
    "broken": busy,
    "fine": reading,
    "unsure": unsure,
}


def naive(looks: list[tuple[int, State]], hold_s: int) -> list[int]:
    """The law, written down as it is said: slow, and with all looks at hand."""
    told: list[int] = []  # indexes of looks
    for now, (at, state) in enumerate(looks):
        if state != "broken":
            continue
        since = told[-1] + 1 if told else 0
        mended = [
            end
            for begin in range(since, now)
            for end in range(begin, now)
            if looks[begin][1] == looks[end][1] == "fine"
            and all(each != "broken" for _, each in looks[begin : end + 1])
            and looks[end][0] - looks[begin][0] >= max(hold_s, CALM_S)
        ]
        if told and not mended:
            continue
        fine = [index for index in range(now) if looks[index][1] == "fine"]
        after = max([*fine, told[-1] if told else -1])
        first = min(index for index in range(after + 1, now + 1) if looks[index][1] == "broken")
        if at - looks[first][0] >= hold_s:
            told.append(now)
    return [looks[index][0] for index in told]


@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(["broken", "broken", "fine", "unsure"])),
        max_size=40,
    ),
    st.sampled_from([0, 1, 5, 15, 30]),
)
def test_it_is_what_the_law_says(steps: list[tuple[int, State]], hold_s: int) -> None:
    looks: list[tuple[int, State]] = []
    for step, state in steps:
        looks.append(((looks[-1][0] if looks else 60) + step, state))

    made = [MADE[state](at) for at, state in looks]

    assert told_at(Holding(rule(hold=f"{hold_s}s")), made) == naive(looks, hold_s)


@given(st.lists(st.tuples(st.integers(-5, 50), st.sampled_from([*MADE])), max_size=40))
def test_clocks_that_jump_end_nothing_and_ids_are_of_one_episode_each(
    steps: list[tuple[int, State]],
) -> None:
    holding, at, ids = Holding(rule(hold="5s")), 100, list[str]()
    for step, state in steps:
        at += step
        ids += [each.violation.id for each in holding.read(MADE[state](at), 0)]

    assert len(ids) == len(set(ids))


# --- who has to be looked at, and what is kept ------------------------------------------------


def test_who_may_break_a_rule_soon_is_to_be_looked_at_often_and_nobody_else() -> None:
    holding = Holding(rule())

    assert not holding.is_on(WEB)
    holding.read(busy(60), 0)
    assert holding.is_on(WEB)
    holding.read(unsure(61), 0)
    assert holding.is_on(WEB)
    told_at(holding, [busy(90)])
    assert not holding.is_on(WEB)  # it is told, and may go on for a week
    told_at(holding, [reading(91)])
    assert not holding.is_on(WEB)


def test_what_is_kept_goes_with_the_container() -> None:
    holding = Holding(rule(hold=None))
    births = [replace(WEB, id=f"{number:x}") for number in range(1009)]
    for each in births:
        holding.read(busy(60, container=each), 0)
        holding.read(reading(61, container=replace(each, id=f"{each.id}-start")), 0)
    assert len(holding) == 1009

    for each in births:
        holding.ended(replace(each, id=f"{each.id}-remove"))

    assert len(holding) == 0


def test_nothing_is_kept_of_those_that_break_no_rule() -> None:
    holding = Holding(rule())
    told_at(holding, [busy(60), reading(61)])

    assert len(holding) == 0


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrwatch.core.holding._PAIRS", 2)
    holding = Holding(rule(hold=None))
    told = [
        len(holding.read(busy(at, container=replace(WEB, id=f"{number:x}")), 0))
        for at in (60, 61)
        for number in range(3)
    ]

    assert told == [1, 1, 0, 0, 0, 0]
    assert (len(holding), holding.crowded) == (2, 2)
    assert [doubt.partition(":")[0] for doubt in holding.doubts()] == [
        "too many rules on use are broken at a time"
    ]
    assert holding.doubts() == []


def test_a_reload_keeps_the_episodes_of_rules_that_stay() -> None:
    holding = Holding(rule(hold="5s"))
    told_at(holding, [busy(at) for at in range(60, 66)])

    holding.swap(rule(hold="5s", severity="critical"))
    assert told_at(holding, [busy(at) for at in range(66, 90)]) == []
    holding.swap(rule("usage.cpu_cores > 3.0", "5s"))
    assert told_at(holding, [busy(at) for at in range(90, 120)]) == [95]
    holding.swap(policies("rules:\n  - {name: x, deny: 'false'}\n"))
    assert (len(holding), holding.rules) == (0, 0)


def test_a_reload_with_another_parameter_or_list_begins_anew() -> None:
    def mine(cores: float, memory: float, *images: str) -> list[Policy]:
        listed = "\n".join(images).encode()
        return policies(
            f"parameters: {{cores: {cores}, memory: {memory}}}\nlists: {{images: images.txt}}\n"
            "rules:\n  - {name: r, when: 'listed(container_image, \"images\")',"
            " deny: usage.cpu_cores > params.cores, for: 5s}\n",
            {"images.txt": listed},
        )

    image = WEB.container_image
    holding = Holding(mine(1.5, 0.5, image))
    assert told_at(holding, [busy(at) for at in range(60, 70)]) == [65]
    holding.swap(mine(1.5, 0.9, image))
    assert told_at(holding, [busy(at) for at in range(70, 80)]) == []  # it is another rule's
    holding.swap(mine(3.0, 0.9, image))
    assert told_at(holding, [busy(at) for at in range(80, 90)]) == [85]
    holding.swap(mine(3.0, 0.9, image, "docker.io/library/another:1"))
    assert told_at(holding, [busy(at) for at in range(90, 100)]) == [95]


# --- what is told -----------------------------------------------------------------------------


def test_a_violation_says_what_the_container_used() -> None:
    message = "'{container_name}: {usage.cpu_cores} of {limits.cpu_cores}, {usage.memory_bytes}'"
    holding = Holding(rule(hold=None, message=message, severity="high", action="kill"))
    look = busy(60, 2.345)._replace(usage=replace(FREE, memory_bytes=5 * MB))
    started = replace(WEB, event="container_start", id=f"{WEB.id}-start")

    [breach] = holding.read(look._replace(container=started), 0)

    violation = breach.violation
    assert violation.message == "web: 2.35 of 0.5, 5.0 MB"
    assert violation.time == "1970-01-01T00:01:00.000000000Z"  # of the look
    assert (violation.verdict, violation.event_id) == ("violation", WEB.id)
    assert (violation.severity, violation.action) == ("high", "kill")
    assert (breach.event.event, breach.event.id) == ("container_create", WEB.id)
    assert breach.moment == "running"


def test_a_last_look_is_judged_too() -> None:
    killed = reading(60, replace(FREE, oom_kills=1), final=True)

    [breach] = Holding(rule("usage.oom_kills > 0", None)).read(killed, 0)

    assert breach.moment == "ended"


def test_an_error_is_told_once() -> None:
    holding = Holding(rule("usage.cpu_cores > 1.0 && labels['nobody'] == 'x'", None))
    breaches = [breach for at in range(60, 70) for breach in holding.read(busy(at), 0)]

    assert [breach.violation.verdict for breach in breaches] == ["error"]


def test_what_can_not_be_decided_is_said_once_and_is_no_verdict() -> None:
    holding = Holding(rule("usage.pressure.memory_waited_percent > 10.0"))
    plain_v1 = replace(FREE, pressure=None, missing={"pressure": Unread.NOT_OFFERED})
    assert holding.read(reading(5, plain_v1), 0) == []
    assert holding.doubts() == []  # it is young: that may come

    breaches = [each for at in (60, 61) for each in holding.read(reading(at, plain_v1), 0)]

    assert breaches == []
    assert [doubt.rpartition(": ")[2] for doubt in holding.doubts()] == [
        "nobody knows usage.pressure.memory_waited_percent"
    ]
    holding.read(reading(62, plain_v1), 0)
    assert holding.doubts() == []
    holding.swap(rule("usage.pressure.io_waited_percent > 10.0"))
    assert holding.doubts() == []
    holding.read(reading(63, plain_v1), 0)
    assert [doubt.rpartition(": ")[2] for doubt in holding.doubts()] == [
        "nobody knows usage.pressure.io_waited_percent"
    ]


def test_births_and_looks_have_rules_of_their_own() -> None:
    both = policies(
        "rules:\n  - {name: birth, deny: 'true'}\n  - {name: use, deny: 'usage.pids >= 0'}\n"
    )

    assert verdicts(Judge(both, 0), WEB) == ["violation"]
    assert [each.violation.rule for each in Holding(both).read(reading(60), 0)] == ["use"]


def test_what_its_when_calls_is_asked_once_for_what_is_known() -> None:
    """The evaluator keeps what it gives to a function of ours, for good."""
    holding = Holding(rule("usage.pids >= 0", None, when="image_matches(container_image, 'x')"))
    other = replace(WEB, id=f"{WEB.id}-update-1", container_image="docker.io/library/x:1")
    told_at(holding, [reading(60)])
    before = asked()

    assert told_at(holding, [reading(at) for at in range(61, 70)]) == []
    assert told_at(holding, [reading(70, container=other)]) == [70]
    assert asked() == before + 1


def asked() -> int:
    """How often `image_matches` was called: it looks each pattern up."""
    info = helpers._pattern.cache_info()
    return info.hits + info.misses


# --- figures ----------------------------------------------------------------------------------


def test_every_figure_is_known_of_a_container_of_which_all_is() -> None:
    assert figures.figures(reading(60)).keys() == FIGURES.keys() == IDLE.keys()


@pytest.mark.parametrize(
    ("look", "unknown"),
    [
        pytest.param(unsure(60), {name for name in FIGURES if "_per_second" in name}
            | {"usage.cpu_cores", "usage.throttled_share"}, id="no-rates"),
        pytest.param(reading(60)._replace(age_seconds=None), {"usage.age_seconds"}, id="no-age"),
        pytest.param(
            reading(60, replace(FREE, pids=None, missing={"pids": Unread.NO_CONTROLLER})),
            {"usage.pids", "usage.pids_share"}, id="a-controller-is-off"),
        pytest.param(
            reading(60, replace(FREE, missing={"pids_limit": Unread.GONE})),
            {"usage.pids_limit", "usage.pids_share"}, id="a-limit-is-not-known"),
        pytest.param(reading(60, rates=replace(QUIET, cpu_cores=None)), {"usage.cpu_cores"},
            id="a-counter-went-back"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_left_out(look: Reading, unknown: set[str]) -> None:
    assert FIGURES.keys() - figures.figures(look).keys() == unknown


def test_a_share_is_of_the_limit_and_nothing_where_there_is_none() -> None:
    used = replace(FREE, memory_working_set_bytes=30, memory_bytes=60, pids=5)
    limited = replace(used, memory_limit_bytes=60, pids_limit=0)
    free, bound = figures.figures(reading(60, used)), figures.figures(reading(60, limited))

    assert (free["usage.memory_share"], free["usage.pids_share"]) == (0, 0)
    assert (bound["usage.memory_share"], bound["usage.pids_share"]) == (0.5, 1.0)
    assert free["usage.memory_limit_bytes"] is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("usage.cpu_cores", 2.0, "2.00"),
        ("usage.memory_bytes", 3 * MB, "3.0 MB"),
        ("usage.memory_limit_bytes", None, "no limit"),
        ("usage.io_read_bytes_per_second", 2048.5, "2.0 KB/s"),
        ("usage.throttled_share", 1.5, "150 %"),
        ("usage.pressure.memory_waited_percent", 12.34, "12 %"),
        ("usage.age_seconds", 61.04, "61.0 s"),
        ("usage.pids", 7, "7"),
    ],
)
def test_a_figure_is_said_as_people_read_it(name: str, value: float | None, said: str) -> None:
    assert figures.text_of(name, {name: value}) == said
    assert figures.text_of(name, {}) == "?"


# --- a policy's own tests ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ("usage: {cpu_cores: 3}", "violation"),
        ("usage: {cpu_cores: 3.5}, lasted: 30s", "violation"),
        ("usage: {cpu_cores: 3.5}, lasted: 29s", "pass"),
        ("usage: {}", "pass"),
        ("usage: {cpu_cores: null}", "undecided"),
        ("usage: {memory_limit_bytes: null}", "pass"),
        ("expect: {}", "not_applicable"),
    ],
)
def test_a_test_says_what_was_used_and_for_how_long(given: str, outcome: str) -> None:
    whole = given if "expect" in given else f"{given}, expect: {{}}"
    (policy,) = policies(
        f"rules:\n  - {{name: r, deny: {HOG}, for: 30s}}\n"
        f"tests:\n  - {{name: t, event: {{}}, {whole}}}\n"
    )

    assert expected(policy.rules[0], policy.tests[0]) == outcome


def test_a_tests_shares_follow_from_its_limits() -> None:
    (policy,) = policies(
        "rules:\n  - {name: r, deny: 'false'}\n"
        "tests:\n  - name: t\n    event: {}\n    expect: {}\n"
        "    usage: {memory_working_set_bytes: 6, memory_limit_bytes: 8, pids_share: 0.9,"
        " pressure: {io_waited_percent: 7}}\n"
    )
    known = policy.tests[0].figures

    assert known is not None
    assert known["usage.memory_share"] == 0.75
    assert known["usage.pids_share"] == 0.9
    assert known["usage.pressure.io_waited_percent"] == 7.0
