"""A host's facts to advice: each bad host is a good one with one thing wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ctrwatch.commands import doctor
from ctrwatch.commands.checks import CAPABILITIES, Answered, Check, HostFacts, checks

EVERY_CAPABILITY = (1 << 41) - 1
DOCKER = Answered("docker", "/run/docker.sock", "24.0.7", 3.2)
HOST = HostFacts(
    kernel="6.1.0-18-amd64",
    btf=True,
    ring_buffer=True,
    libbpf="v1.1",
    libbpf_major=1,
    program=True,
    capabilities=EVERY_CAPABILITY,
    memlock_bytes=8 << 20,
    sensor_ms=24.4,
    refusal="",
    fanotify_ms=0.4,
    fanotify_refusal="",
    without="",
    known={0: ""},
    mounted={0: "/sys/fs/cgroup"},
    foreign=frozenset(),
    runtimes=(DOCKER,),
)
SECOND = HOST._replace(sensor_ms=None, refusal="this kernel can't run the eBPF sensor")
REFUSED = SECOND._replace(
    fanotify_ms=None, fanotify_refusal="this kernel can't watch cgroups by fanotify"
)
HYBRID = {0: "", 1: "name=systemd", 2: "cpu,cpuacct"}
MOUNTS = {0: "/cg/unified", 1: "/cg/systemd", 2: "/cg/cpu"}


def without(*names: str) -> int:
    return EVERY_CAPABILITY & ~sum(1 << CAPABILITIES[name] for name in names)


def by_name(facts: HostFacts) -> dict[str, Check]:
    return {check.name: check for check in checks(facts)}


def test_a_good_host_is_well() -> None:
    found = checks(HOST)

    assert {check.state for check in found} == {"ok"}
    assert [check.name for check in found] == [
        "kernel", "btf", "libbpf", "bpf_object", "privileges", "sensor", "fanotify", "cgroups",
        "docker",
    ]  # fmt: skip
    assert not any(check.do for check in found)


@pytest.mark.parametrize(
    ("facts", "name", "state", "says"),
    [
        pytest.param(
            REFUSED._replace(kernel="5.4.0-150-generic", ring_buffer=None),
            "kernel", "problem", "5.11 or later", id="old-kernel",
        ),
        pytest.param(
            REFUSED._replace(ring_buffer=False), "kernel", "problem", "ring buffer", id="no-ring-buffer"
        ),
        pytest.param(
            HOST._replace(kernel="4.18.0-553.el8"), "kernel", "ok", "4.18", id="old-kernel-that-can"
        ),
        pytest.param(
            REFUSED._replace(ring_buffer=False, capabilities=0), "kernel", "ok", "6.1.0",
            id="ring-buffer-can-not-be-asked",
        ),
        pytest.param(REFUSED._replace(btf=False), "btf", "problem", "CONFIG_DEBUG_INFO_BTF", id="no-btf"),
        pytest.param(
            REFUSED._replace(libbpf="", libbpf_major=0), "libbpf", "problem", "libbpf1", id="no-libbpf"
        ),
        pytest.param(
            REFUSED._replace(libbpf="v0.8", libbpf_major=0), "libbpf", "problem", "older than 1.0",
            id="old-libbpf",
        ),
        pytest.param(REFUSED._replace(program=False), "bpf_object", "problem", "make setup", id="not-built"),
        pytest.param(
            REFUSED._replace(capabilities=0), "privileges", "problem", "sudo", id="no-privilege"
        ),
        pytest.param(
            REFUSED._replace(capabilities=without("CAP_SYS_ADMIN", "CAP_PERFMON")),
            "privileges", "problem", "CAP_PERFMON missing", id="no-perfmon",
        ),
        pytest.param(
            HOST._replace(capabilities=without("CAP_BPF", "CAP_PERFMON")), "privileges", "ok", "may load",
            id="sys-admin-includes-bpf",
        ),
        pytest.param(
            HOST._replace(capabilities=without("CAP_DAC_READ_SEARCH")),
            "privileges", "warning", "CAP_DAC_READ_SEARCH", id="may-not-read",
        ),
        pytest.param(
            HOST._replace(capabilities=without("CAP_SYS_PTRACE")),
            "privileges", "warning", "relative path", id="may-not-look-into-processes",
        ),
        pytest.param(
            REFUSED._replace(kernel="5.10.0", memlock_bytes=64 << 10, capabilities=without("CAP_SYS_RESOURCE")),
            "memlock", "problem", "64 KB", id="memlock",
        ),
        pytest.param(REFUSED, "sensor", "problem", "please report", id="refused-for-no-reason-we-know"),
        pytest.param(
            REFUSED._replace(btf=False), "sensor", "problem", "named above", id="refused-for-a-reason"
        ),
        pytest.param(REFUSED, "fanotify", "problem", "fanotify", id="no-sensor-at-all"),
        pytest.param(SECOND, "fanotify", "ok", "used: attached", id="fanotify-instead"),
        pytest.param(SECOND._replace(btf=False), "btf", "warning", "BTF", id="no-btf-but-watched"),
        pytest.param(
            SECOND._replace(without="no process events connector"), "fanotify", "warning",
            "no container_start", id="fanotify-without-starts",
        ),
        pytest.param(
            HOST._replace(fanotify_ms=None, fanotify_refusal="no"), "fanotify", "ok", "not in reserve",
            id="no-fanotify-and-no-need",
        ),
        pytest.param(
            HOST._replace(known={}, mounted={}), "cgroups", "problem", "mount -t cgroup2", id="no-cgroups"
        ),
        pytest.param(
            HOST._replace(known={1: "cpu"}, mounted={1: "/cg/cpu"}), "cgroups", "ok", "v1: 1 hierarchy",
            id="v1",
        ),
        pytest.param(HOST, "cgroups", "ok", "v2: 1 hierarchy", id="v2"),
        pytest.param(
            HOST._replace(known=HYBRID, mounted=MOUNTS), "cgroups", "ok", "hybrid: 3 hierarchies",
            id="hybrid",
        ),
        pytest.param(
            HOST._replace(known=HYBRID, mounted={1: "/cg/systemd", 2: "/cg/cpu"}),
            "cgroups", "warning", "not mounted: the unified hierarchy", id="unified-not-mounted",
        ),
        pytest.param(
            HOST._replace(foreign=frozenset({"pid", "cgroup"})), "namespaces", "warning", "--pid=host",
            id="in-a-container",
        ),
        pytest.param(
            HOST._replace(runtimes=(DOCKER._replace(failure="hung", why="no answer in 0.5 s"),)),
            "docker", "problem", "no answer in 0.5 s", id="daemon-hangs",
        ),
        pytest.param(
            HOST._replace(runtimes=(DOCKER._replace(failure="refused", why="connection refused"),)),
            "docker", "warning", "nobody listens", id="daemon-is-away",
        ),
        pytest.param(
            HOST._replace(runtimes=(DOCKER._replace(failure="forbidden", why="permission denied"),)),
            "docker", "problem", "run it as root", id="socket-forbidden",
        ),
        pytest.param(
            HOST._replace(runtimes=(DOCKER._replace(failure="garbled", why="not HTTP"),)),
            "docker", "problem", "not docker's", id="another-server",
        ),
        pytest.param(
            HOST._replace(runtimes=(DOCKER, DOCKER._replace(failure="absent"))),
            "docker", "problem", "no such socket", id="given-socket-is-not-there",
        ),
        pytest.param(
            HOST._replace(runtimes=()), "runtimes", "warning", "found by itself", id="no-runtimes"
        ),
    ],
)  # fmt: skip
def test_one_thing_wrong(facts: HostFacts, name: str, state: str, says: str) -> None:
    check = by_name(facts)[name]

    assert check.state == state
    assert says in f"{check.what}. {check.do}"
    assert (check.do == "") == (state == "ok")


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(HOST._replace(kernel="5.10.0", memlock_bytes=None), id="no-limit"),
        pytest.param(HOST._replace(kernel="5.10.0", memlock_bytes=64 << 10), id="libbpf-raises-it"),
        pytest.param(
            HOST._replace(memlock_bytes=64 << 10, capabilities=without("CAP_SYS_RESOURCE")),
            id="counted-by-memory-cgroup",
        ),
    ],
)
def test_locked_memory_is_only_named_where_it_matters(facts: HostFacts) -> None:
    assert "memlock" not in by_name(facts)


def test_capabilities_of_a_process_without_any() -> None:
    assert doctor.capabilities("Name:\tx\nCapEff:\t0000000000000000\n") == 0
    assert doctor.capabilities("an old kernel's status") == 0


# --- the table ------------------------------------------------------------------------


def test_table_is_aligned() -> None:
    found = [Check("kernel", "ok", "Linux 6.1"), Check("btf", "problem", "none", "boot another…")]

    assert "".join(doctor.table(found, colours=False, encoding="utf-8")) == (
        "✓ kernel  Linux 6.1\n✗ btf     none\n          do: boot another…\n\n1 problem, no warnings\n"
    )


def test_table_without_unicode() -> None:
    found = [Check("docker", "warning", "/tmp/café: gone…", "start it")]

    assert "".join(doctor.table(found, colours=False, encoding="ascii")) == (
        "!! docker  /tmp/caf\\xe9: gone...\n           do: start it\n\nno problems, 1 warning\n"
    )


def test_colours_stand_around_the_mark_only() -> None:
    (line, *_) = doctor.table([Check("btf", "ok", "there")], colours=True, encoding="utf-8")

    assert line == "\x1b[32m✓\x1b[0m btf  there\n"


# --- daemons --------------------------------------------------------------------------


class Daemon:
    """A unix socket whose server does what it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    @contextlib.asynccontextmanager
    async def answering(self, answer: bytes | None) -> AsyncIterator[str]:
        """*answer* to anything that is sent; None: nothing, and the connection stays."""
        served: list[asyncio.Task[None]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1024)
            if answer is None:
                await reader.read()  # until the other one gives up
            else:
                writer.write(answer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(asyncio.ensure_future(serve(reader, writer)))

        server = await asyncio.start_unix_server(begin, self.path)
        async with server:
            yield self.path
            await asyncio.gather(*served)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DEADLINE_S", 0.05)
    monkeypatch.setattr(doctor, "PROGRAM_S", 0.05)


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path / "daemon.sock")


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_docker_tells_its_version(daemon: Daemon) -> None:
    async with daemon.answering(http(b'{"Version":"24.0.7","ApiVersion":"1.43"}')) as path:
        answered = await doctor.asked("docker", path, doctor.docker_version)

    assert (answered.says, answered.failure, answered.place) == ("24.0.7", "", path)
    assert answered.after_ms > 0


async def test_a_version_can_not_write_to_the_terminal(daemon: Daemon) -> None:
    async with daemon.answering(http(b'{"Version":"24\\u001b[2J"}')) as path:
        answered = await doctor.asked("docker", path, doctor.docker_version)

    assert answered.says == "24\\x1b[2J"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another-protocol"),
        pytest.param(http(b"[]"), id="another-json"),
        pytest.param(http(b"\xff{"), id="no-json"),
        pytest.param(http(b'{"Version":"1","x":' + b"[" * 100_000), id="deep-json"),
        pytest.param(b"", id="closed"),
    ],
)
async def test_another_server(daemon: Daemon, answer: bytes) -> None:
    async with daemon.answering(answer) as path:
        answered = await doctor.asked("docker", path, doctor.docker_version)

    assert answered.failure == "garbled"
    assert answered.why


async def test_a_server_that_is_no_containerd(daemon: Daemon) -> None:
    async with daemon.answering(http(b"{}")) as path:
        answered = await doctor.asked("containerd", path, doctor.containerd_namespaces)

    assert answered.failure == "garbled"


@pytest.mark.parametrize(
    ("name", "question"),
    [
        pytest.param("docker", doctor.docker_version, id="docker"),
        pytest.param("containerd", doctor.containerd_namespaces, id="containerd"),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_daemon_that_hangs(
    daemon: Daemon, name: str, question: Callable[[str], asyncio.Future[str]]
) -> None:
    async with daemon.answering(None) as path:
        answered = await doctor.asked(name, path, question)

    assert (answered.failure, answered.why) == ("hung", "no answer in 0.05 s")


async def test_a_socket_where_nobody_listens(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(daemon.path)

    answered = await doctor.asked("docker", daemon.path, doctor.docker_version)

    assert (answered.failure, answered.why) == ("refused", "connection refused")


@pytest.mark.usefixtures("impatient")
async def test_a_program_without_an_answer(tmp_path: Path) -> None:
    program = tmp_path / "runc"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)

    answered = await doctor.program_version("runc", str(program))

    assert (answered.failure, answered.why) == ("hung", "no version in 0.05 s")


async def test_a_program_that_is_none(tmp_path: Path) -> None:
    program = tmp_path / "runc"
    program.write_bytes(b"\x7fELF but not really")
    program.chmod(0o755)

    answered = await doctor.program_version("runc", str(program))

    assert answered.failure == "garbled"


# --- the command ----------------------------------------------------------------------


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> list[HostFacts]:
    seen = [HOST]
    monkeypatch.setattr(doctor, "look", lambda _: seen[0])
    return seen


def test_json_is_an_array(
    facts: list[HostFacts], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert doctor.run({}, as_json=True) == 0
    found = json.loads(capfdbinary.readouterr().out)

    assert found[0] == {"name": "kernel", "state": "ok", "what": "Linux 6.1.0-18-amd64", "do": ""}
    assert len(found) == len(checks(HOST))


def test_a_problem_is_exit_code_1(
    facts: list[HostFacts], capsys: pytest.CaptureFixture[str]
) -> None:
    facts[0] = REFUSED._replace(btf=False)

    assert doctor.run({}, as_json=False) == 1
    assert "3 problems, no warnings" in capsys.readouterr().out


def test_a_warning_is_not(facts: list[HostFacts], capsys: pytest.CaptureFixture[str]) -> None:
    facts[0] = HOST._replace(runtimes=())

    assert doctor.run({}, as_json=False) == 0
    assert "no problems, 1 warning" in capsys.readouterr().out


def test_looks_at_this_host_whatever_it_may(tmp_path: Path) -> None:
    """Everywhere: as root, as a user, in a container without /sys."""
    found = doctor.look({"docker": [str(tmp_path / "none.sock")]})

    assert found.kernel == os.uname().release
    assert (found.sensor_ms is None) == bool(found.refusal)
    assert (found.fanotify_ms is None) == bool(found.fanotify_refusal)
    assert found.runtimes[0].failure == "absent"
    assert all(check.what for check in checks(found))
