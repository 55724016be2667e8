"""Finding and removing what a runtime leaves behind when it dies under its containers.

Everything of a test bed carries the path of the bed's own directory: shims and monitors in their
command line, containers in the mount their root lies on. So a bed never has to guess what is its own.
"""

import ctypes
import os
import select
import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.live.waiting import until

CGROUPS = Path("/sys/fs/cgroup")
RUN = Path("/run")
MNT_DETACH = 2
LIBC = ctypes.CDLL(None, use_errno=True)


def processes_of(home: Path) -> list[int]:
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and _belongs_to(pid, home)]


def mounts_of(home: Path) -> list[Path]:
    """In the order in which they were made."""
    mounts = (Path(line.split()[4]) for line in _lines(Path("/proc/self/mountinfo")))
    return [mount for mount in mounts if mount.is_relative_to(home)]


def cgroups_of(names: Iterable[str]) -> list[Path]:
    """The directories, in every hierarchy, that have one of `names`, as a container's id, in their own."""
    names = tuple(names)
    return [
        Path(parent, child)
        for parent, children, _ in os.walk(CGROUPS)
        for child in children
        if any(name in child for name in names)
    ]


def sweep(home: Path) -> None:
    """Ends the processes of a bed, unmounts what is under it, and removes it."""
    cgroups: set[Path] = set()
    for pid in processes_of(home):
        cgroups |= _cgroups_of_process(pid)
        _kill(pid)
    until(f"the processes of {home} have ended", lambda: not processes_of(home))
    for cgroup in cgroups - _cgroups_of_process(os.getpid()):
        _remove_cgroup(cgroup)
    # What containerd's shims and runc keep in /run, wherever their caller keeps his.
    for shim in home.glob("*/state/io.containerd.runtime.v2.task/*/*/address"):
        Path(shim.read_text().removeprefix("unix://")).unlink(missing_ok=True)
    for state in [*RUN.glob("containerd/runc/*/*/state.json"), *RUN.glob("runc/*/state.json")]:
        if str(home) in state.read_text():
            shutil.rmtree(state.parent)
    for mount in reversed(mounts_of(home)):
        LIBC.umount2(os.fsencode(mount), MNT_DETACH)
    shutil.rmtree(home, ignore_errors=True)


def remove_empty_cgroups(top: str) -> None:
    """Removes `/top` from every hierarchy, as far as nobody lives there."""
    for directory in [CGROUPS / top, *CGROUPS.glob(f"*/{top}")]:
        for parent, _, _ in os.walk(directory, topdown=False):
            with suppress(OSError):
                Path(parent).rmdir()


def _belongs_to(pid: int, home: Path) -> bool:
    proc = Path("/proc", str(pid))
    try:
        if os.fsencode(home) in (proc / "cmdline").read_bytes():
            return True
        root = next((line for line in _lines(proc / "mountinfo") if line.split()[4] == "/"), "")
    except OSError:  # it has ended; what is left of it is for its parent
        return False
    return str(home) in root


def _kill(pid: int) -> None:
    """Returns when it has ended. The pidfd sees to it that no later process is meant."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 5)
        finally:
            os.close(pidfd)


def _cgroups_of_process(pid: int) -> set[Path]:
    try:
        paths = {line.split(":", 2)[2] for line in _lines(Path("/proc", str(pid), "cgroup"))}
    except OSError:
        return set()
    return {
        directory
        for path in paths - {"/"}
        for directory in [CGROUPS / path[1:], *CGROUPS.glob(f"*{path}")]
    }


def _remove_cgroup(directory: Path) -> None:
    """The kernel lets go of a cgroup a moment after its last process."""

    def gone() -> bool:
        with suppress(OSError):
            directory.rmdir()
        return not directory.exists()

    with suppress(TimeoutError):  # others live there
        until(f"{directory} is gone", gone, deadline_s=0.2)


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="surrogateescape").splitlines()
