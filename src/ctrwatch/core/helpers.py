"""The functions that policies can call, besides CEL's own. Pure, and linear in their input."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from ctrwatch.core import reference

__all__ = ("HELPERS", "Helper")


class Helper(NamedTuple):
    arguments: tuple[str, ...]  # names of CEL types, or of a message of the event
    does: Callable[..., bool] | None  # None: core/macros.py writes it in CEL
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
        None,
        "the capability is in its bounding set, or it is privileged; with or without `CAP_`",
    ),
    "mounts_host": Helper(
        ("Security", "string"),
        None,
        "a bind mount shows it this path of the host: the path itself, or a directory above it",
    ),
    "mounts_below": Helper(
        ("Security", "string"),
        None,
        "as `mounts_host`, or a bind mount of something below the path",
    ),
    "is_host_path": Helper(
        ("Mount",),
        None,
        "the mount shows something of the host: no volume, and nothing that an engine or the"
        " kubelet mounts by itself",
    ),
    "is_under": Helper(
        ("string", "list"), None, "the path is one of these directories, or below one"
    ),
    "is_above": Helper(
        ("string", "list"), None, "the path is one of these directories, or above one"
    ),
}
