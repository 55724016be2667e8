"""
The words that cross stages: raw events, identities, evidence, container events.

Values only: frozen, checked where they are made, no behaviour beyond what follows
from their own fields. `docs/design.md` has the words' meaning; the names here, in
the JSON, in the documents and in the logs are the same.

Clocks: `boot_ns` is CLOCK_BOOTTIME, the kernel's clock of births; `wall_ns` is
nanoseconds since the epoch.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, Literal, NamedTuple, NewType

import msgspec

ContainerId = NewType("ContainerId", str)


class Runtime(StrEnum):
    """Who manages a container; `UNKNOWN` until evidence names it."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    CRIO = "crio"
    PODMAN = "podman"
    LXC = "lxc"
    NSPAWN = "nspawn"
    GARDEN = "garden"
    BUILDKIT = "buildkit"
    BUILDAH = "buildah"
    RUNC = "runc"
    CRUN = "crun"
    UNKNOWN = "unknown"


# --- identity: what a cgroup path alone proves ------------------------------------


class Identity(NamedTuple):
    """
    What a cgroup path says about the container it belongs to.

    `is_root` tells the container's own cgroup from one that a process inside it
    made, such as ``docker-<id>.scope/init.scope``. `outer` are the ids of the
    enclosing containers, outermost first. `pod_uid` is "" outside a Kubernetes pod.
    """

    container_id: ContainerId
    runtime: Runtime
    is_root: bool
    outer: tuple[ContainerId, ...] = ()
    pod_uid: str = ""


# --- raw events: what the kernel said ---------------------------------------------


class Kind(IntEnum):
    """The kernel's tracepoints, as they are numbered in sensor/bpf/event.h."""

    MKDIR = 1
    RMDIR = 2
    ATTACH = 3
    EXEC = 4
    INIT = 5


class CgroupKey(NamedTuple):
    """A cgroup directory of this boot. Ids of different hierarchies can be equal."""

    hierarchy_id: int  # 0 is the unified hierarchy (cgroup v2)
    cgroup_id: int  # the directory's inode number, 64 bits


# Of a container that has ended: no directory has the inode number 0.
NOWHERE: Final = CgroupKey(0, 0)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A process as the kernel saw it at that moment; numbers as the host counts."""

    pid: int
    ppid: int
    tid: int = 0
    uid: int = 0
    gid: int = 0
    comm: str = ""
    argv: tuple[str, ...] = ()  # MKDIR only
    argv_cut: bool = False
    start_ns: int = 0  # CLOCK_BOOTTIME of its start
    mnt_ns: int = 0
    pid_ns: int = 0
    cpu: int = 0
    only_pid: bool = False  # it had ended (fanotify): uid is the cgroup's owner's, -1 unknown


class RawEvent(msgspec.Struct, frozen=True, kw_only=True, tag="raw"):
    """
    One record of a sensor.

    `task` is the creator for MKDIR, the remover for RMDIR, the task that enters for
    ATTACH, the one that executes for EXEC, and for INIT the first process of a pid
    namespace. `path` is the cgroup's, relative to its hierarchy; for EXEC it is the
    program's, as it was named to the kernel, and INIT has none. `path_cut`
    says that the kernel cut it at 1,023 bytes. `lost` counts the records that the
    kernel had dropped before it made this one, since the sensor was attached.
    """

    kind: Kind
    boot_ns: int
    cgroup: CgroupKey
    parent_id: int
    level: int
    path: str
    path_cut: bool
    task: Task
    lost: int


class Leads(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look further. Never emitted; "" is not known."""

    oci_runtime: str = ""  # runc, crun: the program that made the cgroup
    bundle: str = ""  # directory of config.json
    root: str = ""  # /proc/PID/root, where the paths here begin; "": at ours
    namespace: str = ""  # containerd's
    containerd: str = ""  # socket of the containerd that has it, as this process reaches it
    docker_root: str = ""  # dockerd's data root
    graph_root: str = ""  # containers/storage's
    sandbox_id: str = ""  # the pod's sandbox
    image_ref: str = ""  # the image's name as the runtime's own records have it
    digests: tuple[str, ...] = ()  # registry digests of the image, the best guess first


class Listed(msgspec.Struct, frozen=True, kw_only=True, tag="listed"):
    """
    A container that was there already when ctrwatch looked (sensor/scan.py).

    `unheard`: it was born after ctrwatch had begun, but while it was away, or while the
    kernel dropped raw events. Without `paths` it has ended since; `source` remembers it.
    `quiet`: nobody wants to hear of it, but it is not to be taken for a new one later.
    `birth`: the id by which an earlier ctrwatch told of it; "": none did, or nobody knows.
    """

    boot_ns: int  # when it was looked at
    container_id: ContainerId
    paths: tuple[tuple[CgroupKey, str], ...]  # its directories, unified hierarchy first
    identity: Identity | None  # what the path proves; None: evidence named it
    leads: Leads
    uid: int = 0  # to whom its cgroup belongs
    init_pid: int | None = None
    init_start_ns: int | None = None  # CLOCK_BOOTTIME
    unheard: bool = False
    quiet: bool = False
    source: str = "scan"
    runtime: Runtime | None = None  # the source's word
    created_ns: int | None = None  # wall clock; the source's word
    birth: str = ""


# --- evidence: what other sources say ----------------------------------------------


class Missing(StrEnum):
    """
    Why a field is empty. The list is closed, and docs/events.md explains each.

    The first group is final: nothing can be learnt, and the event is complete
    without it. The second group may still be learnt, and makes the event partial; but
    for CUT, of which the beginning is told.
    """

    NOT_IN_POD = "not_in_pod"
    NO_REGISTRY_DIGEST = "no_registry_digest"  # built or loaded here, never pulled or pushed
    NO_IMAGE = "no_image"  # made from a root file system, not from an image
    HAS_NONE = "has_none"  # this kind of container has no such thing
    NOT_RECORDED = "not_recorded"  # its runtime keeps no record of it
    BEFORE_US = "before_us"  # it happened before ctrwatch was there
    UNHEARD = "unheard"  # it happened while ctrwatch was away, or the kernel dropped it

    DEADLINE = "deadline"  # the answer had not come when the event had to leave
    UNAVAILABLE = "unavailable"  # the source hung, refused, or answered what can't be read
    NOT_FOUND = "not_found"  # every source that might know was asked, and does not
    NO_EVIDENCE = "no_evidence"  # nothing but the cgroup's name speaks for a container
    CUT = "cut"  # longer than a bound of ours: what is told is its beginning


FINAL: Final = frozenset(
    {
        Missing.NOT_IN_POD,
        Missing.NO_REGISTRY_DIGEST,
        Missing.NO_IMAGE,
        Missing.HAS_NONE,
        Missing.NOT_RECORDED,
        Missing.BEFORE_US,
        Missing.UNHEARD,
    }
)


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    destination: str
    type: str
    read_only: bool
    propagation: str = ""  # private, rshared, …, as the spec says it; "" is not said


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """What the container may do, from its OCI runtime spec (config.json) 1.0–1.2."""

    privileged: bool | None = None
    user: str = ""  # uid:gid in the container
    host_network: bool | None = None
    host_pid: bool | None = None
    host_ipc: bool | None = None
    host_uts: bool | None = None
    capabilities: tuple[str, ...] = ()  # the bounding set, sorted
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()  # paths in the container
    block_devices: bool | None = None  # one is among them, or a rule lets it use some
    seccomp: str = ""  # filtered, unconfined
    apparmor: str = ""  # profile; "" is none
    selinux: str = ""  # process label; "" is none
    read_only: bool | None = None  # the root file system
    no_new_privileges: bool | None = None
    proc_mount: str = ""  # default, unmasked: whether the runtime hides parts of /proc
    sysctls: dict[str, str] = {}  # of the kernel, set for its namespaces


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`None`: no limit is set."""

    memory_bytes: int | None = None
    cpu_cores: float | None = None
    pids: int | None = None
    cpu_shares: int | None = None  # its weight beside others


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """The container's entry point. Environment values are never read into it."""

    args: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""  # the user's name where the spec has one, else uid:gid


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one source says of one container. `None`: it does not say.

    `absent` names fields of which the source knows that there is nothing (more) to know.
    `corrects` are fields of which it knows better than who spoke before it.
    """

    runtime: Runtime | None = None
    created_ns: int | None = None  # wall clock; the runtime's own record
    image: str | None = None  # as the user named it, normalised
    image_digest: str | None = None  # registry digest, "sha256:…"
    digest_kind: Literal["index", "manifest"] | None = None
    image_id: str | None = None  # config digest, "sha256:…"
    name: str | None = None
    pod_name: str | None = None
    pod_namespace: str | None = None
    pod_uid: str | None = None
    sandbox: bool | None = None
    labels: dict[str, str] | None = None
    security: Security | None = None
    limits: Limits | None = None
    process: Process | None = None
    init_pid: int | None = None
    leads: Leads = Leads()
    absent: dict[str, Missing] = {}
    corrects: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A container as its runtime lists it."""

    source: str  # docker, containerd, cri, podman.files
    runtime: Runtime
    container_id: ContainerId
    uid: int  # whose daemon or storage it is; 0 is root
    created_ns: int | None  # wall clock
    running: bool | None  # None: it does not say
    name: str = ""
    image: str = ""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What runtimes list; `unavailable` says in a sentence each who could not be asked, and why."""

    records: tuple[Record, ...] = ()
    unavailable: tuple[str, ...] = ()


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a source is told when it is asked: who, and what is known so far."""

    container_id: ContainerId
    cgroup: CgroupKey
    cgroup_path: str
    uid: int  # the user whose container it is: only what belongs to him speaks of it
    creator: Task | None  # None: it was there before us
    init: Task | None  # the first task that entered
    facts: Facts


class Found(msgspec.Struct, frozen=True, tag="found"):
    facts: Facts


class NotFound(msgspec.Struct, frozen=True, tag="not_found"):
    """The source answered: it does not know this container."""


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable", omit_defaults=True):
    """
    No answer, and in one sentence why.

    `away`: the daemon that knows does not answer. Asking again is no use before `Back` says so.
    """

    why: str
    away: bool = False


Answer = Found | NotFound | Unavailable
