"""What runtimes list, all at once; it goes on to whom the rounds give it: an audit, and a memory."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any, Final

from ctrwatch import rounds
from ctrwatch.core import audit
from ctrwatch.core.chain import Chain, Ending, Header, Input, Report
from ctrwatch.core.story import Tell
from ctrwatch.evidence import containerd as containerds, cri as cris, engine, lists, podman
from ctrwatch.evidence.api import client as containerd_api, cri as cri_api
from ctrwatch.evidence.api.containers_pb2 import GetContainerResponse, ListContainerMessage
from ctrwatch.evidence.api.namespaces_pb2 import ListNamespacesResponse
from ctrwatch.evidence.api.tasks_pb2 import ListTasksResponse
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.evidence.files import Tree, Unreadable
from ctrwatch.model import Listing
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.grpc import Answers, Calls, cri_answers, recorded
from tests.fuzz.mutate import Mutator
from tests.fuzz.telling import DATA, Memory, Parsed, host_lines_of, lines_of, straight

__all__ = ("containerd", "cri", "docker", "podman_files")

_TOLD: Final = 4  # of one list: they are all made alike
_SAID: Final = 400  # characters of a sentence about who can't be asked
_NOW_NS: Final = 4_000_000_000 * 10**9
_HEADER: Final = Header(
    host="h", boot_id="b", wall_offset_ns=1_700_000_000 * 10**9, wait_ns=0, unified=True
)
_CONTAINERD: Final = "/containerd.services."


def _told(listing: Listing) -> Hashable:
    """All that is made of a list, in every kind of line."""
    chain = Chain(_HEADER)
    missed = audit.missed(listing, frozenset(), _NOW_NS)
    ended = audit.forgotten(listing, frozenset(), -_NOW_NS, _NOW_NS)
    fed: list[Input] = [*map(rounds._missed, missed[:_TOLD]), *map(rounds._ended, ended[:_TOLD])]
    effects = [effect for item in (*fed, Ending(boot_ns=1)) for effect in chain.feed(item)]
    for effect in effects:
        if isinstance(effect, Report):
            host_lines_of(effect.event)
        if isinstance(effect, Tell):
            lines_of(effect.event)
    for why in listing.unavailable:
        require("who can't be asked is one printable line", why.isprintable())
        require("and a short one", len(why) < _SAID)
    twice, once = lists.merged([listing, listing]), lists.merged([listing])
    require("what two say alike is one", twice.records == once.records)
    told = [effect for effect in effects if isinstance(effect, Tell | Report)]
    require("each is told", len(told) >= len(fed))
    one = listing.records[0] if listing.records else None
    known = one and (one.runtime, one.running, one.created_ns is None, one.name == "")
    return (
        len(listing.records).bit_length(),
        known,
        bool(missed),
        bool(ended),
        len(listing.unavailable),
    )


def docker() -> Boundary:
    seed = (DATA / "docker/engine/containers.json").read_bytes()
    exited = seed.replace(b'"State":"running"', b'"State":"exited"')

    def feed(raw: bytes) -> Hashable:
        return _told(lists.bounded("docker: x", engine.records_of(raw, 0)))

    return Boundary([seed, exited], lambda mutator, seeds: mutator.json(seeds), feed, (Unanswered,))


def _worse(mutator: Mutator, seeds: Sequence[Answers]) -> Answers:
    """One of the answers, or nothing in its place."""
    answers = mutator.pick(seeds)
    at = mutator.below(len(answers))
    if mutator.chance(0.02):
        return (*answers[:at], *answers[at + 1 :])
    method, raw = answers[at]
    return (*answers[:at], (method, mutator.message((raw,))), *answers[at + 1 :])


def containerd() -> Boundary:
    seeds: list[Answers] = []
    for namespace, answers in recorded():
        [get] = [raw for method, raw in answers if method.endswith("Containers/Get")]
        record = GetContainerResponse.FromString(get).container
        names, tasks = ListNamespacesResponse(), ListTasksResponse()
        names.namespaces.add(name=namespace)
        tasks.tasks.add(id=record.id, status=2 + len(seeds) % 2)  # running, or stopped
        listed = ListContainerMessage(container=record)
        seeds.append(
            (
                (_CONTAINERD + "namespaces.v1.Namespaces/List", names.SerializeToString()),
                (_CONTAINERD + "tasks.v1.Tasks/List", tasks.SerializeToString()),
                (_CONTAINERD + "containers.v1.Containers/ListStream", listed.SerializeToString()),
            )
        )

    def feed(answers: Answers) -> Hashable:
        calls: Any = Calls()
        calls.answers = dict(answers)
        records = straight(containerds.records_of(containerd_api.Client(calls), 0))
        return _told(lists.bounded("containerd: x", records))

    return Boundary(seeds, _worse, feed, (Unanswered,))


def cri() -> Boundary:
    def feed(answers: Answers) -> Hashable:
        calls: Any = Calls()
        calls.answers = dict(answers)
        records = straight(cris.records_of(cri_api.Client(calls), 0))
        return _told(lists.bounded("cri: x", records))

    [_, seed] = cri_answers().seeds
    return Boundary([seed], _worse, feed, (Unanswered,))


def podman_files() -> Boundary:
    """The storage's index, as Podman and as CRI-O write it, and their metadata in it."""
    memory = Memory()
    source = podman.PodmanFiles(memory)
    size = podman._INDEX_BYTES
    source._containers = Parsed(memory, podman._read_containers, limit=size, most=1)
    root = Tree("/no/such/root", 0)

    def worse(mutator: Mutator, seeds: Sequence[bytes]) -> bytes:
        raw = mutator.pick(seeds)
        try:
            stored = json.loads(raw)
            metadata = stored[0]["metadata"]
            metadata.encode()
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return mutator.json((raw,))
        if mutator.chance(0.5):
            return mutator.json((raw,))
        changed = mutator.json((metadata.encode(),))
        stored[0]["metadata"] = changed.decode("utf-8", "replace")
        return json.dumps(stored[:2]).encode()

    def feed(raw: bytes) -> Hashable:
        memory.files = {"overlay-containers/containers.json": raw}
        return _told(straight(source._listed(root)))

    seeds = [
        (DATA / "podman/root/overlay-containers/containers.json").read_bytes(),
        (DATA / "crio/storage_volatile_containers.json").read_bytes(),
    ]
    return Boundary(seeds, worse, feed, (Unreadable,))
