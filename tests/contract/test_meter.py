"""The meter on a real chain, with directories that look like cgroups, and real processes to end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from ctrwatch.core.chain import Chain, Header, Input
from ctrwatch.core.changes import Born, Gone, Placed, Started
from ctrwatch.core.hostuse import HostSampled
from ctrwatch.core.ledger import Exited, Sampled
from ctrwatch.core.story import Tell
from ctrwatch.event import Bill, Unread
from ctrwatch.meter import Meter
from ctrwatch.model import CgroupKey, ContainerId, Leads, Listed, RawEvent
from ctrwatch.sensor.ends import Ends
from ctrwatch.sensor.host import Hierarchy, Host
from ctrwatch.sensor.hostuse import read_host_figures
from ctrwatch.sensor.ooms import Ooms
from tests.unit.builders import CID, SOMEBODY, Kernel, runc
from tests.unit.cgroup_files import V2

PATH = f"/docker/{CID}"
DEADLINE_S = 10.0
S = 1_000_000_000
MANY = 10_007
LOOKS = 101


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 - of many a thing
            await asyncio.sleep(0.005)


def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("sleep", "600")) as process:
        yield process
        process.kill()


child, other = pytest.fixture(sleeper), pytest.fixture(sleeper)


def was_there(cgroup: CgroupKey, path: str) -> Listed:
    return Listed(
        boot_ns=boot_ns(),
        container_id=ContainerId(path.rpartition("/")[2]),
        paths=((cgroup, path),),
        identity=None,
        leads=Leads(),
    )


class Watched:
    """One container on a host with cgroup v2, whose files are a test's; and what was fed."""

    def __init__(self, home: Path) -> None:
        self.directory = Path(f"{home}{PATH}")
        self.directory.mkdir(parents=True)
        for (_, file), raw in V2.items():
            assert isinstance(raw, bytes)
            (self.directory / file).write_bytes(raw)
        (home / "cgroup.controllers").write_text("cpu io memory pids\n")
        self.host = Host("h", "b", "6.18", {0: Hierarchy(0, str(home), "")})
        self.chain = Chain(
            Header(
                host="h", boot_id="b", wall_offset_ns=0, wait_ns=0, unified=True,
                usage_at_ns=(S,),
            )
        )  # fmt: skip
        self.fed: list[Input] = []
        self.told: list[Tell] = []
        self.meter = Meter(self.host, self.chain, self.feed, settled_ns=60 * S, ages_ns=(S,))
        self.kernel = Kernel()
        self.cgroup = CgroupKey(0, self.directory.stat().st_ino)

    def feed(self, item: Input) -> None:
        self.fed.append(item)
        for effect in self.chain.feed(item):
            if isinstance(effect, Born | Placed | Started | Gone):
                self.meter.heard(effect)
            elif isinstance(effect, Tell):
                self.told.append(effect)

    def happens(self, event: RawEvent) -> None:
        self.feed(replace(event, boot_ns=boot_ns(), cgroup=self.cgroup))

    def is_born(self) -> None:
        self.happens(self.kernel.mkdir(PATH, runc(CID)))

    def was_there(self) -> None:
        """For longer than anybody knows."""
        self.feed(was_there(self.cgroup, PATH))

    def starts(self, pid: int) -> None:
        self.happens(self.kernel.exec(PATH, replace(SOMEBODY, pid=pid, start_ns=0)))

    def looks(self) -> list[Sampled]:
        return [item for item in self.fed if isinstance(item, Sampled)]

    def ends(self) -> Bill:
        shutil.rmtree(self.directory)
        self.happens(self.kernel.rmdir(PATH))
        bill = self.told[-1].event.usage
        assert bill is not None
        return bill


@pytest_asyncio.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.meter.close()


def three_more(watched: Watched, meter: Meter) -> None:
    """As old as the host, and due at once."""
    for letter in "abc":
        path = PATH.replace(CID, 64 * letter)
        directory = shutil.copytree(watched.directory, str(watched.directory).replace(PATH, path))
        listed = was_there(CgroupKey(0, os.stat(directory).st_ino), path)
        for effect in watched.chain.feed(listed):
            if isinstance(effect, Born):
                meter.heard(effect)


async def test_looks_that_take_long_let_births_have_their_turn_between(
    watched: Watched,
) -> None:
    """As those do that are judged by a thousand rules: each waits for nobody but itself."""
    order: list[str] = []

    def feed(item: Input) -> None:
        if isinstance(item, Sampled):
            order.append("look")
            asyncio.get_running_loop().call_soon(order.append, "turn")
            until_ns = time.perf_counter_ns() + 5_000_000
            while time.perf_counter_ns() < until_ns:
                pass

    meter = Meter(watched.host, watched.chain, feed, settled_ns=S, ages_ns=())
    three_more(watched, meter)
    await until(lambda: order.count("look") >= 3)
    meter.close()

    assert order[:5] == ["look", "turn", "look", "turn", "look"]


async def test_births_in_a_storm_do_not_shorten_the_rest_between_looks(watched: Watched) -> None:
    """Each of them, and each that is roused, asks anew when the next look is due."""
    took_ns = 5_000_000
    looks: list[tuple[int, int]] = []

    def feed(item: Input) -> None:
        if isinstance(item, Sampled):
            began_ns = time.perf_counter_ns()
            while time.perf_counter_ns() < began_ns + took_ns:
                pass
            looks.append((began_ns, time.perf_counter_ns()))

    meter = Meter(watched.host, watched.chain, feed, settled_ns=S, ages_ns=())
    three_more(watched, meter)

    def asks() -> bool:
        meter.rouse(99)
        return len(looks) >= 3

    await until(asks)
    meter.close()

    pauses = [later - before for (_, before), (later, _) in pairwise(looks)]
    assert min(pauses) >= 8 * took_ns


async def test_one_that_is_roused_is_looked_at_each_second(watched: Watched) -> None:
    """An old one, whose next look would be a minute later."""
    watched.was_there()
    await until(watched.looks)
    watched.meter.rouse(watched.looks()[0].serial)
    watched.meter.rouse(99)  # somebody who has ended

    await until(lambda: len(watched.looks()) >= 3)

    first, *_, last = watched.looks()
    assert S <= last.boot_ns - first.boot_ns < 5 * S


async def test_a_newborn_is_looked_at_after_a_second(watched: Watched) -> None:
    watched.is_born()
    await until(watched.looks)

    [look] = watched.looks()
    assert (look.usage.memory_bytes, look.final) == (9437184, False)
    born = next(item for item in watched.fed if isinstance(item, RawEvent))
    assert S <= look.boot_ns - born.boot_ns < 3 * S


async def test_the_end_of_its_first_process_is_the_last_look(
    watched: Watched, child: subprocess.Popen[bytes]
) -> None:
    watched.is_born()
    watched.starts(child.pid)
    child.send_signal(signal.SIGKILL)
    await until(watched.looks)
    child.wait()
    bill = watched.ends()

    assert bill.final
    assert bill.cpu_seconds == pytest.approx(1.234567)
    assert bill.missing == {}
    assert all(how.signal == 9 for how in watched.fed if isinstance(how, Exited))


async def test_of_one_that_has_ended_before_we_heard_of_it_what_is_there_is_read(
    watched: Watched, child: subprocess.Popen[bytes]
) -> None:
    child.kill()
    child.wait()
    watched.is_born()
    watched.starts(child.pid)
    await until(watched.looks)

    assert watched.ends().final


async def test_a_cgroup_that_has_gone_already_is_said(
    watched: Watched, child: subprocess.Popen[bytes]
) -> None:
    watched.is_born()
    watched.starts(child.pid)
    watched.directory.rename(watched.directory.with_name("away"))
    watched.directory.mkdir()
    child.kill()
    await until(watched.looks)
    bill = watched.ends()

    assert set(bill.missing.values()) == {"gone"}
    assert bill.cpu_seconds is None


def crowd(watched: Watched, number: int, *, age_s: int) -> list[Path]:
    """So many containers more, and their directories."""
    kernel, directories = Kernel(), []
    for each in range(number):
        container_id = f"{each:064x}"
        directory = watched.directory.parent / container_id
        directory.mkdir()
        born = kernel.mkdir(f"/docker/{container_id}", runc(container_id))
        cgroup = CgroupKey(0, directory.stat().st_ino)
        watched.feed(replace(born, boot_ns=boot_ns() - age_s * S, cgroup=cgroup))
        directories.append(directory)
    return directories


async def test_a_kill_is_found_at_once_and_looked_after(
    watched: Watched, child: subprocess.Popen[bytes]
) -> None:
    watched.is_born()
    watched.starts(child.pid)
    await until(watched.looks)
    (watched.directory / "memory.events").write_bytes(b"oom 3\noom_kill 3\n")
    await until(lambda: any(look.usage.oom_kills == 3 for look in watched.looks()))
    heard = len(watched.looks())
    await until(lambda: watched.chain.told["container_oom"] == 2)  # one event a second

    assert heard == 2


async def test_a_container_in_which_kill_follows_kill_is_looked_at_once_a_second(
    watched: Watched, child: subprocess.Popen[bytes]
) -> None:
    watched.is_born()
    watched.starts(child.pid)
    await until(watched.looks)
    began_ns, events = boot_ns(), watched.directory / "memory.events"
    for kills in range(1, 50):
        events.write_bytes(b"oom_kill %d\n" % kills)
        watched.meter._oom(1)

    assert sum(look.boot_ns >= began_ns for look in watched.looks()) <= 2
    events.write_bytes(b"oom_kill 50\n")
    await until(lambda: watched.looks()[-1].usage.oom_kills == 50)  # roused: within a second


async def test_a_storm_of_kills_in_all_of_them_is_looked_at_within_bounds(watched: Watched) -> None:
    for directory in crowd(watched, 300, age_s=0):
        (directory / "memory.events").write_bytes(b"oom_kill 1\n")
    for serial in [*watched.meter._subjects]:
        watched.meter._oom(serial)

    assert 100 <= len(watched.looks()) <= 200  # and a second's more, on a slow host
    for serial in [*watched.meter._subjects]:
        watched.meter.heard(Gone(serial=serial, boot_ns=boot_ns()))


async def test_what_ends_is_forgotten(watched: Watched, child: subprocess.Popen[bytes]) -> None:
    files = len(os.listdir("/proc/self/fd"))
    watched.is_born()
    watched.starts(child.pid)
    watched.ends()

    assert watched.meter._subjects == {}
    assert len(os.listdir("/proc/self/fd")) <= files + 1  # inotify's


async def test_ten_thousand_that_are_due_at_once_take_a_tenth_of_a_core(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the looks' own times: each turn is followed by a rest of nine times its length."""
    turns: list[list[Sampled]] = []
    look = watched.meter._look

    def turn() -> None:
        seen = len(watched.looks())
        look()
        turns.append(watched.looks()[seen:])

    monkeypatch.setattr(watched.meter, "_look", turn)
    crowd(watched, MANY, age_s=60)
    await until(lambda: len(watched.looks()) >= LOOKS)

    for one, next_ in pairwise(filter(None, turns)):
        took_ns = one[-1].boot_ns - one[0].boot_ns
        assert next_[0].boot_ns - one[-1].boot_ns >= 8 * took_ns
    assert sum(map(len, turns)) >= LOOKS
    assert len({each.serial for each in watched.looks()}) == len(watched.looks())
    for serial in [*watched.meter._subjects]:
        watched.meter.heard(Gone(serial=serial, boot_ns=boot_ns()))
    assert len(watched.meter._attention) == 0


async def test_a_kill_that_no_word_comes_of_is_looked_for_where_the_limit_was_reached(
    watched: Watched, child: subprocess.Popen[bytes]
) -> None:
    """v2 tells of the limit, and of a kill 10 ms later at the earliest: the cgroup may have gone by then."""
    watched.is_born()
    watched.starts(child.pid)
    await until(watched.looks)
    events, silent = watched.directory / "memory.events", watched.directory / "silent"
    with events.open("r+b") as file:
        file.write(b"low 1")  # one word of the kernel, and no more kills than before
    [subject] = watched.meter._subjects.values()
    await until(lambda: subject.at_limit_ns)
    silent.write_bytes(b"max 1\noom 1\noom_kill 3\n")
    (watched.directory / "kept").hardlink_to(events)
    silent.rename(events)  # inotify says nothing: the file that it watches is the one that is kept
    await until(lambda: watched.looks()[-1].usage.oom_kills == 3)

    found = next(look for look in watched.looks() if look.usage.oom_kills == 3)
    assert subject.at_limit_ns is not None
    assert found.boot_ns - subject.at_limit_ns < S // 2  # the next look by the clock is later


# --- ends and kills, each by itself -----------------------------------------------------------


async def test_another_process_with_its_number_is_not_waited_for(
    child: subprocess.Popen[bytes],
) -> None:
    fired: list[int] = []
    ends = Ends(lambda _: None, lambda end: fired.append(end.serial))
    ends.watch(7, child.pid, start_ns=1)
    await until(lambda: fired)
    ends.close()

    assert fired == [7]


async def test_the_later_word_on_who_is_first_counts(child: subprocess.Popen[bytes]) -> None:
    fired: list[int] = []
    ends = Ends(lambda _: None, lambda end: fired.append(end.serial))
    ends.watch(7, os.getpid(), start_ns=0)
    ends.watch(7, child.pid, start_ns=0)
    child.kill()
    await until(lambda: fired)
    ends.close()

    assert fired == [7]


async def test_one_that_is_dropped_while_a_program_is_started_stops_nobody(
    child: subprocess.Popen[bytes], other: subprocess.Popen[bytes]
) -> None:
    """Between fork and exec the program has copies of all files, and epoll keeps what has one."""
    fired: list[int] = []
    ends = Ends(lambda _: None, lambda end: fired.append(end.serial))
    ends.watch(7, other.pid, start_ns=0)
    ends.watch(8, child.pid, start_ns=0)
    copy = os.dup(ends._firsts[7].pidfd)
    ends.drop(7)
    other.kill()
    other.wait()
    child.kill()
    await until(lambda: fired)
    ends.close()
    os.close(copy)

    assert fired == [8]


async def test_a_container_without_files_to_hear_by_is_left_to_the_looks(tmp_path: Path) -> None:
    fired: list[int] = []
    ooms = Ooms(fired.append, fired.append)
    ooms.watch(1, 2, str(tmp_path))
    ooms.watch(2, 1, str(tmp_path))
    ooms.watch(3, 2, str(tmp_path / "gone"))
    ooms.drop(1)
    ooms.close()

    assert fired == []


async def test_what_happens_in_one_is_not_anothers(tmp_path: Path) -> None:
    fired: list[int] = []
    ooms = Ooms(fired.append, fired.append)
    for serial in (1, 2):
        directory = tmp_path / str(serial)
        directory.mkdir()
        (directory / "memory.events").write_bytes(b"oom_kill 0\n")
        ooms.watch(serial, 2, str(directory))
    (tmp_path / "2/memory.events").write_bytes(b"oom_kill 1\n")
    await until(lambda: fired)
    ooms.close()

    assert set(fired) == {2}


async def test_the_host_is_looked_at_while_somebody_lives(watched: Watched) -> None:
    def looks() -> list[HostSampled]:
        return [item for item in watched.fed if isinstance(item, HostSampled)]

    assert looks() == []
    watched.is_born()
    await until(looks)
    watched.ends()
    await until(lambda: len(looks()) == 2)

    first, last = looks()
    assert last.boot_ns - first.boot_ns >= S
    assert last.usage.cpu_seconds is not None
    assert first.usage.cpu_seconds is not None
    assert last.usage.cpu_seconds >= first.usage.cpu_seconds
    assert first.usage.memory_total_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )


def test_what_the_host_does_not_have_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable: 5 kB\n")
    (tmp_path / "stat").mkdir()
    said = read_host_figures(str(tmp_path))

    assert said.memory_bytes == 3072
    assert said.missing["cpus"] is Unread.UNREADABLE
    assert said.missing["io_read_bytes"] is Unread.NOT_OFFERED


def test_a_long_list_of_disks_is_read_to_its_end(tmp_path: Path) -> None:
    line = "8 0 sd{} 1 0 2 1 1 0 4 1 0 1 1 0 0 0 0 0 0\n"
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [a + b for a in letters for b in letters]
    (tmp_path / "diskstats").write_text("".join(map(line.format, names)))

    assert read_host_figures(str(tmp_path)).io_read_bytes == 676 * 2 * 512
