"""The history's database, bytes on a disk that a crash, or somebody, has broken."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Hashable
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from ctrwatch.core.rows import RowError
from ctrwatch.errors import InputError
from ctrwatch.outputs.history import Asked, History
from ctrwatch.outputs.store import Store
from tests.fuzz.boundary import Boundary
from tests.fuzz.storages import Patches, _patched, _patches
from tests.unit.test_render import WEB

__all__ = ("store",)

_ASKED = (
    Asked(),
    Asked(image="*nginx*", limit=3),
    Asked(id="4f2b"),
    Asked(since_ns=1, runtime="containerd", events=("container_create",)),
)


def store() -> Boundary:
    directory = tempfile.mkdtemp(prefix="ctrwatch-fuzz-")
    atexit.register(shutil.rmtree, directory)
    path = Path(directory, "history.db")
    made = Store(path, "node-1")
    made.start()
    for number in range(7):
        made.add(msgspec.structs.replace(WEB, id=f"{number:032x}", container_name=f"web-{number}"))
    made.close()
    raw = path.read_bytes()
    pages = [(at, 8192) for at in range(0, len(raw), 8192)]
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def feed(case: Patches) -> Hashable:
        whole = _patched(raw, case)
        for at, token in case:
            os.pwrite(fd, whole[at : at + len(token)], at)
        try:
            with closing(History(path)) as history:
                return _read(history, _ASKED[len(case) % len(_ASKED)])
        finally:
            for at, token in case:
                os.pwrite(fd, raw[at : at + len(token)], at)
            for end in ("-wal", "-shm", "-journal"):
                Path(f"{path}{end}").unlink(missing_ok=True)

    return Boundary([()], _patches(pages), feed, (InputError,))


def _read(history: History, asked: Asked) -> Hashable:
    number = 0
    for row in islice(history.rows(asked), 100):
        try:
            row.event()
        except RowError:
            number += 1
    proof = history.verify(most=5)
    return number, tuple(sorted({finding.what[:20] for finding in proof.findings}))
