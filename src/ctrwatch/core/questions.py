"""
Whom to ask about a container now, and after what pause. Pure.

Core/steps.py has the order of the sources, core/reasons.py who can still add something; here it
is which of them is asked at this moment, how often, and until when.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ctrwatch.core.reasons import may_tell, steps
from ctrwatch.core.shelf import Asked, Story
from ctrwatch.core.steps import INIT, Step
from ctrwatch.model import Found, Subject, Unavailable

__all__ = ("INIT_TOLD_NS", "Ask", "asked_again", "questions")

_MS: Final = 1_000_000
_INIT_PAUSE_NS: Final = 1 * _MS  # the first process is looked for at this beat
# Where the sensor tells of it, it is not looked for before: 1 to 4 ms after the first task measured.
# It does not tell of one without a pid namespace of its own.
INIT_TOLD_NS: Final = 5 * _MS
_FIRST_PAUSE_NS: Final = 2 * _MS  # then doubled: 2, 4, 8 … ms
_LONGEST_PAUSE_NS: Final = 10_000 * _MS  # what can't be read is asked for every 10 s …
_GIVE_UP_NS: Final = 600_000 * _MS  # … for ten minutes; a daemon that is away, when it is back
# Who does not know a container by then will not: its files are written before its cgroup.
_UNKNOWN_NS: Final = 2_000 * _MS


class Ask(NamedTuple):
    serial: int
    source: str
    subject: Subject
    pause_ns: int  # before it is asked


def questions(story: Story, now_ns: int) -> Iterator[Ask]:
    """Those that are to be put now; they count as asked."""
    for step in steps(story, story.open()):
        if (ask := _question(story, step, now_ns)) is not None:
            yield ask
        asked = story.asked.get(step.source)
        if asked is not None and asked.last is None:
            break  # the next one only for what this one leaves open
    sought = story.init is not None and now_ns >= story.seek_ns
    if sought and story.known.facts.init_pid is None and story.told is None:
        ask = _question(story, INIT, now_ns)
        if ask is not None:
            yield ask


def _question(story: Story, step: Step, now_ns: int) -> Ask | None:
    asked = story.asked.setdefault(step.source, Asked())
    if asked.pending or isinstance(asked.last, Found):
        return None  # what it knew it has said
    if isinstance(asked.last, Unavailable) and asked.last.away:
        return None  # `asked_again`, when it is back
    age_ns = now_ns - story.born.boot_ns
    late_ns = _GIVE_UP_NS if isinstance(asked.last, Unavailable) else _UNKNOWN_NS
    # Who was never asked is, however late: of a ctrwatch that was stopped for a while the
    # deadline is over before the first question.
    if story.told is not None and asked.last is not None and age_ns >= late_ns:
        return None
    pause_ns = 0
    if asked.last is not None:
        pause_ns = _growing(asked.tries - 1)
        if step is INIT and now_ns < story.settled_ns:
            pause_ns = _INIT_PAUSE_NS
    asked.pending = True
    asked.tries += 1
    return Ask(story.born.serial, step.source, story.subject(), pause_ns)


def asked_again(story: Story, source: str) -> Ask | None:
    """The question to a source that was away and is back; None: it has nothing to add."""
    asked = story.asked.get(source)
    if asked is None or asked.pending or isinstance(asked.last, Found | None):
        return None
    if not may_tell(source, story):
        return None
    pause_ns = _growing(asked.backs)  # a question may be what a daemon can't bear
    asked.pending = True
    asked.backs += 1
    return Ask(story.born.serial, source, story.subject(), pause_ns)


def _growing(times: int) -> int:
    return min(_FIRST_PAUSE_NS << min(times, 20), _LONGEST_PAUSE_NS)
