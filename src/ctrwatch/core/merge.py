"""
Evidence of several sources, merged into one description of a container.

Pure. The first source that says something of a field is believed (they are asked
most direct first: core/steps.py), but for what a later one corrects; who said it is kept.
"There is nothing to know" is something said; an empty name is not. What a path claims of
the runtime is not kept here: it gives way to any evidence.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ctrwatch.model import Facts, Leads, Missing, Runtime

__all__ = ("FIELDS", "Known")

FIELDS: Final = {  # of Facts: the event's own name
    "runtime": "runtime",
    "image": "container_image",
    "image_digest": "container_image_digest",
    "name": "container_name",
    "pod_name": "pod_name",
    "pod_namespace": "pod_namespace",
    "pod_uid": "pod_uid",
    "sandbox": "pod_sandbox",
    "labels": "labels",
    "security": "security",
    "limits": "limits",
    "process": "process",
    "created_ns": "created",
    "digest_kind": "image.digest_kind",
    "image_id": "image.id",
    "init_pid": "init.pid",
}

_NAMES: Final = frozenset(FIELDS.values())
# What a source says that has nothing to say. (An empty dict is something: no labels.)
_NOTHING: Final = (None, "", Runtime.UNKNOWN)


class Known(msgspec.Struct):
    """
    What is known of one container so far, and from whom.

    `unsettled` has the event's names of the fields of which nothing is known yet. It only
    shrinks: what is said is not unsaid.
    """

    facts: Facts = Facts()
    sources: dict[str, str] = {}
    unsettled: frozenset[str] = _NAMES

    def add(self, source: str, facts: Facts) -> set[str]:
        """Take in what *source* says; return the event's names of the fields this settled."""
        news = {
            field: value
            for field in FIELDS
            if (value := getattr(facts, field)) not in _NOTHING
            and (field in facts.corrects or FIELDS[field] in self.unsettled)
        }
        named = {FIELDS[field] for field in news}
        absent = {
            name: reason
            for name, reason in facts.absent.items()
            if name not in named and not self._is_settled(name)
        }
        self.facts = msgspec.structs.replace(
            self.facts,
            **news,
            leads=_leads(self.facts.leads, facts.leads),
            absent=_without(self.facts.absent, named) | absent,
            corrects=(*self.facts.corrects, *facts.corrects),
        )
        settled = named | set(absent)
        self.unsettled -= settled
        self.sources.update(dict.fromkeys(settled, source))
        return settled

    def _is_settled(self, name: str) -> bool:
        return name not in self.unsettled if name in _NAMES else name in self.facts.absent


def _without(absent: dict[str, Missing], named: set[str]) -> dict[str, Missing]:
    return {name: reason for name, reason in absent.items() if name not in named}


def _leads(known: Leads, more: Leads) -> Leads:
    news = {
        field: value
        for field in Leads.__struct_fields__
        if (value := getattr(more, field)) and not getattr(known, field)
    }
    return msgspec.structs.replace(known, **news) if news else known
