"""What containers use, against the runtimes' own figures and the kernel's files, under real load."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctrwatch.core.usage import CONTROLLERS
from ctrwatch.sensor.host import read_host
from tests.live.bed import Bed
from tests.live.runtimes import Docker, Podman, Runc
from tests.live.waiting import until
from tests.live.watching import Event, Watching, ctrwatch

MB = 1 << 20
LOADED_S = 5  # an age at which a program has done its work, also in an emulated machine
OWN_FILES = 4  # that it holds without a container: the end of a thread, asyncio's
TRIES = 5  # on a host that has more to do than it can, the race of the last look may be lost
KERNEL = tuple(map(int, re.findall(r"\d+", read_host().kernel)[:2]))
# Before Linux 6.15 nobody but the parent knows how a process ended that was waited for.
KILLED = (9,) if KERNEL >= (6, 15) else (9, None)
BUSY = ("sh", "-c", "while :; do :; done")
HIERARCHIES = read_host().hierarchies.values()
COUNTS_V1 = any(CONTROLLERS & set(each.controllers.split(",")) for each in HIERARCHIES)


@pytest.fixture(scope="module")
def watching(docker: Docker) -> Iterator[Watching]:
    docker.remove(docker.run("true"))  # the first one takes seconds in an emulated machine
    ages = ("--usage-at", "2", "--usage-at", str(LOADED_S))
    with Watching("--usage", *ages, "--no-existing") as watching:
        yield watching


def bill(watching: Watching, container: str) -> Event:
    usage: Event = watching.event("container_remove", container)["usage"]
    return usage


def file(container: Event, v1: str, v2: str) -> str:
    """What the kernel says of the container now."""
    name, path = (v1 if COUNTS_V1 else v2), container["cgroup"]["path"]
    for each in HIERARCHIES:
        if each.hierarchy_id == 0 and COUNTS_V1:
            continue
        if (found := Path(f"{each.mount}{path}/{name}")).exists():
            return found.read_text()
    raise FileNotFoundError(name)


def docker_stats(docker: Docker, container: str) -> dict[str, str]:
    said: dict[str, str] = json.loads(
        docker.cli("stats", "--no-stream", "--format", "{{json .}}", container)
    )
    return said


def size(said: str) -> float:
    """
    As docker and podman write it.

    >>> size("1.5MiB"), size("2kB")
    (1572864.0, 2000.0)
    """
    number, unit = re.match(r"([\d.]+)\s*(\w+)", said.strip()).groups()  # type: ignore[union-attr]
    kilo = 1024 if "i" in unit else 1000
    factor: float = kilo ** " KMGT".index(unit[0].upper() if unit[0] != "B" else " ")
    return float(number) * factor


def test_a_busy_loop_that_is_held_back(docker: Docker, watching: Watching) -> None:
    options = ("--cpus", "0.5", "--memory", "64m", "--pids-limit", "20")
    container = docker.run(*BUSY, options=options)
    told = watching.event("container_usage", container, nth=2)
    own, by_docker = told["usage"], docker_stats(docker, container)
    ns = int(
        file(told_of(watching, container), "cpuacct.usage", "cpu.stat").split()[
            0 if COUNTS_V1 else 1
        ]
    )
    seconds = ns / (1e9 if COUNTS_V1 else 1e6)
    docker.remove(container)
    last = bill(watching, container)

    assert (
        0.05 < told["rates"]["cpu_cores"] < 0.6
    )  # less than it may, where others want the CPU too
    assert own["throttled_seconds"] > 0
    assert own["throttled_periods"] > 0
    assert own["cpu_seconds"] < seconds
    assert not last["final"] or seconds <= last["cpu_seconds"]
    assert own["memory_working_set_bytes"] == pytest.approx(
        size(by_docker["MemUsage"].split("/")[0]), abs=MB / 4
    )
    assert own["memory_limit_bytes"] == size(by_docker["MemUsage"].split("/")[1]) == 64 * MB
    assert (own["pids"], own["pids_limit"]) == (int(by_docker["PIDs"]), 20)
    assert last["exit_signal"] in KILLED  # docker rm --force


def told_of(watching: Watching, container: str) -> Event:
    return watching.event("container_create", container)


def test_what_podman_says(podman: Podman, watching: Watching) -> None:
    container = podman.run(*BUSY)
    told = watching.event("container_usage", container)
    [said] = json.loads(podman.cli("stats", "--no-stream", "--format", "json", container))
    podman.remove(container)

    own = told["usage"]
    assert own["memory_bytes"] == pytest.approx(size(said["mem_usage"].split("/")[0]), abs=MB / 2)
    assert own["pids"] == int(said["pids"])
    assert told["rates"]["cpu_cores"] > 0.05
    assert bill(watching, container)["cpu_seconds"] >= own["cpu_seconds"]


def test_what_is_written_to_a_disk(docker: Docker, watching: Watching) -> None:
    script = "dd if=/dev/zero of=/big bs=1M count=16 oflag=direct && sync; sleep 60"
    container = docker.run("sh", "-c", script)
    told = watching.event("container_usage", container, nth=2)
    lines = file(
        told_of(watching, container), "blkio.throttle.io_service_bytes_recursive", "io.stat"
    )
    docker.remove(container)

    if COUNTS_V1 and " Write " not in lines:  # recent kernels count only where a limit is set
        assert told["usage"]["missing"]["io_write_bytes"] == "not_offered"
        return
    pattern = r" Write (\d+)" if COUNTS_V1 else r"wbytes=(\d+)"
    assert told["usage"]["io_write_bytes"] == sum(map(int, re.findall(pattern, lines)))
    assert told["usage"]["io_write_bytes"] >= 16 * MB
    assert told["usage"]["io_writes"] >= 16
    assert bill(watching, container)["io_write_bytes"] >= told["usage"]["io_write_bytes"]


def test_a_memory_hog_is_told_at_once(docker: Docker, watching: Watching) -> None:
    hog = ("sh", "-c", "x=0123456789; while :; do x=$x$x; done")  # it is the first process
    limit = ("--memory", "16m", "--memory-swap", "16m")
    for _ in range(TRIES if Bed.systemd else 1):  # it removes the scope, and the count with it
        container = docker.run(*hog, options=limit)
        docker.wait(container)
        remove = watching.line("container_remove", container)
        docker.remove(container)
        if "container_oom" in watching.names(container):
            break
    oom = watching.line("container_oom", container)

    assert (oom.event["kills"], oom.event["usage"]["oom_kills"]) == (1, 1)
    assert oom.event["usage"]["memory_limit_bytes"] == 16 * MB
    assert oom.arrived_ns < remove.arrived_ns
    last = remove.event["usage"]
    assert (last["oom_kills"], last["exit_code"]) == (1, None)
    assert last["exit_signal"] in KILLED or not last["final"]
    assert last["memory_peak_bytes"] == pytest.approx(16 * MB, abs=MB)
    assert watching.names(container)[0] == "container_create"
    assert watching.names(container)[-1] == "container_remove"


def test_a_kill_in_a_container_that_lives_on(docker: Docker, watching: Watching) -> None:
    script = "tail /dev/zero; sleep 60"
    container = docker.run("sh", "-c", script, options=("--memory", "16m", "--memory-swap", "16m"))
    oom = watching.event("container_oom", container)
    docker.remove(container)

    assert oom["kills"] == 1
    assert oom["age_seconds"] < LOADED_S
    assert bill(watching, container)["oom_kills"] == 1


def test_a_fork_storm_under_its_limit(docker: Docker, watching: Watching) -> None:
    # A shell gives up when it can't fork; the first process goes on without.
    script = "(for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done); exec tail -f /dev/null"
    container = docker.run("sh", "-c", script, options=("--pids-limit", "5"))
    told = watching.event("container_usage", container, nth=2)
    docker.remove(container)

    assert told["usage"]["pids_refused"] >= 1
    assert 1 < told["usage"]["pids"] <= told["usage"]["pids_limit"] == 5
    assert bill(watching, container)["pids_refused"] >= told["usage"]["pids_refused"]


@pytest.mark.parametrize("runtime", ["docker", "podman"])
@pytest.mark.parametrize(
    "words",
    [pytest.param(("true",), id="a millisecond"), pytest.param(("sleep", "0.1"), id="100 ms")],
)
def test_the_bill_of_one_that_hardly_lived(
    request: pytest.FixtureRequest, watching: Watching, runtime: str, words: tuple[str, ...]
) -> None:
    bed: Docker | Podman = request.getfixturevalue(runtime)
    won = []
    for _ in range(TRIES):
        container = bed.run(*words)
        last = bill(watching, container)
        bed.remove(container)
        assert last["exit_code"] in (0, None)
        assert last["exit_signal"] is None
        if last["final"]:
            assert last["read_before_end_seconds"] > 0
            assert last["cpu_seconds"] > 0
            assert last["memory_peak_bytes"] > 0
            assert "gone" not in last["missing"].values()
            won.append(last)
        else:
            assert last["cpu_seconds"] is not None or last["missing"]["cpu_seconds"] == "gone"

    assert won or Bed.systemd  # it removes an empty scope in the moment in which we hear of it
    if KERNEL >= (6, 15) and words != ("true",):
        assert 0 in [last["exit_code"] for last in won]


def test_a_race_that_is_lost_is_said(runc: Runc, watching: Watching) -> None:
    """`runc run` in the foreground removes the cgroup itself, as soon as its child has ended."""
    bills = []
    for number in range(11):
        name = f"quick-{number}"
        runc.run(name, "true", detach=False)
        bills.append(bill(watching, name))

    for last in bills:
        assert last["duration_seconds"] > 0
        if last["cpu_seconds"] is None:
            assert last["missing"]["cpu_seconds"] == "gone"


def test_a_recording_tells_the_same_again(docker: Docker, tmp_path: Path) -> None:
    record = tmp_path / "usage.jsonl"
    options = ("--usage", "--usage-at", "1", "--no-existing", "--record", str(record))
    with Watching(*options) as watching:
        container = docker.run("sleep", "60")
        watching.event("container_usage", container)
        docker.remove(container)
        watching.event("container_remove", container)
        watching.stop()

    again: list[dict[str, Any]] = [
        json.loads(line)
        for line in ctrwatch("replay", "--format", "json", str(record)).splitlines()
    ]
    assert again == [line.event for line in watching.lines]


@pytest.mark.skipif(KERNEL < (6, 6), reason="fanotify hears of cgroups since Linux 6.6")
def test_by_fanotify_as_well(docker: Docker) -> None:
    options = ("--sensor", "fanotify", "--usage", "--usage-at", "1", "--no-existing")
    with Watching(*options) as watching:
        container = docker.run(*BUSY, options=("--cpus", "0.5"))
        told = watching.event("container_usage", container)
        docker.remove(container)
        last = bill(watching, container)

    assert told["usage"]["cpu_seconds"] > 0
    assert told["usage"]["memory_bytes"] > 0
    assert last["cpu_seconds"] >= told["usage"]["cpu_seconds"]
    assert last["final"] or Bed.systemd


def test_without_it_nothing_is_told_of_use(docker: Docker) -> None:
    with Watching("--no-existing") as watching:
        container = docker.run("true")
        remove = watching.event("container_remove", container)
        docker.remove(container)

    assert "usage" not in remove
    assert watching.names(container) == ["container_create", "container_start", "container_remove"]


def test_nothing_is_left_open_of_those_that_have_ended(docker: Docker, watching: Watching) -> None:
    def held() -> int:
        links = [os.readlink(each) for each in Path(f"/proc/{watching.process.pid}/fd").iterdir()]
        return sum(link in ("anon_inode:[pidfd]", "anon_inode:[eventfd]") for link in links)

    def living() -> int:
        births = {"container_create": 1, "container_remove": -1}
        return sum(births.get(line.event["event"], 0) for line in watching.lines)

    for _ in range(7):
        container = docker.run("true")
        watching.event("container_remove", container)
        docker.remove(container)

    until("each has two files", lambda: held() <= 2 * living() + OWN_FILES)
