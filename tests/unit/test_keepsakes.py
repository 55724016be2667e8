"""Which looks at a container's use are kept, though they are not told."""

from __future__ import annotations

from msgspec.structs import replace

from ctrwatch.core import rows
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.keepsakes import Keepsakes
from ctrwatch.core.ledger import Reading
from ctrwatch.event import ContainerUsage, Usage
from tests.unit.test_render import WEB

S = 1_000_000_000
USED = Usage(cpu_seconds=1.5)
BORN_NS = 1000 * S


def look(keepsakes: Keepsakes, age_s: float, *, known: bool = True) -> ContainerUsage | None:
    at_ns = BORN_NS + int(age_s * S)
    age = age_s if known else None
    return keepsakes.of(Reading(1, WEB, at_ns, age, USED, None, final=False), 5)


def ages(begin_s: int, end_s: int, beat_s: int) -> list[int]:
    keepsakes = Keepsakes()
    return [age_s for age_s in range(begin_s, end_s, beat_s) if look(keepsakes, age_s)]


def test_a_look_is_kept_when_its_age_has_doubled() -> None:
    assert ages(1, 2000, 1) == [120, 240, 480, 960, 1920]


def test_and_at_least_once_a_day() -> None:
    kept = ages(60, 10 * 86_400, 60)

    assert kept[-3:] == [kept[-1] - 2 * 86_400, kept[-1] - 86_400, kept[-1]]
    assert len(kept) < 24


def test_one_that_was_there_before_is_kept_at_its_first_look() -> None:
    assert ages(5000, 20_000, 60) == [5000, 10_040]


def test_one_whose_birth_is_not_known_is_kept_too() -> None:
    kept = look(Keepsakes(), 5, known=False)

    assert kept is not None
    assert kept.age_seconds is None


def test_it_is_an_event_of_its_birth() -> None:
    kept = look(Keepsakes(), 120.0004)

    assert kept is not None
    assert kept.id == f"{WEB.id}-usage-120"
    assert (kept.age_seconds, kept.time) == (120.0, rfc3339(BORN_NS + 120_000_400_005))
    assert rows.event_of("container_usage", rows.body_of(kept)) == kept


def test_who_has_gone_is_forgotten() -> None:
    keepsakes = Keepsakes()
    look(keepsakes, 1)
    keepsakes.heard(replace(WEB, event="container_start", id=f"{WEB.id}-start"))
    assert len(keepsakes) == 1
    keepsakes.heard(replace(WEB, event="container_remove", id=f"{WEB.id}-remove"))
    assert len(keepsakes) == 0
