"""A host full of containers: their cgroups, processes and files are made directly, for the number.

Docker's are kept by a shim, those of a plain runc by its state, CRI-O's each by a monitor. What
stands in the files is what real ones wrote (tests/data/docker, tests/data/bundles, tests/data/crio);
the files alone say everything of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ctrwatch.sensor.host import read_host
from tests.live.waiting import until

DATA = Path(__file__).parents[1] / "data"
RUNC_STATE = Path("/run/runc")
CRIO_POD = "/kubepods/besteffort/pod91b4778d-c090-7727-b36a-bf0be1b7dc91"
MONITORED = 5  # each costs a Python that plays the monitor


class Crowd:
    """`with Crowd(home, 1009) as crowd:`; the ids are in `docker`, `runc` and `crio`."""

    def __init__(self, home: Path, number: int) -> None:
        self._home = home
        ids = [f"{index:08x}" + "c0" * 28 for index in range(number)]
        self.crio, self.docker, self.runc = (
            ids[:MONITORED],
            ids[MONITORED::2],
            ids[MONITORED + 1 :: 2],
        )
        self._mounts = [Path(each.mount) for each in read_host().hierarchies.values()]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cgroups: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._remove)
        try:
            self._make_docker()
            self._make_runc()
            self._make_crio()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _make_docker(self) -> None:
        known = json.loads((DATA / "docker/ids.json").read_text())["by-name"]
        root, tasks = self._home / "docker", self._home / "io.containerd.runtime.v2.task/moby"
        bundle = (DATA / "docker/bundle.json").read_text().replace("/var/lib/docker", str(root))
        record = (DATA / f"docker/root/containers/{known}/config.v2.json").read_text()
        shutil.copytree(DATA / "docker/root/image", root / "image")
        for container_id in self.docker:
            pid = self._start(f"/docker/{container_id}")
            task, kept = tasks / container_id, root / "containers" / container_id
            _write(task / "config.json", bundle.replace(known, container_id))
            _write(task / "init.pid", str(pid))
            _write(kept / "config.v2.json", record.replace(known, container_id))
        # A program that reads -i and -d as options of its own, and what follows as its script.
        first = self.docker[0]
        _write(tasks / first / first, _waits("containerd-shim"))
        words = ["containerd-shim-runc-v2", "-id", first, "-namespace", "moby"]
        self._keeper(tasks / first, [*words, "-address", "/nowhere/containerd.sock"])

    def _make_runc(self) -> None:
        bundle = (DATA / "bundles/runc-plain.json").read_text()
        for container_id in self.runc:
            pid = self._start(f"/runc/{container_id}")
            place = self._home / "bundles" / container_id
            _write(place / "config.json", bundle)
            state = {"init_process_pid": pid, "config": {"labels": [f"bundle={place}"]}}
            _write(RUNC_STATE / container_id / "state.json", json.dumps(state))

    def _make_crio(self) -> None:
        bundle = (DATA / "crio/bundle_container.json").read_text()
        known = json.loads(bundle)["annotations"]["io.kubernetes.cri-o.ContainerID"]
        containers = self._home / "storage/overlay-containers"
        sandbox = json.loads(bundle)["annotations"]["io.kubernetes.cri-o.SandboxID"]
        shutil.copytree(DATA / "crio", place := containers / sandbox / "userdata")
        (place / "bundle_sandbox.json").rename(place / "config.json")
        for container_id in self.crio:
            place = containers / container_id / "userdata"
            _write(place / "config.json", bundle.replace(known, container_id))
            child = "subprocess.Popen(['/bin/busybox', 'sleep', '2147483647']).pid"
            _write(place / "__main__.py", _waits("conmon", f"open('pid', 'w').write(str({child}))"))
            self._keeper(place, ["conmon", "-b", str(place), "-c", container_id])
            self._enter(int((place / "pid").read_text()), f"{CRIO_POD}/crio-{container_id}")

    def _start(self, path: str) -> int:
        """A process in a cgroup of its own in every hierarchy."""
        process = subprocess.Popen(["/bin/busybox", "sleep", "2147483647"])
        self._processes.append(process)
        self._enter(process.pid, path)
        return process.pid

    def _enter(self, pid: int, path: str) -> None:
        for mount in self._mounts:
            directory = Path(f"{mount}{path}")
            for parent in reversed(directory.parents):
                if mount in parent.parents and not parent.exists():
                    self._make_cgroup(parent)
            self._make_cgroup(directory)
            (directory / "cgroup.procs").write_text(str(pid))

    def _make_cgroup(self, directory: Path) -> None:
        directory.mkdir()
        self._cgroups.append(directory)
        for name in ("cpuset.cpus", "cpuset.mems"):  # in v1 a task needs both to enter
            if (directory / name).exists() and (directory / "cpuset.cpu_exclusive").exists():
                (directory / name).write_text((directory.parent / name).read_text())

    def _keeper(self, directory: Path, words: list[str]) -> None:
        """A process with that command line, and a name to go with it."""
        process = subprocess.Popen(words, executable=sys.executable, cwd=directory)
        self._processes.append(process)
        name = Path(f"/proc/{process.pid}/comm")
        until("the keeper has its name", lambda: name.read_text().strip() in words[0])

    def _remove(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for directory in reversed(self._cgroups):
            _end_processes(directory)
            until(f"{directory} is gone", partial(_removed, directory))
        for container_id in self.runc:
            shutil.rmtree(RUNC_STATE / container_id, ignore_errors=True)


def _end_processes(directory: Path) -> None:
    for pid in (directory / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _removed(directory: Path) -> bool:
    with suppress(OSError):
        directory.rmdir()
    return not directory.exists()


def _waits(name: str, first: str = "") -> str:
    return (
        "import signal, subprocess\n"
        f"{first}\n"
        f"open('/proc/self/comm', 'w').write({name!r})\n"
        "signal.pause()\n"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
