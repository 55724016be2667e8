"""
How far one container's story has come; and a shelf for the many of which nothing is awaited.

Pure. A host has thousands of containers that were told and live quietly. All that is known of
one is 6 KB of Python objects, but 0.6 KB as a packed line beside others like it, and is needed
again only when something happens to it: its end, or the answer of a daemon that was away. To the
youngest something happens soon: they start, and many end. So the last ones stay as they are.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from ctrwatch.core import changes
from ctrwatch.core.merge import Known
from ctrwatch.core.steps import MORE, WANTED
from ctrwatch.event import ContainerEvent
from ctrwatch.model import Answer, CgroupKey, Found, Subject, Task

__all__ = ("Asked", "Shelf", "Story")

_WINDOW: Final = 32 << 10  # bytes of a dictionary that zlib looks at
_WARM: Final = (
    64  # stories of which nothing is awaited: 400 KB, and a second of a busy host's births
)
_LEVEL: Final = 6  # 80 µs a story; 3 saves 20 of them and takes a tenth more memory


class Asked(msgspec.Struct):
    """How it stands with one source."""

    pending: bool = False
    tries: int = 0
    backs: int = 0  # times that it was asked because a daemon was back
    last: Answer | None = None


class Story(msgspec.Struct, kw_only=True):
    """All that is known of one container, and what was asked and told of it."""

    born: changes.Born
    cgroup: CgroupKey
    path: str
    settled_ns: int  # a complete event leaves by then
    seek_ns: int = 0  # its first process is looked for from then on, if nobody has told of it
    born_offset_ns: int  # of the clocks at its birth: a step later does not move it
    known: Known = msgspec.field(default_factory=Known)
    asked: dict[str, Asked] = {}
    init: Task | None = None
    started: changes.Started | None = None
    gone: changes.Gone | None = None
    told: ContainerEvent | None = None
    start_told: bool = False
    birth_id: str = ""  # of the event that told of it
    updates: int = 0
    verified: bool = False

    @property
    def rests(self) -> bool:
        """It was told, and nothing is awaited."""
        return (
            self.told is not None
            and self.gone is None
            and not any(asked.pending for asked in self.asked.values())
        )

    @property
    def uid(self) -> int:
        """Whoever made the cgroup, by the kernel's word, or has it; -1, nobody, is not known."""
        if self.born.creator is not None:
            return self.born.creator.uid
        return self.born.listed.uid if self.born.listed is not None else 0

    def subject(self) -> Subject:
        return Subject(
            container_id=self.born.identity.container_id,
            cgroup=self.cgroup,
            cgroup_path=self.path,
            uid=self.uid,
            creator=self.born.creator,
            init=self.init,
            facts=self.known.facts,
        )

    def missing(self) -> frozenset[str]:
        return self.known.unsettled & WANTED

    def open(self) -> frozenset[str]:
        """What is asked for: what is missing, and more of an image that is known."""
        unsettled = self.known.unsettled
        unknown = unsettled | self.known.facts.absent.keys()
        return unsettled & (WANTED | {name for name, of in MORE.items() if of not in unknown})

    def unanswered(self) -> list[str]:
        """The sources that were asked and told nothing."""
        return [source for source, asked in self.asked.items() if not isinstance(asked.last, Found)]


class Shelf:
    """
    Stories by serial; one that `rests` is packed after *warm* others, and unpacked when it is taken.

    `in_hand` has those that are not packed.
    """

    def __init__(self, warm: int = _WARM) -> None:
        self.in_hand: dict[int, Story] = {}
        self._warm = warm
        self._resting: dict[int, None] = {}  # those of them that rest, the longest first
        self._packed: dict[int, bytes] = {}
        self._like = b""  # the first one: containers of a host are much alike
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Story)

    def __len__(self) -> int:
        return len(self.in_hand) + len(self._packed)

    def add(self, serial: int, story: Story) -> None:
        self.in_hand[serial] = story

    def take(self, serial: int) -> Story | None:
        """It is in hand until `rest`; None: it has ended."""
        self._resting.pop(serial, None)
        if (packed := self._packed.pop(serial, None)) is not None:
            self.in_hand[serial] = self._unpacked(packed)
        return self.in_hand.get(serial)

    def look(self, serial: int) -> Story | None:
        """Only to read; it stays where it is."""
        packed = self._packed.get(serial)
        return self._unpacked(packed) if packed is not None else self.in_hand.get(serial)

    def remove(self, serial: int) -> None:
        """One that is in hand."""
        del self.in_hand[serial]

    def rest(self, serial: int) -> Story | None:
        """Put it back; the story that is packed for it, if one is."""
        story = self.in_hand.get(serial)
        if story is None or not story.rests:
            return None
        self._resting[serial] = None
        if len(self._resting) <= self._warm:
            return None
        oldest = next(iter(self._resting))
        del self._resting[oldest]
        return self._pack(oldest)

    def _pack(self, serial: int) -> Story | None:
        """None: a name that is no UTF-8 can't be packed."""
        story = self.in_hand[serial]
        try:
            raw = self._encoder.encode(story)
        except UnicodeEncodeError:
            return None
        self._like = self._like or raw[-_WINDOW:]
        packer = zlib.compressobj(_LEVEL, zdict=self._like)
        self._packed[serial] = packer.compress(raw) + packer.flush()
        del self.in_hand[serial]
        return story

    def _unpacked(self, packed: bytes) -> Story:
        unpacker = zlib.decompressobj(zdict=self._like)
        return self._decoder.decode(unpacker.decompress(packed) + unpacker.flush())
