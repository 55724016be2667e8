"""What a boundary is to the fuzzer: seeds, a way to make them worse, and who is fed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from tests.fuzz.mutate import Mutator

__all__ = ("Boundary", "Broken", "require")

Case = Any  # of one boundary all of one type: bytes, text, words, several of them


class Broken(AssertionError):  # noqa: N818 - it says what the value is
    """A value came out that must not."""


class Boundary(NamedTuple):
    """
    *feed* returns the outcome in a word or a tuple: of each new one the case is kept as a seed.
    It may raise what the boundary's own errors are, *refuses*, and nothing else.
    """

    seeds: Sequence[Case]
    worse: Callable[[Mutator, Sequence[Case]], Case]
    feed: Callable[[Case], Hashable]
    refuses: tuple[type[Exception], ...] = ()
    kept: int = 8 << 10  # characters of a case that becomes a seed: larger ones only make it slow


def require(what: str, holds: object) -> None:
    if not holds:
        raise Broken(what)
