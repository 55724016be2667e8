"""Ids of events: the same for the same thing, whoever tells of it. Pure."""

from __future__ import annotations

import hashlib

__all__ = ("birth_of", "stable_id")


def stable_id(*parts: object) -> str:
    """Of what makes a thing this one: 32 hex digits."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def birth_of(event_id: str) -> str:
    """
    The birth that an event belongs to, by the event's id.

    >>> birth_of("6c1f-update-2")
    '6c1f'
    """
    return event_id.partition("-")[0]
