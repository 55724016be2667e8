"""
Events as text: JSON lines, a terminal's lines, Tracee's JSON, the kernel's own events.

Pure. What strangers wrote (names, images, labels) is made harmless here for terminals;
in JSON it is left as it is, since JSON escapes control characters by itself.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.said import said_of_bill, said_of_host, said_of_usage
from ctrwatch.core.text import clean, jsonable, short_id
from ctrwatch.event import (
    Audit,
    ContainerEvent,
    ContainerUsage,
    Enforcement,
    Flood,
    HostEvent,
    HostUsage,
    Verdict,
    Violation,
    WatchGap,
)
from ctrwatch.model import FINAL, Kind, RawEvent, Task

__all__ = (
    "host_json_line",
    "host_text_line",
    "json_line",
    "missing_mark",
    "raw_line",
    "raw_text",
    "said_of_flood",
    "schema",
    "short_id",
    "text_line",
    "tracee_line",
)

_UPDATE_HEAD: Final = ("event", "id", "time", "host", "runtime", "container_id")
_RAW_NAMES: Final = {Kind.MKDIR: "cgroup_mkdir", Kind.RMDIR: "cgroup_rmdir"}
_WORDS: Final = {
    "container_create": "create",
    "container_start": "start",
    "container_update": "update",
    "container_remove": "remove",
    "existing_container": "existing",
}
_RED, _YELLOW, _DIM, _GREEN, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[32m", "\x1b[0m"
_COLOURS: Final = {
    "container_create": _GREEN,
    "container_remove": _DIM,
    "existing_container": _DIM,
}


def json_line(event: ContainerEvent) -> bytes:
    """The event as one JSON object; of an update who it is, and the changed fields."""
    fields = msgspec.structs.asdict(event)
    changed = fields.pop("changed")
    if event.usage is None:
        del fields["usage"]
    if event.event == "container_update":
        fields = {name: fields[name] for name in (*_UPDATE_HEAD, *changed, "evidence")}
    return msgspec.json.encode(fields) + b"\n"


def host_json_line(event: HostEvent | Verdict | ContainerUsage) -> bytes:
    """An event of the watch itself, a verdict, or what a container uses, as one JSON object."""
    return msgspec.json.encode(event) + b"\n"


def host_text_line(event: HostEvent | Verdict | ContainerUsage, *, colours: bool = False) -> str:
    """Time, event, and a sentence."""
    colour, mark = _YELLOW, "!"
    match event:
        case WatchGap():
            word, said = "gap", _said_of_gap(event)
        case Audit():
            word, said = "audit", _said_of_audit(event)
        case Flood():
            word, said = "flood", said_of_flood(event)
        case Violation():
            word, said, colour = event.verdict, _said_of_violation(event), _RED
        case Enforcement():
            word, said, colour = event.action, _said_of_enforcement(event), _RED
        case ContainerUsage(event="container_usage"):
            word, said, colour, mark = "usage", said_of_usage(event), _DIM, " "
        case HostUsage():
            word, said, colour, mark = "host", said_of_host(event), _DIM, " "
        case ContainerUsage():
            word, said, colour = "oom", said_of_usage(event), _RED
    line = f"{event.time[11:23]}  {word:8}  {mark} {said}"
    return f"{colour}{line}{_RESET}\n" if colours else f"{line}\n"


def _said_of_gap(event: WatchGap) -> str:
    number = "" if event.lost is None else f"{event.lost} "
    what = {
        "restart": "ctrwatch was away",
        "lost": f"the kernel dropped {number}raw events",
        "output": f"{number}lines could not be written",
    }[event.reason]
    return f"{what} between {event.since[:23]}Z and {event.until[:23]}Z"


def _said_of_audit(event: Audit) -> str:
    names = (clean(event.container_name, 24), clean(event.container_image, 40))
    known = "  ".join(filter(None, (*names, clean(event.cgroup_path, 80))))
    said = {
        "missed": f"{clean(event.source, 20)} has it, and it was not announced",
        "end_missed": "it has gone, and its end was not heard",
        "unknown_to_runtime": "it runs, and no runtime knows it",
    }[event.finding]
    return f"{event.runtime} {short_id(event.container_id)}: {said}  ({known or '-'})"


def _said_of_violation(event: Violation) -> str:
    names = (clean(event.container_name, 24), clean(event.container_image, 40))
    known = "  ".join(filter(None, names)) or "-"
    rule = f"{clean(event.policy, 40)}/{clean(event.rule, 60)}"
    return (
        f"{event.severity} {rule}: {clean(event.message, 200)}"
        f"  ({event.runtime} {short_id(event.container_id)}  {known})"
    )


def _said_of_enforcement(event: Enforcement) -> str:
    result = event.result.replace("_", " ")
    why = f": {clean(event.reason, 200)}" if event.reason else ""
    early = "" if event.before_start is None else ", before its first instruction"
    late = ", after its first instruction"
    when = late if event.before_start is False else early
    name = clean(event.container_name, 24) or "-"
    return f"{event.runtime} {short_id(event.container_id)}: {result}{when}{why}  ({name})"


def text_line(event: ContainerEvent, *, colours: bool = False) -> str:
    """Aligned columns: time, event, runtime, name, image, pod, short id, what is missing."""
    pod = "/".join(filter(None, (event.pod_namespace, event.pod_name)))
    columns = (
        event.time[11:23],
        f"{_WORDS[event.event]:8}",
        f"{event.runtime:10}",
        f"{clean(event.container_name, 24) or '-':24}",
        f"{clean(event.container_image, 40) or '-':40}",
        f"{clean(pod, 30) or '-':20}",
        short_id(event.container_id),
    )
    line = "  ".join(columns) + missing_mark(event)
    if event.usage is not None:
        line += f"  {said_of_bill(event.usage)}"
    colour = _COLOURS.get(event.event, "") if colours else ""
    if colours and event.evidence.status != "complete":
        colour = _RED if event.evidence.status == "unverified" else _YELLOW
    return f"{colour}{line}{_RESET if colour else ''}\n"


def said_of_flood(event: Flood) -> str:
    who = "a crowd of users" if event.uid is None else f"uid {event.uid}"
    such = f", such as {clean(event.examples[0], 120)}" if event.examples else ""
    return (
        f"{who} made {event.count} more cgroups that are named like containers between"
        f" {event.since[:23]}Z and {event.until[:23]}Z{such}"
    )


def missing_mark(event: ContainerEvent) -> str:
    """
    What could not be learnt, and why; "" when all that can be known is there.

    A start or a removal repeats what the create said, so only the others are marked.
    """
    if event.event in ("container_start", "container_remove"):
        return ""
    reasons = {
        field: reason for field, reason in event.evidence.missing.items() if reason not in FINAL
    }
    if event.evidence.status == "complete":
        return ""
    if event.evidence.status == "unverified":
        uid = event.creator.uid
        by = "" if uid is None else f", made by uid {clean(str(uid), 20)}"
        return f"  ! unverified: only its name speaks for a container{by}"
    said = (f"{clean(field, 40)} ({reason})" for field, reason in reasons.items())
    return "  ! missing: " + ", ".join(said)


def raw_line(event: RawEvent, wall_offset_ns: int) -> bytes | None:
    """The kernel's own event as JSON; None for the kinds that are not shown."""
    name = _RAW_NAMES.get(event.kind)
    if name is None:
        return None
    fields = {
        "event": name,
        "time": rfc3339(event.boot_ns + wall_offset_ns),
        "cgroup_id": event.cgroup.cgroup_id,
        "cgroup_path": jsonable(event.path),
        "hierarchy_id": event.cgroup.hierarchy_id,
        "pid": event.task.pid,
        "comm": jsonable(event.task.comm),
        "uid": event.task.uid,
    }
    return msgspec.json.encode(fields) + b"\n"


def raw_text(event: RawEvent, wall_offset_ns: int) -> str | None:
    name = _RAW_NAMES.get(event.kind)
    if name is None:
        return None
    time = rfc3339(event.boot_ns + wall_offset_ns)[11:23]
    who = f"{clean(event.task.comm, 16)}/{event.task.pid}"
    return (
        f"{time}  {name}  {event.cgroup.hierarchy_id:>3}  {event.cgroup.cgroup_id:>8}"
        f"  {who:24}  {clean(event.path, 400)}\n"
    )


# --- Tracee ---------------------------------------------------------------------------

_TRACEE_IDS: Final = {  # v0.24's event ids, written as strings
    "container_create": "2018",
    "container_remove": "2019",
    "existing_container": "2020",
}
_TRACEE_ARGS: Final = (
    ("runtime", "string"),
    ("container_id", "string"),
    ("ctime", "uint64"),
    ("container_image", "string"),
    ("container_image_digest", "string"),
    ("container_name", "string"),
    ("pod_name", "string"),
    ("pod_namespace", "string"),
    ("pod_uid", "string"),
    ("pod_sandbox", "bool"),
)


def tracee_line(event: ContainerEvent, creator: Task | None) -> bytes | None:
    """
    The event in Tracee's own JSON (v0.24); None for the events that Tracee does not have.

    The envelope speaks of the *creator*, on the host, as Tracee's does: its container
    is "". What ctrwatch does not take (stack, executable, entity ids) is empty.
    """
    number = _TRACEE_IDS.get(event.event)
    if number is None:
        return None
    wanted = _TRACEE_ARGS[:2] if event.event == "container_remove" else _TRACEE_ARGS
    task = creator or _NOBODY
    fields = {
        "timestamp": wall_ns(event.time),
        "threadStartTime": task.start_ns,
        "processorId": task.cpu,
        "processId": task.pid,
        "cgroupId": event.cgroup.id,
        "threadId": task.tid,
        "parentProcessId": task.ppid,
        "hostProcessId": task.pid,
        "hostThreadId": task.tid,
        "hostParentProcessId": task.ppid,
        "userId": task.uid,
        "mountNamespace": task.mnt_ns,
        "pidNamespace": task.pid_ns,
        "processName": jsonable(task.comm),
        "executable": {"path": ""},
        "hostName": event.host,
        "containerId": "",
        "container": {},
        "kubernetes": {},
        "eventId": number,
        "eventName": event.event,
        "matchedPolicies": [""],
        "argsNum": len(wanted),
        "returnValue": 0,
        "syscall": _TRACEE_SYSCALLS.get(event.event, ""),
        "stackAddresses": [0],
        "contextFlags": {"containerStarted": False, "isCompat": False},
        "threadEntityId": 0,
        "processEntityId": 0,
        "parentEntityId": 0,
        "args": [
            {"name": name, "type": kind, "value": getattr(event, name) or _TRACEE_EMPTY[kind]}
            for name, kind in wanted
        ],
    }
    return msgspec.json.encode(fields) + b"\n"


_TRACEE_EMPTY: Final[dict[str, str | int | bool]] = {"string": "", "uint64": 0, "bool": False}
_TRACEE_SYSCALLS: Final = {"container_create": "mkdirat", "container_remove": "unlinkat"}
_NOBODY: Final = Task(pid=0, ppid=0)


# --- the schema -----------------------------------------------------------------------


def schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of a line: a container's event, one of the watch, or a verdict."""
    kinds = (
        *(ContainerEvent, WatchGap, Audit, Flood, Violation, Enforcement),
        *(ContainerUsage, HostUsage),
    )
    refs, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    whole: dict[str, Any] = {"anyOf": [*refs], "$defs": definitions}
    for kind in kinds[1:]:
        definitions[kind.__name__]["required"] = [*kind.__struct_fields__]
    event = definitions["ContainerEvent"]
    del event["properties"]["changed"]
    event["required"] = [*_UPDATE_HEAD, "evidence"]
    event["if"] = {"properties": {"event": {"const": "container_update"}}}
    event["else"] = {"required": [name for name in event["properties"] if name != "usage"]}
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return whole
