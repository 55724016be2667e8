"""What of a container's use is told, when, and what its bill says; through the whole chain."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from ctrwatch.core.chain import Chain, Clock, Effect, Ending, Input, Report
from ctrwatch.core.changes import Born, Gone, Started
from ctrwatch.core.ledger import Exited, Ledger, Reading, Sampled
from ctrwatch.core.story import Tell
from ctrwatch.core.usage import TOTALS
from ctrwatch.event import Bill, ContainerEvent, ContainerUsage, Unread, Usage
from ctrwatch.model import (
    CgroupKey,
    ContainerId,
    Identity,
    Kind,
    Leads,
    Listed,
    RawEvent,
    Runtime,
)
from ctrwatch.sensor.journal import JournalWriter, read_journal
from tests.unit.builders import CID, MS, V2, Kernel, runc
from tests.unit.test_chain import HEADER

S = 1000 * MS
PATH = f"/docker/{CID}"
USED = Usage(
    cpu_seconds=5.0,
    memory_bytes=900,
    memory_peak_bytes=1000,
    oom_kills=0,
    io_read_bytes=50,
    missing=dict.fromkeys(
        (
            *("cpu_user_seconds", "cpu_system_seconds", "throttled_seconds", "throttled_periods"),
            *("memory_working_set_bytes", "io_write_bytes", "io_reads", "io_writes"),
            *("pids", "pids_limit", "pids_refused", "pressure"),
        ),
        Unread.NO_CONTROLLER,
    ),
)


class Life:
    """A container of which nobody knows more than its path, and what is read of it."""

    def __init__(self, *, wait_ms: int = 0, ages_s: tuple[float, ...] | None = (10, 60)) -> None:
        ages = None if ages_s is None else tuple(int(age * S) for age in ages_s)
        self.header = replace(HEADER, wait_ns=wait_ms * MS, usage_at_ns=ages)
        self.chain, self.kernel = Chain(self.header), Kernel()
        self.inputs: list[Input] = []
        self.effects: list[Effect] = []
        for event in self.kernel.birth(PATH, runc(CID), V2):
            self.feed(event)
        self.born_ns = next(
            item.boot_ns
            for item in self.inputs
            if isinstance(item, RawEvent) and item.path == PATH and item.kind is Kind.MKDIR
        )

    def feed(self, item: Input) -> list[ContainerEvent | ContainerUsage]:
        self.inputs.append(item)
        effects = self.chain.feed(item)
        self.effects += effects
        return [e.event for e in effects if isinstance(e, Tell | Report)]  # type: ignore[misc]

    def sample(self, age_s: float, usage: Usage = USED, *, final: bool = False) -> list[object]:
        at_ns = self.born_ns + int(age_s * S)
        return [*self.feed(Sampled(boot_ns=at_ns, serial=1, usage=usage, final=final))]

    def exit(self, **how: int) -> None:
        self.feed(Exited(boot_ns=self.kernel.boot_ns, serial=1, **how))

    def end(self, age_s: float) -> ContainerEvent:
        self.kernel.boot_ns = self.born_ns + int(age_s * S)
        told = [event for item in self.kernel.end(PATH, V2) for event in self.feed(item)]
        assert isinstance(told[-1], ContainerEvent)
        return told[-1]

    @property
    def readings(self) -> list[Reading]:
        return [effect for effect in self.effects if isinstance(effect, Reading)]

    @property
    def names(self) -> list[str]:
        told = [e.event.event for e in self.effects if isinstance(e, Tell | Report)]
        return [name.removeprefix("container_") for name in told]


def test_its_use_is_told_at_the_ages_that_were_asked_for_once() -> None:
    life = Life()

    assert life.sample(9.9) == []
    [ten] = life.sample(10.0)
    assert life.sample(11.0) == []
    [sixty] = life.sample(60.01, replace(USED, cpu_seconds=105.0))
    assert life.sample(600.0) == []

    assert isinstance(ten, ContainerUsage)
    assert isinstance(sixty, ContainerUsage)
    assert (ten.event, ten.age_seconds, ten.container_id) == ("container_usage", 10.0, CID)
    assert ten.id.endswith("-usage-10")
    assert ten.rates is not None
    assert ten.rates.cpu_cores == 0.5  # since its birth
    assert sixty.rates is not None
    assert sixty.rates.cpu_cores == pytest.approx(100 / 50.01, abs=1e-6)  # since then


def test_each_look_is_a_reading_with_the_rates_since_the_one_before() -> None:
    life = Life()
    # Two looks at once are compared with the same one: rates of a millisecond say nothing.
    for age_s, cpu_s in ((1, 1.0), (2, 3.0), (2.001, 3.0), (3, 6.0), (8, 6.0)):
        life.sample(age_s, replace(USED, cpu_seconds=cpu_s))

    cores = [each.rates.cpu_cores for each in life.readings if each.rates is not None]

    assert cores == pytest.approx([1.0, 2.0, 2 / 1.001, 3.0, 0.0], abs=1e-6)
    assert [each.age_seconds for each in life.readings] == [1, 2, 2.001, 3, 8]
    assert {each.container.container_id for each in life.readings} == {CID}


def test_where_nobody_follows_looks_there_are_no_readings_and_all_events() -> None:
    life = Life()
    life.chain = Chain(life.header, readings=False)
    for item in life.inputs:
        life.chain.feed(item)

    assert [type(event) for event in life.sample(10.0)] == [ContainerUsage]
    assert life.readings == []


def test_there_is_no_reading_of_a_cgroup_that_has_gone_or_a_birth_that_is_not_told() -> None:
    gone = Usage(missing=dict.fromkeys([*USED.missing, *TOTALS], Unread.GONE))
    ended, untold = Life(), Life(wait_ms=2000)

    ended.sample(1.0, gone)
    untold.sample(1.0)

    assert ended.readings == untold.readings == []


def test_a_counter_that_goes_back_makes_no_reading_smaller() -> None:
    life = Life()
    for age_s, cpu_s in ((1, 9.0), (2, 1.0), (3, 2.0), (4, 11.0)):
        life.sample(age_s, replace(USED, cpu_seconds=cpu_s))

    assert [each.usage.cpu_seconds for each in life.readings] == [9.0, 9.0, 9.0, 11.0]
    assert [each.rates.cpu_cores for each in life.readings if each.rates] == [9.0, 0.0, 0.0, 2.0]


def test_a_clock_that_jumps_gives_no_rate_that_could_not_be() -> None:
    """Back, where no time has passed, and ahead, by an hour of sleep."""
    life = Life()
    for age_s, cpu_s in ((5, 1.0), (4, 2.0), (-3, 3.0), (6, 4.0), (3606, 5.0)):
        life.sample(age_s, replace(USED, cpu_seconds=cpu_s))

    ages = [each.age_seconds for each in life.readings]
    cores = [each.rates.cpu_cores if each.rates else None for each in life.readings]
    assert ages == [5, 4, None, 6, 3606]
    assert cores == pytest.approx([0.2, 0.5, None, 3.0, 1 / 3600], abs=1e-6)


def test_ages_that_were_slept_through_are_told_as_one() -> None:
    [told] = Life().sample(3600.0)

    assert isinstance(told, ContainerUsage)
    assert (told.id.rpartition("-")[2], told.age_seconds) == ("60", 3600.0)


def test_a_kill_is_told_at_once_with_how_many() -> None:
    life = Life()
    life.sample(1.0)

    [oom] = life.sample(1.2, replace(USED, oom_kills=2))

    assert isinstance(oom, ContainerUsage)
    assert (oom.event, oom.kills, oom.usage.oom_kills) == ("container_oom", 2, 2)
    assert life.sample(1.3, replace(USED, oom_kills=2)) == []


def test_a_storm_of_kills_is_one_event_a_second_and_none_is_lost() -> None:
    life = Life()

    told = [each for n in range(1, 101) for each in life.sample(n / 40, replace(USED, oom_kills=n))]
    told += life.sample(2.6, replace(USED, oom_kills=100), final=True)

    assert len(told) == 4
    assert sum(each.kills for each in told if isinstance(each, ContainerUsage)) == 100


def test_kills_within_a_second_of_its_end_are_told_though_no_look_came_after_it() -> None:
    life = Life()
    life.sample(1.0, replace(USED, oom_kills=1))
    life.sample(1.2, replace(USED, oom_kills=3))

    remove = life.end(1.3)

    assert life.names == ["create", "oom", "oom", "remove"]
    assert [each.event.kills for each in life.effects if isinstance(each, Report)] == [1, 2]  # type: ignore[union-attr]
    assert remove.usage is not None
    assert remove.usage.oom_kills == 3


def test_kills_before_us_are_no_news() -> None:
    chain = Chain(replace(HEADER, usage_at_ns=(10 * S,)))
    kernel = Kernel()
    list(kernel.birth(PATH, runc(CID), V2))
    found = Listed(
        boot_ns=kernel.boot_ns,
        container_id=ContainerId(CID),
        paths=((kernel.key(PATH), PATH),),
        identity=None,
        leads=Leads(),
    )
    chain.feed(found)

    killed = replace(USED, oom_kills=7)
    assert chain.feed(Sampled(boot_ns=kernel.boot_ns, serial=1, usage=killed)) == []


def test_the_bill_is_of_the_whole_life() -> None:
    life = Life()
    life.sample(1.0)
    life.sample(2.5, replace(USED, cpu_seconds=7.5), final=True)
    life.exit(code=3)

    remove = life.end(2.503)

    assert remove.event == "container_remove"
    assert remove.usage == Bill(
        duration_seconds=2.503001,  # the kernel of these tests needs a microsecond for each
        exit_code=3,
        final=True,
        read_before_end_seconds=0.003001,
        cpu_seconds=7.5,
        memory_peak_bytes=1000,
        oom_kills=0,
        io_read_bytes=50,
        missing={name: why for name, why in USED.missing.items() if name in Bill.__struct_fields__},
    )
    assert life.names == ["create", "remove"]


def test_a_race_that_is_lost_leaves_what_was_known_and_says_so() -> None:
    life = Life()
    life.sample(1.0)
    gone = Usage(missing=dict.fromkeys(Usage.__struct_fields__[:-1], Unread.GONE))
    life.sample(1.5, gone, final=True)

    bill = life.end(1.6).usage

    assert bill is not None
    assert bill.read_before_end_seconds == pytest.approx(0.6, abs=1e-3)
    assert (bill.cpu_seconds, bill.memory_peak_bytes, bill.final) == (5.0, 1000, False)
    assert bill.missing["throttled_seconds"] is Unread.NO_CONTROLLER  # as it was before


def test_of_one_that_was_never_read_all_is_missing() -> None:
    bill = Life().end(0.1).usage

    assert bill is not None
    assert bill.read_before_end_seconds is None
    assert bill.duration_seconds == pytest.approx(0.1, abs=1e-3)
    assert set(bill.missing.values()) == {Unread.GONE}
    known = {*bill.missing, "duration_seconds", "exit_code", "exit_signal", "final"}
    assert {*Bill.__struct_fields__} - known == {"read_before_end_seconds", "missing"}


def test_the_create_is_first_and_the_remove_last_also_for_a_kill_at_once() -> None:
    life = Life(wait_ms=2000)
    assert life.sample(0.05, replace(USED, oom_kills=1), final=True) == []

    for item in life.kernel.end(PATH, V2):
        life.feed(item)
    life.feed(Ending(boot_ns=life.kernel.boot_ns))

    assert life.names == ["create", "oom", "remove"]
    assert life.chain.living == life.chain.untold == 0


def test_without_usage_nothing_is_kept_and_nothing_told() -> None:
    life = Life(ages_s=None)
    life.sample(10.0)

    assert life.end(11.0).usage is None
    assert life.names == ["create", "remove"]
    assert not any(isinstance(effect, Born | Started | Gone) for effect in life.effects)


def test_a_clock_that_is_set_moves_times_and_no_age() -> None:
    life = Life()
    life.feed(Clock(wall_offset_ns=HEADER.wall_offset_ns - 3600 * S))

    [told] = life.sample(10.0)

    assert isinstance(told, ContainerUsage)
    assert told.age_seconds == 10.0
    assert told.rates is not None
    assert told.rates.seconds == 10.0


def test_a_look_from_before_its_birth_has_neither_age_nor_rates() -> None:
    """A journal that was changed by hand: the kernel's clock of births does not go back."""
    life = Life()

    [told] = life.sample(-5.0, replace(USED, oom_kills=1))

    assert isinstance(told, ContainerUsage)
    assert (told.age_seconds, told.rates) == (None, None)


def test_what_is_read_after_the_end_is_nobodys() -> None:
    life = Life()
    life.end(1.0)

    assert life.sample(1.1) == []
    life.exit(signal=9)


def test_a_replay_tells_the_same_again(tmp_path: Path) -> None:
    life = Life()
    life.sample(10.0)
    life.sample(12.0, replace(USED, oom_kills=1), final=True)
    life.exit(signal=9)
    life.end(12.1)
    with contextlib.closing(JournalWriter(tmp_path / "j", life.header)) as journal:
        for item in life.inputs:
            journal.write(item)

    header, items = read_journal(tmp_path / "j")
    again = Chain(header)

    assert [effect for item in items for effect in again.feed(item)] == life.effects
    assert life.names == ["create", "usage", "oom", "remove"]


def test_ten_thousand_accounts_are_closed_with_their_containers() -> None:
    ledger = Ledger((10 * S,))
    for serial in range(10_007):
        ledger.open(born(serial))
        ledger.note(Sampled(boot_ns=serial + S, serial=serial, usage=USED))
    assert len(ledger) == 10_007
    assert ledger.usage(10_006) == USED

    for serial in range(10_007):
        ledger.close(serial)

    assert len(ledger) == 0
    assert ledger.bill(5, S) is None


def born(serial: int) -> Born:
    return Born(
        serial=serial,
        boot_ns=serial,
        identity=Identity(ContainerId(CID), Runtime.DOCKER, is_root=True),
        cgroup=CgroupKey(0, serial),
        path=PATH,
        creator=None,
        call=None,
    )
