"""
docs/events.md, from the event's own types: `python -m scripts.gen_events_md`.

Names, types and meanings come from event.py and model.py by the JSON Schema. What no
type can say stands here: when a field is empty, and what the reasons and sources mean.
A field, a reason or a source without its words ends the run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

from ctrwatch.core import render
from ctrwatch.core.steps import STEPS
from ctrwatch.event import EventName, Unread
from ctrwatch.model import FINAL, Missing

PAGE = Path(__file__).parents[1] / "docs/events.md"

EVENTS: Final = {
    "container_create": "A container is born. Leaves once: when it is complete, or when `--wait` is over.",
    "container_start": "Its first instruction, at the time of the kernel's exec.",
    "container_update": "Something became known after the create: who it is, `evidence`, and only the fields that changed.",
    "container_remove": "Its last cgroup is gone.",
    "existing_container": "It was there before ctrwatch.",
}

WATCH: Final = {
    "WatchGap": "**`watch_gap`**: births and deaths of a time may be missing. What was born in it and lives"
    " follows, as `container_create`; of what also ended in it, what the runtimes remember.",
    "Audit": "**`audit`**: what the kernel showed and what the runtimes list do not agree.",
    "Flood": "**`flood`**: a user other than root made cgroups that are named like containers, and of which no"
    " evidence speaks, by the hundred. The first hundred in ten seconds are told singly, as `unverified`; the"
    " rest together, with neither a create nor a remove of their own.",
}

VERDICTS: Final = {
    "Violation": "**`violation`**: a container breaks a rule. It follows the event that it judges, or comes at a look"
    " at what the container uses.",
    "Enforcement": "**`enforcement`**: a container that breaks a rule was frozen or killed, or not, and why.",
}

USAGE: Final = {
    "ContainerUsage": "**`container_usage`**: what it uses, at the ages that `--usage-at` names: 10 s and 60 s."
    " **`container_oom`**: the kernel killed processes of it for want of memory; at once, and at most once a"
    " second.",
    "Usage": "**`usage`** of these: what the container with all its children has used by that moment.",
    "Pressure": "**`pressure`**: how long some task waited, by the kernel's pressure stall information.",
    "Rates": "**`rates`**: the same for a second.",
}

HOST: Final = {
    "HostUsage": "**`host_usage`**: what all of the host uses, containers or not: at each birth and each end, but"
    " at most once a second; every 10 s while a container of less than five minutes lives, then every"
    " `--usage-every` seconds, and never while none lives.",
    "HostFigures": "**`usage`** of it. Totals are since the boot.",
    "HostRates": "**`rates`** of it, for a second.",
}

FIGURES: Final = {
    "cpu_seconds": "CPU time of all its tasks",
    "cpu_user_seconds": "… of it in user mode",
    "cpu_system_seconds": "… of it in the kernel",
    "throttled_seconds": "time in which its CPU limit held it back, of each CPU",
    "throttled_periods": "periods in which that happened",
    "memory_bytes": "memory and file cache, now",
    "memory_working_set_bytes": "… without the file cache that goes first: what `docker stats` shows",
    "memory_peak_bytes": "the most of `memory_bytes` in its life",
    "memory_limit_bytes": "its own limit; `null` without a reason: none",
    "oom_kills": "processes that were killed for want of memory",
    "io_read_bytes": "read from block devices",
    "io_write_bytes": "written to block devices",
    "io_reads": "read operations",
    "io_writes": "write operations",
    "pids": "tasks, now",
    "pids_limit": "its own limit; `null` without a reason: none",
    "pids_refused": "forks that its limit of tasks refused",
    "io_read_bytes_per_second": "read from block devices",
    "io_write_bytes_per_second": "written to block devices",
    "pressure": "how long some task waited: below",
    "usage": "below",
    "missing": "`null` figure: reason",
    "cpu_waited_percent": "of the last 10 s some task waited for a CPU",
    "cpu_waited_seconds": "… in its whole life; of the host: since the boot",
    "memory_waited_percent": "of the last 10 s some task waited for memory",
    "memory_waited_seconds": "… in its whole life; of the host: since the boot",
    "io_waited_percent": "of the last 10 s some task waited for I/O",
    "io_waited_seconds": "… in its whole life; of the host: since the boot",
}
UNREAD: Final = {
    Unread.NO_CONTROLLER: "The cgroup controller that counts it is not enabled for the container's cgroup, or not mounted.",
    Unread.NOT_OFFERED: "This kernel does not tell it: `memory.peak` is there since Linux 5.19, pressure where PSI is on.",
    Unread.GONE: "The cgroup was gone before it could be read.",
    Unread.UNREADABLE: "What the file says can't be understood, or may not be read.",
}

# Of the fields whose types have no description.
MEANINGS: Final = {
    "creator.pid": "process id, as the host counts",
    "creator.ppid": "its parent's",
    "creator.uid": "user id on the host",
    "creator.gid": "group id on the host",
    "creator.comm": "the kernel's name for it: `runc`, `crun`, `systemd`",
    "image.registry": "of `container_image`: `docker.io`",
    "image.repository": "of `container_image`: `library/nginx`",
    "image.tag": "of `container_image`: `1.27`",
    "security.privileged": "it may do all, see all of /proc and /sys, and use all devices",
    "security.user": "`uid:gid` in the container",
    "security.host_network": "it has the host's network namespace",
    "security.host_pid": "it has the host's pid namespace",
    "security.host_ipc": "it has the host's IPC namespace",
    "security.host_uts": "it has the host's UTS namespace (host name)",
    "security.capabilities": "the bounding set, sorted",
    "security.mounts": "`source`, `destination`, `type`, `read_only`, `propagation` of each",
    "security.devices": "paths in the container",
    "security.block_devices": "a block device is among them, or a rule lets it use some",
    "security.seccomp": "`filtered` or `unconfined`",
    "security.apparmor": 'profile; `""`: none',
    "security.selinux": 'process label; `""`: none',
    "security.read_only": "its root file system is read-only",
    "security.no_new_privileges": "it can't gain privileges by set-user-id programs",
    "security.proc_mount": "`default`: parts of `/proc` are hidden; `unmasked`: none are",
    "security.sysctls": "kernel parameters that are set for its namespaces",
    "limits.memory_bytes": "memory; `null`: no limit",
    "limits.cpu_cores": "CPUs; `null`: no limit",
    "limits.pids": "processes; `null`: no limit",
    "limits.cpu_shares": "its weight where CPUs are scarce, 1,024 being usual; `null`: not said",
    "process.args": "the command line of its entry point",
    "process.cwd": "working directory in the container",
    "process.user": "the user's name where the bundle has one, else `uid:gid`",
}
OF_CONTAINER: Final = {
    "severity": "`info`, `low`, `medium`, `high` or `critical`",
    "action": "`freeze` or `kill`",
    **dict.fromkeys(
        (
            *("container_name", "container_image", "container_image_digest"),
            *("pod_name", "pod_namespace"),
        ),
        "as in the container's events",
    ),
}
OBJECTS: Final = {
    "cgroup": "the container's own cgroup: the unified hierarchy's where it has one",
    "creator": "the process that made the cgroup",
    "init": "the container's first process",
    "image": "more of the image",
    "security": "what it may do, from its bundle",
    "limits": "what it may use, from its bundle",
    "process": "its entry point; environment values are never read into it",
    "evidence": "how the event came to be",
    "usage": "`container_remove` only: the bill of its life",
}

EXPLAINED: Final = {"event", "evidence.status"}  # their values have words of their own
NEVER: Final = "never"
EMPTY: Final = {
    "event": NEVER,
    "id": NEVER,
    "time": NEVER,
    "host": NEVER,
    "runtime": "`unknown` while no evidence names it, with a reason; `has_none`: an OCI runtime that belongs to no engine (youki, runsc)",
    "container_id": NEVER,
    "ctime": "`null` for an existing container of which neither the runtime nor a first process tells (`not_found`)",
    "container_image": "`no_image`: made from a root file system",
    "container_image_digest": "`no_registry_digest`: built or loaded here; `not_recorded`: the name was given to another image since; `no_image`",
    "container_name": "`has_none`: a pod's sandbox, or a container without an engine",
    "pod_name": "`not_in_pod`",
    "pod_namespace": "`not_in_pod`; `has_none`: Podman's pods have none",
    "pod_uid": "`not_in_pod`",
    "pod_sandbox": "`false` while it is not known, with a reason",
    "cgroup": "`unheard`: it was born and ended while ctrwatch was away, and a runtime remembers it",
    "creator": "`before_us`: it was there before ctrwatch; `unheard`: it was born while ctrwatch was away;`not_found`: it had ended (fanotify), and only"
    " its pid and uid are told",
    "init": NEVER,
    "init.pid": "`null`: not known yet (`deadline`), or not to be found (`not_found`)",
    "image": NEVER,
    "image.id": "with `container_image`; else a reason, and the event is complete without it",
    "image.digest_kind": "with `container_image_digest`; else a reason, and the event is complete without it",
    "image.registry": "with `container_image`",
    "image.repository": "with `container_image`",
    "image.tag": "the name has none",
    "outer": "`[]`: no container encloses it, or none that ctrwatch could see",
    "labels": "`{}`: it has none; else a reason",
    "security": "`null`, with a reason",
    "limits": "`null`, with a reason",
    "process": "`null`, with a reason",
    "evidence": NEVER,
    "evidence.status": NEVER,
    "evidence.missing": "`{}`: no field lacks anything",
    "evidence.sources": "`{}`: nothing is known but the path",
    "evidence.after_ms": "`null` for an existing container",
    "lost_before": NEVER,
    "usage": "not there without `--usage`, nor in other events",
    "usage.duration_seconds": "`null` for an existing container whose first process is not known",
    "usage.exit_code": "`null`: a signal ended it, or it can't be known ([usage.md](usage.md))",
    "usage.exit_signal": "`null`: it ended by itself, or it can't be known",
    "usage.final": NEVER,
    "usage.read_before_end_seconds": "`null`: it had gone before it was read once",
    **{f"usage.{name}": "with a reason in `usage.missing`" for name in FIGURES},
    "usage.missing": "`{}`: all figures are known",
}

REASONS: Final = {
    Missing.NOT_IN_POD: "The container belongs to no pod.",
    Missing.NO_REGISTRY_DIGEST: "The runtime knows of no registry that has the image: it was built or loaded on this host, or Docker has forgotten with its last name.",
    Missing.NO_IMAGE: "The container was made from a root file system, not from an image.",
    Missing.HAS_NONE: "This kind of container has no such thing.",
    Missing.NOT_RECORDED: "The runtime keeps no record of it.",
    Missing.BEFORE_US: "It happened before ctrwatch was there.",
    Missing.UNHEARD: "It happened while ctrwatch was away, or the kernel dropped what it had to say of it.",
    Missing.DEADLINE: "The answer had not come when the event had to leave. An update follows if it comes.",
    Missing.UNAVAILABLE: "The source hung, refused, or answered what can't be read. `ctrwatch doctor` names it.",
    Missing.NOT_FOUND: "Every source that might know was asked, and does not.",
    Missing.CUT: "It is longer than ctrwatch takes of it: what is told is its beginning. The event is complete all the same.",
    Missing.NO_EVIDENCE: "Nothing but the cgroup's name speaks for a container: the event is `unverified`.",
}

SOURCES: Final = {
    "path": "the cgroup's path",
    "kernel": "the sensor",
    "scan": "the cgroup tree and `/proc`, for containers whose birth was not heard",
    "lxc": "the command line of LXC's monitor, and the container's configuration",
    "nspawn": "systemd-nspawn's command line and settings file",
    "creator": "the command line of the OCI runtime, and its parent's",
    "init": "the container's processes in `/proc`; for `ctime`: the start of its first process",
    "bundle": "the OCI bundle's `config.json`",
    "docker.files": "Docker's data root",
    "podman.files": "Podman's database and storage",
    "containerd": "containerd's API",
    "cri": "CRI-O's API, the CRI",
    "docker": "the Docker Engine's API",
}


def page() -> str:
    return (
        "\n".join(
            (
                *(*_head(), *_events(), *_fields(), *_images(), *_reasons(), *_sources()),
                *(*_of_the_watch(), *_of_policies(), *_of_use()),
            )
        )
        + "\n"
    )


def _head() -> Iterator[str]:
    yield "<!-- Generated by scripts/gen_events_md.py: edit that, or the types in src/ctrwatch. -->"
    yield "# Events"
    yield ""
    yield "One JSON object a line. The ten arguments from `runtime` to `pod_sandbox` stand at the top"
    yield 'level; an unknown string is `""`, an unknown number `null`, and `evidence.missing` says why.'
    yield "`ctrwatch schema` prints the JSON Schema. Text is written as its maker wrote it; bytes that"
    yield "are no UTF-8 appear as `\\xNN`."
    yield ""
    yield "Of one container the create comes first and the remove last, however short its life; between"
    yield "them one start, and an update when something becomes known. The"
    yield "`id` of an event is the same after a restart of ctrwatch, also when the birth is then told as"
    yield "an `existing_container`, so a consumer can drop what it has seen."


def _events() -> Iterator[str]:
    yield from ("", "## Which there are", "", "| event | what happened |", "|---|---|")
    for name in get_args(EventName):
        yield f"| `{name}` | {EVENTS[name]} |"


def _fields() -> Iterator[str]:
    yield from ("", "## Fields", "")
    yield "Besides the reasons named here, any field can be empty because a source did not answer"
    yield "(`deadline`, `unavailable`, `not_found`, `no_evidence`)."
    yield ""
    yield "| field | type | meaning | empty when |"
    yield "|---|---|---|---|"
    schema: dict[str, Any] = render.schema()
    types: dict[str, Any] = schema["$defs"]
    for name, field in types["ContainerEvent"]["properties"].items():
        yield _row(name, field, types)
        inner = _object(field)
        if inner is not None:
            for inner_name, inner_field in types[inner]["properties"].items():
                yield _row(f"{name}.{inner_name}", inner_field, types)


def _row(name: str, field: dict[str, Any], types: dict[str, Any]) -> str:
    meaning = OBJECTS.get(name) or field.get("description") or MEANINGS.get(name)
    meaning = meaning or FIGURES[name.removeprefix("usage.")]
    values = [f"`{value}`" for value in _values(field, types) if value]
    if values and name not in EXPLAINED:
        meaning += f": {', '.join(values)}"
    outer, inner, _ = name.partition(".")
    empty = EMPTY.get(name) if inner else EMPTY[name]
    if empty is None:
        empty = NEVER if EMPTY[outer] == NEVER else f"with `{outer}`"
    return f"| `{name}` | {_type(field, types)} | {meaning} | {empty} |"


def _values(field: dict[str, Any], types: dict[str, Any]) -> list[object]:
    """What the field can be, where that is a closed list."""
    if "$ref" in field:
        field = types[field["$ref"].rpartition("/")[2]]
    values: list[object] = field.get("enum", [])
    return values


def _object(field: dict[str, Any]) -> str | None:
    """The name of the type that the field holds, itself or unless it is null."""
    for part in (field, *field.get("anyOf", ())):
        if "$ref" in part:
            name = str(part["$ref"].rpartition("/")[2])
            return None if name == "Runtime" else name
    return None


def _type(field: dict[str, Any], types: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(part, types) for part in field["anyOf"])
    if "$ref" in field:
        return _type(types[field["$ref"].rpartition("/")[2]], types)
    if "enum" in field:
        return "string" if all(isinstance(each, str) for each in field["enum"]) else "integer"
    return str(field["type"])


def _images() -> Iterator[str]:
    yield from ("", "## Which image", "")
    yield "- `container_image` is the name that was asked for, in full: never another of the image's names."
    yield "  Who asked Docker or Podman for an id is told the id."
    yield "- `image.id` is the digest of the image's configuration. It is the same wherever that image runs:"
    yield "  compare it across hosts and runtimes."
    yield "- `container_image_digest` is what a registry served for it, as `image.digest_kind` says: the index of"
    yield "  an image for several platforms, or the manifest of one. If a digest was asked for, it is that one."
    yield "  It belongs to the content: an image that got another name on this host keeps it."
    yield "- A name may be given to another image while a container lives. The digest is never that of the"
    yield "  name's new image."


def _reasons() -> Iterator[str]:
    yield from ("", "## Why a field is empty", "")
    yield "A final reason means that there is nothing to know: the event is `complete` without the field."
    yield ""
    yield from ("| reason | final | meaning |", "|---|---|---|")
    for reason in Missing:
        yield f"| `{reason}` | {'yes' if reason in FINAL else 'no'} | {REASONS[reason]} |"


def _sources() -> Iterator[str]:
    yield from ("", "## Who said so", "")
    yield "`evidence.sources` names for each field the source that was believed: the first that spoke."
    yield ""
    yield from ("| source | what it is |", "|---|---|")
    unknown = {step.source for step in STEPS} - set(SOURCES)
    if unknown:
        raise KeyError(*unknown)
    for name, meaning in SOURCES.items():
        yield f"| `{name}` | {meaning} |"


def _of_the_watch() -> Iterator[str]:
    yield from ("", "## Of the watch itself", "")
    yield "Besides the containers' events there are those in which ctrwatch speaks of the watch itself, with"
    yield "fields of their own."
    yield from _tables(WATCH)


def _of_policies() -> Iterator[str]:
    yield from ("", "## Verdicts", "")
    yield "What a policy says of a container, in events of their own."
    yield from _tables(VERDICTS)


def _of_use() -> Iterator[str]:
    yield from ("", "## What a container uses", "")
    yield "With `--usage` only: [usage.md](usage.md). Totals are since the container's cgroup was made."
    yield from _tables(USAGE)
    yield from _tables(HOST)
    yield from ("", "A figure that is `null` has its reason in `missing`:", "")
    yield from ("| reason | meaning |", "|---|---|")
    for reason in Unread:
        yield f"| `{reason}` | {UNREAD[reason]} |"


def _tables(kinds: dict[str, str]) -> Iterator[str]:
    types: dict[str, Any] = render.schema()["$defs"]  # type: ignore[assignment]
    for kind, what in kinds.items():
        yield from ("", what, "", "| field | type | meaning |", "|---|---|---|")
        for name, field in types[kind]["properties"].items():
            yield f"| `{name}` | {_type(field, types)} | {_meaning(name, field, types)} |"


def _meaning(name: str, field: dict[str, Any], types: dict[str, Any]) -> str:
    if name == "event":
        return " or ".join(f"`{value}`" for value in _values(field, types))
    said = field.get("description") or MEANINGS.get(name) or OF_CONTAINER.get(name)
    return str(said or FIGURES[name])


if __name__ == "__main__":
    PAGE.write_text(page())
