"""The sensors against the real kernel: what they must tell apart, and what they can't lose."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from ctrwatch.model import Kind, RawEvent
from ctrwatch.sensor import ebpf, proc
from ctrwatch.sensor.ebpf import EbpfSensor
from ctrwatch.sensor.host import read_host
from ctrwatch.sensor.journal import read_journal
from tests.live.waiting import until
from tests.live.watching import CTRWATCH, SENSORS, Watching, environment, unified

V1 = Path("/sys/fs/cgroup/pids")

# As an OCI runtime does: its child enters the new cgroup, executes once more outside, then
# leaves the host's mounts and executes the container's program. It is put into the cgroup by
# a write, or by clone3 with CLONE_INTO_CGROUP.
RUNTIME = """
import ctypes, os, struct, sys
os.mkdir(os.environ["CGROUP"])
entered, say = os.pipe()
if sys.argv[1] == "cloned":
    cgroup = os.open(os.environ["CGROUP"], os.O_RDONLY)
    arguments = struct.pack("11Q", 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, cgroup)
    child = ctypes.CDLL(None).syscall(435, arguments, len(arguments))
else:
    child = os.fork()
if child == 0:
    os.read(entered, 1)
    os.execv("/bin/sh", ["sh", "-c", "exec /usr/bin/unshare --mount /bin/sleep 600"])
if sys.argv[1] == "written":
    with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as procs:
        procs.write(str(child))
os.write(say, b"!")
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
os.waitpid(child, 0)
os.rmdir(os.environ["CGROUP"])
"""


# A container in a container may have a cgroup of its own on v1 alone.
@pytest.mark.parametrize(
    ("hierarchy", "enters"),
    [
        (unified(), "written"),
        (unified(), "cloned"),
        pytest.param(V1, "written", marks=pytest.mark.skipif(not V1.is_dir(), reason="needs v1")),
    ],
    ids=["written", "cloned", "v1"],
)
@pytest.mark.parametrize("sensor", SENSORS)
def test_the_first_instruction_is_none_of_the_runtimes_own(
    sensor: str, hierarchy: Path, enters: str, tmp_path: Path
) -> None:
    container, record = "d3" * 32, tmp_path / "record.jsonl"
    script = tmp_path / "runtime.py"
    script.write_text(RUNTIME)
    cgroup = hierarchy / f"docker-{container}.scope"
    with (
        Watching(
            "--sensor", sensor, "--wait", "0.2", "--no-existing", "--record", str(record)
        ) as watching,
        subprocess.Popen(
            ("/usr/bin/python3", script, enters), env={"CGROUP": str(cgroup)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as runtime,
    ):  # fmt: skip
        assert runtime.stdout is not None
        first = int(runtime.stdout.readline())
        started = watching.event("container_start", container)
        runtime.communicate()
        watching.event("container_remove", container)

    assert started["init"]["pid"] == first
    events = of(record, f"/{cgroup.name}")
    assert [event.kind for event in events] == [Kind.MKDIR, Kind.ATTACH, Kind.EXEC, Kind.RMDIR]
    assert {event.cgroup for event in events} == {events[0].cgroup}
    # eBPF has the program as it was named to the kernel, fanotify the file that it is.
    assert os.path.realpath(events[2].path) == os.path.realpath("/bin/sleep")


# The same with a pid namespace: its first process is forked in the cgroup (runc), cloned into it
# (crun), or put into it (LXC).
FIRST = """
import ctypes, os, struct, sys
how, cgroup = sys.argv[1], os.environ["CGROUP"]
os.mkdir(cgroup)
new_pid = 0 if how == "forked" else 0x20000000
into = 0x200000000 if how == "cloned" else 0
directory = os.open(cgroup, os.O_RDONLY)
entered, say = os.pipe()
arguments = struct.pack("11Q", new_pid | into, 0, 0, 0, 17, 0, 0, 0, 0, 0, directory)
child = ctypes.CDLL(None).syscall(435, arguments, len(arguments))
if child == 0:
    os.read(entered, 1)
    pid = ["--pid", "--fork", "--kill-child"] if how == "forked" else []
    os.execv("/usr/bin/unshare", ["unshare", "--mount", *pid, "/bin/sleep", "600"])
if not into:
    with open(cgroup + "/cgroup.procs", "w") as procs:
        procs.write(str(child))
os.write(say, b"!")
sys.stdin.read()
os.kill(child, 9)
os.waitpid(child, 0)
while open(cgroup + "/cgroup.procs").read():
    os.sched_yield()
os.rmdir(cgroup)
"""


@pytest.mark.parametrize("how", ["forked", "cloned", "written"])
def test_the_kernel_tells_of_the_first_process_before_it_runs_anything(
    how: str, tmp_path: Path
) -> None:
    container, record = "d4" * 32, tmp_path / "record.jsonl"
    script = tmp_path / "runtime.py"
    cgroup = unified() / f"docker-{container}.scope"
    with (
        Watching(
            "--sensor", "ebpf", "--wait", "0.2", "--no-existing", "--record", str(record)
        ) as watching,
        first(script, how, cgroup) as runtime,
    ):
        started = watching.event("container_start", container)
        runtime.communicate()
        watching.event("container_remove", container)

    events = of(record, f"/{cgroup.name}")
    kinds = [event.kind for event in events]
    assert kinds == [Kind.MKDIR, Kind.ATTACH, Kind.INIT, Kind.EXEC, Kind.RMDIR]
    assert events[2].task.pid == events[3].task.pid == started["init"]["pid"]


async def test_a_first_process_calls_the_reader_and_what_else_follows_a_birth_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebpf, "_GATHER_S", 3600.0)
    script = tmp_path / "runtime.py"
    cgroup = unified() / f"docker-{'e5' * 32}.scope"
    heard: list[Kind] = []
    with (
        EbpfSensor(read_host()) as sensor,
        first(script, "forked", cgroup) as runtime,
    ):
        batches = sensor.batches()
        async with asyncio.timeout(10):
            while Kind.INIT not in heard:
                heard += [event.kind for event in await anext(batches)]
        runtime.communicate()  # until its cgroup is removed
        more = asyncio.ensure_future(anext(batches))
        for _ in range(9):  # turns of the loop: it is called in the first, if it is
            await asyncio.sleep(0)
        assert not more.done()
        more.cancel()
        assert Kind.RMDIR in [event.kind for event in sensor.read()]


# It leaves the host's mounts, says so, and executes a program when it is told to.
LEAVES = """
import ctypes, os, sys
ctypes.CDLL(None).unshare(0x20000)
print(flush=True)
sys.stdin.readline()
os.execv("/bin/sleep", ["sleep", "600"])
"""


def test_a_program_that_was_brought_along_was_not_executed_inside() -> None:
    with subprocess.Popen(
        ("/usr/bin/python3", "-c", LEAVES), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        brought = proc.executed_inside(process.pid)
        process.stdin.write("\n")
        process.stdin.close()
        until("the exec", lambda: proc.argv(process.pid)[0] == ("sleep", "600"))
        inside = proc.executed_inside(process.pid)
        process.kill()

    assert brought == ""
    assert inside == os.path.realpath("/bin/sleep")


# As many as fit: a reader that is slower than they are made lags thousands behind.
STORM = """
import os, sys
for number in range(int(sys.argv[2])):
    cgroup = f"{sys.argv[1]}/docker-{number:064x}.scope"
    os.mkdir(cgroup)
    os.rmdir(cgroup)
"""
MANY = 4001


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_storm_of_cgroups_is_told_whole_and_each_once(sensor: str) -> None:
    ids = [f"{number:064x}" for number in range(MANY)]
    with Watching("--sensor", sensor, "--wait", "0", "--no-existing") as watching:
        subprocess.run(("/usr/bin/python3", "-c", STORM, unified(), str(MANY)), check=True)
        watching.event("container_remove", ids[-1])
        watching.stop()

    for name in ("container_create", "container_remove"):
        told = [
            line.event["container_id"] for line in watching.lines if line.event["event"] == name
        ]
        assert [container for container in told if container.startswith("0" * 32)] == ids
    assert ", 0 lost" in watching.errors[-1]


def test_a_cgroup_that_was_renamed_gives_its_children_its_new_name(tmp_path: Path) -> None:
    """Only cgroup v1 renames; the paths of parents are remembered."""
    v1 = Path("/sys/fs/cgroup/pids")
    if not v1.is_dir():
        pytest.skip("no cgroup v1 hierarchy")
    old, new = v1 / "ctrwatch-old", v1 / "ctrwatch-new"
    first, second = (f"docker-{digit * 64}.scope" for digit in "ab")
    with Watching("--sensor", "fanotify", "--wait", "0") as watching, ExitStack() as made:
        for directory in (old, old / first):
            directory.mkdir()
        watching.event("container_create", "a" * 64)
        (old / first).rmdir()
        old.rename(new)
        made.callback(new.rmdir)
        (new / second).mkdir()
        made.callback((new / second).rmdir)
        event = watching.event("container_create", "b" * 64)

    assert event["cgroup"]["path"] == f"/ctrwatch-new/{second}"


# --- which of them ----------------------------------------------------------------------

# A kernel without BTF, but for the file it would have it in.
NO_BTF = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /sys/kernel/btf && exec "$@"')
NO_PRIVILEGE = ("setpriv", "--bounding-set", "-all")


def test_where_ebpf_cannot_run_fanotify_watches(tmp_path: Path) -> None:
    container = "d4" * 32
    cgroup = unified() / f"docker-{container}.scope"
    with Watching("--wait", "0", "--no-existing", within=(*NO_BTF, str(tmp_path))) as watching:
        cgroup.mkdir()
        watching.event("container_create", container)
        cgroup.rmdir()
        watching.event("container_remove", container)

    said = [line for line in watching.errors if "fanotify" in line]
    assert "no BTF" in said[0]
    assert "by fanotify" in said[1]
    assert len(said) == 2


def test_where_none_can_run_both_reasons_are_named() -> None:
    done = subprocess.run(
        (*NO_PRIVILEGE, *CTRWATCH, "events"), capture_output=True, text=True, check=False,
        env=environment(), timeout=60,
    )  # fmt: skip

    assert done.returncode == 3
    assert "eBPF: no permission" in done.stderr
    assert "fanotify: no permission" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_sensor_that_was_asked_for_has_no_substitute(sensor: str) -> None:
    done = subprocess.run(
        (*NO_PRIVILEGE, *CTRWATCH, "events", "--sensor", sensor), capture_output=True, text=True,
        check=False, env=environment(), timeout=60,
    )  # fmt: skip

    assert done.returncode == 3
    assert done.stderr.startswith("ctrwatch: no permission")


def first(script: Path, how: str, cgroup: Path) -> subprocess.Popen[bytes]:
    """`FIRST`, until its standard input ends."""
    script.write_text(FIRST)
    words = ("/usr/bin/python3", script, how)
    return subprocess.Popen(words, env={"CGROUP": str(cgroup)}, stdin=subprocess.PIPE)


def of(record: Path, path: str) -> list[RawEvent]:
    """What the sensor said of a cgroup."""
    raw = [item for item in read_journal(record)[1] if isinstance(item, RawEvent)]
    [cgroup] = {event.cgroup for event in raw if event.path == path}
    return [event for event in raw if event.cgroup == cgroup]
