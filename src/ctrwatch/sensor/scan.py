"""
The containers that are there already: the cgroup tree and the runtimes' own state.

A cgroup that is spelled like a container's and has a process in it is one. Containers
with free names (``/default/web``) are found by those who keep them: containerd's shims,
whose working directory is the bundle; conmon, whose command line names it; runc's and
crun's state directories; LXC's and systemd-nspawn's by machines.py. Only root's keepers
are looked at: another's memory or directory may hang, and his words are evidence's to
judge. Reads files only, asks no daemon. Runs in a thread: on a host with 1,000 containers
and a dozen hierarchies it reads 20,000 directories.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.core.cgroup import identify, is_free_name
from ctrwatch.core.cmdline import ShimCall, conmon_call, shim_call
from ctrwatch.model import CgroupKey, ContainerId, Identity, Leads, Listed
from ctrwatch.sensor import proc
from ctrwatch.sensor.host import Host, boot_clock_ns
from ctrwatch.sensor.machines import machines

__all__ = ("is_init", "is_still", "scan", "still_there")

_RUNTIME_ROOTS: Final = {"runc": "/run/runc", "crun": "/run/crun"}
_STARTED: Final = {"runc": "init_process_start", "crun": "process-start-time"}  # clock ticks
_STATE_BYTES: Final = 1 << 20  # runc's state.json holds the whole configuration: 30 KB met
_DEPTH: Final = 64  # nested containers are met five deep, with ten levels each
_CMDLINE_BYTES: Final = 2 << 20  # ARG_MAX
_LEAF_LINKS: Final = 2


class _Kept(NamedTuple):
    """A container that somebody keeps: a shim, a monitor, a runtime's state directory."""

    container_id: ContainerId
    leads: Leads
    init_pid: int | None
    monitor_pid: int = 0  # whose child the first process is


def scan(host: Host) -> list[Listed]:
    """Every container there is now, outer ones before inner ones."""
    processes = list(proc.running())
    kept = [*_by_processes(processes), *_by_state()]
    keepers = {keeper.container_id: keeper for keeper in kept}
    found: dict[str, list[tuple[CgroupKey, str]]] = {}
    identities: dict[str, Identity] = {}
    for key, path, identity in _cgroups(host):
        identities[path] = identity
        found.setdefault(path, []).append((key, path))
    listed = []
    for path, paths in found.items():
        identity = identities[path]
        keeper = None if is_free_name(identity) else keepers.get(identity.container_id)
        pid = (keeper and keeper.init_pid) or _first_process(host, paths)
        if keeper is not None and not _keeps(keeper, pid, path):
            keeper, pid = None, _first_process(host, paths)  # only of the same name
        if pid is not None:
            listed.append(_listed(host, paths, identity, keeper, pid))
    proven = {
        identity.container_id for identity in identities.values() if not is_free_name(identity)
    }
    for keeper in kept:
        if keeper.init_pid is None or keeper.container_id in proven:
            continue
        if paths := _paths_of(host, keeper):
            listed.append(_listed(host, paths, keeper.container_id, keeper, keeper.init_pid))
    listed += [
        _listed(host, machine.paths, machine.identity, None, machine.init_pid)
        for machine in machines(host, processes)
        if machine.paths[0][1] not in found
    ]
    return sorted(listed, key=lambda item: item.paths[0][1].count("/"))


def still_there(host: Host, item: Listed) -> bool:
    """The directory is the same as when it was listed."""
    key, path = item.paths[0]
    status = host.status(key, path)
    return status is not None and status.st_ino == key.cgroup_id


def _listed(
    host: Host,
    paths: list[tuple[CgroupKey, str]],
    proven: Identity | ContainerId,
    keeper: _Kept | None,
    pid: int,
) -> Listed:
    identity = proven if isinstance(proven, Identity) else None
    return Listed(
        boot_ns=boot_clock_ns(),
        container_id=identity.container_id if identity else ContainerId(str(proven)),
        paths=tuple(sorted(paths)),
        identity=identity,
        leads=keeper.leads if keeper else Leads(),
        uid=0 if keeper else _owner(host, *min(paths)),
        init_pid=pid,
        init_start_ns=proc.started_ns(pid),
    )


def _owner(host: Host, key: CgroupKey, path: str) -> int:
    """The user who made the cgroup, or to whom it was given; root's, if it has gone."""
    status = host.status(key, path)
    return status.st_uid if status is not None else 0


# --- the cgroup tree ----------------------------------------------------------------


def _cgroups(host: Host) -> Iterator[tuple[CgroupKey, str, Identity]]:
    """Every directory that is spelled like a container's own."""
    known: dict[str, Identity | None] = {}  # a path is mostly there in every hierarchy
    for hierarchy in host.hierarchies.values():
        for path, inode in _directories(hierarchy.mount, "", 0):
            if path not in known:
                known[path] = identify(path)
            identity = known[path]
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
        if depth < _DEPTH and not _is_leaf(entry):
            yield from _directories(mount, below, depth + 1)


def _is_leaf(entry: os.DirEntry[str]) -> bool:
    """Links to a directory: its name, its ".", and a ".." in each below (fs/kernfs/inode.c)."""
    try:
        return entry.stat(follow_symlinks=False).st_nlink == _LEAF_LINKS
    except OSError:
        return True  # gone meanwhile


def _first_process(host: Host, paths: list[tuple[CgroupKey, str]]) -> int | None:
    """The oldest process in the container's cgroup or below; None: nothing runs there."""
    for key, path in sorted(paths):
        directory = host.directory(key, path)
        if directory is None:
            continue
        below = [directory, *(directory + sub for sub, _ in _directories(directory, "", 0))]
        pids = [pid for place in below for pid in _processes(place)]
        started = [(start, pid) for pid in pids if (start := proc.started_ns(pid)) is not None]
        if started:
            return min(started)[1]
    return None


def _processes(directory: str) -> list[int]:
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []


# --- those who keep containers --------------------------------------------------------


def _by_processes(processes: Iterable[tuple[int, str]]) -> Iterator[_Kept]:
    keepers = [
        (pid, comm)
        for pid, comm in processes
        if comm.startswith(("containerd-shim", "conmon")) and proc.uid(pid) == 0
    ]
    shims = {pid for pid, comm in keepers if not comm.startswith("conmon")}
    seen: set[str] = set()
    for pid, comm in keepers:
        argv, _ = proc.argv(pid, _CMDLINE_BYTES)
        if comm.startswith("conmon"):
            if (monitor := conmon_call(argv)) is not None:
                oci_runtime = os.path.basename(monitor.oci_runtime)
                leads = Leads(bundle=monitor.bundle, oci_runtime=oci_runtime)
                yield _Kept(ContainerId(monitor.container_id), leads, None, pid)
        elif (shim := shim_call(argv)) is not None:
            for kept in _by_shim(pid, shim, seen):
                if kept.init_pid is None or is_init(kept.init_pid, kept.container_id, shims):
                    yield kept


def is_init(pid: int, container_id: str, shims: AbstractSet[int]) -> bool:
    """
    Whether the process is a container's first: a shim's child, or in a cgroup of that name.

    A bundle's init.pid stays when that process has ended, until the task is deleted; by then
    the number may be anybody's.
    """
    if proc.parent(pid) in shims:
        return True
    names = [name for path in proc.cgroups(pid).values() for name in path.split("/")]
    ends = f"-{container_id}.scope", f":{container_id}"
    return any(name == container_id or name.endswith(ends) for name in names)


def _by_shim(pid: int, shim: ShimCall, seen: set[str]) -> Iterator[_Kept]:
    """All the bundles of a containerd's namespace, once: a pod's shim keeps several."""
    try:
        directory = os.path.dirname(os.readlink(f"/proc/{pid}/cwd"))
        if directory in seen:
            return
        seen.add(directory)
        container_ids = sorted(os.listdir(directory))
    except OSError:
        return  # gone meanwhile, or in another mount namespace
    for container_id in container_ids:
        bundle = f"{directory}/{container_id}"
        try:
            init_pid = int(Path(bundle, "init.pid").read_text("ascii"))
        except (OSError, ValueError):
            continue
        leads = Leads(
            bundle=bundle,
            containerd=shim.address,
            namespace=shim.namespace,
            oci_runtime="runc",
        )
        yield _Kept(ContainerId(container_id), leads, init_pid)


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
            if isinstance(pid, int) and is_still(pid, state.get(_STARTED[program])):
                leads = Leads(bundle=str(bundle or ""), oci_runtime=program)
                yield _Kept(ContainerId(name), leads, pid)


def is_still(pid: int, ticks: object) -> bool:
    """The process that started then; the state of a container that has ended stays, too."""
    started_ns = proc.started_ns(pid)
    return started_ns is not None and (
        not isinstance(ticks, int) or started_ns == ticks * proc.NS_PER_TICK
    )


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


def _keeps(keeper: _Kept, pid: int | None, path: str) -> bool:
    """The keeper's own process lives there: anybody may give a cgroup a container's name."""
    if keeper.monitor_pid:
        return pid is not None and proc.parent(pid) == keeper.monitor_pid
    paths = proc.cgroups(keeper.init_pid or 0).values()
    return any(f"{own}/".startswith(f"{path}/") for own in paths)


def _paths_of(host: Host, keeper: _Kept) -> list[tuple[CgroupKey, str]]:
    """The cgroups of a container that its path does not name, by its first process."""
    found = []
    for number, inside in proc.cgroups(keeper.init_pid or 0).items():
        path = _own(inside, keeper.container_id)
        status = host.status(CgroupKey(number, 0), path)
        if path != "/" and status is not None:
            found.append((CgroupKey(number, status.st_ino), path))
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
