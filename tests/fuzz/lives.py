"""
The whole chain fed with anything: raw events, listings, answers, alarms, in any order.

A case is a few numbers. They are read as one input of the chain as it stands: "remove the
7th directory", "answer the 3rd question". The kernel's own laws hold (an id is never used
twice, a directory is there before it is entered), or nearly: one input in twenty is about
directories that are none. After some hundred inputs all directories are removed, and with
them everything that was known must be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from ctrwatch.core.cgroup import identify
from ctrwatch.core.chain import (
    Back,
    Chain,
    Clock,
    Ending,
    Header,
    Input,
    Looked,
    Lost,
    Overdue,
    Patience,
    Reply,
    Report,
)
from ctrwatch.core.changes import Begun, Born, Gone, Look, Placed, Started
from ctrwatch.core.describe import wall_ns
from ctrwatch.core.hostuse import HostSampled
from ctrwatch.core.ledger import Exited, Reading, Sampled
from ctrwatch.core.steps import INIT, STEPS
from ctrwatch.core.story import Alarm, Ask, Tell
from ctrwatch.event import ContainerEvent, ContainerUsage, HostFigures, Pressure, Unread, Usage
from ctrwatch.model import (
    Answer,
    CgroupKey,
    ContainerId,
    Facts,
    Found,
    Kind,
    Leads,
    Limits,
    Listed,
    Missing,
    NotFound,
    Process,
    RawEvent,
    Runtime,
    Security,
    Task,
    Unavailable,
)  # fmt: skip
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import TEXTS, Mutator
from tests.fuzz.telling import CID, host_lines_of, lines_of

__all__ = ("chain",)

Case = tuple[int, int, int, int]
_EPISODE: Final = 500  # inputs
_MS: Final = 1_000_000
_HIERARCHIES: Final = (0, 3, 4)
_OTHER: Final = "f" * 64
_PATHS: Final = (
    f"/docker/{CID}",
    f"/system.slice/docker-{CID}.scope",
    f"/docker/{CID}/init.scope",
    f"/docker/{CID}/docker/{_OTHER}",
    f"/kubepods/burstable/poda8879292-e72c-5f24-b78a-892fbc10d921/{_OTHER}",
    f"/machine.slice/libpod-{CID}.scope",
    f"/libpod_parent/{CID}/libpod-{_OTHER}",
    "/default/web",
    "/default/web/web",
    "/web/web",
    "/default",
    "/lxc.payload.web",
    "/lxc.monitor.web",
    "/machine.slice/machine-db1.scope/payload",
    "/system.slice/runc-web.scope",
    "/caf\udce9\x1b[2J/web",
    "/",
)
_ARGVS: Final = (
    (),
    ("/sbin/init",),
    ("runc", "create", "--bundle", "/b", "web"),
    ("runc", "create", "--bundle", "/b", CID),
    ("runc", "--root", "/r", "create"),
    ("crun", "run", "-b", "/b", "web"),
    ("[lxc monitor] /var/lib/lxc web",),
    ("systemd-nspawn", "-M", "db1"),
    ("\udce9\x1b[2J", "create", "\0"),
)
_COMMS: Final = ("runc", "runc:[2:INIT]", "crun", "systemd", "lxc-start", "\udce9\x1b[2J", "")
_WHOLE: Final = Facts(
    runtime=Runtime.CONTAINERD, image="docker.io/library/busybox:1", name="web", labels={"a": "b"},
    image_digest="sha256:" + "a" * 64, sandbox=False, security=Security(), limits=Limits(),
    process=Process(args=("true",)), created_ns=7,
    absent=dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), Missing.NOT_IN_POD),
)  # fmt: skip
_ANSWERS: Final[tuple[Answer, ...]] = (
    NotFound(),
    Unavailable("docker: no answer"),
    Unavailable("docker: away \x1b[2J", away=True),
    Found(Facts()),
    Found(_WHOLE),
    Found(Facts(leads=Leads(bundle="/b\udce9", namespace="demo", digests=("sha256:x",)))),
    Found(Facts(runtime=Runtime.PODMAN, image="", pod_uid="u")),
    Found(Facts(image="x" * 700, image_id="sha256:" + "b" * 64, corrects=("image",))),
    Found(Facts(init_pid=5, digest_kind="index")),
    Found(Facts(absent={"container_image": Missing.NO_IMAGE, "labels": Missing.HAS_NONE})),
)
_USAGES: Final = (
    Usage(), Usage(cpu_seconds=1e18, oom_kills=3, memory_limit_bytes=0, memory_bytes=5),
    Usage(cpu_seconds=0.5, oom_kills=1, io_read_bytes=(1 << 63) - 1, pressure=Pressure()),
    Usage(missing=dict.fromkeys(("cpu_seconds", "oom_kills", "pressure"), Unread.GONE)),
    Usage(oom_kills=9, missing={"memory_bytes": Unread.UNREADABLE}),
)  # fmt: skip
_HOSTS: Final = (
    HostFigures(), HostFigures(cpus=2, cpu_seconds=1e18, io_read_bytes=(1 << 63) - 1),
    HostFigures(cpus=0, cpu_seconds=0.5, memory_bytes=7, pressure=Pressure()),
    HostFigures(missing={"cpus": Unread.UNREADABLE}),
)  # fmt: skip
_SOURCES: Final = (*dict.fromkeys(step.source for step in STEPS), INIT.source, "nobody")
_TEN: Final = (
    *("runtime", "container_image", "container_image_digest", "container_name"),
    *("pod_name", "pod_namespace", "pod_uid"),
)


def chain() -> Boundary:
    def worse(mutator: Mutator, seeds: Sequence[Case]) -> Case:
        return (
            mutator.below(64),
            mutator.below(1 << 16),
            mutator.below(1 << 16),
            mutator.below(64),
        )

    return Boundary([(0, 0, 0, 0)], worse, _Lives().feed)


class _Lives:
    def __init__(self) -> None:
        self._ids = 1000
        self._now_ns = 10**12
        self._episode = 0
        self._begin()

    def _begin(self) -> None:
        self._episode += 1
        header = Header(
            host="h", boot_id="b", wall_offset_ns=1_700_000_000 * 10**9,
            wait_ns=(2000, 5, 0)[self._episode % 3] * _MS, unified=self._episode % 2 > 0,
            usage_at_ns=(None, (), (10**10, 6 * 10**10))[self._episode % 3],
        )  # fmt: skip
        self._chain = Chain(header)
        self._left = _EPISODE
        self._directories: dict[CgroupKey, str] = {}
        self._asks: dict[tuple[int, str], Ask] = {}
        self._alarms: list[Alarm] = []
        self._looks: list[Look] = []
        self._told: dict[str, list[ContainerEvent]] = {}
        self._lost = 0

    def feed(self, case: Case) -> Hashable:
        self._now_ns += (case[1] % 97) * _MS // 10 if case[3] else 3000 * _MS
        outcome = self._fed(self._input(*case))
        self._left -= 1
        if self._left <= 0:
            self._end()
        return case[0] % 8, outcome

    def _end(self) -> None:
        for cgroup, path in list(self._directories.items()):
            self._fed(self._raw(Kind.RMDIR, cgroup, path, _task(0, 0)))
        while self._alarms:
            alarm = self._alarms.pop()
            self._fed(Overdue(boot_ns=max(self._now_ns, alarm.boot_ns), serial=alarm.serial))
        require("nothing is living when all is removed", self._chain.living == 0)
        require("what has an alarm is told", self._chain.untold == 0)
        self._fed(Ending(boot_ns=self._now_ns))
        require("no story is left", len(self._chain._stories) == 0)
        for events in self._told.values():
            require("what was born is removed", events[-1].event == "container_remove")
        self._begin()

    # --- inputs -----------------------------------------------------------------------------

    def _input(self, kind: int, first: int, second: int, third: int) -> Input:
        way = _WAYS[kind % len(_WAYS)]
        return way(self, first, second, third)

    def _raw(self, kind: Kind, cgroup: CgroupKey, path: str, task: Task) -> RawEvent:
        parent = path.rpartition("/")[0]
        above = [
            key.cgroup_id
            for key, each in self._directories.items()
            if each == parent and key.hierarchy_id == cgroup.hierarchy_id
        ]
        if kind is Kind.RMDIR:
            self._directories.pop(cgroup, None)
        return RawEvent(
            kind=kind, boot_ns=self._now_ns, cgroup=cgroup, parent_id=above[-1] if above else 1,
            level=path.count("/"), path="/bin/true" if kind is Kind.EXEC else path,
            path_cut=False, task=task, lost=self._lost,
        )  # fmt: skip

    def _mkdir(self, first: int, second: int, third: int) -> Input:
        path = _PATHS[first % len(_PATHS)] + ("/x" if not third else "")
        hierarchy_id = _HIERARCHIES[second % len(_HIERARCHIES)]
        for cgroup, each in self._directories.items():
            if each == path and cgroup.hierarchy_id == hierarchy_id:  # it is there already
                return self._raw(Kind.ATTACH, cgroup, path, _task(second, third))
        cgroup = self._new(hierarchy_id)
        self._directories[cgroup] = path
        return self._raw(Kind.MKDIR, cgroup, path, _task(second, third))

    def _change(self, first: int, second: int, third: int) -> Input:
        kind = (Kind.ATTACH, Kind.EXEC, Kind.RMDIR, Kind.ATTACH)[second % 4]
        if not self._directories or third % 20 == 0:
            return self._raw(
                kind, CgroupKey(3, 10**12 + first), "/docker/" + CID, _task(second, third)
            )
        cgroup = list(self._directories)[first % len(self._directories)]
        return self._raw(kind, cgroup, self._directories[cgroup], _task(second, third))

    def _listed(self, first: int, second: int, third: int) -> Input:
        """One that was made before us, or just now: then it was heard of, too."""
        path, hierarchy_id = _PATHS[first % len(_PATHS)], _HIERARCHIES[second % len(_HIERARCHIES)]
        last = next(reversed(self._directories), None)
        if third % 3 == 0 and last is not None and last.cgroup_id == self._ids:
            path, there = self._directories[last], last
        elif any(
            p == path and k.hierarchy_id == hierarchy_id for k, p in self._directories.items()
        ):
            return self._rest(first, second, third)
        else:
            there = self._new(hierarchy_id)
            self._directories[there] = path
        identity = identify(path)
        return Listed(
            boot_ns=self._now_ns,
            container_id=identity.container_id if identity else ContainerId("web"),
            paths=((there, path),),
            identity=identity,
            leads=Leads(bundle="/b" if third % 2 else ""),
            uid=third % 3,
            init_pid=5 if second % 2 else None,
            init_start_ns=6 if second % 3 else None,
        )

    def _reply(self, first: int, second: int, third: int) -> Input:
        serial, source = first % 50, _SOURCES[second % len(_SOURCES)]
        if self._asks and third % 20:
            serial, source = list(self._asks)[first % len(self._asks)]
        answer = _ANSWERS[second % len(_ANSWERS)]
        if third % 20 == 1:
            word = TEXTS[second % len(TEXTS)].encode("utf-8", "replace").decode()
            answer = Found(Facts(name=word, image=word, labels={word: word}))
        self._asks.pop((serial, source), None)
        return Reply(boot_ns=self._now_ns, serial=serial, source=source, answer=answer)

    def _rest(  # noqa: PLR0911 - one for each input
        self, first: int, second: int, third: int
    ) -> Input:
        match third % 11:
            case 0 | 1 if self._alarms:
                alarm = self._alarms.pop(first % len(self._alarms))
                self._now_ns = max(self._now_ns, alarm.boot_ns - second % 2)
                return Overdue(boot_ns=self._now_ns, serial=alarm.serial)
            case 2 if self._looks:
                look = self._looks.pop(first % len(self._looks))
                return Looked(
                    cgroup=look.cgroup, caller=_task(second, third) if first % 4 else None
                )
            case 3:
                return Back(boot_ns=self._now_ns, source=_SOURCES[first % len(_SOURCES)])
            case 4:
                self._lost += first % 3
                return Lost(boot_ns=self._now_ns, total=self._lost)
            case 6:
                return Sampled(
                    boot_ns=self._now_ns - (second % 11 == 0) * 5000 * _MS,
                    serial=first % 50,
                    usage=_USAGES[second % len(_USAGES)],
                    final=third % 3 == 0,
                )
            case 10:
                return HostSampled(
                    boot_ns=self._now_ns - (second % 11 == 0) * 5000 * _MS,
                    usage=_HOSTS[second % len(_HOSTS)],
                )
            case 7:
                return Exited(boot_ns=self._now_ns, serial=first % 50, code=second % 256)
            case 5:
                return Clock(wall_offset_ns=1_700_000_000 * 10**9 + first)
            case 8:
                return Patience(boot_ns=self._now_ns, wait_ns=first % 3_000 * _MS)
            case _:
                return Overdue(boot_ns=self._now_ns, serial=first % 50)

    def _new(self, hierarchy_id: int) -> CgroupKey:
        self._ids += 1
        return CgroupKey(hierarchy_id, self._ids)

    # --- the laws ---------------------------------------------------------------------------

    def _fed(self, item: Input) -> Hashable:
        outcome: list[str] = []
        for effect in self._chain.feed(item):
            match effect:
                case Ask():
                    question = effect.serial, effect.source
                    require("one question at a time", question not in self._asks)
                    self._asks[question] = effect
                case Alarm():
                    self._alarms.append(effect)
                case Look():
                    self._looks.append(effect)
                case Born() | Placed() | Begun() | Started() | Gone():
                    pass
                case Reading(container=told):
                    require("use is read of the living", not self._has_gone(told))
                case Report(event):
                    host_lines_of(event)
                    if isinstance(event, ContainerUsage):
                        self._used(event)
                    outcome.append(event.event)
                case Tell():
                    self._tell(effect.event)
                    outcome.append(effect.event.event + effect.event.evidence.status)
        return tuple(outcome)

    def _used(self, event: ContainerUsage) -> None:
        require("use is told of the living", not self._has_gone(event))

    def _has_gone(self, event: ContainerEvent | ContainerUsage) -> bool:
        return "container_remove" in [each.event for each in self._told[event.id.partition("-")[0]]]

    def _tell(self, event: ContainerEvent) -> None:
        lines_of(event)
        birth = event.id.partition("-")[0]
        before = self._told.setdefault(birth, [])
        is_birth = event.event in ("container_create", "existing_container")
        require("the create is first, and once", is_birth == (not before))
        names = [each.event for each in before]
        require("nothing after the remove", "container_remove" not in names)
        require("one start", event.event != "container_start" or event.event not in names)
        require("an id is one event's", event.id not in {each.id for each in before})
        require("a time is one", wall_ns(event.time) > 0)
        missing = event.evidence.missing
        for field in _TEN:
            empty = getattr(event, field) in ("", Runtime.UNKNOWN)
            require(f"{field}: every empty one has its reason", not empty or field in missing)
        for field in ("security", "limits", "process"):
            require(f"{field}: has its reason", getattr(event, field) or field in missing)
        before.append(event)


_WAYS: Final[tuple[Callable[[_Lives, int, int, int], Input], ...]] = (
    _Lives._mkdir, _Lives._mkdir, _Lives._change, _Lives._change, _Lives._reply, _Lives._reply,
    _Lives._rest, _Lives._listed, _Lives._mkdir, _Lives._change, _Lives._change, _Lives._reply,
    _Lives._reply, _Lives._rest, _Lives._rest,
)  # fmt: skip


def _task(second: int, third: int) -> Task:
    return Task(
        pid=100 + second % 5, ppid=100 + third % 5, uid=(0, 0, 1000)[third % 3],
        comm=_COMMS[second % len(_COMMS)], argv=_ARGVS[second % len(_ARGVS)],
        argv_cut=third % 7 == 0, mnt_ns=second % 3, only_pid=third % 11 == 0,
    )  # fmt: skip
