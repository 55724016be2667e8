"""What containers used, added up: it only grows, and strangers can't make it many."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ctrwatch.core.ledger import Reading
from ctrwatch.core.totals import FIGURES, IMAGES, OTHER, SUMS, Latest, Totals
from ctrwatch.event import Bill, Cgroup, ContainerEvent, EventName, Usage
from ctrwatch.model import Runtime

S = 1_000_000_000
NGINX = (Runtime.DOCKER, "nginx")
BIRTHS = 1009


def event(
    number: int, name: EventName = "container_create", image: str = "nginx", **more: Any
) -> ContainerEvent:
    suffix = {"container_update": "-update-1", "container_remove": "-remove"}.get(name, "")
    plain = ContainerEvent(
        event=name,
        id=f"{number:032x}{suffix}",
        time="2026-11-26T11:00:00.000000000Z",
        host="h",
        runtime=Runtime.DOCKER,
        container_id=f"{number:064x}",
        ctime=number,
        container_image=image,
        container_name=f"web-{number}",
        cgroup=Cgroup(),
    )
    return replace(plain, **more)


def reading(container: ContainerEvent, **used: float) -> Reading:
    usage = Usage(**used)  # type: ignore[arg-type]
    return Reading(1, container, S, 1.0, usage, None, final=False)


def removed(number: int, image: str = "nginx", **used: float) -> ContainerEvent:
    bill = Bill(**used) if used else None  # type: ignore[arg-type]
    return event(number, "container_remove", image, usage=bill)


def test_a_life_counts_from_its_birth_to_its_bill() -> None:
    totals = Totals(usage=True)
    totals.told(born := event(1))
    totals.read(reading(born, cpu_seconds=2.0, oom_kills=0))
    totals.read(reading(born, cpu_seconds=3.5, oom_kills=2))
    totals.told(removed(1, cpu_seconds=4.0, oom_kills=2, io_read_bytes=9))

    sums = {name: dict(values) for name, values in totals.sums.items() if values}
    assert sums == {"cpu_seconds": {NGINX: 4.0}, "oom_kills": {NGINX: 2}, "io_read_bytes": {NGINX: 9}}  # fmt: skip
    assert totals.births == {NGINX: 1}


def test_one_that_was_never_looked_at_counts_with_its_bill() -> None:
    totals = Totals(usage=True)
    totals.told(event(1))
    totals.told(removed(1, cpu_seconds=0.25))

    assert totals.sums["cpu_seconds"] == {NGINX: 0.25}


def test_of_one_that_was_there_what_it_used_before_is_not_counted() -> None:
    """Or each restart of ctrwatch would look like a day's work in a second."""
    totals = Totals(usage=True)
    totals.told(there := event(1, "existing_container"))
    totals.read(reading(there, cpu_seconds=86_400.0))
    totals.read(reading(there, cpu_seconds=86_401.5))
    totals.told(removed(1, cpu_seconds=86_402.0))

    assert totals.sums["cpu_seconds"] == {NGINX: 2.0}
    assert totals.births == {NGINX: 0}


def test_a_counter_that_goes_back_takes_nothing_away() -> None:
    totals = Totals(usage=True)
    totals.told(born := event(1))
    for seconds in (5.0, 1.0, 2.0, 6.0):
        totals.read(reading(born, cpu_seconds=seconds))

    assert totals.sums["cpu_seconds"] == {NGINX: 6.0}


def test_a_figure_that_nobody_counts_is_not_zero() -> None:
    totals = Totals(usage=True)
    totals.told(born := event(1))
    totals.read(reading(born, cpu_seconds=0.0))

    assert totals.sums["cpu_seconds"] == {NGINX: 0}
    assert totals.sums["io_read_bytes"] == {}


def test_without_usage_births_are_counted_and_nothing_is_kept() -> None:
    totals = Totals(usage=False)
    totals.told(event(1))
    totals.told(event(2, "existing_container"))

    assert totals.births == {NGINX: 1}
    assert totals._accounts == {}


def test_memory_is_of_those_that_live() -> None:
    totals = Totals(usage=True)
    for number in (1, 2):
        totals.told(event(number))
        totals.read(reading(event(number), memory_working_set_bytes=100))
    totals.read(reading(event(2), memory_working_set_bytes=70))
    assert totals.memory_bytes == {NGINX: 170}

    totals.told(removed(1))
    totals.told(removed(2, cpu_seconds=1.0))
    assert totals.memory_bytes == {NGINX: 0}


def test_an_image_that_is_learnt_later_has_what_comes_after() -> None:
    totals = Totals(usage=True)
    totals.told(bare := event(1, image=""))
    totals.read(reading(bare, cpu_seconds=1.0, memory_working_set_bytes=5))
    known = event(1, "container_update")
    totals.told(known)
    totals.read(reading(known, cpu_seconds=3.0, memory_working_set_bytes=7))

    assert totals.sums["cpu_seconds"] == {(Runtime.DOCKER, ""): 1.0, NGINX: 2.0}
    assert totals.memory_bytes == {(Runtime.DOCKER, ""): 0, NGINX: 7}


def test_what_an_earlier_ctrwatch_told_of_is_nobodys() -> None:
    totals = Totals(usage=True)
    totals.told(removed(1, cpu_seconds=5.0))
    totals.read(reading(event(1), cpu_seconds=5.0))

    assert totals.sums["cpu_seconds"] == {}


def test_images_without_end_are_a_hundred_and_the_others() -> None:
    totals, other = Totals(usage=True), (Runtime.DOCKER, OTHER)
    for number in range(BIRTHS):
        totals.told(born := event(number, image=f"build:{number}"))
        totals.read(reading(born, cpu_seconds=1.0, memory_working_set_bytes=1))
    totals.told(event(BIRTHS, image=f"build:{BIRTHS}", runtime=Runtime.PODMAN))

    assert len(totals.births) == IMAGES + 2
    assert totals.births[other] == totals.memory_bytes[other] == BIRTHS - IMAGES
    assert totals.births[Runtime.PODMAN, OTHER] == 1
    assert all(len(totals.sums[name]) <= IMAGES + 1 for name in SUMS)
    assert sum(totals.sums["cpu_seconds"].values()) == BIRTHS
    for number in range(BIRTHS):
        totals.told(removed(number, f"build:{number}"))
    assert totals._accounts.keys() == {f"{BIRTHS:032x}"}


def test_ten_thousand_containers_are_shown_as_few_and_leave_nothing() -> None:
    totals, latest = Totals(usage=True), Latest(23)
    for number in range(10_007):
        totals.told(born := event(number))
        for used in (1.0, 2.0):
            look = reading(born, cpu_seconds=used, memory_working_set_bytes=1)
            totals.read(look)
            latest.read(look)
    shown, left_out = latest.at(0)
    assert (len(shown), left_out) == (23, 10_007 - 23)
    assert (totals.sums["cpu_seconds"][NGINX], totals.memory_bytes[NGINX]) == (20_014.0, 10_007)

    for number in range(10_007):
        totals.told(gone := removed(number, cpu_seconds=2.5))
        latest.ended(gone, now_ns=0)

    assert totals.sums["cpu_seconds"] == {NGINX: 10_007 * 2.5}
    assert totals.memory_bytes == {NGINX: 0}
    assert (totals._accounts, latest._living, len(latest._ended)) == ({}, {}, 23)


def test_an_image_that_is_called_other_takes_no_place() -> None:
    totals = Totals(usage=True)
    totals.told(event(1, image=OTHER))
    for number in range(IMAGES):
        totals.told(event(number + 2, image=f"build:{number}"))

    assert len(totals.births) == IMAGES + 1


def test_a_strangers_text_is_one_short_line() -> None:
    totals, latest = Totals(usage=True), Latest(1)
    born = event(1, image="\udcff\x1b\n" + "x" * 9000, container_name="\u202e" * 9000)
    totals.told(born)
    latest.read(reading(born, cpu_seconds=1.0))

    [(_, image)] = totals.births
    [one], _ = latest.at(0)
    assert image.startswith("\\xff\\x1b\\x0axxx")
    assert all(len(text) <= 256 and text.isprintable() for text in (image, *one.labels))


# --- single containers ------------------------------------------------------------------------


def ids(latest: Latest, now_ns: int = 0) -> list[int]:
    return [int(one.labels.container_id, 16) for one in latest.at(now_ns)[0]]


def test_those_that_were_born_last_are_shown() -> None:
    latest = Latest(23)
    for number in [*range(500, BIRTHS), *range(500)]:  # those that were there come in any order
        latest.read(reading(event(number), cpu_seconds=1.0))

    assert ids(latest) == [*range(BIRTHS - 1, BIRTHS - 24, -1)]
    assert latest.at(0)[1] == BIRTHS - 23


def test_when_one_ends_its_place_is_anothers_but_for_a_moment() -> None:
    latest = Latest(2)
    for number in (1, 2, 3):
        latest.read(reading(event(number), cpu_seconds=1.0))
    latest.ended(removed(3, cpu_seconds=2.0), now_ns=0)
    assert ids(latest) == [2, 1]

    latest.ended(removed(2, cpu_seconds=2.5), now_ns=S)
    assert ids(latest, 15 * S) == [1, 2]  # with its bill
    assert latest.at(15 * S)[0][1].figures[FIGURES.index("cpu_seconds")] == 2.5
    assert latest.at(15 * S)[0][1].figures[FIGURES.index("memory_working_set_bytes")] is None
    assert ids(latest, 17 * S) == [1]


def test_ends_that_nobody_asks_about_are_no_more_than_the_living() -> None:
    latest = Latest(23)
    for number in range(BIRTHS):
        latest.ended(removed(number, cpu_seconds=1.0), now_ns=0)

    assert len(latest._ended) == 23
    assert ids(latest)[0] == BIRTHS - 1
    assert ids(latest, 16 * S) == []


def test_one_that_was_never_read_is_not_shown() -> None:
    latest = Latest(5)
    latest.ended(removed(1), now_ns=0)

    assert latest.at(0) == ([], 0)


def test_two_with_the_same_labels_are_one() -> None:
    """Prometheus refuses a page that has a series twice."""
    latest = Latest(5)
    latest.read(reading(event(1, container_id="web", container_name="web"), cpu_seconds=1.0))
    latest.read(reading(event(2, container_id="web", container_name="web"), cpu_seconds=7.0))
    again = event(3, "container_remove", container_id="web", container_name="web", usage=Bill(cpu_seconds=9.0))  # fmt: skip
    latest.ended(again, now_ns=0)

    [one], left_out = latest.at(0)
    assert (one.figures[0], left_out) == (7.0, 1)


STEP = st.tuples(
    st.sampled_from(["create", "exist", "read", "remove"]),
    st.integers(0, 4),
    st.one_of(st.none(), st.floats(0, 1e6)),
)


@pytest.mark.parametrize("figure", ["cpu_seconds", "oom_kills"])
@given(st.lists(STEP, max_size=40))
def test_sums_never_go_back(figure: str, steps: list[tuple[str, int, float | None]]) -> None:
    totals = Totals(usage=True)
    before = 0.0
    for what, number, used in steps:
        figures = {} if used is None else {figure: int(used)}
        match what:
            case "create":
                totals.told(event(number, image=f"image-{number % 2}"))
            case "exist":
                totals.told(event(number, "existing_container", image=f"image-{number % 2}"))
            case "read":
                totals.read(reading(event(number, image=f"image-{number % 2}"), **figures))
            case _:
                totals.told(removed(number, f"image-{number % 2}", **figures))
        assert sum(totals.sums[figure].values()) >= before
        before = sum(totals.sums[figure].values())
        assert min(totals.memory_bytes.values(), default=0) >= 0
