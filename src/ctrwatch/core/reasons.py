"""Who can tell what a story still misses, and, of what nobody told, why it is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set as AbstractSet

from ctrwatch.core.shelf import Story
from ctrwatch.core.steps import STEPS, Step
from ctrwatch.model import NOWHERE, Answer, Missing, Unavailable

__all__ = ("answers", "may_tell", "reasons", "steps")


def steps(story: Story, fields: AbstractSet[str]) -> Iterator[Step]:
    """Whom to ask of *fields*, in order, as far as what is known leads there."""
    facts = story.known.facts
    runtime = facts.runtime or story.born.identity.runtime
    for step in STEPS:
        if not step.tells & fields:
            continue
        if step.source == "creator" and not _has_maker(story):
            continue
        if step.needs and not getattr(facts.leads, step.needs):
            continue
        if not step.concerns(runtime):
            continue
        yield step


def may_tell(source: str, story: Story) -> bool:
    """Whether *source* knows of something that is missing."""
    return source in {step.source for step in steps(story, story.open())}


def answers(story: Story, fields: AbstractSet[str]) -> list[Answer | None]:
    """Of those who can tell of *fields*; None: not yet."""
    asked = (story.asked.get(step.source) for step in steps(story, fields))
    return [each.last if each is not None else None for each in asked]


def reasons(story: Story) -> dict[str, Missing]:
    """Why each wanted field that is still open is empty."""
    fields = story.open()
    anybodys = answers(story, fields)
    # Where nobody can be asked for a field, somebody may still lead there.
    return {field: _reason(story, answers(story, {field}) or anybodys) for field in fields}


def _reason(story: Story, said: Sequence[Answer | None]) -> Missing:
    if None in said:
        return Missing.DEADLINE
    if any(isinstance(answer, Unavailable) for answer in said):
        return Missing.UNAVAILABLE
    return Missing.NOT_FOUND if story.verified else Missing.NO_EVIDENCE


def _has_maker(story: Story) -> bool:
    """Somebody's processes can be asked: the creator's, the first task's parent's, a monitor's."""
    born = story.born
    if born.listed is not None:
        return not born.listed.leads.bundle and story.cgroup != NOWHERE
    return born.call is not None or story.init is not None
