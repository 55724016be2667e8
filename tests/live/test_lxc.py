"""LXC for real: each container seen once, complete, and what its configuration says of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.live.bed import Bed
from tests.live.leftovers import CGROUPS
from tests.live.machines import Lxc, remove
from tests.live.watching import Event, Watching, unified

NO_IMAGE = {
    **dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), "not_in_pod"),
    **dict.fromkeys(("container_image", "container_image_digest"), "no_image"),
}
NOBODY = 65534
SLEEP = "lxc.init.cmd = /bin/sleep 600"


@pytest.fixture(scope="module")
def lxc(bed: Bed) -> Lxc:
    return bed.lxc


@pytest.fixture(scope="module")
def watching() -> Iterator[Watching]:
    with Watching() as watching:
        yield watching


def born(watching: Watching, container: str, nth: int = 1) -> Event:
    """The create of a container, which must be complete and come before its start."""
    created = watching.event("container_create", container, nth=nth)
    started = watching.event("container_start", container, nth=nth)
    assert created["evidence"]["status"] == "complete", created["evidence"]
    assert created["time"] < started["time"]
    return created


def reasons(event: Event) -> dict[str, str]:
    missing = event["evidence"]["missing"]
    return {field: reason for field, reason in missing.items() if field != "init.pid"}


def test_a_container_in_the_background(watching: Watching, lxc: Lxc) -> None:
    lxc.create(
        "box", SLEEP, "lxc.cap.drop = sys_module sys_time", "lxc.no_new_privs = 1",
        "lxc.mount.entry = /tmp mnt/tmp none ro,bind,create=dir 0 0",
        "lxc.cgroup.memory.limit_in_bytes = 64M", "lxc.cgroup2.memory.max = 64M",
    )  # fmt: skip
    lxc.start("box")
    event, pid = born(watching, "box"), lxc.pid("box")
    lxc.stop("box")
    watching.event("container_remove", "box")

    assert (event["runtime"], event["container_name"]) == ("lxc", "box")
    assert event["evidence"]["sources"]["runtime"] == "lxc"
    assert reasons(event) == NO_IMAGE
    assert event["cgroup"]["path"] == "/lxc.payload.box"
    assert watching.event("container_start", "box")["init"]["pid"] == pid
    assert event["process"] == {"args": ["/bin/sleep", "600"], "cwd": "/", "user": "0:0"}
    assert event["limits"]["memory_bytes"] == 64 << 20
    security = event["security"]
    assert security["mounts"] == [
        {
            "source": "/tmp",
            "destination": "/mnt/tmp",
            "type": "bind",
            "read_only": True,
            "propagation": "",
        }
    ]
    assert "CAP_SYS_MODULE" not in security["capabilities"]
    assert "CAP_NET_RAW" in security["capabilities"]
    assert (security["no_new_privileges"], security["host_network"]) == (True, False)
    assert watching.names("box") == ["container_create", "container_start", "container_remove"]


def test_what_the_kernel_says_of_its_capabilities(watching: Watching, lxc: Lxc) -> None:
    lxc.create("kept", SLEEP, "lxc.cap.keep = chown kill")
    lxc.start("kept")
    event = born(watching, "kept")
    status = Path(f"/proc/{lxc.pid('kept')}/status").read_text()
    lxc.stop("kept")

    [bounding] = [line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")]
    assert int(bounding, 16) == 1 << 0 | 1 << 5  # CAP_CHOWN, CAP_KILL
    assert event["security"]["capabilities"] == ["CAP_CHOWN", "CAP_KILL"]


def test_the_busybox_template(watching: Watching, lxc: Lxc) -> None:
    lxc.from_template("debians")
    lxc.start("debians")
    event = born(watching, "debians")
    lxc.stop("debians")

    assert event["process"]["args"] == ["/sbin/init"]
    assert "CAP_SYS_MODULE" not in event["security"]["capabilities"]


def test_in_the_foreground_the_command_line_counts_too(watching: Watching, lxc: Lxc) -> None:
    lxc.create("fore")
    lxc.spawn("lxc-start", "fore", "--foreground", "--define", "lxc.cap.keep=kill",
              "--", "/bin/sleep", "600")  # fmt: skip
    event = born(watching, "fore")
    lxc.stop("fore")

    assert event["creator"]["comm"] == "lxc-start"
    assert event["process"]["args"] == ["/bin/sleep", "600"]
    assert event["security"]["capabilities"] == ["CAP_KILL"]


def test_lxc_execute_of_a_program_that_ends_at_once(watching: Watching, lxc: Lxc) -> None:
    lxc.create("once")
    lxc.cli("lxc-execute", "once", "--", "/bin/true")
    event = born(watching, "once")
    watching.event("container_remove", "once")

    assert event["process"]["args"] == ["/bin/true"]
    assert watching.names("once") == ["container_create", "container_start", "container_remove"]


def test_a_restart_is_a_new_birth_of_the_same_name(watching: Watching, lxc: Lxc) -> None:
    lxc.create("again", SLEEP)
    lxc.start("again")
    first = born(watching, "again")
    lxc.stop("again")
    watching.event("container_remove", "again")
    lxc.start("again")
    second = born(watching, "again", nth=2)
    lxc.stop("again")

    assert first["id"] != second["id"]
    assert reasons(second) == NO_IMAGE


def test_monitors_sessions_and_children_are_no_containers(watching: Watching, lxc: Lxc) -> None:
    lxc.create("quiet", SLEEP)
    lxc.start("quiet")
    own = unified() / born(watching, "quiet")["cgroup"]["path"].lstrip("/")
    for child in ("init.scope", "lxc.monitor.inner", "system.slice"):
        (own / child).mkdir()
        (own / child).rmdir()
    lxc.cli("lxc-attach", "quiet", "--", "/bin/true")
    lxc.stop("quiet")
    watching.event("container_remove", "quiet")

    assert watching.names("quiet") == ["container_create", "container_start", "container_remove"]
    paths = {line.event.get("cgroup", {}).get("path", "") for line in watching.lines}
    assert not [path for path in paths if "monitor" in path or "pivot" in path]


def test_one_name_in_two_places_is_two_containers(watching: Watching, bed: Bed, lxc: Lxc) -> None:
    """LXC calls the second one's cgroup otherwise; both are called the same."""
    with twin(bed) as other:
        for each in (lxc, other):
            each.create("twin", SLEEP)
            each.start("twin")
        events = [born(watching, "twin"), born(watching, "twin-1")]
        for each in (lxc, other):
            each.stop("twin")

    assert [event["container_name"] for event in events] == ["twin", "twin"]


def test_a_cgroup_of_the_users_choice(watching: Watching, lxc: Lxc) -> None:
    lxc.create(
        "elsewhere", SLEEP, "lxc.cgroup.dir.container = ctrwatch-lxc/own",
        "lxc.cgroup.dir.monitor = ctrwatch-lxc/watcher",
        "lxc.cgroup.dir.monitor.pivot = ctrwatch-lxc/end",
    )  # fmt: skip
    lxc.start("elsewhere")
    event = born(watching, "elsewhere")
    lxc.stop("elsewhere")
    watching.event("container_remove", "elsewhere")
    for place in (CGROUPS / "ctrwatch-lxc", *CGROUPS.glob("*/ctrwatch-lxc")):
        remove(place)

    assert event["cgroup"]["path"] == "/ctrwatch-lxc/own"
    assert watching.names("elsewhere") == [
        "container_create", "container_start", "container_remove",
    ]  # fmt: skip


def test_containers_that_were_there_before(lxc: Lxc) -> None:
    lxc.create("old", SLEEP)
    lxc.create("hidden", SLEEP, "lxc.cgroup.dir.container = ctrwatch-old/own",
               "lxc.cgroup.dir.monitor = ctrwatch-old/watcher",
               "lxc.cgroup.dir.monitor.pivot = ctrwatch-old/end")  # fmt: skip
    for name in ("old", "hidden"):
        lxc.start(name)
    with Watching() as watching:
        events = {name: watching.event("existing_container", name) for name in ("old", "hidden")}
        pids = {name: lxc.pid(name) for name in events}
        for name in events:
            lxc.stop(name)
            watching.event("container_remove", name)
    for place in (CGROUPS / "ctrwatch-old", *CGROUPS.glob("*/ctrwatch-old")):
        remove(place)

    for name, event in events.items():
        assert event["evidence"]["status"] == "complete"
        assert reasons(event) == {**NO_IMAGE, "creator": "before_us"}
        assert (event["runtime"], event["container_name"]) == ("lxc", name)
        assert event["init"]["pid"] == pids[name]
        assert watching.names(name) == ["existing_container", "container_remove"]


# --- only named like one --------------------------------------------------------------


def test_a_users_directory_that_is_only_named_so_is_unverified() -> None:
    with Watching("--wait", "0.2") as watching, delegated() as own:
        as_nobody("mkdir", own / "lxc.payload.fake")
        event = watching.event("container_create", "fake")
        as_nobody("rmdir", own / "lxc.payload.fake")
        watching.event("container_remove", "fake")

    assert event["evidence"]["status"] == "unverified"
    assert event["creator"]["uid"] == NOBODY
    assert event["evidence"]["sources"]["runtime"] == "path"
    assert watching.names("fake") == ["container_create", "container_remove"]


def test_a_users_process_that_calls_itself_a_monitor_is_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "liar").mkdir()
    (tmp_path / "liar/config").write_text("lxc.init.cmd = /bin/liar\n")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    with Watching("--wait", "0.2") as watching, delegated() as own:
        title = f"[lxc monitor] {tmp_path} liar"
        as_nobody("python3", "-c", f"import os; os.mkdir({str(own / 'lxc.payload.liar')!r})",
                  title=title)  # fmt: skip
        event = watching.event("container_create", "liar")

    assert event["evidence"]["status"] == "unverified"
    assert event["process"] is None


@contextmanager
def twin(bed: Bed) -> Iterator[Lxc]:
    with ExitStack() as stack:
        yield Lxc(bed.home / "lxc-twin", bed.rootfs, stack)


@contextmanager
def delegated() -> Iterator[Path]:
    """A cgroup that belongs to nobody, as systemd gives one to every user."""
    own = unified() / "ctrwatch-delegated"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    try:
        yield own
    finally:
        remove(own)


def as_nobody(*words: str | Path, title: str = "") -> None:
    program = [str(word) for word in words]
    command = [title, *program[1:]] if title else program
    subprocess.run(command, executable=f"/usr/bin/{program[0]}", user=NOBODY, group=NOBODY,
                   extra_groups=[], check=True)  # fmt: skip
