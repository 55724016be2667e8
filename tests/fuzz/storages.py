"""Podman's databases, bytes on a disk that anybody may write; and containers/storage's storage.conf."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from ctrwatch.evidence import bolt, libpod, storage
from ctrwatch.evidence.files import Unreadable
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import BYTES, Mutator
from tests.fuzz.telling import DATA

__all__ = ("boltdb", "sqlite", "storage_conf")

_BOLT: Final = DATA / "podman/root/libpod/bolt_state.db"
_META: Final = 80  # bytes of a meta page that count: its head, its fields, their check sum
Patches = tuple[tuple[int, bytes], ...]  # where, and what stands there


def _patches(places: Sequence[tuple[int, int]]) -> Callable[[Mutator, Sequence[Patches]], Patches]:
    """Changes at (start, size), where a reader looks."""

    def worse(mutator: Mutator, seeds: Sequence[Patches]) -> Patches:
        patches = [*mutator.pick(seeds)]
        if patches and mutator.chance(0.3):
            del patches[mutator.below(len(patches))]
        for _ in range(1 + mutator.below(3)):
            start, size = mutator.pick(places)
            # Heads stand at the beginning, and most that can go wrong is in them.
            at = start + mutator.below(min(size, 64) if mutator.chance(0.6) else size)
            token = mutator.pick(BYTES) if mutator.chance(0.5) else bytes((mutator.below(256),))
            patches.append((at, token))
        return tuple(patches[-8:])

    return worse


def _patched(raw: bytes, patches: Patches) -> bytearray:
    whole = bytearray(raw)
    for at, token in patches:
        whole[at : at + len(token)] = token
    del whole[len(raw) :]
    return whole


def _ids() -> list[str]:
    return list(json.loads((DATA / "podman/ids.json").read_text()).values())


def boltdb() -> Boundary:
    raw = _BOLT.read_bytes()
    (page_size,) = struct.unpack_from("<I", raw, 24)
    wanted = [(b"ctr", each.encode(), b"config") for each in _ids()[:2]] + [(b"id-registry", b"x")]
    read: dict[int, int] = {}

    def noted(size: int, at: int) -> bytes:
        read[at] = size
        return raw[at : at + size]

    bolt.lookup(noted, wanted)

    def feed(patches: Patches) -> Hashable:
        whole = _patched(raw, patches)
        if len(patches) % 2:  # a writer of its own, who knows how to sum up
            for at in (0, page_size):
                body = bytes(whole[at + 16 : at + 72])
                struct.pack_into("<Q", whole, at + 72, bolt._fnv(body))
        values = bolt.lookup(lambda size, at: bytes(whole[at : at + size]), wanted)
        return tuple(value and len(value).bit_length() for value in values)

    return Boundary(
        [()], _patches([*read.items(), (0, _META), (page_size, _META)]), feed, (bolt.BoltError,)
    )


def sqlite() -> Boundary:
    raw, ids = _sqlite(), _ids()
    pages = [(at, 4096) for at in range(0, len(raw), 4096)]
    directory = tempfile.mkdtemp(prefix="ctrwatch-fuzz-")  # SQLite wants a file with a name
    atexit.register(shutil.rmtree, directory)
    fd = os.open(f"{directory}/db.sql", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.pwrite(fd, raw, 0)

    def feed(patches: Patches) -> Hashable:
        whole = _patched(raw, patches)
        for at, token in patches:  # writing all of it takes longer than reading it
            os.pwrite(fd, whole[at : at + len(token)], at)
        try:
            record = libpod._query("db", fd, ids[len(patches) % len(ids)])
        except (sqlite3.Error, UnicodeDecodeError) as error:  # find() makes it Unreadable, or Torn
            return type(error), str(error)[:30]
        finally:
            for at, token in patches:
                os.pwrite(fd, raw[at : at + len(token)], at)
        require("a record is its own", record is None or record.container.id in ids or patches)
        return record is not None, record is not None and record.pod is not None

    return Boundary([()], _patches(pages), feed, (Unreadable,))


def _sqlite() -> bytes:
    """The same documents as Podman 4.8 and later keep them."""
    database_raw = _BOLT.read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "db.sql")
        with closing(sqlite3.connect(path)) as database, database:
            for table in ("ContainerConfig", "PodConfig"):
                database.execute(
                    f"CREATE TABLE {table}(ID TEXT PRIMARY KEY NOT NULL, JSON TEXT NOT NULL)"
                )
            for each in _ids():
                place = [(b"ctr", each.encode(), b"config")]
                [value] = bolt.lookup(lambda size, at: database_raw[at : at + size], place)
                row = each, (value or b"").decode()
                database.execute("INSERT INTO ContainerConfig VALUES (?, ?)", row)
        return path.read_bytes()


# --- storage.conf ----------------------------------------------------------------------------

_CONF: Final = """\
# containers/storage
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "$HOME/.local/share/containers/storage"
imagestore = "/srv/images"
rootless_storage_path = "$HOME/${USER}/storage-$UID"
[storage.options]
additionalimagestores = ["/usr/share/images", "/srv/more"]
size = 1979-05-27T07:32:00Z
[storage.options.overlay]
mountopt = "nodev,metacopy=on"
"""


def storage_conf() -> Boundary:
    def feed(raw: bytes) -> Hashable:
        conf = storage._read_conf(raw).storage
        paths = (conf.graph_root, conf.rootless_path, *conf.stores)
        spelled_out = [storage._expanded(path, "/home/ann", "ann", 1000) for path in paths]
        require("nobody is let out", all(isinstance(path, str) for path in spelled_out))
        return tuple(map(bool, paths[:4])), len(conf.stores).bit_length()

    seeds = [
        _CONF.encode(),
        b"storage = {graphroot = '''/a\\b'''}",
        b'[storage]\ngraphroot="\\u00e9"',
    ]
    return Boundary(seeds, lambda mutator, seeds: mutator.raw(seeds), feed, (Unreadable,))
