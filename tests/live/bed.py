"""Real container runtimes to watch, each with data, sockets and processes of its own.

    with Bed() as bed:
        container = bed.docker.run("sleep", "60")
        bed.docker.inspect(container)["Name"]

A runtime starts when it is first asked for. Two beds, or a bed and the host's own runtimes, do not
meet. However a bed ends, it leaves nothing behind; what a killed one left, the next one removes.
The images are made here, and need no registry; `registry` has them for who wants to pull.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.images import Image, make_image, make_manifest, make_rootfs
from tests.live.daemons import BedError, start_containerd
from tests.live.leftovers import CGROUPS, remove_empty_cgroups, sweep
from tests.live.machines import Lxc, Nspawn
from tests.live.registry import Registry
from tests.live.runtimes import IMAGE, PAUSE, Cri, Ctr, Docker, Podman, RootlessPodman, Runc

LABELS = {"org.example.colour": "blue"}
PREFIX = "ctrwatch-bed-"  # short: a socket's path ends at 107 bytes


class Bed:
    """The runtimes: `docker`, `ctr`, `cri`, `podman`, `rootless`, `runc`, `crun`, `lxc`, `nspawn`.

    `home` is the directory of all.

    Where `systemd` is process 1 it makes the cgroups, as those who package the runtimes set them up.
    """

    systemd = Path("/run/systemd/system").is_dir()  # sd_booted(3)

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise BedError("container runtimes are started as root only")
        _sweep_dead_beds()
        self._stack = ExitStack()
        self.home = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._stack.callback(sweep, self.home)
        self._stack.enter_context(_locked(self.home))
        self._made_cgroups: list[str] = ["ctrwatchbed"]
        self._stack.callback(self._remove_cgroups)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @cached_property
    def docker(self) -> Docker:
        self._will_make_cgroups("docker")
        return Docker(self.home / "docker", self.containerd, self.image, self._stack)

    @cached_property
    def ctr(self) -> Ctr:
        return Ctr(self.containerd, self.image, self._stack, self._will_make_cgroups)

    @cached_property
    def cri(self) -> Cri:
        self._will_make_cgroups("kubepods")
        # Where the test itself may not lower its own score, its containers may not either.
        config = {"sandbox_image": PAUSE, "restrict_oom_score_adj": True}
        socket = start_containerd(self.home / "cri", self._stack, cri=config, systemd=self.systemd)
        return Cri(socket, [self.image, self.pause], self._stack, systemd=self.systemd)

    @cached_property
    def podman(self) -> Podman:
        self._will_make_cgroups("libpod_parent")
        return Podman(
            self.home / "podman", self.image, self.pause, self._stack, systemd=self.systemd
        )

    @cached_property
    def rootless(self) -> RootlessPodman:
        cgroup = self.home.name  # other beds' users have others
        self._will_make_cgroups(cgroup)
        return RootlessPodman(self.home / "rootless", self.image, cgroup, self._stack)

    @cached_property
    def runc(self) -> Runc:
        return Runc(self.home / "runc", self.rootfs, self._stack)

    @cached_property
    def crun(self) -> Runc:
        return Runc(self.home / "crun", self.rootfs, self._stack, "crun")

    @cached_property
    def lxc(self) -> Lxc:
        self._will_make_cgroups("lxc.pivot")
        return Lxc(self.home / "lxc", self.rootfs, self._stack)

    @cached_property
    def nspawn(self) -> Nspawn:
        self._will_make_cgroups("machine.slice", "system.slice")
        return Nspawn(self.home / "nspawn", self.rootfs, self._stack, systemd=self.systemd)

    @cached_property
    def containerd(self) -> Path:
        """The socket of the containerd that Docker and ctr share."""
        return start_containerd(self.home / "containerd", self._stack)

    @cached_property
    def registry(self) -> Registry:
        """It has `busybox:test`. `bed.docker.pull(bed.registry.name("busybox:test"))`."""
        registry = Registry(self.home / "registry", self._stack)
        labels = {**LABELS, "org.example.served": "yes"}  # it is no other image's content
        registry.push("busybox:test", make_manifest(self.rootfs, Cmd=["sh"], Labels=labels))
        return registry

    @cached_property
    def rootfs(self) -> Path:
        return make_rootfs(self.home / "rootfs")

    @cached_property
    def image(self) -> Image:
        return make_image(self.home / "busybox.tar", IMAGE, self.rootfs, Cmd=["sh"], Labels=LABELS)

    @cached_property
    def pause(self) -> Image:
        entrypoint = ["sleep", "2147483647"]
        return make_image(self.home / "pause.tar", PAUSE, self.rootfs, Entrypoint=entrypoint)

    def _will_make_cgroups(self, *tops: str) -> None:
        """What was there before stays."""
        here = {path.name for path in [*CGROUPS.iterdir(), *CGROUPS.glob("*/*")]}
        self._made_cgroups += [top for top in tops if top not in here]

    def _remove_cgroups(self) -> None:
        for top in self._made_cgroups:
            remove_empty_cgroups(top)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """As long as the file is open the bed is alive; the kernel closes it for a killed one."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _sweep_dead_beds() -> None:
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        with suppress(BlockingIOError, FileNotFoundError), _locked(lock.parent):
            sweep(lock.parent)
