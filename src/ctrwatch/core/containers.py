"""
The containers that live: by what makes each the one it is, by directory, and by path. Pure.

An id proven by the path is one container wherever its maker's directories stand; a free name is
only good for its path.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctrwatch.core.cgroup import identify, is_free_name
from ctrwatch.core.cmdline import OciCall
from ctrwatch.core.places import Places
from ctrwatch.model import CgroupKey, ContainerId, Identity, RawEvent, Runtime, Task

__all__ = ("Container", "Containers", "Key", "Maker", "free", "key_of", "maker_of", "parent")

Key = tuple[str, ...] | str
# An OCI runtime's process, and the id it was called with. Not its start time: a Go
# program makes directories from any of its threads, and each has a start of its own.
Maker = tuple[int, str]


class Container:
    """A living container's directories."""

    __slots__ = (
        *("begun", "dying", "entered", "identity", "key", "maker", "mnt_ns", "path", "places"),
        *("serial", "started"),
    )

    def __init__(self, serial: int, key: Key, identity: Identity, path: str) -> None:
        self.serial, self.key, self.identity, self.path = serial, key, identity, path
        self.places: tuple[int, ...] = ()
        self.maker: Maker | None = None
        self.mnt_ns = 0  # its creator's; 0 is not known
        self.entered = self.begun = self.started = self.dying = False

    def is_in(self, hierarchy_id: int) -> bool:
        return hierarchy_id in self.places[::2]


class Containers:
    def __init__(self) -> None:
        self._serials = 0
        self._by_key: dict[Key, Container] = {}
        self._by_cgroup: Places[Container] = Places()
        self._by_path: dict[str, Container] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Container]:
        """The oldest first."""
        return iter(self._by_key.values())

    def get(self, key: Key) -> Container | None:
        return self._by_key.get(key)

    def at(self, path: str) -> Container | None:
        return self._by_path.get(path)

    def owner(self, cgroup: CgroupKey) -> Container | None:
        return self._by_cgroup.owner(cgroup)

    def of(self, event: RawEvent) -> Container | None:
        """The container of the cgroup itself, or of the one just above (crun's child)."""
        return self.owner(event.cgroup) or self.owner(parent(event))

    def directories(self, container: Container) -> Iterator[CgroupKey]:
        return self._by_cgroup.of(container)

    def next_serial(self) -> int:
        self._serials += 1
        return self._serials

    def add(self, key: Key, identity: Identity, path: str) -> Container:
        container = Container(self.next_serial(), key, identity, path)
        self._by_key[key] = container
        self._by_path[path] = container
        return container

    def place(self, container: Container, cgroup: CgroupKey) -> None:
        self._by_cgroup.add(container, cgroup)

    def displace(self, cgroup: CgroupKey) -> Container | None:
        """It has been removed; whose it was."""
        return self._by_cgroup.remove(cgroup)

    def move(self, container: Container, path: str) -> None:
        """Its own directory is another one; those that it had are none of it."""
        self.forget(container)
        container.key = container.path = path
        self._by_key[path] = self._by_path[path] = container

    def forget(self, container: Container) -> None:
        del self._by_key[container.key]
        if self._by_path.get(container.path) is container:
            del self._by_path[container.path]
        self._by_cgroup.forget(container)

    # --- one in another -----------------------------------------------------------------

    def is_child(self, path: str, maker: Task, call: OciCall) -> bool:
        """A directory of the container's own runtime, below the container's own cgroup."""
        return any(
            around.identity.container_id == call.container_id and around.mnt_ns in (0, maker.mnt_ns)
            for around in self._enclosing(path)
        )

    def around(self, path: str, identity: Identity) -> tuple[ContainerId, ...]:
        """The enclosing containers, also those whose own paths prove nothing."""
        places = {outer: path.find(outer) for outer in identity.outer}
        for container in self._enclosing(path):
            if isinstance(container.key, str):
                places[container.identity.container_id] = len(container.path)
        return tuple(sorted(places, key=places.__getitem__))

    def _enclosing(self, path: str) -> Iterator[Container]:
        for end, letter in enumerate(path):
            if letter == "/" and (container := self._by_path.get(path[:end])) is not None:
                yield container


def free(container_id: ContainerId, path: str) -> Identity:
    """The identity of a container that its path does not prove."""
    around = identify(path)
    if around is None:
        return Identity(container_id, Runtime.UNKNOWN, is_root=True)
    if around.is_root:  # the path names another one
        return around._replace(container_id=container_id)
    outer = (*around.outer, around.container_id)
    return Identity(container_id, Runtime.UNKNOWN, is_root=True, outer=outer)


def key_of(identity: Identity, path: str, uid: int) -> Key:
    """*uid*: of the cgroup's maker. A user's directory is no other user's container."""
    if is_free_name(identity):
        return path.rstrip("/")
    return (str(uid), *identity.outer, identity.container_id)


def maker_of(task: Task, call: OciCall) -> Maker:
    return task.pid, call.container_id


def parent(event: RawEvent) -> CgroupKey:
    return CgroupKey(event.cgroup.hierarchy_id, event.parent_id)
