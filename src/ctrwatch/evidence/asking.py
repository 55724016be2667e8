"""Questions to daemons: that one may go unanswered, and that several may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from ctrwatch.model import Answer, Found, NotFound, Unavailable

__all__ = ("Unanswered", "first_found")


class Unanswered(Exception):  # noqa: N818 - it says what the question is
    """The daemon refused, broke off, or sent what can't be read. Its text is a clause."""


async def first_found(questions: Iterable[Coroutine[Any, Any, Answer]]) -> Answer:
    """
    The first `Found`; without one the first `Unavailable`, else `NotFound`.

    They are asked at the same time, so that a daemon that hangs does not hide the one
    that knows. What is still under way at the end is cancelled and waited for.
    """
    tasks = [asyncio.ensure_future(question) for question in questions]
    refusal: Answer = NotFound()
    try:
        for done in asyncio.as_completed(tasks):
            answer = await done
            if isinstance(answer, Found):
                return answer
            if isinstance(answer, Unavailable) and isinstance(refusal, NotFound):
                refusal = answer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return refusal
