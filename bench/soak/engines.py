"""The three runtimes of a soak: start, start again, remove, list. Names and ids are the soak's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final, NamedTuple, Protocol

from tests.live.bed import Bed
from tests.live.daemons import BedError
from tests.live.runtimes import IMAGE

_AT_ONCE: Final = 23  # containers in one command: it stays far below its deadline of a minute
_NEVER_STARTED: Final = ("Created", "Configured", "Initialized")


class Listing(NamedTuple):
    """Ids: what was started once, and what of it runs."""

    started: frozenset[str]
    running: frozenset[str]


class Engine(Protocol):
    """Each may raise BedError or TimeoutExpired: its daemon is killed now and then."""

    name: str

    def start(self, name: str, life_s: float, *, keep: bool) -> str:
        """Returns the id."""
        ...

    def again(self, name: str) -> None: ...

    def id_of(self, name: str) -> str:
        """Of a start that failed, if it came so far."""
        ...

    def remove(self, *names: str) -> None: ...

    def names(self) -> list[str]:
        """All that there are, to be removed."""
        ...

    def listing(self) -> Listing: ...


class DockerEngine:
    name = "docker"

    def __init__(self, bed: Bed) -> None:
        self._docker, self._ids = bed.docker, bed.home / "docker-ids"
        self._ids.mkdir()

    def start(self, name: str, life_s: float, *, keep: bool) -> str:
        file = self._ids / name
        options = ["--name", name, "--cidfile", str(file), *([] if keep else ["--rm"])]
        return self._docker.run("sleep", f"{life_s:g}", options=options)

    def again(self, name: str) -> None:
        self._docker.wait(name)  # what its daemon takes for running it starts no second time
        self._docker.cli("start", name)

    def id_of(self, name: str) -> str:
        return _read(self._ids / name)

    def remove(self, *names: str) -> None:
        self._docker.remove(*names)

    def names(self) -> list[str]:
        return self._docker.cli("ps", "--all", "--quiet", "--no-trunc").split()

    def listing(self) -> Listing:
        words = ("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Status}}")
        return _listing(self._docker.cli(*words))


class PodmanEngine:
    name = "podman"

    def __init__(self, bed: Bed) -> None:
        self._podman, self._ids = bed.podman, bed.home / "podman-ids"
        self._ids.mkdir()

    def start(self, name: str, life_s: float, *, keep: bool) -> str:
        file = self._ids / name
        options = ["--name", name, "--cidfile", str(file), *([] if keep else ["--rm"])]
        return self._podman.run("sleep", f"{life_s:g}", options=options)

    def again(self, name: str) -> None:
        self._podman.wait(name)
        self._podman.cli("start", name)

    def id_of(self, name: str) -> str:
        return _read(self._ids / name)

    def remove(self, *names: str) -> None:
        self._podman.remove(*names)

    def names(self) -> list[str]:
        return self._podman.cli("ps", "--all", "--quiet", "--no-trunc").split()

    def listing(self) -> Listing:
        words = ("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Status}}")
        return _listing(self._podman.cli(*words))


class CtrEngine:
    """Its containers are called as the soak calls them: that is their id."""

    name = "ctr"

    def __init__(self, bed: Bed, namespace: str) -> None:
        self._ctr, self._namespace = bed.ctr, namespace
        self._ctr._prepare(namespace)  # noqa: SLF001 - the import takes seconds, and is no birth

    def start(self, name: str, life_s: float, *, keep: bool) -> str:
        program = ("sleep", f"{life_s:g}")
        if keep:
            return self._ctr.run(name, *program, namespace=self._namespace)
        self._ctr.cli(self._namespace, "run", "--rm", "--null-io", IMAGE, name, *program)
        return name

    def again(self, name: str) -> None:
        """Its task has ended; the cgroup goes with the task."""
        self._ctr.cli(self._namespace, "task", "rm", name)
        self._ctr.cli(self._namespace, "task", "start", "--detach", "--null-io", name)

    def id_of(self, name: str) -> str:
        return name

    def remove(self, *names: str) -> None:
        for name in names:
            self._ctr.remove(name, self._namespace)

    def names(self) -> list[str]:
        return self._ctr.cli(self._namespace, "container", "ls", "--quiet").split()

    def listing(self) -> Listing:
        lines = self._ctr.cli(self._namespace, "task", "ls").splitlines()[1:]
        tasks = {line.split()[0]: line.split()[2] for line in lines}
        running = frozenset(name for name, status in tasks.items() if status == "RUNNING")
        # Of one without a task containerd does not say whether it was ever started.
        return Listing(frozenset(tasks), running)


def remove_all(engine: Engine) -> None:
    """What is left of a soak; what can't be removed is swept with the bed."""
    with suppress(BedError, TimeoutExpired):
        for some in _chunks(engine.names()):
            with suppress(BedError):
                engine.remove(*some)


def _chunks(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    iterator = iter(names)
    while some := tuple(itertools.islice(iterator, _AT_ONCE)):
        yield some


def _listing(text: str) -> Listing:
    found = dict(line.split(maxsplit=1) for line in text.splitlines())
    started = {name for name, status in found.items() if status not in _NEVER_STARTED}
    return Listing(
        frozenset(started),
        frozenset(name for name in started if found[name].startswith("Up")),
    )


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
