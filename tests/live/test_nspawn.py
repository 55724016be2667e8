"""systemd-nspawn for real: each machine seen once, complete, and what its options say of it.

Without systemd it is told to stay in the cgroup it finds, which is made here by hand; with
systemd, `/machine.slice/…`, its own part is the same: `payload`, and `supervisor` beside it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.bed import Bed
from tests.live.machines import Nspawn, remove
from tests.live.test_lxc import NO_IMAGE, NOBODY, as_nobody, born, delegated, reasons
from tests.live.waiting import until
from tests.live.watching import Watching, unified

SETTINGS = Path("/run/systemd/nspawn")
ONCE = ["container_create", "container_start", "container_remove"]


@pytest.fixture(scope="module")
def nspawn(bed: Bed) -> Nspawn:
    return bed.nspawn


@pytest.fixture(scope="module")
def watching() -> Iterator[Watching]:
    with Watching() as watching:
        yield watching


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        pytest.param("machine.slice/machine-ctrwatch.scope", "ctrwatch", id="scope"),
        pytest.param("machine.slice/systemd-nspawn@ctrwatch.service", "ctrwatch", id="template"),
        pytest.param("machine.slice/machine-ctr\\x2dwatch.scope", "ctr-watch", id="escaped"),
        pytest.param("system.slice/ctrwatch-own.service", "own", id="a-unit-of-any-name"),
    ],
)
def test_a_machine_is_told_once_and_complete(nspawn: Nspawn, unit: str, name: str) -> None:
    with Watching() as watching:
        process = nspawn.spawn(name, "/bin/sleep", "600", unit=unit)
        event = born(watching, name)
        nspawn.stop(process)
        watching.event("container_remove", name)

    assert (event["runtime"], event["container_name"]) == ("nspawn", name)
    assert event["evidence"]["sources"]["runtime"] == "nspawn"
    assert reasons(event) == NO_IMAGE
    assert event["cgroup"]["path"] == f"/{unit}/payload"
    assert event["creator"]["comm"] == "systemd-nspawn"
    assert event["process"]["args"] == ["/bin/sleep", "600"]
    assert watching.names(name) == ONCE
    # Nothing else of it: neither its supervisor nor the unit.
    paths = {line.event.get("cgroup", {}).get("path", "") for line in watching.lines}
    assert {path for path in paths if path.startswith(f"/{unit}")} == {f"/{unit}/payload"}


def test_what_its_options_say_is_what_the_kernel_does(watching: Watching, nspawn: Nspawn) -> None:
    process = nspawn.spawn(
        "strict", "/bin/sleep", "600", unit="system.slice/ctrwatch-strict.service",
        options=("--private-network", "--drop-capability=CAP_SYS_ADMIN,CAP_MKNOD",
                 "--capability=CAP_SYSLOG", "--no-new-privileges=yes", "--bind-ro=/tmp:/mnt",
                 "--chdir=/etc"),
    )  # fmt: skip
    event = born(watching, "strict")
    first = watching.event("container_start", "strict")["init"]["pid"]
    status = status_of(first)
    nspawn.stop(process)

    security = event["security"]
    # A capability that this host's root lacks itself can't be given.
    own = status_of("self")["CapBnd"]
    assert bits(security["capabilities"]) & int(own, 16) == int(status["CapBnd"], 16)
    assert security["no_new_privileges"] is (status["NoNewPrivs"] == "1") is True
    assert (security["seccomp"] == "filtered") is (status["Seccomp"] == "2") is True
    assert (security["host_network"], security["host_pid"]) == (False, False)
    assert security["mounts"] == [
        {
            "source": "/tmp",
            "destination": "/mnt",
            "type": "bind",
            "read_only": True,
            "propagation": "",
        }
    ]
    assert event["process"]["cwd"] == "/etc"


def test_a_settings_file_of_the_machines_name_counts(watching: Watching, nspawn: Nspawn) -> None:
    SETTINGS.mkdir(parents=True, exist_ok=True)
    file = SETTINGS / "ctrwatch-set.nspawn"
    file.write_text("[Exec]\nParameters=/bin/sleep 600\n[Network]\nPrivate=yes\n")
    try:
        process = nspawn.spawn("ctrwatch-set", unit="system.slice/ctrwatch-set.service")
        event = born(watching, "ctrwatch-set")
        nspawn.stop(process)
    finally:
        file.unlink()

    assert event["process"]["args"] == ["/bin/sleep", "600"]
    assert event["security"]["host_network"] is False
    assert "CAP_NET_ADMIN" in event["security"]["capabilities"]


def test_machines_that_were_there_before(nspawn: Nspawn) -> None:
    units = {"here": "machine.slice/machine-here.scope", "there": "system.slice/ctrwatch-x.service"}
    processes = [nspawn.spawn(name, "/bin/sleep", "600", unit=unit) for name, unit in units.items()]
    for unit in units.values():
        payload = unified() / unit / "payload/cgroup.procs"
        until(f"{unit} has started", lambda payload=payload: sleeps(payload))  # type: ignore[misc]
    with Watching() as watching:
        events = {name: watching.event("existing_container", name) for name in units}
        for process in processes:
            process.terminate()
            process.wait(10)
        nspawn.stop(processes[0])
        for name in units:
            watching.event("container_remove", name)

    for name, event in events.items():
        assert event["evidence"]["status"] == "complete"
        assert reasons(event) == {**NO_IMAGE, "creator": "before_us"}
        assert (event["runtime"], event["container_name"]) == ("nspawn", name)
        assert event["cgroup"]["path"] == f"/{units[name]}/payload"
        assert watching.names(name) == ["existing_container", "container_remove"]


def test_a_users_directory_that_is_only_named_so_is_unverified() -> None:
    with Watching("--wait", "0.2") as watching, delegated() as own:
        as_nobody("mkdir", "-p", own / "machine-fake.scope/payload")
        event = watching.event("container_create", "fake")
        remove(own / "machine-fake.scope")
        watching.event("container_remove", "fake")

    assert event["evidence"]["status"] == "unverified"
    assert event["creator"]["uid"] == NOBODY
    assert watching.names("fake") == ["container_create", "container_remove"]


def test_a_users_payload_in_a_unit_is_nothing(watching: Watching) -> None:
    with delegated() as own:
        as_nobody("mkdir", "-p", own / "some.service/payload")
        subprocess.run(
            ["sh", "-c", f"echo $$ >{own}/some.service/payload/cgroup.procs"], check=True
        )
        remove(own / "some.service")
    assert not [line for line in watching.lines if "some.service" in str(line.event)]


def sleeps(procs: Path) -> bool:
    """The program runs: systemd-nspawn's own stages come before it."""
    try:
        pids = procs.read_text().split()
        return any(Path(f"/proc/{pid}/comm").read_text() == "sleep\n" for pid in pids)
    except OSError:
        return False


def status_of(pid: int | str) -> dict[str, str]:
    lines = (line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: value.strip() for key, value in lines}


def bits(capabilities: list[str]) -> int:
    """As in linux/capability.h."""
    header = Path("/usr/include/linux/capability.h").read_text()
    numbers = {
        words[1]: int(words[2])
        for words in map(str.split, header.splitlines())
        if len(words) == 3 and words[0] == "#define" and words[2].isdigit()
    }
    return sum(1 << numbers[name] for name in capabilities)
