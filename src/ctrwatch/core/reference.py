"""
Image names, in the one spelling that can be compared.

Pure: text in, values out. People write ``nginx``, runtimes
``docker.io/library/nginx:latest``; the grammar and the defaults are those of
distribution/reference (regexp.go, normalize.go), which Docker, containerd, Podman
and the kubelet share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = (
    "TEXT_MAX",
    "Reference",
    "bare_digest",
    "is_id_of",
    "is_image_id",
    "normalise",
    "parse",
    "registry_digests",
    "repository_digest",
)

TEXT_MAX: Final = 640  # a name of 255 characters, a tag of 128 and any digest have room in it
_NAME_MAX: Final = 255  # distribution/reference: NameTotalLengthMax

_DEFAULT_REGISTRY: Final = "docker.io"
_OLD_REGISTRY: Final = "index.docker.io"
_DEFAULT_TAG: Final = "latest"
_OFFICIAL: Final = "library/"  # docker.io/nginx is docker.io/library/nginx

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]+)?")
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_IMAGE_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_SHORT_ID: Final = re.compile(r"[0-9a-f]{4,64}")


class Reference(NamedTuple):
    """An image's name in its parts; `tag` and `digest` are "" where the text has none."""

    registry: str  # docker.io, localhost:5000
    repository: str  # library/nginx
    tag: str
    digest: str  # sha256:…

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse(text: str) -> Reference | None:
    """
    Return the parts of an image's name, with the registry it means; None for no such name.

    An image's id (``sha256:…``, 64 digits) is no name.

    >>> parse("localhost:5000/a/b:1.0")
    Reference(registry='localhost:5000', repository='a/b', tag='1.0', digest='')
    >>> parse("Not An Image") is None
    True
    """
    if len(text) > TEXT_MAX or is_image_id(text):
        return None
    name, has_digest, digest = text.partition("@")
    if has_digest and not _DIGEST.fullmatch(digest):
        return None
    head, has_tag, tag = name.rpartition(":")
    if has_tag and "/" not in tag:  # else it was the registry's port
        name = head
        if not _TAG.fullmatch(tag):
            return None
    else:
        tag = ""
    registry, repository = _split(name)
    if not (_REGISTRY.fullmatch(registry) and _REPOSITORY.fullmatch(repository)):
        return None
    if len(registry) + 1 + len(repository) > _NAME_MAX:
        return None
    return Reference(registry, repository, tag, digest)


def normalise(text: str) -> str:
    """
    Return an image's name in full, with ``:latest`` where it has neither tag nor digest.

    An image's id and whatever else is no name come back as they are, but for their
    length (`TEXT_MAX`).

    >>> normalise("nginx"), normalise("index.docker.io/nginx:1.27")
    ('docker.io/library/nginx:latest', 'docker.io/library/nginx:1.27')
    """
    reference = parse(text)
    if reference is None:
        return text[:TEXT_MAX]
    if not reference.tag and not reference.digest:
        reference = reference._replace(tag=_DEFAULT_TAG)
    return str(reference)


def bare_digest(text: str) -> str:
    """
    Return the digest in ``repository@sha256:…`` or ``sha256:…``; "" if there is none.

    >>> bare_digest("busybox@sha256:" + "ab" * 32) == "sha256:" + "ab" * 32
    True
    """
    digest = text.rpartition("@")[2]
    return digest if _DIGEST.fullmatch(digest) else ""


def registry_digests(named: str, known: Iterable[str]) -> list[str]:
    """
    Return the registry digests of an image, best first: it was asked for as *named*.

    *known* are its references; those without a digest are passed over. The digest that
    *named* asks for is the only one; else it is one of *named*'s own repository; else one
    that the image has in another: a tag given on this host changes nothing of the content.

    >>> one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    >>> registry_digests("b.io/x:1", ["a.io/x@" + one, "b.io/x@" + two]) == [two]
    True
    >>> registry_digests("a.io/x:1@" + two, ["a.io/x@" + one, "a.io/x@" + two]) == [two]
    True
    >>> registry_digests("mine:1", ["a.io/x@" + one, "a.io/x:1"]) == [one]
    True
    """
    asked = parse(named)
    if asked and asked.digest:
        return [asked.digest]
    parsed = [each for each in map(parse, known) if each and each.digest]
    own = [each for each in parsed if asked and each[:2] == asked[:2]]
    return sorted({each.digest for each in own or parsed})


def repository_digest(named: str, known: Iterable[str]) -> str | None:
    """
    Return the digest of *named*'s own repository among the references *known*, else the first.

    Their order is their source's: the first is the one it would name itself.

    >>> one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    >>> repository_digest("b.io/x:1", ["202abf", "a.io/x@" + one, "b.io/x@" + two]) == two
    True
    >>> repository_digest("mine:1", ["a.io/x@" + one, "b.io/x@" + two]) == one
    True
    """
    asked = parse(named)
    found = [(parse(each), digest) for each in known if (digest := bare_digest(each))]
    for each, digest in found:
        if asked and each and each[:2] == asked[:2]:
            return digest
    return found[0][1] if found else None


def is_id_of(text: str, image_id: str) -> bool:
    """
    Tell whether *text* can mean the image *image_id* (``sha256:…``): its id, whole or begun.

    A repository may have such a name too, ``cafe``: then the runtime's records decide.

    >>> is_id_of("4aeeaa410028", "sha256:4aeeaa4100280ac036fd")
    True
    """
    bare = text.removeprefix("sha256:")
    return bool(_SHORT_ID.fullmatch(bare)) and image_id.removeprefix("sha256:").startswith(bare)


def is_image_id(text: str) -> bool:
    """Tell whether *text* names an image by its config digest, with or without ``sha256:``."""
    return _IMAGE_ID.fullmatch(text) is not None


def _split(name: str) -> tuple[str, str]:
    """
    Return registry and repository, as Docker tells them apart (splitDockerDomain).

    What stands before the first "/" is a registry only if it could not be a directory:
    it has a dot, a port or a capital, or is called localhost.
    """
    first, slash, rest = name.partition("/")
    is_registry = slash and ("." in first or ":" in first or first == "localhost")
    if not is_registry and not (slash and first != first.lower()):
        first, rest = _DEFAULT_REGISTRY, name
    if first == _OLD_REGISTRY:
        first = _DEFAULT_REGISTRY
    if first == _DEFAULT_REGISTRY and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest
