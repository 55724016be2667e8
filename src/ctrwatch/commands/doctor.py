"""
`ctrwatch doctor`: looks at the host, and prints what checks.py makes of it.

Everything is only looked at: the sensor is attached and detached again, a daemon is
asked for its version, an OCI runtime for its own. Each question has a deadline.
"""

from __future__ import annotations

import asyncio
import ctypes as c
import importlib
import os
import resource
import shutil
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ctrwatch.commands.checks import Answered, Check, HostFacts, checks
from ctrwatch.core.text import clean
from ctrwatch.errors import HostError
from ctrwatch.evidence import http, libpod
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.evidence.discover import GRAPH_ROOTS, Sockets
from ctrwatch.evidence.files import Absent, Tree, Unreadable
from ctrwatch.evidence.values import NotJsonError, from_json
from ctrwatch.sensor.ebpf import EbpfSensor
from ctrwatch.sensor.fanotify import FanotifySensor
from ctrwatch.sensor.host import BTF, Host, read_host

__all__ = ("run",)

DEADLINE_S: Final = 0.5  # as for a question while events wait (enrich.py)
PROGRAM_S: Final = 1.0
_ANSWER_BYTES: Final = 1 << 20
_SAID: Final = 120  # characters of what a daemon says of itself
_NOTHING: Final = asyncio.subprocess.DEVNULL
_REFUSAL: Final = 400
_RINGBUF: Final = 27  # BPF_MAP_TYPE_RINGBUF, include/uapi/linux/bpf.h
_OWN_NAMESPACES: Final = {  # include/linux/proc_ns.h: numbers of the host's own
    "cgroup": 0xEFFFFFFB,
    "pid": 0xEFFFFFFC,
    "user": 0xEFFFFFFD,
}
_MARKS: Final = {"ok": "✓", "warning": "!", "problem": "✗"}
_ASCII_MARKS: Final = {"ok": "ok", "warning": "!!", "problem": "XX"}
_COLOURS: Final = {"ok": "\x1b[32m", "warning": "\x1b[33m", "problem": "\x1b[31m"}
_RESET: Final = "\x1b[0m"


def run(sockets: dict[str, list[str]], *, as_json: bool) -> int:
    """Print every check; return 1 if there is a problem, else 0."""
    found = checks(look(sockets))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        encoding = sys.stdout.encoding or "ascii"
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        sys.stdout.write("".join(table(found, colours=colours, encoding=encoding)))
    return int(any(check.state == "problem" for check in found))


# --- the table ------------------------------------------------------------------------


def table(found: Sequence[Check], *, colours: bool, encoding: str) -> Iterator[str]:
    """One line a check, its advice below it; then the sum."""
    marks = _MARKS if _can_write("".join(_MARKS.values()), encoding) else _ASCII_MARKS
    wide = max(len(check.name) for check in found)
    for check in found:
        mark = marks[check.state]
        if colours:
            mark = f"{_COLOURS[check.state]}{mark}{_RESET}"
        yield f"{mark} {check.name:{wide}}  {_plain(check.what, encoding)}\n"
        if check.do:
            indent = " " * (len(marks["ok"]) + wide + 3)
            yield f"{indent}do: {_plain(check.do, encoding)}\n"
    yield f"\n{_sum(found)}\n"


def _sum(found: Sequence[Check]) -> str:
    """
    >>> _sum([Check("a", "ok", ""), Check("b", "warning", ""), Check("c", "warning", "")])
    'no problems, 2 warnings'
    """
    counts = {kind: sum(check.state == kind for check in found) for kind in ("problem", "warning")}
    return ", ".join(
        f"{count or 'no'} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items()
    )


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _plain(text: str, encoding: str) -> str:
    if _can_write(text, encoding):
        return text
    return text.replace("…", "...").encode("ascii", "backslashreplace").decode()


# --- the facts ------------------------------------------------------------------------


def look(sockets: Mapping[str, Sequence[str]]) -> HostFacts:
    """Gather what there is to know. *sockets*: those that the user gave, by kind."""
    try:
        host: Host | None = read_host()
    except HostError:
        host = None
    library = _library()
    sensor_ms, refusal, _ = _attach(EbpfSensor, host)
    fanotify_ms, fanotify_refusal, without = _attach(FanotifySensor, host)
    return HostFacts(
        kernel=os.uname().release,
        btf=BTF.exists(),
        ring_buffer=library.ring_buffer,
        libbpf=library.version,
        libbpf_major=library.major,
        program=resources.files("ctrwatch.sensor.bpf").joinpath("birth.bpf.o").is_file(),
        capabilities=capabilities(Path("/proc/self/status").read_text("utf-8", "replace")),
        memlock_bytes=_memlock(),
        sensor_ms=sensor_ms,
        refusal=refusal,
        fanotify_ms=fanotify_ms,
        fanotify_refusal=fanotify_refusal,
        without=without,
        known=hierarchies(Path("/proc/self/cgroup").read_text("utf-8", "replace")),
        mounted={number: each.mount for number, each in host.hierarchies.items()} if host else {},
        foreign=frozenset(_foreign()),
        runtimes=tuple(asyncio.run(_runtimes(sockets))),
    )


class _Libbpf(NamedTuple):
    version: str
    major: int
    ring_buffer: bool | None


def _library() -> _Libbpf:
    try:
        library = c.CDLL("libbpf.so.1")
        library.libbpf_version_string.restype = c.c_char_p
        version = library.libbpf_version_string().decode("ascii", "replace")
        major = int(library.libbpf_major_version())
        library.libbpf_probe_bpf_map_type.argtypes = [c.c_int, c.c_void_p]
        library.libbpf_set_print(None)
        answer = library.libbpf_probe_bpf_map_type(_RINGBUF, None)  # 1, 0, or an error's number
    except (OSError, AttributeError):
        return _Libbpf("", 0, None)
    return _Libbpf(version, major, bool(answer) if answer in (0, 1) else None)


def _attach(
    sensor: type[EbpfSensor | FanotifySensor], host: Host | None
) -> tuple[float | None, str, str]:
    """How long it took in ms, or why it can't run; and what it is without."""
    if host is None:
        return None, "not tried: there is no cgroup file system", ""
    before = time.perf_counter()
    try:
        with sensor(host) as attached:
            without = attached.without
    except HostError as error:
        return None, clean(str(error), _REFUSAL), ""
    return (time.perf_counter() - before) * 1e3, "", without


def capabilities(status: str) -> int:
    """
    The effective set of /proc/self/status, as bits.

    >>> capabilities("Name:\\tx\\nCapEff:\\t000000c000000000\\n") == 1 << 38 | 1 << 39
    True
    """
    _, _, rest = status.partition("\nCapEff:")
    return int(rest.split()[0], 16) if rest else 0


def hierarchies(own_cgroups: str) -> dict[int, str]:
    """
    The kernel's hierarchies, of /proc/self/cgroup: controllers by id.

    >>> hierarchies("2:cpu,cpuacct:/a\\n0::/")
    {2: 'cpu,cpuacct', 0: ''}
    """
    parts = (line.split(":", 2) for line in own_cgroups.splitlines())
    return {int(number): controllers for number, controllers, _ in parts}


def _memlock() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def _foreign() -> Iterator[str]:
    for name, number in _OWN_NAMESPACES.items():
        try:
            if os.stat(f"/proc/self/ns/{name}").st_ino != number:
                yield name
        except OSError:  # a kernel without this kind of namespace
            continue


# --- the runtimes ---------------------------------------------------------------------


async def _runtimes(given: Mapping[str, Sequence[str]]) -> list[Answered]:
    """Ask all at once; the order is that of the list."""
    answers = await asyncio.gather(*_questions(Sockets(given)))
    return [*_absent(given), *answers]


def _questions(here: Sockets) -> Iterator[Awaitable[Answered]]:
    for path in here.present("docker"):
        yield asked("docker", path, docker_version)
    for path in here.present("containerd"):
        importlib.import_module("ctrwatch.evidence.api.client")  # 55 ms, not the daemon's
        yield asked("containerd", path, containerd_namespaces)
    for path in here.present("cri"):
        importlib.import_module("ctrwatch.evidence.api.cri")
        yield asked("cri", path, cri_version)
    for root in GRAPH_ROOTS:
        if os.path.isdir(root):
            yield _podman(root)
    for name in ("runc", "crun"):
        if (program := shutil.which(name)) is not None:
            yield program_version(name, program)


def _absent(given: Mapping[str, Iterable[str]]) -> Iterator[Answered]:
    for kind, paths in given.items():
        for path in paths:
            if not _is_socket(path):
                yield Answered(kind, clean(path, _SAID), failure="absent")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


async def asked(name: str, path: str, question: Callable[[str], Awaitable[str]]) -> Answered:
    """
    What a daemon says of itself.

    It is connected to by itself first: that tells one that is away from one that hangs.
    """
    before = time.perf_counter()
    place = clean(path, _SAID)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await _connect(path)
            says = await question(path)
    except TimeoutError:
        return Answered(name, place, failure="hung", why=f"no answer in {DEADLINE_S} s")
    except PermissionError:
        return Answered(name, place, failure="forbidden", why="permission denied")
    except OSError as error:
        return Answered(
            name, place, failure="refused", why=(error.strerror or "no connection").lower()
        )
    except Unanswered as error:
        return Answered(name, place, failure="garbled", why=clean(str(error), _SAID))
    return Answered(name, place, clean(says, _SAID), (time.perf_counter() - before) * 1e3)


async def _connect(path: str) -> str:
    _, writer = await asyncio.open_unix_connection(path)
    writer.transport.abort()
    return ""


class _Version(msgspec.Struct, frozen=True, rename="pascal"):
    version: str


async def docker_version(path: str) -> str:
    response = await http.get(path, "/version", _ANSWER_BYTES)
    try:
        return from_json(response.body, _Version).version
    except NotJsonError:
        raise Unanswered(
            f"it answered {response.status} without a version to GET /version"
        ) from None


async def containerd_namespaces(path: str) -> str:
    from ctrwatch.evidence.api.client import connected

    async with connected(path) as client:
        namespaces = await client.namespaces()
    return "namespaces " + ", ".join(sorted(namespaces)) if namespaces else "no namespaces yet"


async def cri_version(path: str) -> str:
    from ctrwatch.evidence.api.cri import connected

    async with connected(path) as client:
        return " ".join(await client.runtime())


async def _podman(root: str) -> Answered:
    """Podman has no daemon to ask: its storage must be readable."""
    before = time.perf_counter()
    try:
        libpod.find(Tree(root, 0), "")
    except Absent:
        says = "a storage without a database: Podman has made no container yet"
    except Unreadable as error:
        return Answered("podman", root, failure="forbidden", why=clean(str(error), _SAID))
    else:
        says = "its database can be read"
    return Answered("podman", root, says, (time.perf_counter() - before) * 1e3)


async def program_version(name: str, path: str) -> Answered:
    before = time.perf_counter()
    try:
        process = await asyncio.create_subprocess_exec(
            path, "--version", stdin=_NOTHING, stdout=asyncio.subprocess.PIPE, stderr=_NOTHING
        )
    except OSError as error:
        return Answered(name, path, failure="garbled", why=error.strerror or "it can't be run")
    try:
        async with asyncio.timeout(PROGRAM_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Answered(name, path, failure="hung", why=f"no version in {PROGRAM_S:g} s")
    says = clean(output.decode("utf-8", "replace").partition("\n")[0], _SAID)
    return Answered(name, path, says, (time.perf_counter() - before) * 1e3)
