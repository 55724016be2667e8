"""Containers that a rule forbids, started for real: what came of it, by every witness there is.

The first thing that such a container does is to write a file of its name into a directory of the
host's; the kernel's word is `container_start`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.live.bed import Bed
from tests.live.daemons import BedError
from tests.live.watching import Event, Watching

POLICY = """
apiVersion: ctrwatch/v1
kind: Policy
metadata: {name: house}
rules:
  - name: nothing-forbidden
    deny: process.args.exists(arg, arg.contains('forbidden'))
    severity: high
    action: %s
    message: '{container_name} is not wanted here'
"""


def policy(directory: Path, action: str) -> str:
    """A policy's file: what has "forbidden" in its arguments is not wanted."""
    file = directory / f"{action}.yaml"
    file.write_text(POLICY % action)
    return str(file)


@contextmanager
def enforcing(
    action: str, flag: str = "--enforce", within: Sequence[str] = ()
) -> Iterator[Watching]:
    """`with enforcing("kill") as watching`: what is forbidden is stopped."""
    with tempfile.TemporaryDirectory(prefix="ctrwatch-policy-") as directory:
        options = ("--no-existing", "--policy", policy(Path(directory), action), flag)
        with Watching(*options, within=within) as watching:
            yield watching


class Attempt(NamedTuple):
    """*said*: what its user got to see; "": it was started."""

    name: str
    said: str


def _docker(bed: Bed, mark: Path, name: str) -> None:
    bed.docker.run(*_program(name), options=("--name", name, "-v", f"{mark}:/mark"))


def _podman(bed: Bed, mark: Path, name: str) -> None:
    bed.podman.run(*_program(name), options=("--name", name, "-v", f"{mark}:/mark"))


def _ctr(bed: Bed, mark: Path, name: str) -> None:
    bind = f"type=bind,src={mark},dst=/mark,options=rbind:rw"
    bed.ctr.run(name, *_program(name), options=("--mount", bind))


def _cri(bed: Bed, mark: Path, name: str) -> None:
    pod = bed.cri.pod(f"pod-{name}")
    bed.cri.run(pod, name, *_program(name), mounts={str(mark): "/mark"})


WAYS: dict[str, Callable[[Bed, Path, str], None]] = {
    "docker": _docker,
    "ctr": _ctr,
    "cri": _cri,
    "podman": _podman,
}


def attempt(bed: Bed, way: str, mark: Path, name: str) -> Attempt:
    """A container's way to its user, as far as it comes. *name*: "forbidden…" for one that is."""
    try:
        WAYS[way](bed, mark, name)
    except BedError as error:
        return Attempt(name, str(error))
    return Attempt(name, "")


def remove(bed: Bed, way: str, name: str) -> None:
    """What is left of it: a runtime keeps the record of one that could not be started."""
    if way == "cri":
        for pod in [pod for pod in bed.cri.pods if pod.name == f"pod-{name}"]:
            bed.cri.remove_pod(pod)
    else:
        with suppress(BedError):  # ctr's is gone
            getattr(bed, way).remove(name)


def prepare(bed: Bed, way: str) -> None:
    """The runtime is there, and has its images, before anybody watches."""
    if way == "ctr":
        bed.ctr.run("prepared", "true")
        bed.ctr.remove("prepared")
    else:
        getattr(bed, way)


def of(watching: Watching, event: str, name: str) -> list[Event]:
    """Its events of that kind, so far."""
    return [
        line.event
        for line in watching.lines
        if line.event["event"] == event
        and name in (line.event["container_id"], line.event["container_name"])
    ]


def enforced(watching: Watching, name: str) -> Event:
    watching.until(lambda: bool(of(watching, "enforcement", name)), f"enforcement of {name}")
    return of(watching, "enforcement", name)[0]


def _program(name: str) -> tuple[str, ...]:
    return ("sh", "-c", f"echo ran >/mark/{name}; sleep 600")
