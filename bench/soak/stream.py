"""The stream of a soak: JSON lines to what is judged. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable
from typing import Any, NamedTuple

from bench.soak.verdict import Gap, Told
from ctrwatch.core.describe import wall_ns

_IDS = re.compile(rb'"container_id":"([^"]*)"')


class Stream(NamedTuple):
    told: list[Told]
    gaps: list[Gap]
    audits: Counter[str]  # of these containers, by finding
    torn: int  # lines that are no JSON


def read_stream(lines: Iterable[bytes], ours: Container[str]) -> Stream:
    """What was told of the containers *ours*, and of the watch itself."""
    stream = Stream([], [], Counter(), 0)
    torn = 0
    for line in lines:
        found = _IDS.search(line)
        if found and found[1].decode() not in ours:
            continue  # another's on this host
        try:
            event = json.loads(line)
        except ValueError:
            torn += 1
            continue
        _read(event, stream)
    return stream._replace(torn=torn)


def _read(event: dict[str, Any], stream: Stream) -> None:
    match event["event"]:
        case "watch_gap":
            stream.gaps.append(
                Gap(event["reason"], wall_ns(event["since"]), wall_ns(event["until"]))
            )
        case "audit":
            stream.audits[event["finding"]] += 1
        case "flood" | "cgroup_mkdir" | "cgroup_rmdir":
            pass
        case name:
            evidence = event["evidence"]
            stream.told.append(
                Told(
                    name,
                    event["id"],
                    event["container_id"],
                    wall_ns(event["time"]),
                    evidence["status"],
                    evidence["missing"],
                )
            )
