"""The files of cgroups, as kernels write them and as they don't, to what a container uses."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ctrwatch.core.usage import FILES, TOTALS, Texts, later, rates, share, usage
from ctrwatch.event import Pressure, Unread, Usage
from tests.unit.cgroup_files import HYBRID, V2

WANTED = Usage(
    cpu_seconds=1.234567,
    cpu_user_seconds=1.0,
    cpu_system_seconds=0.23,
    throttled_seconds=2.5,
    throttled_periods=7,
    memory_bytes=9437184,
    memory_working_set_bytes=8388608,
    memory_peak_bytes=12582912,
    memory_limit_bytes=67108864,
    oom_kills=2,
    io_read_bytes=5120,
    io_write_bytes=8192,
    io_reads=2,
    io_writes=2,
    pids=3,
    pids_limit=20,
    pids_refused=5,
    pressure=Pressure(
        cpu_waited_percent=12.5,
        cpu_waited_seconds=2.5,
        memory_waited_percent=12.5,
        memory_waited_seconds=2.5,
        io_waited_percent=12.5,
        io_waited_seconds=2.5,
    ),
)


@pytest.mark.parametrize("texts", [HYBRID, V2], ids=["hybrid", "v2"])
def test_every_figure_is_read(texts: Texts) -> None:
    said = usage(texts)

    assert said == replace(WANTED, cpu_seconds=said.cpu_seconds)
    assert said.cpu_seconds == pytest.approx(1.234567, abs=1e-6)


def test_max_and_the_most_that_v1_can_count_are_no_limit() -> None:
    v1 = usage({**HYBRID, (1, "memory.limit_in_bytes"): b"9223372036854771712\n"})
    v2 = usage({**V2, (2, "memory.max"): b"max\n", (2, "pids.max"): b"max\n"})

    assert (v1.memory_limit_bytes, v2.memory_limit_bytes, v2.pids_limit) == (None, None, None)
    assert not v1.missing
    assert not v2.missing


def test_a_limit_of_zero_is_a_limit() -> None:
    said = usage({**V2, (2, "memory.max"): b"0\n"})

    assert said.memory_limit_bytes == 0
    assert share(said.memory_bytes, said.memory_limit_bytes) == 1.0


def test_a_controller_that_is_not_enabled_is_said_so() -> None:
    """A cgroup v2 whose parent delegates nothing has cpu.stat without throttling, and no more."""
    texts: dict[tuple[int, str], bytes | Unread] = {(2, f): Unread.NOT_OFFERED for f in FILES[2]}
    texts[2, "cpu.stat"] = b"usage_usec 5\nuser_usec 3\nsystem_usec 2\n"

    said = usage(texts)

    assert said.cpu_seconds == 0.000005
    assert {said.missing[name] for name in said.missing if name != "pressure"} == {
        Unread.NO_CONTROLLER
    }
    assert said.missing["pressure"] is Unread.NOT_OFFERED
    assert "cpu_user_seconds" not in said.missing


def test_a_file_that_this_kernel_lacks_is_no_missing_controller() -> None:
    said = usage({**V2, (2, "memory.peak"): Unread.NOT_OFFERED})

    assert said.missing == {"memory_peak_bytes": Unread.NOT_OFFERED}


def test_a_line_that_this_kernel_lacks_is_said_so() -> None:
    said = usage({**HYBRID, (1, "memory.oom_control"): b"oom_kill_disable 0\nunder_oom 0\n"})

    assert said.missing == {"oom_kills": Unread.NOT_OFFERED}


def test_what_vanishes_on_the_way_is_gone_and_the_rest_is_told() -> None:
    gone = {key: Unread.GONE for key in V2 if key[1].startswith(("memory", "pids"))}

    said = usage({**V2, **gone})

    assert said.cpu_seconds == pytest.approx(1.234567)
    assert set(said.missing.values()) == {Unread.GONE}
    assert said.missing["memory_working_set_bytes"] is Unread.GONE


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"-5\n", id="negative"),
        pytest.param(b"12x\n", id="no number"),
        pytest.param(b"9223372036854775808\n", id="more than 63 bits"),
        pytest.param(b"9" * 5000, id="endless"),
        pytest.param("٣\n".encode(), id="other digits"),
    ],
)
def test_nonsense_is_unreadable(raw: bytes) -> None:
    assert usage({**V2, (2, "memory.current"): raw}).missing == {
        "memory_bytes": Unread.UNREADABLE,
        "memory_working_set_bytes": Unread.UNREADABLE,
    }


def test_the_cache_is_never_more_than_all() -> None:
    said = usage({**V2, (2, "memory.current"): b"5\n"})

    assert said.memory_working_set_bytes == 0


# --- one look after the other -------------------------------------------------------------


def test_a_counter_that_goes_back_hides_nothing_and_has_no_rate() -> None:
    before, now = Usage(cpu_seconds=9.0, io_read_bytes=5), Usage(cpu_seconds=1.0, io_read_bytes=6)

    said, per_second = later(before, now), rates(before, now, 2.0)

    assert (said.cpu_seconds, said.io_read_bytes) == (9.0, 6)
    assert per_second is not None
    assert (per_second.cpu_cores, per_second.io_read_bytes_per_second) == (None, 0.5)


@pytest.mark.parametrize("seconds", [0.0, -3.5], ids=["stands still", "goes back"])
def test_without_time_there_are_no_rates(seconds: float) -> None:
    assert rates(Usage(cpu_seconds=1.0), Usage(cpu_seconds=2.0), seconds) is None


def test_what_has_gone_keeps_what_was_known() -> None:
    known, gone = usage(V2), usage(dict.fromkeys(V2, Unread.GONE))

    said = later(known, gone)

    assert said == known
    assert later(gone, gone).missing == gone.missing


def test_a_look_that_came_too_late_is_no_reason_where_there_was_one() -> None:
    """A look by the clock after the last one: the cgroup has gone by then."""
    known = usage({**V2, (2, "io.stat"): Unread.NOT_OFFERED})

    assert later(known, usage(dict.fromkeys(V2, Unread.GONE))) == known


def test_since_birth_all_counters_were_zero() -> None:
    said = rates(None, Usage(cpu_seconds=5.0, throttled_seconds=1.0), 10.0)

    assert said is not None
    assert (said.cpu_cores, said.throttled_share, said.io_read_bytes_per_second) == (0.5, 0.1, None)


# --- properties ---------------------------------------------------------------------------

FIGURES = [name for name in Usage.__struct_fields__ if name != "missing"]
KEYS = [(version, file) for version, files in FILES.items() for file in files]
RAW = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([*V2.values(), *HYBRID.values(), *Unread]),
    st.integers(0, 1 << 66).map(lambda number: b"%d\n" % number),
)
ANY = st.dictionaries(st.sampled_from(KEYS), RAW)


@given(ANY)
def test_any_bytes_give_a_figure_or_a_reason(texts: dict[tuple[int, str], bytes | Unread]) -> None:
    said = usage(texts)

    for name in FIGURES:
        value = getattr(said, name)
        assert (
            (value is None) == (name in said.missing)
            or name.endswith("_limit_bytes")
            or name == "pids_limit"
        )
        assert isinstance(value, Pressure | None) or value >= 0


@given(ANY, ANY)
def test_totals_never_go_back(
    first: dict[tuple[int, str], bytes | Unread], then: dict[tuple[int, str], bytes | Unread]
) -> None:
    before, now = usage(first), usage(then)

    both = later(before, now)

    for name in TOTALS:
        known = [v for v in (getattr(before, name), getattr(now, name)) if v is not None]
        assert getattr(both, name) == max(known, default=None)
