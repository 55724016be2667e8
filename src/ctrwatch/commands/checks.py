"""
What a host's facts mean for ctrwatch: what is well, what is wrong, what to do.

Pure: facts in, checks out, in the order in which one thing needs another. Gathering
the facts is doctor.py's; so every bad host can be a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

__all__ = ("CAPABILITIES", "Answered", "Check", "HostFacts", "checks")

State = Literal["ok", "warning", "problem"]


class Check(msgspec.Struct, frozen=True):
    """One line of the doctor's: what was found, and, if it is not well, what to do."""

    name: str
    state: State
    what: str
    do: str = ""


class Answered(NamedTuple):
    """How it stands with one place of one runtime."""

    name: str  # docker, containerd, podman, runc, …
    place: str  # a socket, a directory, a program
    says: str = ""  # its version, its namespaces
    after_ms: float = 0.0
    failure: Literal["", "absent", "refused", "hung", "forbidden", "garbled"] = ""
    why: str = ""


class HostFacts(NamedTuple):
    """What doctor.py found out."""

    kernel: str  # as uname has it
    btf: bool
    ring_buffer: bool | None  # False also without privilege; None: it could not be asked
    libbpf: str  # "v1.1"; "" is none
    libbpf_major: int
    program: bool  # the compiled BPF object is there
    capabilities: int  # CapEff of /proc/self/status
    memlock_bytes: int | None  # None: no limit
    sensor_ms: float | None  # to attach and detach eBPF; None: it refused
    refusal: str  # why, in HostError's words
    fanotify_ms: float | None  # the same of the sensor in reserve
    fanotify_refusal: str
    without: str  # why fanotify would tell of no container_start; "" if it does
    known: Mapping[int, str]  # the kernel's hierarchies: controllers by id, 0 is the unified one
    mounted: Mapping[int, str]  # where they are mounted
    foreign: frozenset[str]  # of pid, cgroup, user: the namespaces that are not the host's own
    runtimes: tuple[Answered, ...]


CAPABILITIES: Final = {  # include/uapi/linux/capability.h
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_FIRST_KERNEL: Final = (5, 11)  # BPF ring buffers (5.8), bpf_get_current_task_btf
_MEMCG_KERNEL: Final = (5, 11)  # from here on BPF memory is no longer locked memory
_MEMORY_BYTES: Final = 16 << 20  # the ring and the maps, generously
_ROOT: Final = "run it as root: sudo ctrwatch …"


def checks(facts: HostFacts) -> list[Check]:
    """Every check, those first that the others need."""
    found = [
        _kernel(facts),
        _btf(facts),
        _libbpf(facts),
        _program(facts),
        *_privileges(facts),
        *_memlock(facts),
    ]
    found.append(_sensor(facts, found))
    if facts.fanotify_ms is not None:  # not well, but watched all the same
        found = [
            replace(each, state="warning") if each.state == "problem" else each for each in found
        ]
    found += [_fanotify(facts), _cgroups(facts), *_namespaces(facts)]
    found += map(_runtime, facts.runtimes)
    if not any(each.failure != "absent" for each in facts.runtimes):
        found.append(
            Check(
                "runtimes",
                "warning",
                "no container runtime found",
                "nothing: one that comes later is found by itself",
            )
        )
    return found


# --- what the sensor needs ------------------------------------------------------------


def _kernel(facts: HostFacts) -> Check:
    what = f"Linux {facts.kernel}"
    # Distributions bring features to older kernels: what works is not asked for its age.
    if facts.sensor_ms is not None or facts.ring_buffer:
        return Check("kernel", "ok", what)
    asked = facts.ring_buffer is not None and not _missing_for_bpf(_capabilities(facts))
    if asked or _version(facts.kernel) < _FIRST_KERNEL:
        return Check(
            "kernel", "problem", f"{what} has no BPF ring buffer", "boot Linux 5.11 or later"
        )
    return Check("kernel", "ok", what)


def _btf(facts: HostFacts) -> Check:
    if facts.btf:
        return Check("btf", "ok", "the kernel describes its own types")
    return Check(
        "btf",
        "problem",
        "the kernel has no BTF (/sys/kernel/btf/vmlinux is missing)",
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y; mount /sys if it isn't",
    )


def _libbpf(facts: HostFacts) -> Check:
    install = "apt-get install libbpf1 (Fedora, openSUSE, Alpine: libbpf)"
    if not facts.libbpf:
        return Check("libbpf", "problem", "libbpf.so.1 is not installed", install)
    if facts.libbpf_major < 1:
        return Check("libbpf", "problem", f"libbpf {facts.libbpf} is older than 1.0", install)
    return Check("libbpf", "ok", f"libbpf {facts.libbpf}")


def _program(facts: HostFacts) -> Check:
    if facts.program:
        return Check("bpf_object", "ok", "the BPF program is built")
    return Check(
        "bpf_object",
        "problem",
        "the BPF program was not built",
        "make setup, or install a wheel: it has the program inside",
    )


def _privileges(facts: HostFacts) -> Iterator[Check]:
    has = _capabilities(facts)
    if missing := " and ".join(_missing_for_bpf(has)):
        yield Check(
            "privileges", "problem", f"{missing} missing: no BPF program can be loaded", _ROOT
        )
    elif "CAP_DAC_READ_SEARCH" not in has:
        yield Check(
            "privileges",
            "warning",
            "CAP_DAC_READ_SEARCH missing: bundles and storages of other users can't be read",
            f"give it too, or {_ROOT}",
        )
    elif "CAP_SYS_PTRACE" not in has:
        yield Check(
            "privileges",
            "warning",
            "CAP_SYS_PTRACE missing: bundles given by a relative path, and those of a runtime"
            " that is in a container itself, can't be found",
            f"give it too, or {_ROOT}",
        )
    else:
        yield Check("privileges", "ok", "may load BPF programs and read every runtime's files")


def _capabilities(facts: HostFacts) -> set[str]:
    return {name for name, bit in CAPABILITIES.items() if facts.capabilities >> bit & 1}


def _missing_for_bpf(has: set[str]) -> list[str]:
    """CAP_SYS_ADMIN is what it took before Linux 5.8, and still includes the others."""
    if "CAP_SYS_ADMIN" in has:
        return []
    return [name for name in ("CAP_BPF", "CAP_PERFMON") if name not in has]


def _memlock(facts: HostFacts) -> Iterator[Check]:
    """Only older kernels count BPF memory as locked; libbpf raises the limit where it may."""
    limit = facts.memlock_bytes
    may_raise = "CAP_SYS_RESOURCE" in _capabilities(facts)
    if limit is None or limit >= _MEMORY_BYTES or may_raise:
        return
    if _version(facts.kernel) < _MEMCG_KERNEL:
        yield Check(
            "memlock",
            "problem",
            f"only {limit >> 10} KB may be locked, and this kernel counts BPF memory as such",
            "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
        )


def _sensor(facts: HostFacts, before: list[Check]) -> Check:
    if facts.sensor_ms is not None:
        return Check("sensor", "ok", f"attached and detached in {facts.sensor_ms:.0f} ms")
    known = any(check.state == "problem" for check in before)
    return Check(
        "sensor",
        "problem",
        facts.refusal,
        "mend what is named above"
        if known
        else "please report this, with `ctrwatch doctor --json`",
    )


def _fanotify(facts: HostFacts) -> Check:
    """The second sensor, for where eBPF can't run."""
    needed = facts.sensor_ms is None
    if facts.fanotify_ms is None:
        what = f"not in reserve: {facts.fanotify_refusal}"
        return Check(
            "fanotify",
            "problem" if needed else "ok",
            facts.fanotify_refusal if needed else what,
            "mend this, or what eBPF needs" if needed else "",
        )
    what = (
        f"{'used' if needed else 'in reserve'}: attached and detached in {facts.fanotify_ms:.1f} ms"
    )
    if facts.without:
        return Check(
            "fanotify",
            "warning" if needed else "ok",
            f"{what}; no container_start: {facts.without}",
            "run it in the host's network namespace, with CAP_NET_ADMIN" if needed else "",
        )
    return Check("fanotify", "ok", what)


# --- where it looks -------------------------------------------------------------------


def _cgroups(facts: HostFacts) -> Check:
    if not facts.mounted:
        return Check(
            "cgroups",
            "problem",
            "no cgroup file system is mounted",
            "mount -t cgroup2 none /sys/fs/cgroup",
        )
    unmounted = sorted(set(facts.known) - set(facts.mounted))
    names = ", ".join(_hierarchy(number, facts.known[number]) for number in unmounted)
    what = (
        f"{_mode(facts)}: {len(facts.mounted)} hierarch{'y' if len(facts.mounted) == 1 else 'ies'}"
    )
    if unmounted:
        return Check(
            "cgroups",
            "warning",
            f"{what}; not mounted: {names}",
            "mount them, or containers that were here before ctrwatch are not found there"
            + (" (mount -t cgroup2 none /sys/fs/cgroup/unified)" if 0 in unmounted else ""),
        )
    return Check("cgroups", "ok", what)


def _mode(facts: HostFacts) -> str:
    if 0 not in facts.mounted:
        return "v1"
    return "v2" if len(facts.mounted) == 1 else "hybrid"


def _hierarchy(number: int, controllers: str) -> str:
    return "the unified hierarchy" if number == 0 else controllers


def _namespaces(facts: HostFacts) -> Iterator[Check]:
    if not facts.foreign:
        return
    yield Check(
        "namespaces",
        "warning",
        f"not in the host's own {' and '.join(sorted(facts.foreign))} namespace:"
        " what the kernel says can't be matched with /proc and the mounted cgroups",
        "run it on the host, or in a container with --privileged --pid=host --cgroupns=host"
        " and the host's file systems",
    )


# --- whom it asks ---------------------------------------------------------------------


def _runtime(answered: Answered) -> Check:
    name, place, why = answered.name, answered.place, answered.why
    match answered.failure:
        case "":
            says = f": {answered.says}" if answered.says else ""
            return Check(name, "ok", f"{place}{says} ({answered.after_ms:.0f} ms)")
        case "absent":
            return Check(
                name, "problem", f"{place}: there is no such socket", "check the path given"
            )
        case "refused":
            return Check(
                name,
                "warning",
                f"{place}: {why}: nobody listens at this socket",
                f"start {name}, or remove the socket if it is gone for good",
            )
        case "hung":
            return Check(
                name,
                "problem",
                f"{place}: {why}",
                f"restart {name}; until then its containers may lack their image and name",
            )
        case "forbidden":
            return Check(
                name,
                "problem",
                f"{place}: {why}",
                f"{_ROOT}; without it {name}'s containers may lack their image and name",
            )
        case "garbled":
            return Check(
                name, "problem", f"{place}: {why}", f"find out what this is: it is not {name}'s"
            )


def _version(release: str) -> tuple[int, int]:
    """
    >>> _version("5.15.0-91-generic"), _version("strange")
    ((5, 15), (0, 0))
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
