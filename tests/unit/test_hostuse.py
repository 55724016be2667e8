"""What the host uses: its files to figures, figures to events, and when it is looked at."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ctrwatch.commands.lines import chosen
from ctrwatch.core.chain import Chain, Clock
from ctrwatch.core.hostuse import FILES, HostBeat, HostSampled, figures, host_rates
from ctrwatch.core.report import Report
from ctrwatch.event import HostFigures, HostUsage, Pressure, Unread
from tests.unit.host_files import HOST
from tests.unit.test_chain import HEADER

S = 1_000_000_000
WANTED = HostFigures(
    cpus=2,
    cpu_seconds=14.0,  # not idle, I/O wait, steal, nor guests a second time
    memory_bytes=(24684092 - 24074416) * 1024,
    memory_total_bytes=24684092 * 1024,
    io_read_bytes=2010 * 512,  # of vda and nvme0n1
    io_write_bytes=4020 * 512,
    pressure=Pressure(
        cpu_waited_percent=12.5,
        cpu_waited_seconds=2.5,
        memory_waited_percent=12.5,
        memory_waited_seconds=2.5,
        io_waited_percent=12.5,
        io_waited_seconds=2.5,
    ),
)


def test_every_figure_is_read() -> None:
    assert figures(HOST) == WANTED


FIGURES_OF = {
    "stat": {"cpus", "cpu_seconds"},
    "meminfo": {"memory_bytes", "memory_total_bytes"},
    "diskstats": {"io_read_bytes", "io_write_bytes"},
    "pressure/cpu": {"pressure.cpu"},
    "pressure/memory": {"pressure.memory"},
    "pressure/io": {"pressure.io"},
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("why", [Unread.NOT_OFFERED, Unread.UNREADABLE])
def test_a_file_that_is_not_there_costs_its_own_figures_only(file: str, why: Unread) -> None:
    said = figures({**HOST, file: why})

    assert said.missing == dict.fromkeys(FIGURES_OF[file], why)
    others = set(HostFigures.__struct_fields__) - FIGURES_OF[file] - {"missing", "pressure"}
    assert all(getattr(said, name) == getattr(WANTED, name) for name in others)


@pytest.mark.parametrize(
    ("file", "raw", "name", "why"),
    [
        ("stat", b"", "cpus", Unread.NOT_OFFERED),
        ("stat", b"cpu  1 2 3\n", "cpu_seconds", Unread.NOT_OFFERED),
        ("meminfo", b"MemTotal: 5 kB\n", "memory_bytes", Unread.NOT_OFFERED),
        (
            "meminfo",
            b"MemTotal: 9999999999999999 kB\nMemAvailable: 1 kB\n",
            "memory_total_bytes",
            Unread.UNREADABLE,
        ),
        ("diskstats", b"", "io_read_bytes", Unread.NOT_OFFERED),
        (
            "diskstats",
            b"7 0 loop0 9 0 900 0 9 0 900 0 0 0 0\n",
            "io_write_bytes",
            Unread.NOT_OFFERED,
        ),
    ],
)
def test_what_a_file_does_not_say_has_a_reason(
    file: str, raw: bytes, name: str, why: Unread
) -> None:
    said = figures({**HOST, file: raw})

    assert getattr(said, name) is None
    assert said.missing[name] is why


def test_less_available_than_none_is_no_negative_use() -> None:
    said = figures({"meminfo": b"MemTotal: 5 kB\nMemAvailable: 9 kB\n"})

    assert said.memory_bytes == 0


@given(st.dictionaries(st.sampled_from(FILES), st.binary(max_size=300)))
def test_any_bytes_give_figures_or_reasons(texts: dict[str, bytes]) -> None:
    said = figures(texts)

    assert msgspec.json.decode(msgspec.json.encode(said), type=HostFigures) == said
    for name in HostFigures.__struct_fields__:
        if name != "missing":
            assert (getattr(said, name) is None) == (name in said.missing)


# --- rates --------------------------------------------------------------------------------


def look(second: float, cpu_s: float, **fields: object) -> HostSampled:
    return HostSampled(boot_ns=int(second * S), usage=replace(WANTED, cpu_seconds=cpu_s, **fields))


def test_rates_are_since_the_look_before() -> None:
    said = host_rates(look(10, 100), look(20, 115, io_read_bytes=2010 * 512 + 4096))

    assert said is not None
    assert (said.seconds, said.cpu_cores) == (10.0, 1.5)
    assert (said.io_read_bytes_per_second, said.io_write_bytes_per_second) == (409.6, 0.0)


def test_the_first_look_has_no_rates() -> None:
    assert host_rates(None, look(10, 100)) is None


@pytest.mark.parametrize("second", [10, 9.5])
def test_a_clock_that_stands_or_goes_back_gives_no_rates(second: float) -> None:
    assert host_rates(look(10, 100), look(second, 101)) is None


def test_a_counter_that_goes_back_costs_its_own_rate_only() -> None:
    said = host_rates(look(10, 100), look(20, 90, io_read_bytes=None))

    assert said is not None
    assert said.cpu_cores is None
    assert said.io_read_bytes_per_second is None
    assert said.io_write_bytes_per_second == 0.0


def test_the_chain_tells_each_look_with_the_time_of_day_as_it_is_set() -> None:
    chain = Chain(HEADER)
    [first] = chain.feed(look(10, 100))
    chain.feed(Clock(wall_offset_ns=HEADER.wall_offset_ns + 3600 * S))
    [second] = chain.feed(look(20, 115))

    assert isinstance(first, Report)
    assert isinstance(second, Report)
    assert isinstance(first.event, HostUsage)
    assert isinstance(second.event, HostUsage)
    assert first.event.rates is None
    assert second.event.rates is not None
    assert second.event.rates.cpu_cores == 1.5  # by the clock that nobody sets
    assert first.event.id != second.event.id
    assert chain.told["host_usage"] == 2


def test_as_text_only_looks_of_the_slow_beat_are_shown() -> None:
    text = chosen("text", terminal=False, wall_offset_ns=lambda: 0)
    json = chosen("json", terminal=False, wall_offset_ns=lambda: 0)
    chain = Chain(HEADER)
    told = [each for second in (10, 11, 21) for each in chain.feed(look(second, 100 + second))]

    assert [bool(text(each)) for each in told if isinstance(each, Report)] == [False, False, True]
    assert all(json(each) for each in told if isinstance(each, Report))


# --- when ---------------------------------------------------------------------------------


def test_nobody_lives_and_nothing_is_looked_at() -> None:
    beat = HostBeat(60 * S)

    assert beat.next_ns(0) is None
    assert beat.gone(7, 5 * S) is None


def test_each_birth_is_a_look_and_then_every_ten_seconds() -> None:
    beat = HostBeat(60 * S)

    assert beat.born(1, 100 * S, 100 * S) == 100 * S
    assert beat.looked(100 * S) == 110 * S
    assert beat.born(2, 103 * S, 103 * S) == 103 * S
    assert beat.looked(103 * S) == 113 * S


def test_after_five_minutes_it_is_the_settled_beat() -> None:
    beat = HostBeat(60 * S)
    beat.born(1, 100 * S, 100 * S)

    assert beat.looked(399 * S) == 409 * S
    assert beat.looked(400 * S) == 460 * S


def test_each_end_is_a_look_and_the_last_one_the_last() -> None:
    beat = HostBeat(60 * S)
    beat.born(1, 100 * S, 100 * S)
    beat.born(2, 100 * S, 100 * S)
    beat.looked(100 * S)

    assert beat.gone(1, 103 * S) == 103 * S
    assert beat.looked(103 * S) == 113 * S
    assert beat.gone(2, 105 * S) == 105 * S
    assert beat.looked(105 * S) is None


def test_a_storm_of_births_costs_a_look_a_second() -> None:
    beat = HostBeat(60 * S)
    beat.born(1, 100 * S, 100 * S)
    beat.looked(100 * S)

    assert beat.gone(1, 100 * S + 1) == 101 * S
    assert beat.born(2, 100 * S + 2, 100 * S + 2) == 101 * S


def test_those_that_were_there_are_old_unless_somebody_knows_better() -> None:
    beat = HostBeat(60 * S)
    beat.born(1, 0, 1000 * S)

    assert beat.looked(1000 * S) == 1060 * S
    beat.born(2, 900 * S, 1000 * S)
    assert beat.looked(1001 * S) == 1011 * S


def test_a_settled_beat_that_is_shorter_is_kept_always() -> None:
    beat = HostBeat(5 * S)
    beat.born(1, 0, 0)

    assert beat.looked(0) == 5 * S
