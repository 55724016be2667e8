"""What ran: every image and digest, from where, how often, and what a policy says of it. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ctrwatch.core.judge import Judgement
from ctrwatch.event import ContainerEvent

__all__ = ("Approved", "Images", "Instance", "Judged", "Ran")

_IMAGES: Final = 20_000  # an image and its digest; what comes after is counted and said
_NEWEST: Final = 10  # containers of an image that are named

Approved = Literal["yes", "no", "unknown", "not_judged"]


class Judged(NamedTuple):
    """What a rule says of one container; *rule*: policy/rule."""

    rule: str
    judgement: Judgement


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A container of an image."""

    time: str
    runtime: str
    container_id: str
    container_name: str
    pod: str
    creator: str
    uid: int | None
    status: str


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """
    An image with one digest.

    *approved*: yes: every rule that applied held, for every container; no: one did not;
    unknown: a rule could not decide; not_judged: no rule applied, or there was no policy.
    """

    container_image: Annotated[str, Meta(description='"" : nobody could tell')]
    container_image_digest: str
    registry: str
    repository: str
    births: Annotated[int, Meta(description="containers of it that were born in the period")]
    running: Annotated[int, Meta(description="those that were there when it, or a watch, began")]
    first: str
    last: str
    runtimes: dict[str, int]
    approved: Approved
    broke: Annotated[dict[str, int], Meta(description="policy/rule: how often it did not hold")]
    undecided: Annotated[dict[str, int], Meta(description="policy/rule: how often nobody knows")]
    held: Annotated[dict[str, int], Meta(description="policy/rule: how often it held")]
    containers: Annotated[tuple[Instance, ...], Meta(description="the newest ones")]


class _Image:
    def __init__(self, event: ContainerEvent) -> None:
        self.registry, self.repository = event.image.registry, event.image.repository
        self.first = self.last = event.time
        self.births = self.running = 0
        self.runtimes: Counter[str] = Counter()
        self.broke: Counter[str] = Counter()
        self.undecided: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.newest: deque[Instance] = deque(maxlen=_NEWEST)

    def add(self, event: ContainerEvent, judged: Iterable[Judged], *, born: bool) -> None:
        self.births += born
        self.running += not born
        self.first, self.last = min(self.first, event.time), max(self.last, event.time)
        self.runtimes[event.runtime] += 1
        for rule, judgement in judged:
            match judgement.outcome:
                case "violation":
                    self.broke[rule] += 1
                case "error" | "undecided":
                    self.undecided[rule] += 1
                case "pass":
                    self.held[rule] += 1
                case "not_applicable":
                    pass
        self.newest.append(_instance(event))

    @property
    def approved(self) -> Approved:
        if self.broke:
            return "no"
        if self.undecided:
            return "unknown"
        return "yes" if self.held else "not_judged"


class Images:
    def __init__(self) -> None:
        self._images: dict[tuple[str, str], _Image] = {}
        self.left_out = 0  # containers whose image is not among them

    def add(self, event: ContainerEvent, judged: Iterable[Judged], *, born: bool) -> None:
        key = event.container_image, event.container_image_digest
        if key not in self._images:
            if len(self._images) >= _IMAGES:
                self.left_out += 1
                return
            self._images[key] = _Image(event)
        self._images[key].add(event, judged, born=born)

    def value(self) -> tuple[Ran, ...]:
        """Those that are not approved first, then by how often they ran."""
        order: dict[Approved, int] = {"no": 0, "unknown": 1, "not_judged": 2, "yes": 3}
        found = [_ran(name, digest, image) for (name, digest), image in self._images.items()]
        return tuple(
            sorted(
                found,
                key=lambda each: (
                    order[each.approved],
                    -each.births - each.running,
                    each.container_image,
                    each.container_image_digest,
                ),
            )
        )


def _ran(name: str, digest: str, image: _Image) -> Ran:
    return Ran(
        container_image=name,
        container_image_digest=digest,
        registry=image.registry,
        repository=image.repository,
        births=image.births,
        running=image.running,
        first=image.first,
        last=image.last,
        runtimes=dict(image.runtimes.most_common()),
        approved=image.approved,
        broke=dict(image.broke.most_common()),
        undecided=dict(image.undecided.most_common()),
        held=dict(image.held.most_common()),
        containers=tuple(reversed(image.newest)),
    )


def _instance(event: ContainerEvent) -> Instance:
    return Instance(
        time=event.time,
        runtime=event.runtime,
        container_id=event.container_id,
        container_name=event.container_name,
        pod="/".join(filter(None, (event.pod_namespace, event.pod_name))),
        creator=event.creator.comm,
        uid=event.creator.uid,
        status=event.evidence.status,
    )
