"""
Whom to ask about a container. Each source is a module that knows one place to look.

To add one: a class with `name`, `ask` and `close` (ports.Source), a line in `sources`,
and its turn in core/steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ctrwatch.evidence.bundle import Bundle
from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.docker import DockerFiles
from ctrwatch.evidence.engine import DockerEngine
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.evidence.process import Creator, Init
from ctrwatch.model import CgroupKey
from ctrwatch.ports import Source

__all__ = ("prepare", "sources")


def sources(
    cgroup_dir: Callable[[CgroupKey, str], str | None],
    extra_sockets: Mapping[str, Sequence[str]],
    *,
    proc: str = "/proc",
) -> dict[str, Source]:
    """
    All sources by name.

    *cgroup_dir* gives the directory of a cgroup, None where its hierarchy is not mounted;
    *extra_sockets* are asked besides the places that discover.py knows, by kind.
    """
    readers = Readers()
    sockets = Sockets(extra_sockets)
    made: tuple[Source, ...] = (
        Creator(readers, proc),
        Init(proc, cgroup_dir),
        Bundle(readers),
        DockerFiles(readers),
        PodmanFiles(readers),
        Containerd(readers, sockets),
        DockerEngine(sockets),
    )
    return {source.name: source for source in made}


async def prepare(made: Mapping[str, Source]) -> None:
    """Load what a first question would otherwise wait for: it has 20 ms, not 100."""
    for source in made.values():
        if isinstance(source, Containerd):
            await source.prepare()
