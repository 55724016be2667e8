"""The functions that policies can call, besides CEL's own. Pure, and linear in their input."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from ctrwatch.core import reference
from ctrwatch.core.mounts import is_above, is_host_path, is_under

__all__ = ("HELPERS", "Helper")


class Helper(NamedTuple):
    arguments: tuple[str, ...]  # names of CEL types, or of a message of the event
    does: Callable[..., bool]
    meaning: str


def glob(text: str, pattern: str) -> bool:
    """
    `*` stands for any characters, `?` for one; the whole text must fit.

    >>> glob("registry.example/team/web:1", "registry.example/*")
    True
    >>> glob("x" * 100, "*x" * 40 + "y")
    False
    """
    # Greedy with one step back, to the last `*`: at worst length times length, never more.
    at, star, since = 0, -1, 0
    place = 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, since = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            since += 1
            at, place = star + 1, since
        else:
            return False
    return not pattern[at:].strip("*")


def image_matches(image: str, pattern: str) -> bool:
    """
    By parts: a pattern without a registry is Docker Hub's, one without a tag fits any tag.

    >>> image_matches("docker.io/library/nginx:1.27", "nginx")
    True
    >>> image_matches("docker.io/library/nginx:1.27", "docker.io/library/*:1.*")
    True
    >>> image_matches("evil.example/docker.io/library/nginx:1", "docker.io/library/*")
    False
    >>> image_matches("ghcr.io/acme/web:2", "ghcr.io/*")
    True
    """
    given = reference.parse(image)
    if given is None:
        return False
    wanted = _pattern(pattern)
    return (
        glob(given.registry, wanted.registry)
        and glob(given.repository, wanted.repository)
        and glob(given.tag, wanted.tag)
        and glob(given.digest, wanted.digest)
    )


@functools.lru_cache(1024)
def _pattern(pattern: str) -> reference.Reference:
    name, _, digest = pattern.partition("@")
    name, colon, tag = name.rpartition(":") if re.search(r":[^/]*$", name) else (name, "", "")
    first, slash, rest = name.partition("/")
    if slash and re.search(r"[.:*]|^localhost$", first):
        registry, repository = first, rest
    else:
        registry = "docker.io"
        repository = name if slash else f"library/{name}"
    return reference.Reference(registry, repository, tag if colon else "*", digest or "*")


def has_capability(security: Any, name: str) -> bool:
    """Also without `CAP_`. Every privileged container has every one."""
    return security.privileged.value or f"CAP_{name.removeprefix('CAP_')}" in security.capabilities


def mounts_host(security: Any, path: str) -> bool:
    """A bind mount that makes *path* visible: of itself, or of a directory above it."""
    return any(is_under(path, (source,)) for source in _sources(security))


def mounts_below(security: Any, path: str) -> bool:
    """A bind mount of *path* itself, of what is below it, or of a directory above it."""
    return any(is_under(path, (each,)) or is_under(each, (path,)) for each in _sources(security))


def _sources(security: Any) -> Iterator[str]:
    return (mount.source for mount in security.mounts if mount.type == "bind")


HELPERS: Final[dict[str, Helper]] = {
    "glob": Helper(
        ("string", "string"), glob, "the text fits the pattern: `*` any characters, `?` one"
    ),
    "image_matches": Helper(
        ("string", "string"),
        image_matches,
        "the image's registry, repository, tag and digest each fit their part of the pattern;"
        " a pattern without a registry is Docker Hub's, one without a tag fits any",
    ),
    "has_capability": Helper(
        ("Security", "string"),
        has_capability,
        "the capability is in its bounding set, or it is privileged; with or without `CAP_`",
    ),
    "mounts_host": Helper(
        ("Security", "string"),
        mounts_host,
        "a bind mount shows it this path of the host: the path itself, or a directory above it",
    ),
    "mounts_below": Helper(
        ("Security", "string"),
        mounts_below,
        "as `mounts_host`, or a bind mount of something below the path",
    ),
    "is_host_path": Helper(
        ("Mount",),
        is_host_path,
        "the mount shows something of the host: no volume, and nothing that an engine or the"
        " kubelet mounts by itself",
    ),
    "is_under": Helper(
        ("string", "list"), is_under, "the path is one of these directories, or below one"
    ),
    "is_above": Helper(
        ("string", "list"), is_above, "the path is one of these directories, or above one"
    ),
}
