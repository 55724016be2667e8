"""
Whom to ask about a container. Each source is a module that knows one place to look.

To add one: a class with `name`, `ask` and `close` (ports.Source), a line in `Evidence`,
and its turn in core/steps.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ctrwatch.core.steps import LEADS_ONLY, STEPS
from ctrwatch.core.tally import State
from ctrwatch.evidence.asking import Daemons
from ctrwatch.evidence.bundle import Bundle
from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.cri import Cri
from ctrwatch.evidence.discover import Kind, Place, Sockets
from ctrwatch.evidence.docker import DockerFiles
from ctrwatch.evidence.engine import DockerEngine
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.lists import merged
from ctrwatch.evidence.lookout import Lookout
from ctrwatch.evidence.lxc import Lxc
from ctrwatch.evidence.nspawn import Nspawn
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.evidence.process import Creator, Init
from ctrwatch.model import CgroupKey, Listing, NotFound, Runtime, Subject, Task
from ctrwatch.ports import Lister, Source

__all__ = ("Evidence",)


# A bundle is the OCI runtime's, and stays where a daemon has forgotten its container.
_NO_RECORDS: Final = LEADS_ONLY | {"bundle"}


class Evidence:
    """
    All `sources` by name, and the lookout for daemons that come later.

    *cgroup_dir* gives the directory of a cgroup, None where its hierarchy is not mounted;
    *extra_sockets* are asked besides the places that discover.py knows, by kind; *back* is
    called with a source's name when a daemon of it is there that was not, or did not answer.
    """

    def __init__(
        self,
        cgroup_dir: Callable[[CgroupKey, str], str | None],
        extra_sockets: Mapping[str, Sequence[str]],
        back: Callable[[str], None],
        *,
        proc: str = "/proc",
    ) -> None:
        readers = Readers()
        self._sockets = Sockets(extra_sockets)
        self._containerd = Containerd(readers, self._sockets, back)
        self._creator = Creator(readers, proc)
        docker, cri = DockerEngine(self._sockets, back), Cri(readers, self._sockets, back)
        podman = PodmanFiles(readers)
        self._listers: Final[tuple[Lister, ...]] = (docker, self._containerd, cri, podman)
        made: tuple[Source, ...] = (
            self._creator,
            Init(proc, cgroup_dir),
            Lxc(readers, proc),
            Nspawn(readers, proc),
            Bundle(readers),
            DockerFiles(readers),
            podman,
            self._containerd,
            cri,
            docker,
        )
        self.sources: Final = {source.name: source for source in made}
        self._daemons: Final[Mapping[Kind, Daemons]] = {
            "docker": docker.daemons,
            "containerd": self._containerd.daemons,
            "cri": cri.daemons,
        }
        self._lookout: Lookout | None = None

    async def prepare(self) -> None:
        """Watch for sockets, and load what a first question would wait for: it has 20 ms."""
        self._lookout = Lookout(
            self._places(), lambda kind, path: self._daemons[kind].appeared(path)
        )
        await self._containerd.prepare()

    def ask_at(self, extra_sockets: Mapping[str, Sequence[str]]) -> None:
        """From now on these are the extra ones."""
        before = self._places()
        self._sockets.given(extra_sockets)
        after = self._places()
        for kind, path in {place[:2] for place in before} - {place[:2] for place in after}:
            self._daemons[kind].forget(path)
        if self._lookout is not None:
            self._lookout.watch(after)

    def _places(self) -> list[Place]:
        """Where daemons are that are asked."""
        return [place for place in self._sockets.places if place.kind in self._daemons]

    async def caller(self, task: Task, uid: int) -> Task | None:
        """
        The parent of a *task*, with its command line, if it is root's or the user's with that *uid*.

        None: it has ended.
        """
        return await self._creator.caller(task, uid)

    def states(self) -> dict[str, Counter[State]]:
        """Of each source that asks daemons, how many of them are in which state."""
        return {
            kind: daemons.states(self._sockets.present(kind))
            for kind, daemons in self._daemons.items()
        }

    async def records(self) -> Listing:
        """What the runtimes list: for the rounds, which compare it with what was heard."""
        return merged(await asyncio.gather(*(lister.records() for lister in self._listers)))

    async def knows(self, subject: Subject) -> bool:
        """Whether a runtime's own record of it is there, or can't be looked at now."""
        runtime = subject.facts.runtime or Runtime.UNKNOWN
        names = dict.fromkeys(step.source for step in STEPS if step.concerns(runtime))
        for name in names:
            if name in _NO_RECORDS:
                continue
            if not isinstance(await self.sources[name].ask(subject), NotFound):
                return True
        return False

    async def close(self) -> None:
        if self._lookout is not None:
            self._lookout.close()
        for source in self.sources.values():
            await source.close()
