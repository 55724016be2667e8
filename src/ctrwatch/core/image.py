"""
What a registry serves for an image: an index of several platforms, or one manifest.

Pure: bytes in, values out. OCI image spec 1.0 and 1.1, and Docker's schema 2 before it;
they differ in media types only, and runtimes keep what they pulled byte for byte, so the
content tells an index from a manifest where its media type was not kept.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ("Descriptor", "Kind", "Manifest", "Platform", "kind_of_type")

Kind = Literal["index", "manifest"]

_INDEX_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(msgspec.Struct, frozen=True):
    digest: str
    size: int = 0
    platform: Platform | None = None


class Manifest(msgspec.Struct, frozen=True):
    """A manifest (`config`) or an index (`manifests`)."""

    config: Descriptor | None = None
    manifests: list[Descriptor] | None = None

    @property
    def kind(self) -> Kind | None:
        if self.manifests is not None:
            return "index"
        return "manifest" if self.config is not None else None


def kind_of_type(media_type: str) -> Kind | None:
    """
    >>> kind_of_type("application/vnd.docker.distribution.manifest.list.v2+json")
    'index'
    >>> kind_of_type("application/vnd.oci.image.manifest.v1+json")
    'manifest'
    """
    if media_type in _INDEX_TYPES:
        return "index"
    return "manifest" if "manifest" in media_type else None
