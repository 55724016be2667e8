"""
The containers that are there already: the cgroup tree and the runtimes' own state.

A cgroup that is spelled like a container's and has a process in it is one. Containers
with free names (``/default/web``) are found by those who keep them: containerd's shims,
whose working directory is the bundle; conmon, whose command line names it; runc's and
crun's state directories. Reads files only, asks no daemon. Runs in a thread: on a host
with 1,000 containers and a dozen hierarchies it reads 20,000 directories.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.core.cgroup import identify
from ctrwatch.core.cmdline import conmon_call, shim_call
from ctrwatch.model import CgroupKey, ContainerId, Identity, Leads, Listed
from ctrwatch.sensor.host import Host

__all__ = ("scan", "still_there")

_RUNTIME_ROOTS: Final = {"runc": "/run/runc", "crun": "/run/crun"}
_STATE_BYTES: Final = 1 << 20  # runc's state.json holds the whole configuration: 30 KB met
_DEPTH: Final = 64  # nested containers are met five deep, with ten levels each
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class _Kept(NamedTuple):
    """A container that somebody keeps: a shim, a monitor, a runtime's state directory."""

    container_id: ContainerId
    leads: Leads
    init_pid: int | None


def scan(host: Host) -> list[Listed]:
    """Every container there is now, outer ones before inner ones."""
    kept = [*_by_processes(), *_by_state()]
    keepers = {keeper.container_id: keeper for keeper in kept}
    found: dict[tuple[ContainerId, ...], list[tuple[CgroupKey, str]]] = {}
    identities: dict[tuple[ContainerId, ...], Identity] = {}
    for key, path, identity in _cgroups(host):
        name = (*identity.outer, identity.container_id)
        identities.setdefault(name, identity)
        found.setdefault(name, []).append((key, path))
    listed = []
    for name, paths in found.items():
        keeper = keepers.get(name[-1])
        pid = (keeper and keeper.init_pid) or _first_process(host, paths)
        if pid is not None:
            listed.append(_listed(name[-1], paths, identities[name], keeper, pid))
    proven = {name[-1] for name in found}
    for keeper in kept:
        if keeper.init_pid is None or keeper.container_id in proven:
            continue
        if paths := _paths_of(host, keeper):
            listed.append(_listed(keeper.container_id, paths, None, keeper, keeper.init_pid))
    return sorted(listed, key=lambda item: item.paths[0][1].count("/"))


def still_there(host: Host, item: Listed) -> bool:
    """The directory is the same as when it was listed."""
    key, path = item.paths[0]
    directory = host.directory(key, path)
    try:
        return directory is not None and os.stat(directory).st_ino == key.cgroup_id
    except OSError:
        return False


def _listed(
    container_id: ContainerId,
    paths: list[tuple[CgroupKey, str]],
    identity: Identity | None,
    keeper: _Kept | None,
    pid: int,
) -> Listed:
    return Listed(
        boot_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        container_id=container_id,
        paths=tuple(sorted(paths)),
        identity=identity,
        leads=keeper.leads if keeper else Leads(),
        init_pid=pid,
        init_start_ns=_start_ns(pid),
    )


# --- the cgroup tree ----------------------------------------------------------------


def _cgroups(host: Host) -> Iterator[tuple[CgroupKey, str, Identity]]:
    """Every directory that is spelled like a container's own."""
    for hierarchy in host.hierarchies.values():
        for path, inode in _directories(hierarchy.mount, "", 0):
            identity = identify(path)
            if identity is not None and identity.is_root:
                yield CgroupKey(hierarchy.hierarchy_id, inode), path, identity


def _directories(mount: str, path: str, depth: int) -> Iterator[tuple[str, int]]:
    try:
        entries = [
            entry for entry in os.scandir(mount + path) if entry.is_dir(follow_symlinks=False)
        ]
    except OSError:
        return  # gone meanwhile
    for entry in entries:
        below = f"{path}/{entry.name}"
        yield below, entry.inode()
        if depth < _DEPTH:
            yield from _directories(mount, below, depth + 1)


def _first_process(host: Host, paths: list[tuple[CgroupKey, str]]) -> int | None:
    """The oldest process in the container's cgroup or below; None: nothing runs there."""
    for key, path in sorted(paths):
        directory = host.directory(key, path)
        if directory is None:
            continue
        below = [directory, *(directory + sub for sub, _ in _directories(directory, "", 0))]
        pids = [pid for place in below for pid in _processes(place)]
        started = [(start, pid) for pid in pids if (start := _start_ns(pid)) is not None]
        if started:
            return min(started)[1]
    return None


def _processes(directory: str) -> list[int]:
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []


def _start_ns(pid: int) -> int | None:
    """CLOCK_BOOTTIME of a process's start, to the clock tick (proc(5), stat, field 22)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return int(stat.rpartition(")")[2].split()[19]) * _TICK_NS
    except (OSError, ValueError, IndexError):
        return None


# --- those who keep containers --------------------------------------------------------


def _by_processes() -> Iterator[_Kept]:
    seen: set[str] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            comm = Path(f"/proc/{name}/comm").read_text("utf-8", "replace")
            if comm.startswith("containerd-shim"):
                directory = os.path.dirname(os.readlink(f"/proc/{name}/cwd"))
                shim = shim_call(_argv(name))
                if shim is not None and directory not in seen:
                    seen.add(directory)
                    yield from _by_shims(directory, shim.namespace, shim.address)
            elif comm.startswith("conmon") and (monitor := conmon_call(_argv(name))):
                leads = Leads(
                    bundle=monitor.bundle, oci_runtime=os.path.basename(monitor.oci_runtime)
                )
                yield _Kept(ContainerId(monitor.container_id), leads, None)
        except OSError:
            continue  # gone meanwhile, or a kernel thread


def _by_shims(directory: str, namespace: str, address: str) -> Iterator[_Kept]:
    """All the bundles of a containerd's namespace: a pod's shim keeps several."""
    for container_id in sorted(os.listdir(directory)):
        bundle = f"{directory}/{container_id}"
        try:
            pid = int(Path(bundle, "init.pid").read_text("ascii"))
        except (OSError, ValueError):
            continue
        leads = Leads(bundle=bundle, containerd=address, namespace=namespace, oci_runtime="runc")
        yield _Kept(ContainerId(container_id), leads, pid)


def _by_state() -> Iterator[_Kept]:
    """Containers of a plain `runc run` or `crun run`."""
    for program, root in _RUNTIME_ROOTS.items():
        try:
            names = sorted(os.listdir(root))
        except OSError:
            continue
        for name in names:
            state = _json(f"{root}/{name}/{'state.json' if program == 'runc' else 'status'}")
            pid = state.get("init_process_pid" if program == "runc" else "pid")
            bundle = state.get("bundle") or _label(state, "bundle")
            if isinstance(pid, int) and os.path.exists(f"/proc/{pid}"):
                leads = Leads(bundle=str(bundle or ""), oci_runtime=program)
                yield _Kept(ContainerId(name), leads, pid)


def _label(state: dict[str, object], name: str) -> str:
    """runc keeps the bundle's place as a label of its configuration: "bundle=/path"."""
    config = state.get("config")
    labels = config.get("labels") if isinstance(config, dict) else None
    for label in labels if isinstance(labels, list) else ():
        if isinstance(label, str) and label.startswith(name + "="):
            return label.partition("=")[2]
    return ""


def _json(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read(_STATE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _paths_of(host: Host, keeper: _Kept) -> list[tuple[CgroupKey, str]]:
    """The cgroups of a container that its path does not name, by its first process."""
    try:
        text = Path(f"/proc/{keeper.init_pid}/cgroup").read_text("utf-8", "surrogateescape")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        number, _, path = line.split(":", 2)
        path = _own(path, keeper.container_id)
        directory = host.directory(CgroupKey(int(number), 0), path)
        if path == "/" or directory is None:
            continue
        try:
            found.append((CgroupKey(int(number), os.stat(directory).st_ino), path))
        except OSError:
            continue
    return found


def _own(path: str, container_id: str) -> str:
    """
    The container's own cgroup, of a path at which its first process may be further down.

    >>> _own("/default/web/init.scope", "web")
    '/default/web'
    >>> _own("/mycontainer/container", "web")
    '/mycontainer'
    """
    parts = path.split("/")
    if container_id in parts:
        return "/".join(parts[: parts.index(container_id) + 1])
    return re.sub(r"/(container|init\.scope|init)\Z", "", path)


def _argv(pid: str) -> list[str]:
    raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    return raw.removesuffix(b"\0").decode("utf-8", "surrogateescape").split("\0")
