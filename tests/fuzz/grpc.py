"""What containerd and the CRI answer: protobuf messages, and the JSON that stands in them."""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message

from ctrwatch.evidence import cri, rpc
from ctrwatch.evidence.api import client as containerd_api, cri as cri_api, cri_pb2
from ctrwatch.evidence.api.containers_pb2 import GetContainerResponse
from ctrwatch.evidence.api.content_pb2 import InfoResponse, ReadContentResponse
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.images import of_dockers
from ctrwatch.evidence.values import joined
from ctrwatch.model import Found
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import Mutator
from tests.fuzz.telling import DATA, Memory, straight, tell

__all__ = ("Answers", "Calls", "containerd", "containerd_content", "cri_answers", "recorded")

_GET: Final = "/containerd.services.containers.v1.Containers/Get"
_READ: Final = "/containerd.services.content.v1.Content/Read"
_INFO: Final = "/containerd.services.content.v1.Content/Info"
_CRI: Final = "/runtime.v1.RuntimeService/"

Answers = tuple[tuple[str, bytes], ...]  # by method, each once


class Calls:
    """Stands where rpc.Client does: an answer for each method, whatever it is asked for."""

    def __init__(self) -> None:
        self.answers: Mapping[str, bytes] = {}

    async def call(self, method: str, _request: Message, reply: Any, _namespace: str = "") -> Any:
        raw = self.answers.get(method)
        if raw is None:
            raise rpc.NoSuch("NOT_FOUND")
        try:
            return reply.FromString(raw)
        except DecodeError as error:  # as rpc.Client does
            raise Unanswered(str(error)) from None

    async def stream(self, *asked: Any) -> Any:
        return [await self.call(*asked)]


class _Recorded(NamedTuple):
    namespace: str
    answers: Answers


def recorded() -> list[_Recorded]:
    """One set of answers for each record of a container, with those of its namespace."""
    by_namespace: dict[str, dict[str, list[bytes]]] = {}
    for each in json.loads((DATA / "containerd/answers.json").read_text()):
        methods = by_namespace.setdefault(each["namespace"], {})
        methods.setdefault(each["method"], []).append(base64.b64decode(each["answers"][0]))
    info = InfoResponse()
    info.info.labels["containerd.io/distribution.source.docker.io"] = "library/busybox"
    sets = []
    names = by_namespace.pop("")
    for namespace, methods in by_namespace.items():
        for record in methods.get(_GET, ()):
            rest = {method: answers[0] for method, answers in (names | methods).items()}
            answers = {**rest, _INFO: info.SerializeToString(), _GET: record}
            sets.append(_Recorded(namespace, tuple(sorted(answers.items()))))
    return sets


def _fed(namespace: str, answers: Answers) -> Hashable:
    calls: Any = Calls()
    calls.answers = dict(answers)
    client = containerd_api.Client(calls)
    source = Containerd(Memory(), Sockets({}, ()))
    straight(client.namespaces())
    record = straight(client.container(namespace, "web"))
    if record is None:
        return "no record"
    facts = straight(source._facts(client, namespace, record, ""))
    of_docker = straight(of_dockers(client, ["a"], ["sha256:" + "a" * 64, "sha256:" + "b" * 64]))
    return tell(joined(facts), "containerd"), tell(of_docker, "containerd")


def containerd() -> Boundary:
    def worse(mutator: Mutator, seeds: Sequence[_Recorded]) -> _Recorded:
        namespace, answers = mutator.pick(seeds)
        others = [raw for _, raw in answers]
        at = mutator.below(len(answers))
        method, raw = answers[at]
        changed = mutator.message((raw, *others) if mutator.chance(0.05) else (raw,))
        return _Recorded(namespace, (*answers[:at], (method, changed), *answers[at + 1 :]))

    return Boundary(recorded(), worse, lambda case: _fed(*case), (Unanswered,))


def containerd_content() -> Boundary:
    """Manifests and indexes in its content store, and the CRI's record of a container."""
    digest = "sha256:" + "d" * 64
    index: dict[str, Any] = {
        "schemaVersion": 2,
        "manifests": [
            {"digest": digest, "size": 1, "platform": {"architecture": "amd64", "os": "linux"}}
        ],
    }
    seeds: list[tuple[int, str, bytes]] = []
    sets = [each for each in recorded() if _READ in dict(each.answers)]
    for number, each in enumerate(sets):
        answers = dict(each.answers)
        content = ReadContentResponse.FromString(answers[_READ]).data
        seeds += [(number, _READ, content), (number, _READ, json.dumps(index).encode())]
        record = GetContainerResponse.FromString(answers[_GET]).container
        seeds += [(number, key, any_.value) for key, any_ in record.extensions.items()]

    def worse(mutator: Mutator, seeds: Sequence[tuple[int, str, bytes]]) -> tuple[int, str, bytes]:
        number, place, raw = mutator.pick(seeds)
        return number, place, mutator.json((raw,))

    def feed(case: tuple[int, str, bytes]) -> Hashable:
        number, place, raw = case
        answers = dict(sets[number].answers)
        if place == _READ:
            answers[_READ] = ReadContentResponse(data=raw).SerializeToString()
        else:
            reply = GetContainerResponse.FromString(answers[_GET])
            reply.container.extensions[place].value = raw
            answers[_GET] = reply.SerializeToString()
        return _fed(sets[number].namespace, tuple(answers.items()))

    return Boundary(seeds, worse, feed, (Unanswered,))


def cri_answers() -> Boundary:
    def message(kind: Any, file: str, key: str, place: str = "") -> bytes:
        said = json.loads(Path(DATA / "crio" / file).read_text())[key]
        said = {place: [said] if place == "items" else said} if place else {key: said}
        encoded: bytes = ParseDict(said, kind(), ignore_unknown_fields=True).SerializeToString()
        return encoded

    images = json.loads((DATA / "crio/list_images.json").read_text())["images"]
    image = ParseDict(
        {"image": images[0]}, cri_pb2.ImageStatusResponse(), ignore_unknown_fields=True
    )
    containers = message(cri_pb2.ListContainersResponse, "list_containers.json", "containers")
    listed = cri_pb2.ListContainersResponse.FromString(containers).containers[0]
    answers = {
        _CRI + "ListContainers": containers,
        _CRI + "ListPodSandbox": message(
            cri_pb2.ListPodSandboxResponse, "sandbox_status.json", "status", "items"
        ),
        _CRI + "Version": message(cri_pb2.VersionResponse, "version.json", "runtime_name"),
        "/runtime.v1.ImageService/ImageStatus": image.SerializeToString(),
    }

    def worse(mutator: Mutator, seeds: Sequence[Answers]) -> Answers:
        answers = mutator.pick(seeds)
        at = mutator.below(len(answers))
        method, raw = answers[at]
        return (*answers[:at], (method, mutator.message((raw,))), *answers[at + 1 :])

    def feed(answers: Answers) -> Hashable:
        calls: Any = Calls()
        calls.answers = dict(answers)
        outcomes: list[Hashable] = []
        for container_id in (listed.id, listed.pod_sandbox_id):
            answer = straight(cri.answer(cri_api.Client(calls), container_id))
            outcome = tell(answer.facts, "cri") if isinstance(answer, Found) else type(answer)
            outcomes.append(outcome)
        require("two were asked for", len(outcomes) == 2)
        return tuple(outcomes)

    seeds = [tuple(answers.items())]
    seeds.append(tuple((key, raw) for key, raw in answers.items() if "Status" not in key))
    return Boundary(seeds, worse, feed, (Unanswered,))
