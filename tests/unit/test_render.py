"""Events as lines: three formats, and nothing that a stranger wrote can leave its column."""

from __future__ import annotations

import json
import unicodedata

import jsonschema
import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import render
from ctrwatch.event import (
    Audit,
    Bill,
    Cgroup,
    ContainerEvent,
    ContainerUsage,
    Creator,
    Enforcement,
    Evidence,
    HostEvent,
    HostFigures,
    HostRates,
    HostUsage,
    Image,
    Init,
    Rates,
    Unread,
    Usage,
    Verdict,
    Violation,
    WatchGap,
)
from ctrwatch.model import (
    CgroupKey,
    ContainerId,
    Kind,
    Limits,
    Missing,
    Mount,
    Process,
    RawEvent,
    Runtime,
    Security,
    Task,
)

ID = ContainerId("4f2b9c0d7e1a" + "0" * 52)
POD_UID = "a8879292-e72c-5f24-b78a-892fbc10d921"
TIME = "2026-11-23T19:46:12.460562493Z"
WALL_NS = 1795463172_460562493
RUNC = Task(
    pid=4242, ppid=4241, tid=4243, comm="runc", cpu=3, start_ns=77_000, mnt_ns=402, pid_ns=403
)
WEB = ContainerEvent(
    event="container_create",
    id="6c1f",
    time=TIME,
    host="node-1",
    runtime=Runtime.CONTAINERD,
    container_id=ID,
    ctime=WALL_NS,
    container_image="docker.io/library/nginx:1.27",
    container_image_digest="sha256:" + "d" * 64,
    container_name="web",
    pod_name="web-7d9",
    pod_namespace="shop",
    pod_uid=POD_UID,
    cgroup=Cgroup(id=1 << 40, path=f"/kubepods/pod{POD_UID}/{ID}", hierarchy_id=0, version=2),
    creator=Creator(pid=4242, ppid=4241, uid=0, gid=0, comm="runc"),
    init=Init(pid=4250),
    image=Image(
        id="sha256:" + "c" * 64,
        digest_kind="index",
        registry="docker.io",
        repository="library/nginx",
        tag="1.27",
    ),
    labels={"app": "web"},
    security=Security(
        privileged=False,
        user="101:101",
        capabilities=("CAP_NET_BIND_SERVICE",),
        mounts=(Mount(source="/srv", destination="/data", type="bind", read_only=True),),
    ),
    limits=Limits(memory_bytes=64 << 20, cpu_cores=0.5),
    process=Process(args=("nginx", "-g", "daemon off;"), cwd="/", user="101:101"),
    evidence=Evidence(
        status="complete",
        missing={"image.tag": Missing.HAS_NONE},
        sources={"container_name": "bundle", "ctime": "kernel"},
        after_ms=8.25,
    ),
)
BARE = ContainerEvent(
    event="container_create",
    id="77aa",
    time=TIME,
    host="node-1",
    runtime=Runtime.UNKNOWN,
    container_id=ContainerId("job"),
    cgroup=Cgroup(id=9, path="/default/job", hierarchy_id=4, version=1),
)
SCHEMA = render.schema()


def replaced(event: ContainerEvent, /, **changes: object) -> ContainerEvent:
    return msgspec.structs.replace(event, **changes)


# --- JSON -----------------------------------------------------------------------------


def test_json_has_the_ten_arguments_at_the_top_in_the_documents_order() -> None:
    fields = list(json.loads(render.json_line(WEB)))

    assert fields == [
        "event", "id", "time", "host",
        "runtime", "container_id", "ctime", "container_image", "container_image_digest",
        "container_name", "pod_name", "pod_namespace", "pod_uid", "pod_sandbox",
        "cgroup", "creator", "init", "image", "outer", "labels", "security", "limits", "process",
        "evidence", "lost_before",
    ]  # fmt: skip


def test_json_line() -> None:
    line = render.json_line(BARE)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "event": "container_create",
        "id": "77aa",
        "time": TIME,
        "host": "node-1",
        "runtime": "unknown",
        "container_id": "job",
        "ctime": None,
        "container_image": "",
        "container_image_digest": "",
        "container_name": "",
        "pod_name": "",
        "pod_namespace": "",
        "pod_uid": "",
        "pod_sandbox": False,
        "cgroup": {"id": 9, "path": "/default/job", "hierarchy_id": 4, "version": 1},
        "creator": {"pid": None, "ppid": None, "uid": None, "gid": None, "comm": ""},
        "init": {"pid": None},
        "image": {"id": "", "digest_kind": "", "registry": "", "repository": "", "tag": ""},
        "outer": [],
        "labels": {},
        "security": None,
        "limits": None,
        "process": None,
        "evidence": {"status": "unverified", "missing": {}, "sources": {}, "after_ms": None},
        "lost_before": 0,
    }


def test_update_has_who_it_is_and_what_changed() -> None:
    update = replaced(WEB, event="container_update", changed=("container_image", "image"))

    fields = json.loads(render.json_line(update))

    assert list(fields) == [
        "event", "id", "time", "host", "runtime", "container_id",
        "container_image", "image", "evidence",
    ]  # fmt: skip
    assert fields["container_image"] == "docker.io/library/nginx:1.27"


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(WEB, id="whole"),
        pytest.param(BARE, id="bare"),
        pytest.param(replaced(WEB, event="existing_container", outer=("a", "b")), id="nested"),
        pytest.param(replaced(WEB, event="container_update", changed=("labels",)), id="update"),
        pytest.param(
            replaced(WEB, event="container_update", changed=("runtime",)),
            id="update-of-the-runtime",
        ),
    ],
)
def test_a_line_is_valid_by_the_schema(event: ContainerEvent) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    line = json.loads(render.json_line(event))

    jsonschema.validate(line, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("event", "container_birth", id="unknown-event"),
        pytest.param("ctime", "yesterday", id="ctime-is-a-number"),
        pytest.param("evidence", {"status": "sure"}, id="unknown-status"),
    ],
)
def test_a_wrong_line_is_not_valid(field: str, value: object) -> None:
    line = {**json.loads(render.json_line(WEB)), field: value}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, SCHEMA, jsonschema.Draft202012Validator)


def test_only_an_update_may_leave_fields_out() -> None:
    line = json.loads(render.json_line(WEB))
    del line["labels"]

    jsonschema.validate({**line, "event": "container_update"}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, SCHEMA)


def test_update_of_the_runtime_names_it_once() -> None:
    line = render.json_line(replaced(WEB, event="container_update", changed=("runtime", "labels")))

    assert line.count(b'"runtime"') == 1


# --- text -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "line"),
    [
        pytest.param(
            WEB,
            "19:46:12.460  create    containerd  web                     "
            "  docker.io/library/nginx:1.27              shop/web-7d9          4f2b9c0d7e1a\n",
            id="complete",
        ),
        pytest.param(
            replaced(BARE, creator=Creator(pid=1, ppid=1, uid=1000, gid=1000, comm="sh")),
            "19:46:12.460  create    unknown     -                       "
            "  -                                         -                     job"
            "  ! unverified: only its name speaks for a container, made by uid 1000\n",
            id="unverified",
        ),
        pytest.param(
            replaced(
                BARE,
                runtime=Runtime.DOCKER,
                container_name="db",
                evidence=Evidence(
                    status="partial",
                    missing={
                        "container_image": Missing.DEADLINE,
                        "pod_name": Missing.NOT_IN_POD,
                    },
                ),
            ),
            "19:46:12.460  create    docker      db                      "
            "  -                                         -                     job"
            "  ! missing: container_image (deadline)\n",
            id="partial",
        ),
        pytest.param(
            replaced(BARE, event="container_remove", container_name="db"),
            "19:46:12.460  remove    unknown     db                      "
            "  -                                         -                     job\n",
            id="a-removal-repeats-no-complaint",
        ),
    ],
)
def test_text_line(event: ContainerEvent, line: str) -> None:
    assert render.text_line(event) == line


@pytest.mark.parametrize(
    ("event", "colour"),
    [
        pytest.param(WEB, "\x1b[32m", id="birth"),
        pytest.param(BARE, "\x1b[31m", id="unverified"),
        pytest.param(replaced(BARE, evidence=Evidence(status="partial")), "\x1b[33m", id="partial"),
    ],
)
def test_colours_surround_the_line(event: ContainerEvent, colour: str) -> None:
    plain = render.text_line(event).rstrip("\n")

    assert render.text_line(event, colours=True) == f"{colour}{plain}\x1b[0m\n"


def test_what_is_missing_can_not_write_to_the_terminal() -> None:
    """A field's name is ours, but for a journal that somebody wrote by hand."""
    evidence = Evidence(status="partial", missing={"a\x1b[2J\n" * 99: Missing.DEADLINE})

    mark = render.missing_mark(replaced(BARE, evidence=evidence))

    assert mark.isprintable()
    assert len(mark) < 80


@pytest.mark.parametrize(
    ("container_id", "short"),
    [
        pytest.param(ID, "4f2b9c0d7e1a", id="generated"),
        pytest.param("my-job", "my-job", id="chosen"),
        pytest.param("x" * 64, "x" * 39 + "…", id="chosen-of-64-letters"),
        pytest.param("\x1b[2J" * 16, "\\x1b[2J" * 5 + "\\x1b…", id="hostile-of-64-letters"),
    ],
)
def test_short_id(container_id: str, short: str) -> None:
    assert render.short_id(container_id) == short


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_name_can_leave_its_line(name: str, image: str, container_id: str) -> None:
    event = replaced(
        WEB,
        container_name=name,
        container_image=image,
        pod_name=name,
        pod_namespace=image,
        container_id=container_id,
    )

    line = render.text_line(event)

    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE"} for c in line)
    assert len(line) < 250


@given(HOSTILE)
def test_json_keeps_what_strangers_wrote_and_escapes_it(name: str) -> None:
    line = render.json_line(replaced(WEB, container_name=name, labels={name: name}))

    assert json.loads(line)["labels"] == {name: name}
    assert not any(byte < 0x20 for byte in line[:-1])


# --- Tracee ---------------------------------------------------------------------------


def test_tracee_line() -> None:
    line = render.tracee_line(WEB, RUNC)

    assert line is not None
    assert json.loads(line) == {
        "timestamp": WALL_NS,
        "threadStartTime": 77_000,
        "processorId": 3,
        "processId": 4242,
        "cgroupId": 1 << 40,
        "threadId": 4243,
        "parentProcessId": 4241,
        "hostProcessId": 4242,
        "hostThreadId": 4243,
        "hostParentProcessId": 4241,
        "userId": 0,
        "mountNamespace": 402,
        "pidNamespace": 403,
        "processName": "runc",
        "executable": {"path": ""},
        "hostName": "node-1",
        "containerId": "",
        "container": {},
        "kubernetes": {},
        "eventId": "2018",
        "eventName": "container_create",
        "matchedPolicies": [""],
        "argsNum": 10,
        "returnValue": 0,
        "syscall": "mkdirat",
        "stackAddresses": [0],
        "contextFlags": {"containerStarted": False, "isCompat": False},
        "threadEntityId": 0,
        "processEntityId": 0,
        "parentEntityId": 0,
        "args": [
            {"name": "runtime", "type": "string", "value": "containerd"},
            {"name": "container_id", "type": "string", "value": ID},
            {"name": "ctime", "type": "uint64", "value": WALL_NS},
            {"name": "container_image", "type": "string", "value": "docker.io/library/nginx:1.27"},
            {"name": "container_image_digest", "type": "string", "value": "sha256:" + "d" * 64},
            {"name": "container_name", "type": "string", "value": "web"},
            {"name": "pod_name", "type": "string", "value": "web-7d9"},
            {"name": "pod_namespace", "type": "string", "value": "shop"},
            {"name": "pod_uid", "type": "string", "value": POD_UID},
            {"name": "pod_sandbox", "type": "bool", "value": False},
        ],
    }


def test_tracee_knows_two_things_of_a_removal() -> None:
    line = render.tracee_line(replaced(WEB, event="container_remove"), RUNC)

    assert line is not None
    fields = json.loads(line)
    assert (fields["eventId"], fields["eventName"], fields["argsNum"]) == (
        "2019", "container_remove", 2,
    )  # fmt: skip
    assert [argument["name"] for argument in fields["args"]] == ["runtime", "container_id"]


def test_tracee_has_no_null() -> None:
    line = render.tracee_line(replaced(BARE, event="existing_container"), None)

    assert line is not None
    assert b"null" not in line
    assert json.loads(line)["args"][2] == {"name": "ctime", "type": "uint64", "value": 0}


@pytest.mark.parametrize("name", ["container_start", "container_update"])
def test_what_tracee_does_not_have_is_left_out(name: str) -> None:
    assert render.tracee_line(replaced(WEB, event=name), RUNC) is None


# --- the kernel's own -------------------------------------------------------------------


def raw(kind: Kind, path: str = "/docker/x") -> RawEvent:
    return RawEvent(
        kind=kind, boot_ns=5_000_000_000, cgroup=CgroupKey(7, 1 << 33), parent_id=1, level=2,
        path=path, path_cut=False, task=RUNC, lost=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(Kind.MKDIR, "cgroup_mkdir", id="mkdir"),
        pytest.param(Kind.RMDIR, "cgroup_rmdir", id="rmdir"),
    ],
)
def test_raw_line(kind: Kind, name: str) -> None:
    line = render.raw_line(raw(kind), WALL_NS - 5_000_000_000)

    assert line is not None
    assert json.loads(line) == {
        "event": name,
        "time": TIME,
        "cgroup_id": 1 << 33,
        "cgroup_path": "/docker/x",
        "hierarchy_id": 7,
        "pid": 4242,
        "comm": "runc",
        "uid": 0,
    }


@pytest.mark.parametrize("kind", [Kind.ATTACH, Kind.EXEC])
def test_other_kinds_are_not_shown(kind: Kind) -> None:
    assert render.raw_line(raw(kind), 0) is None
    assert render.raw_text(raw(kind), 0) is None


def test_a_cgroup_of_any_bytes_has_a_line() -> None:
    name = b"/caf\xe9\x1b[2J\n".decode("utf-8", "surrogateescape")

    line, text = (
        render.raw_line(raw(Kind.MKDIR, name), 0),
        render.raw_text(raw(Kind.MKDIR, name), 0),
    )

    assert line is not None
    assert json.loads(line)["cgroup_path"] == "/caf\\xe9\x1b[2J\n"
    assert text is not None
    assert text.endswith("/caf\\xe9\\x1b[2J\\x0a\n")


# --- of the watch itself --------------------------------------------------------------------

GAP = WatchGap(
    id="1f", time=TIME, host="node-1", reason="lost", since=TIME, until=TIME, lost=60_013
)
FOUND = Audit(
    id="2f",
    time=TIME,
    host="node-1",
    finding="missed",
    runtime=Runtime.UNKNOWN,
    container_id=ID,
    container_name="web\x1b[31m",
    cgroup_path="/docker/\u202e" + ID,
    source="scan",
)


VIOLATION = Violation(
    id="3f",
    time=TIME,
    host="node-1",
    policy="approved-images",
    rule="registry",
    severity="high",
    tags=("T1610",),
    message="evil.example/miner\x1b[2J is not approved",
    action="kill",
    event_id="0f",
    runtime=Runtime.DOCKER,
    container_id=ID,
    container_name="web\x1b[31m",
    container_image="evil.example/miner:1",
)
KILLED = Enforcement(
    id="4f",
    time=TIME,
    host="node-1",
    violation_id="3f",
    action="kill",
    result="done",
    before_start=True,
    runtime=Runtime.DOCKER,
    container_id=ID,
)


USED = ContainerUsage(
    event="container_usage",
    id="5f-usage-10",
    time=TIME,
    host="node-1",
    runtime=Runtime.DOCKER,
    container_id=ID,
    container_name="web\x1b[31m",
    age_seconds=10.0,
    usage=Usage(
        cpu_seconds=12.5,
        throttled_seconds=1.25,
        memory_bytes=9437184,
        memory_limit_bytes=67108864,
        io_read_bytes=4096,
        io_write_bytes=0,
        pids=3,
        missing={"pressure": Unread.NOT_OFFERED},
    ),
    rates=Rates(seconds=10.0, cpu_cores=1.25),
)
HOSTS = HostUsage(
    id="5f",
    time=TIME,
    host="node-1",
    usage=HostFigures(
        cpus=4,
        cpu_seconds=812.5,
        memory_bytes=9437184,
        memory_total_bytes=67108864,
        missing={"pressure": Unread.NOT_OFFERED},
    ),
    rates=HostRates(seconds=10.0, cpu_cores=1.25, io_read_bytes_per_second=4096.0),
)
OOM = msgspec.structs.replace(USED, event="container_oom", id="5f-oom-2", kills=2, rates=None)


@pytest.mark.parametrize(
    "event",
    [GAP, FOUND, VIOLATION, KILLED, USED, OOM, HOSTS],
    ids=["gap", "audit", "violation", "enforcement", "usage", "oom", "host"],
)
def test_an_event_of_the_watch_fits_the_schema(event: HostEvent | Verdict | ContainerUsage) -> None:
    line = json.loads(render.host_json_line(event))

    jsonschema.validate(line, SCHEMA)
    assert list(line) == list(event.__struct_fields__)


def test_a_gap_is_a_sentence() -> None:
    assert render.host_text_line(GAP) == (
        "19:46:12.460  gap       ! the kernel dropped 60013 raw events between"
        " 2026-11-23T19:46:12.460Z and 2026-11-23T19:46:12.460Z\n"
    )


def test_a_violation_is_a_sentence_that_can_do_no_harm() -> None:
    line = render.host_text_line(VIOLATION, colours=True)

    assert "violation" in line
    assert "high approved-images/registry: evil.example/miner\\x1b[2J is not approved" in line
    assert line.count("\x1b") == 2


def test_what_was_done_is_a_sentence() -> None:
    assert render.host_text_line(KILLED) == (
        "19:46:12.460  kill      ! docker 4f2b9c0d7e1a: done, before its first instruction  (-)\n"
    )


def test_what_it_uses_is_a_sentence_that_can_do_no_harm() -> None:
    assert render.host_text_line(USED) == (
        "19:46:12.460  usage       docker 4f2b9c0d7e1a after 10 s: 1.25 cores, memory 9.0 MB of 64.0 MB,"
        " I/O 4.0 KB + 0 B, 3 tasks, throttled 1.2 s  (web\\x1b[31m)\n"
    )


def test_what_the_host_uses_is_a_sentence() -> None:
    assert render.host_text_line(HOSTS) == (
        "19:46:12.460  host        all of the host: 1.25 of 4 cores for 10 s,"
        " memory 9.0 MB of 64.0 MB, I/O 4.0 KB + 0 B a second\n"
    )


def test_a_kill_is_a_sentence() -> None:
    line = render.host_text_line(OOM, colours=True)

    assert (
        "oom       ! docker 4f2b9c0d7e1a after 10 s, 2 processes killed for want of memory:" in line
    )
    assert line.count("\x1b") == 2


BILL = Bill(
    duration_seconds=2.5,
    exit_signal=9,
    final=True,
    cpu_seconds=1.5,
    memory_peak_bytes=1 << 20,
    oom_kills=1,
    io_read_bytes=0,
    io_write_bytes=2048,
)


def test_a_bill_is_told_with_the_remove_and_only_there() -> None:
    plain = msgspec.structs.replace(WEB, event="container_remove")
    remove = msgspec.structs.replace(plain, usage=BILL)

    line = json.loads(render.json_line(remove))

    jsonschema.validate(line, SCHEMA)
    assert line["usage"]["exit_signal"] == 9
    assert "usage" not in json.loads(render.json_line(plain))
    assert render.text_line(remove).endswith(
        "  lived 2.5 s, CPU 1.50 s, peak 1.0 MB, I/O 0 B + 2.0 KB, OOM kills 1, signal 9\n"
    )


def test_a_bill_that_nobody_could_read_says_so() -> None:
    bill = Bill(duration_seconds=0.1, missing={"cpu_seconds": Unread.GONE})
    remove = msgspec.structs.replace(WEB, event="container_remove", usage=bill)

    assert render.text_line(remove).endswith("  lived 0.1 s, gone before it could be read\n")


def test_a_finding_is_a_sentence_that_can_do_no_harm() -> None:
    line = render.host_text_line(FOUND, colours=True)

    assert "it was not announced" in line
    assert line.count("\x1b") == 2
    assert "\u202e" not in line
