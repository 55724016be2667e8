"""
Which container a cgroup directory belongs to. Pure.

On cgroup v1 and hybrid hosts one container is a dozen directories, so this is most of what a
living container costs. A dictionary for each hierarchy, of plain numbers, and a flat tuple for the
container take 110 bytes a directory; tuples as keys and sets of them took 300.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from ctrwatch.model import CgroupKey

__all__ = ("Places",)


class Placed(Protocol):
    """Something that has directories: `places` is hierarchy, cgroup, hierarchy, cgroup, …"""

    places: tuple[int, ...]


T = TypeVar("T", bound=Placed)


class Places(Generic[T]):
    def __init__(self) -> None:
        self._owners: dict[int, dict[int, T]] = {}  # by hierarchy, by the cgroup's id

    def __len__(self) -> int:
        return sum(map(len, self._owners.values()))

    def __contains__(self, key: CgroupKey) -> bool:
        return self.owner(key) is not None

    def owner(self, key: CgroupKey) -> T | None:
        hierarchy = self._owners.get(key.hierarchy_id)
        return hierarchy.get(key.cgroup_id) if hierarchy is not None else None

    def of(self, owner: T) -> Iterator[CgroupKey]:
        pairs = iter(owner.places)
        return (CgroupKey(hierarchy_id, next(pairs)) for hierarchy_id in pairs)

    def add(self, owner: T, key: CgroupKey) -> None:
        if self.owner(key) is owner:
            return
        self._owners.setdefault(key.hierarchy_id, {})[key.cgroup_id] = owner
        owner.places += key

    def remove(self, key: CgroupKey) -> T | None:
        """Whose it was; None: nobody's."""
        if (owner := self.owner(key)) is None:
            return None
        del self._owners[key.hierarchy_id][key.cgroup_id]
        owner.places = sum((other for other in self.of(owner) if other != key), ())
        return owner

    def forget(self, owner: T) -> None:
        for key in self.of(owner):
            del self._owners[key.hierarchy_id][key.cgroup_id]
        owner.places = ()
