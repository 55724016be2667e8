"""The containers that are systems of their own: LXC's, and systemd-nspawn's machines.

Their names are of the user's choice; what says of them what is true is the kernel.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.live.daemons import PATH, command, spawn
from tests.live.leftovers import CGROUPS
from tests.live.waiting import until


class Lxc:
    """LXC with a directory of its own. Every container has its own network and nothing in it."""

    def __init__(self, home: Path, rootfs: Path, stack: ExitStack) -> None:
        self.lxcpath = home
        self._home, self._rootfs, self._stack = home, rootfs, stack
        home.mkdir()
        stack.callback(self._remove_all)

    def create(self, name: str, *lines: str) -> str:
        """Not from the template, which mounts the host's libraries into it. Returns the name."""
        directory = self._home / name
        shutil.copytree(self._rootfs, directory / "rootfs", symlinks=True)
        config = [
            f"lxc.rootfs.path = dir:{directory}/rootfs",
            f"lxc.uts.name = {name}",
            "lxc.net.0.type = empty",
            "lxc.apparmor.profile = unchanged",  # Debian's default wants AppArmor in the kernel
            *lines,
        ]
        (directory / "config").write_text("\n".join(config) + "\n")
        return name

    def from_template(self, name: str) -> str:
        """Debian's own busybox template, which needs no network."""
        config = self._home / "template.conf"
        config.write_text("lxc.net.0.type = empty\n")
        self.cli("lxc-create", name, "--template", "busybox", "--config", str(config))
        return name

    def run(self, name: str) -> str:
        """A container in the background that sleeps. Returns its name, as its id."""
        self.create(name, "lxc.init.cmd = /bin/sleep 600")
        self.start(name)
        return name

    def remove(self, name: str) -> None:
        self.stop(name)
        shutil.rmtree(self._home / name)

    def start(self, name: str, *program: str, options: tuple[str, ...] = ()) -> None:
        """In the background: it has started when this returns."""
        words = ("--", *program) if program else ()
        self.cli("lxc-start", name, *options, *words)

    def spawn(self, tool: str, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """`lxc-start --foreground`, `lxc-execute`: a process that lives as long as it does."""
        log = self._home / f"{name}.log.d"
        log.mkdir(exist_ok=True)
        return spawn(log, self._stack, tool, "-n", name, "-P", self._home, *arguments)

    def cli(self, tool: str, name: str, *arguments: str) -> str:
        return command(tool, "-n", name, "-P", self._home, *arguments)

    def pid(self, name: str) -> int:
        """Of the container's first process, on the host."""
        return int(self.cli("lxc-info", name, "--pid", "--no-humanize"))

    def stop(self, name: str) -> None:
        self.cli("lxc-stop", name, "--kill")

    def _remove_all(self) -> None:
        for config in self._home.glob("*/config"):
            if self.cli("lxc-info", config.parent.name, "--state", "--no-humanize") != "STOPPED":
                self.stop(config.parent.name)
        # Where the monitors of all beds go to end, empty ones are nobody's.
        for place in (CGROUPS / "lxc.pivot", *CGROUPS.glob("*/lxc.pivot")):
            remove(place)


class Nspawn:
    """systemd-nspawn. Without systemd it is in a cgroup that is made here, as its unit's would be."""

    def __init__(
        self, home: Path, rootfs: Path, stack: ExitStack, *, systemd: bool = False
    ) -> None:
        """*systemd*: it makes the scopes."""
        self._systemd = systemd
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._home, self._rootfs, self._stack = home, rootfs, stack
        home.mkdir()
        self._units: list[list[Path]] = []
        stack.callback(self._remove_all)

    def run(self, name: str) -> str:
        """A machine that sleeps. Returns its name, as its id; it may not have started yet."""
        program = ("/bin/sleep", "600")
        if self._systemd:
            self._running[name] = spawn(
                self._log_of(name), self._stack, "systemd-nspawn", "--quiet", "--console=pipe",
                "--directory", self._root_of(name), "--machine", name, *program,
            )  # fmt: skip
        else:
            self._running[name] = self.spawn(
                name, *program, unit=f"machine.slice/machine-{name}.scope"
            )
        return name

    def remove(self, name: str) -> None:
        self.stop(self._running.pop(name))

    def spawn(
        self, name: str, *program: str, unit: str, options: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """A machine in `/UNIT/payload`, in the two hierarchies that systemd would use."""
        cgroups = [place / unit for place in _hierarchies()]
        for cgroup in cgroups:
            cgroup.mkdir(parents=True, exist_ok=True)
        self._units.append(cgroups)
        enter = 'for each in $CGROUPS; do echo $$ >$each/cgroup.procs; done; exec "$@"'
        return spawn(
            self._log_of(name), self._stack, "sh", "-c", enter, "sh",
            "systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--console=pipe",
            "--directory", self._root_of(name), "--machine", name, *options, *program,
            environment={"CGROUPS": " ".join(map(str, cgroups)), "PATH": PATH},
        )  # fmt: skip

    def _log_of(self, name: str) -> Path:
        directory = self._home / f"{name}.log.d"
        directory.mkdir(exist_ok=True)
        return directory

    def _root_of(self, name: str) -> Path:
        """One for each machine: systemd-nspawn locks it. And it wants the looks of a system's."""
        root = self._home / name
        if not root.exists():
            shutil.copytree(self._rootfs, root, symlinks=True)
            for directory in ("usr", "run", "var", "root"):
                (root / directory).mkdir(exist_ok=True)
            (root / "etc/os-release").touch()
        return root

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """And removes its cgroups, as systemd does with a unit's."""
        process.terminate()
        process.wait(10)
        self._remove_units()

    def _remove_units(self) -> None:
        while self._units:
            for cgroup in self._units.pop():
                until(f"{cgroup} is gone", lambda cgroup=cgroup: remove(cgroup))  # type: ignore[misc]

    def _remove_all(self) -> None:
        self._remove_units()


def remove(cgroup: Path) -> bool:
    """A cgroup with those in it, as far as nobody lives there; whether it is gone."""
    for parent, _, _ in os.walk(cgroup, topdown=False):
        try:
            Path(parent).rmdir()
        except OSError:
            return False
    return not cgroup.exists()


def _hierarchies() -> list[Path]:
    hybrid = [CGROUPS / "unified", CGROUPS / "systemd"]
    return hybrid if hybrid[0].is_dir() else [CGROUPS]
