"""The state file: what an earlier ctrwatch left, a crash tore, and a disk made of it."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ctrwatch.core.chain import Chain, Ended, Header
from ctrwatch.core.story import Tell
from ctrwatch.errors import InputError
from ctrwatch.outputs import state
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.lines import GOLDEN
from tests.fuzz.mutate import Mutator
from tests.fuzz.telling import lines_of

__all__ = ("announced",)

_HEADER: Final = Header(
    host="h", boot_id="b", wall_offset_ns=1_700_000_000 * 10**9, wait_ns=0, unified=True
)
_TOLD: Final = 2  # of one file: they are all made alike
_LINES: Final = 8  # of one file: births, corrections, ends


def _seeds() -> list[bytes]:
    """What a state has of each golden stream: births, corrections, ends."""
    seeds = []
    for file in sorted(GOLDEN.glob("*.events.jsonl")):
        lines = [b'{"ctrwatch":1}']
        for line in file.read_bytes().splitlines():
            name = msgspec.json.decode(line)["event"]
            if name == "container_remove":
                birth = msgspec.json.decode(line)["id"].partition("-")[0]
                lines.append(msgspec.json.encode({"gone": birth}))
            elif name in state._BORN:
                event = msgspec.json.decode(line)
                lines.append(msgspec.json.encode({**event, "event": "container_create"}))
        seeds += [b"\n".join(lines[:end]) + b"\n" for end in (3, _LINES)]
    return [*dict.fromkeys(seeds)]


def announced() -> Boundary:
    """What comes out is told: as the end of each that is not found any more."""
    log = logging.getLogger(state.__name__)
    directory = Path(tempfile.mkdtemp(prefix="ctrwatch-fuzz-"))
    atexit.register(shutil.rmtree, directory)
    path = directory / "announced.jsonl"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def worse(mutator: Mutator, seeds: Sequence[bytes]) -> bytes:
        raw = mutator.pick(seeds)
        if mutator.chance(0.3):
            return mutator.raw((raw, *seeds))
        lines = raw.split(b"\n")
        at = mutator.below(len(lines))
        match mutator.below(6):
            case 0:
                lines.insert(mutator.below(len(lines) + 1), lines[at])
            case 1:
                del lines[at]
            case _:
                lines[at] = mutator.json((lines[at],))
        return b"\n".join(lines)

    def feed(raw: bytes) -> Hashable:
        os.ftruncate(fd, 0)
        os.pwrite(fd, raw, 0)
        log.disabled = True  # it names each line that is left out
        try:
            past = state._read(path)
        finally:
            log.disabled = False
        require("a file that is there is a past", past is not None)
        if past is None:
            return None
        chain = Chain(_HEADER)
        for event in [*past.living.values()][:_TOLD]:
            for effect in chain.feed(Ended(boot_ns=1, event=event)):
                if isinstance(effect, Tell):
                    lines_of(effect.event)
        return len(past.living), len(past.ended)

    return Boundary(_seeds(), worse, feed, (InputError,))
