"""
LXC's command lines and configuration: what a container is called, and what it may do.

Pure: words and text in, values out. A command line and a configuration are written by
whoever starts the container; nothing in them raises, and what does not fit is not said.

The process that makes a container's cgroups stays as its monitor. It is `lxc-start -F`
or `lxc-execute`, or, in the background and wherever liblxc is called by another
program, it has taken the title ``[lxc monitor] LXCPATH NAME`` (lxccontainer.c,
do_lxcapi_start): then what stood on the command line is no longer known.

Keys are those of LXC 3.0 to 6.0, lxc.container.conf(5). The configuration is said in
the words of an OCI spec, so that core/spec.py has its bounds and judgements for both.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from ctrwatch.core import oci
from ctrwatch.core.capabilities import ALL, named
from ctrwatch.core.cmdline import NAME_MAX, PATH_MAX, grammar, program_of, words_of
from ctrwatch.core.machines import bind, inside, size
from ctrwatch.core.text import jsonable

__all__ = ("INCLUDE", "LxcCall", "Setting", "config", "lxc_call", "settings")

INCLUDE: Final = "lxc.include"
_TITLE: Final = "[lxc monitor] "
_PROGRAMS: Final = ("lxc-start", "lxc-execute")
# lxc-start --help, lxc-execute --help, LXC 5.0.2.
_LXC: Final = grammar(
    values="""
        name n pidfile p rcfile f console c console-log L define s uid u gid g
        logfile o logpriority l lxcpath P share-net share-ipc share-uts share-pid
    """,
    switches="daemon d foreground F close-all-fds C quiet q version usage",
)
_LINE: Final = re.compile(r"(lxc\.[\w.]+)\s*=\s*(.*)")  # of a stripped line: linear in its length
_UID: Final = re.compile(r"[0-9]{1,10}")  # 32 bits
_NAMESPACES: Final = {  # LXC's name: the spec's
    "net": "network",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
}
_ANOTHERS: Final = "/another's"  # the path of a namespace that may or may not be the host's
_DEFAULT_INIT: Final = "/sbin/init"


class Setting(NamedTuple):
    key: str
    value: str


class LxcCall(msgspec.Struct, frozen=True, kw_only=True):
    """
    A process that makes an LXC container.

    `lxcpath` and `rcfile` are "" where they were not given; `is_whole` says that all
    that was given is known, which it is not of a monitor that has taken its title.
    """

    name: str
    lxcpath: str = ""
    rcfile: str = ""
    program: str = ""  # lxc-start, lxc-execute
    defined: tuple[Setting, ...] = ()
    command: tuple[str, ...] = ()
    is_whole: bool = False


def lxc_call(argv: tuple[str, ...]) -> LxcCall | None:
    """
    Return the call that makes a container, or None for any other command line.

    >>> call = lxc_call(("[lxc monitor] /var/lib/lxc web",))
    >>> call.name, call.lxcpath
    ('web', '/var/lib/lxc')
    >>> lxc_call(("lxc-start", "-F", "-n", "web", "-P", "/srv/lxc")).lxcpath
    '/srv/lxc'
    """
    if not argv:
        return None
    if argv[0].startswith(_TITLE):
        lxcpath, _, name = argv[0].removeprefix(_TITLE).rpartition(" ")
        call = LxcCall(name=name, lxcpath=lxcpath)
    elif program_of(argv) in _PROGRAMS:
        call = _typed(argv)
    else:
        return None
    is_named = 0 < len(call.name) <= NAME_MAX and "/" not in call.name and call.name.isprintable()
    return call if is_named and max(len(call.lxcpath), len(call.rcfile)) <= PATH_MAX else None


def _typed(argv: tuple[str, ...]) -> LxcCall:
    options: dict[str, str] = {}
    defined: list[Setting] = []
    words: list[str] = []
    for flag, word in words_of(argv, _LXC):
        if not flag:
            words.append(word)
        elif flag in {"define", "s"}:
            defined += settings(jsonable(word))
        else:
            options[flag] = word
            if flag.startswith("share-"):
                key = "lxc.namespace.share." + flag.removeprefix("share-")
                defined.append(Setting(key, jsonable(word)))
    for flag, key in (("u", "uid"), ("g", "gid")):
        if value := options.get(key) or options.get(flag):
            defined.append(Setting(f"lxc.init.{key}", jsonable(value)))
    name = options.get("name") or options.get("n") or ""
    if not name and words:
        name, *words = words
    return LxcCall(
        name=name,
        lxcpath=options.get("lxcpath") or options.get("P") or "",
        rcfile=options.get("rcfile") or options.get("f") or "",
        program=program_of(argv),
        defined=tuple(defined),
        command=tuple(map(jsonable, words)),
        is_whole=True,
    )


# --- the configuration ----------------------------------------------------------------


def settings(text: str) -> Iterator[Setting]:
    """
    The settings of a configuration, in order; other lines and comments are skipped.

    >>> list(settings("# LXC\\nlxc.uts.name = 'web'\\n"))
    [Setting(key='lxc.uts.name', value='web')]
    """
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line.strip())) is None:
            continue
        value = match[2]
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        yield Setting(match[1], value)


def config(found: Iterable[Setting], call: LxcCall) -> oci.Config:
    """
    Return in the OCI spec's words what the settings, and what was typed, say.

    A namespace is the container's own unless it is kept, not cloned, or another's.
    """
    values = _accumulated([*found, *call.defined])
    args = call.command or _split(_last(values, "lxc.init.cmd") or _DEFAULT_INIT)
    if call.program == "lxc-execute":
        args = call.command or _split(_last(values, "lxc.execute.cmd"))
    dropped, mapped = _capabilities(values), bool(values.get("lxc.idmap"))
    mounts = [mount for line in values.get("lxc.mount.entry", ()) if (mount := _mount(line))]
    return oci.Config(
        process=oci.Process(
            args=list(args),
            cwd=_last(values, "lxc.init.cwd") or "/",
            user=oci.User(
                uid=_number(_last(values, "lxc.init.uid")),
                gid=_number(_last(values, "lxc.init.gid")),
            ),
            capabilities=oci.Capabilities(bounding=dropped),
            apparmor_profile=_last(values, "lxc.apparmor.profile"),
            selinux_label=_last(values, "lxc.selinux.context"),
            no_new_privileges=_last(values, "lxc.no_new_privs") == "1",
        ),
        root=oci.Root(readonly="ro" in _last(values, "lxc.rootfs.options").split(",")),
        mounts=mounts,
        linux=oci.Linux(
            namespaces=list(_namespaces(values)),
            devices=inside(mounts, "/dev/"),
            resources=_resources(values, mapped=mapped),
            seccomp=oci.Seccomp(default_action="filter")
            if _last(values, "lxc.seccomp.profile")
            else None,
            # "proc:rw sys:rw" leave all of them writable; any other word does not.
            masked_paths=[
                word
                for line in values.get("lxc.mount.auto", ())
                for word in line.split()
                if word.startswith(("proc", "sys")) and not word.endswith(":rw")
            ],
        ),
    )


_Values = Mapping[str, list[str]]


def _accumulated(found: Iterable[Setting]) -> _Values:
    """The values of each key, in order; an empty one takes back those before it."""
    values: dict[str, list[str]] = {}
    for key, value in found:
        if value:
            values.setdefault(key, []).append(value)
        else:
            values.pop(key, None)
    return values


def _last(values: _Values, key: str) -> str:
    return values.get(key, [""])[-1]


def _split(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError:  # quotes without an end
        return tuple(command.split())


def _number(text: str) -> int:
    return int(text) if _UID.fullmatch(text) else 0


def _capabilities(values: _Values) -> list[str]:
    """The bounding set. "none" in the kept ones takes back those before it."""
    if keep := [word for line in values.get("lxc.cap.keep", ()) for word in line.split()]:
        while "none" in keep:
            del keep[: keep.index("none") + 1]
        return named(keep)
    drop = [word for line in values.get("lxc.cap.drop", ()) for word in line.split()]
    return sorted(ALL - set(named(drop)))


def _namespaces(values: _Values) -> Iterator[oci.Namespace]:
    cloned = _last(values, "lxc.namespace.clone").split()
    kept = _last(values, "lxc.namespace.keep").split()
    # "none" is the host's network, unless there is another device (lxc_requests_empty_network).
    types = [value for key in values if _NET_TYPE.fullmatch(key) for value in values[key][-1:]]
    on_hosts_network = bool(types) and set(types) == {"none"}
    for name, kind in _NAMESPACES.items():
        if _last(values, f"lxc.namespace.share.{name}"):
            yield oci.Namespace(type=kind, path=_ANOTHERS)
        elif (
            name in kept or (cloned and name not in cloned) or (name == "net" and on_hosts_network)
        ):
            continue
        else:
            yield oci.Namespace(type=kind)


_NET_TYPE: Final = re.compile(r"lxc\.net\.[0-9]{1,9}\.type")


def _mount(line: str) -> oci.Mount | None:
    """A line of fstab(5); the destination is relative to the root file system."""
    fields = line.split()
    if len(fields) < 4:
        return None
    source, destination, kind, options = fields[:4]
    if not {"bind", "rbind"} & set(options.split(",")):
        return None
    return bind(source, destination, read_only="ro" in options.split(","), kind=kind)


def _resources(values: _Values, *, mapped: bool) -> oci.Resources:
    """Of cgroup v1 and v2: the host's own has its words, the other's are of no effect."""

    def limit(v2: str, v1: str) -> str:
        return _last(values, f"lxc.cgroup2.{v2}") or _last(values, f"lxc.cgroup.{v1}")

    quota, _, period = _last(values, "lxc.cgroup2.cpu.max").partition(" ")
    denied = any(values.get(f"{prefix}.devices.deny") for prefix in ("lxc.cgroup", "lxc.cgroup2"))
    return oci.Resources(
        devices=[oci.DeviceRule(allow=not (denied or mapped), type="a")],
        memory=oci.Memory(limit=size(limit("memory.max", "memory.limit_in_bytes"))),
        cpu=oci.Cpu(
            quota=size(quota or _last(values, "lxc.cgroup.cpu.cfs_quota_us")),
            period=size(period or _last(values, "lxc.cgroup.cpu.cfs_period_us")),
        ),
        pids=oci.Pids(limit=size(limit("pids.max", "pids.max"))),
    )
