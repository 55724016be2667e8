"""
An OCI bundle's config.json to what the container may do and will run.

Pure: bytes in, values out, or SpecError. Decoded are the parts we read and nothing
else (OCI runtime spec 1.0 to 1.3): the environment's values never become text in
this process. Whoever starts the container writes the file, so all that leaves here
is bounded, and `Spec.cut` names what a bound shortened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from ctrwatch.core import oci
from ctrwatch.model import Facts, Limits, Missing, Mount, Process, Security

__all__ = ("Spec", "SpecError", "describe", "read_spec")

TEXT_MAX: Final = 4096  # PATH_MAX of linux/limits.h: no path is longer
ARGS_MAX: Final = 4096  # characters in all arguments: what the kernel copies of the creator's
MOUNTS_MAX: Final = 256  # pods with many secrets have some 50
MOUNTS_TEXT_MAX: Final = 64 << 10  # characters in all their paths
DEVICES_MAX: Final = 256  # a privileged container has all of the host's: some 100
CAPABILITIES_MAX: Final = 64  # bits in the kernel's capability sets
SYSCTLS_MAX: Final = 64  # a container's namespaces have some 200, of which a pod sets a few
ELLIPSIS: Final = "…"

# "Privileged" is the engine's word and not the spec's; these three together are what it
# does. The number of capabilities is no sign: Docker 20.10 knows 38 of 41, and engines
# that lack one themselves leave it out.
_PRIVILEGES: Final = frozenset(
    {"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_MAC_ADMIN", "CAP_NET_ADMIN"}
)
_PODMAN_PRIVILEGED: Final = "io.podman.annotations.privileged"

# CRI-O pins every namespace under /run, the host's too, but a sandbox says what it asked for.
_MANAGER: Final = "io.container.manager"
_CRIO_NAMESPACES: Final = "io.kubernetes.cri-o.NamespaceOptions"
_NODE: Final = 2  # NamespaceMode of cri-api: the host's
_HOSTS_PATH: Final = re.compile(
    r"/proc/1/ns/\w+"
    r"|(?!(?:/var)?/run/netns/)/.+/netns/default"  # Docker's --network host: <exec root>/netns/default
)
_OWN_PATH: Final = re.compile(r"(?:/var)?/run/netns/(?:cni|netns)-[\w-]+")  # containerd's, Podman's

_PROPAGATIONS: Final = frozenset(  # mount(8)
    {
        *("private", "rprivate", "shared", "rshared"),
        *("slave", "rslave", "unbindable", "runbindable"),
    }
)

_DEFAULT_PERIOD_US: Final = (
    100_000  # cpu.max, cpu.cfs_period_us: Documentation/admin-guide/cgroup-v2.rst
)
_UNLIMITED: Final = 1 << 62  # cgroup v1 writes "no limit" as the highest number of whole pages
_NUMBER: Final = re.compile(r"[0-9]{1,19}")


class SpecError(ValueError):
    """The file is no config.json that an OCI runtime would take."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says; `facts` has its `security`, `limits` and `process`."""

    annotations: Mapping[str, str]
    cgroups_path: str  # systemd's is slice:prefix:name
    hostname: str
    facts: Facts
    cut: tuple[str, ...] = ()  # fields of the event that are shorter here than in the file


class _Modes(msgspec.Struct, frozen=True):
    network: int = 0
    pid: int = 0
    ipc: int = 0


_DECODER: Final = msgspec.json.Decoder(oci.Config)
_MODES: Final = msgspec.json.Decoder(_Modes)


def read_spec(raw: bytes) -> Spec:
    """
    Return what the config.json *raw* says.

    Raises SpecError for what is no JSON, no object, or of another type than the runtime
    spec has in a place that we read.

    >>> read_spec(b'{"ociVersion": "1.2.0", "hostname": "web"}').hostname
    'web'
    """
    try:
        config = _DECODER.decode(raw)
    except RecursionError:
        raise SpecError("nested too deeply") from None
    except ValueError as error:  # msgspec's own, and bytes that are no UTF-8
        raise SpecError(str(error)) from None
    return describe(config)


def describe(config: oci.Config) -> Spec:
    """Return what a configuration says, in the bounds above; LXC's and nspawn's come so too."""
    process, linux = config.process or oci.Process(), config.linux or oci.Linux()
    annotations = config.annotations or {}
    args, args_cut = _bounded_args(process.args or ())
    mounts, mounts_cut = _mounts(config.mounts or ())
    devices, sysctls = linux.devices or [], linux.sysctl or {}
    cut = {
        "process.args": args_cut,
        "security.mounts": mounts_cut,
        "security.devices": len(devices) > DEVICES_MAX,
        "security.sysctls": len(sysctls) > SYSCTLS_MAX,
    }
    user = process.user or oci.User()
    number = f"{user.uid}:{user.gid}"
    capabilities = sorted(set((process.capabilities or oci.Capabilities()).bounding or ()))
    network, pid, ipc, uts = _host_namespaces(config.linux, annotations)
    security = Security(
        privileged=_is_privileged(capabilities, linux)
        or annotations.get(_PODMAN_PRIVILEGED) == "TRUE",
        user=number,
        host_network=network,
        host_pid=pid,
        host_ipc=ipc,
        host_uts=uts,
        capabilities=tuple(_text(name) for name in capabilities[:CAPABILITIES_MAX]),
        mounts=mounts,
        devices=tuple(_text(device.path) for device in devices[:DEVICES_MAX]),
        block_devices=_uses_block_devices(linux),
        seccomp="filtered" if _filters(linux.seccomp) else "unconfined",
        apparmor=_text(process.apparmor_profile),
        selinux=_text(process.selinux_label),
        read_only=bool(config.root and config.root.readonly),
        no_new_privileges=bool(process.no_new_privileges),
        proc_mount=_proc_mount(config.linux),
        sysctls={_text(name): _text(sysctls[name]) for name in sorted(sysctls)[:SYSCTLS_MAX]},
    )
    entry = Process(args=args, cwd=_text(process.cwd), user=_text(user.username) or number)
    fields = tuple(field for field, is_cut in cut.items() if is_cut)
    return Spec(
        annotations=annotations,
        cgroups_path=_text(linux.cgroups_path),
        hostname=_text(config.hostname),
        facts=Facts(
            security=security,
            limits=_limits(linux.resources),
            process=entry,
            absent=dict.fromkeys(fields, Missing.CUT),
        ),
        cut=fields,
    )


def _is_privileged(capabilities: Iterable[str], linux: oci.Linux) -> bool:
    """Tell whether it may do all, see all of /proc and /sys, and use all devices."""
    rules = (linux.resources or oci.Resources()).devices or []
    return set(capabilities) >= _PRIVILEGES and not linux.masked_paths and _allow_all(rules)


def _allow_all(rules: list[oci.DeviceRule]) -> bool:
    """The last rule for a device counts; one for all devices names none."""
    rule = next((rule for rule in reversed(rules) if rule.type in {None, "", "a"}), None)
    if rule is None or not rule.allow or set(rule.access or "rwm") != set("rwm"):
        return False
    return _names_none(rule)


def _names_none(rule: oci.DeviceRule) -> bool:
    return all(number is None or number < 0 for number in (rule.major, rule.minor))


def _uses_block_devices(linux: oci.Linux) -> bool:
    """A rule that lets it make their nodes alone ("m", which engines give) is no use."""
    allowed = False
    for rule in (linux.resources or oci.Resources()).devices or []:
        if rule.type in {None, "", "a", "b"} and set(rule.access or "rwm") & set("rw"):
            allowed = rule.allow or (allowed and not _names_none(rule))
    return allowed or any(device.type == "b" for device in linux.devices or [])


def _proc_mount(linux: oci.Linux | None) -> str:
    """Kubernetes' word for it; LXC's own is "proc:mixed" and the like."""
    if linux is None:
        return ""
    return "default" if any("proc" in path for path in linux.masked_paths or ()) else "unmasked"


def _host_namespaces(
    linux: oci.Linux | None, annotations: Mapping[str, str]
) -> tuple[bool | None, bool | None, bool | None, bool | None]:
    """
    Return whether network, pid, ipc and uts namespace are the host's; None: it can't be told.

    A type that is not listed stays the OCI runtime's own, which is the host's; one
    without a path is made anew. A path leads to a namespace that is there: those of
    the host that have a known path are told, and /proc/PID/ns/… of another process
    may be either (a container of a pod joins its sandbox, which may be on the host's).
    """
    if linux is None:
        return None, None, None, None
    paths = {namespace.type: namespace.path or "" for namespace in linux.namespaces or ()}
    modes = None
    if annotations.get(_MANAGER) == "cri-o":
        with suppress(ValueError):
            modes = _MODES.decode(annotations.get(_CRIO_NAMESPACES, ""))

    def is_hosts(kind: str) -> bool | None:
        known = _is_hosts(paths.get(kind))
        return getattr(modes, kind) == _NODE if known is None and modes else known

    return is_hosts("network"), is_hosts("pid"), is_hosts("ipc"), _is_hosts(paths.get("uts"))


def _is_hosts(path: str | None) -> bool | None:
    if path is None or _HOSTS_PATH.fullmatch(path):
        return True
    if path == "" or _OWN_PATH.fullmatch(path):
        return False
    return None


def _filters(seccomp: oci.Seccomp | None) -> bool:
    return seccomp is not None and (
        seccomp.default_action != "SCMP_ACT_ALLOW" or bool(seccomp.syscalls)
    )


def _mounts(mounts: Iterable[oci.Mount]) -> tuple[tuple[Mount, ...], bool]:
    """Return what is mounted from the host (binds, of all names for one), and if some are cut."""
    found: list[Mount] = []
    size = 0
    for mount in mounts:
        options = mount.options or ()
        if mount.type != "bind" and "bind" not in options and "rbind" not in options:
            continue
        source, destination = _text(mount.source), _text(mount.destination)
        size += len(source) + len(destination)
        if len(found) == MOUNTS_MAX or size > MOUNTS_TEXT_MAX:
            return tuple(found), True
        found.append(
            Mount(
                source=source,
                destination=destination,
                type="bind",
                read_only="ro" in options or "rro" in options,
                propagation=next((word for word in options if word in _PROPAGATIONS), ""),
            )
        )
    return tuple(found), False


def _limits(resources: oci.Resources | None) -> Limits:
    """Return the limits; what `unified` says, cgroup v2's own words, is used where no other is."""
    if resources is None:
        return Limits()
    unified = resources.unified or {}
    memory = resources.memory.limit if resources.memory else None
    pids = resources.pids.limit if resources.pids else None
    cpu = resources.cpu or oci.Cpu()
    quota, period = cpu.quota, cpu.period
    if quota is None:
        first, _, second = unified.get("cpu.max", "").partition(" ")
        quota, period = _number(first), _number(second)
    return Limits(
        memory_bytes=_limit(_number(unified.get("memory.max", "")) if memory is None else memory),
        cpu_cores=_cores(quota, period),
        pids=_limit(_number(unified.get("pids.max", "")) if pids is None else pids),
        cpu_shares=_limit(cpu.shares),
    )


def _limit(value: int | None) -> int | None:
    """Docker and the kernel write "no limit" as 0, -1, or more than there can be."""
    return value if value is not None and 0 < value < _UNLIMITED else None


def _cores(quota: int | None, period: int | None) -> float | None:
    quota, period = _limit(quota), _limit(period) or _DEFAULT_PERIOD_US
    return round(quota / period, 3) if quota else None


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _bounded_args(args: Iterable[str]) -> tuple[tuple[str, ...], bool]:
    """Return the arguments up to `ARGS_MAX` characters, an ellipsis last where some are cut."""
    left = ARGS_MAX
    bounded: list[str] = []
    for arg in args:
        if len(arg) + 1 > left:
            return (*bounded, arg[: max(left - 1, 0)] + ELLIPSIS), True
        left -= len(arg) + 1  # and the NUL after it
        bounded.append(arg)
    return tuple(bounded), False


def _text(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + ELLIPSIS
