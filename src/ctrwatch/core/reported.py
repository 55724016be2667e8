"""What a report says: values, and what each means. The page, the JSON and the CSV are made of it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ctrwatch.core.breaches import Breaches
from ctrwatch.core.coverage import Hole, Watching
from ctrwatch.core.ran import Ran
from ctrwatch.core.spending import Spent

__all__ = ("Chain", "Found", "Report", "UsedPolicy", "UsedRule")


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What `ctrwatch history --verify` says."""

    whole: bool
    rows: int
    pruned_rows: Annotated[int, Meta(description="older rows, that were removed for good")]
    head: Annotated[str, Meta(description="NUMBER:HASH of the newest row")]
    compared: Annotated[int, Meta(description="heads kept elsewhere that it was compared with")]
    findings: tuple[str, ...]
    more_findings: int = 0


class UsedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of --policy, in its own words, and what it said."""

    name: str
    description: str
    severity: str
    tags: tuple[str, ...]
    when: str | None
    condition: Annotated[str, Meta(description="begins with require: or deny:")]
    outcomes: dict[str, int]


class UsedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    file: str
    rules: tuple[UsedRule, ...]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A finding of an audit: what the kernel showed and what runtimes list did not agree."""

    time: str
    finding: str
    runtime: str
    container_id: str
    container_name: str
    container_image: str
    source: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    made: str
    since: str
    until: str
    hosts: tuple[str, ...]
    covered: Annotated[float, Meta(description="percent of the period that is in no hole")]
    watchings: tuple[Watching, ...]
    holes: tuple[Hole, ...]
    holes_left_out: int
    chain: Chain
    events_lost: Annotated[int, Meta(description="raw events lost, by the events' lost_before")]
    unreadable: Annotated[int, Meta(description="rows that this version can't read")]
    pruned_until: Annotated[str, Meta(description="rows before it were removed; none: empty")]
    births: int
    running: Annotated[int, Meta(description="containers that were there before")]
    running_left_out: Annotated[
        int, Meta(description="older ones, whose end was not heard, beyond what is kept in mind")
    ]
    evidence: Annotated[dict[str, int], Meta(description="status: how many containers")]
    audits: dict[str, int]
    found: tuple[Found, ...]
    floods: Annotated[int, Meta(description="cgroups of floods, that were not told singly")]
    enforcements: Annotated[dict[str, int], Meta(description="action and result: how many")]
    step_s: Annotated[float, Meta(description="seconds of a step of the period")]
    births_over_time: list[int]
    spent: Annotated[
        Spent | None, Meta(description="what was used; null: the history has nothing of it")
    ]
    images: tuple[Ran, ...]
    images_left_out: Annotated[int, Meta(description="containers of images not among them")]
    policies: tuple[UsedPolicy, ...]
    judged: Annotated[Breaches | None, Meta(description="by --policy, over all containers")]
    told: Annotated[Breaches, Meta(description="violations that the watch told then")]
