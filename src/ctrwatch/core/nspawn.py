"""
systemd-nspawn's command line and settings: what a machine is called, and what it may do.

Pure: words and text in, values out; nothing in them raises. Options are those of
systemd 252's `--help`, settings those of systemd.nspawn(5). An option or setting that is
not known is skipped. What both say is said in the words of an OCI spec, so that
core/spec.py has its bounds and judgements for all kinds of containers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from ctrwatch.core import oci
from ctrwatch.core.capabilities import ALL, named
from ctrwatch.core.cmdline import PATH_MAX, flags_of, grammar, program_of
from ctrwatch.core.machines import bind, inside, size
from ctrwatch.core.text import jsonable

__all__ = ("NspawnCall", "Wishes", "config", "nspawn_call", "user", "wishes")

_SHORT: Final = {
    "D": "directory", "x": "ephemeral", "i": "image", "a": "as-pid2", "b": "boot", "E": "setenv",
    "u": "user", "M": "machine", "S": "slice", "n": "network-veth", "p": "port",
    "Z": "selinux-context", "L": "selinux-apifs-context", "P": "pipe", "U": "private-users",
    "j": "link-journal", "q": "quiet", "h": "help",
}  # fmt: skip
_NSPAWN: Final = grammar(
    values="""
        settings directory D template image i oci-bundle root-hash root-hash-sig verity-data
        pivot-root chdir setenv E user u kill-signal notify-ready suppress-sync machine M
        hostname uuid slice S property register private-users-ownership network-interface
        network-macvlan network-ipvlan network-veth-extra network-bridge network-zone
        network-namespace-path port p capability drop-capability ambient-capability
        no-new-privileges system-call-filter selinux-context Z selinux-apifs-context L rlimit
        oom-score-adjust cpu-affinity personality resolv-conf timezone link-journal bind bind-ro
        inaccessible tmpfs overlay overlay-ro bind-user console set-credential load-credential
    """,
    switches="""
        help h version quiet q no-pager ephemeral x read-only volatile as-pid2 a boot b keep-unit
        private-users U private-network network-veth n j pipe P share-system
    """,
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # hostname_is_valid, hostname-util.c
_IMAGES: Final = "/var/lib/machines"

# systemd-nspawn(1), --capability=: granted in any way.
_GRANTED: Final = """
    AUDIT_CONTROL AUDIT_WRITE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_OWNER KILL
    LEASE LINUX_IMMUTABLE MKNOD NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP
    SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_NICE SYS_PTRACE SYS_RESOURCE SYS_TTY_CONFIG
"""
# Each of these gives the machine a network namespace of its own.
_NETWORKS: Final = frozenset(
    {
        "private-network",
        "network-veth",
        "network-interface",
        "network-macvlan",
        "network-ipvlan",
        "network-veth-extra",
        "network-bridge",
        "network-zone",
    }
)


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What one place, the command line or a settings file, asks for. None: nothing."""

    boot: bool | None = None
    command: tuple[str, ...] = ()
    user: str | None = None
    cwd: str | None = None
    capabilities: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    no_new_privileges: bool | None = None
    read_only: bool | None = None
    private_network: bool | None = None
    network_of: str = ""  # path of a namespace that is joined
    mounts: tuple[oci.Mount, ...] = ()
    selinux: str = ""
    properties: tuple[tuple[str, str], ...] = ()  # of the scope's unit

    def harmless(self) -> Wishes:
        """What counts of a file that lies beside the machine's own root: nothing privileged."""
        return Wishes(boot=self.boot, command=self.command, user=self.user, cwd=self.cwd)

    def over(self, other: Wishes) -> Wishes:
        """These where they say something, else the *other*'s; lists are joined."""

        def one(mine: object, others: object) -> object:
            if isinstance(mine, tuple) and isinstance(others, tuple):
                return (*mine, *others)
            return mine if mine not in (None, "") else others

        both = {name: one(getattr(self, name), getattr(other, name)) for name in _ALL}
        both["command"] = self.command or other.command
        return Wishes(**both)  # type: ignore[arg-type]


_ALL: Final = Wishes.__struct_fields__


class NspawnCall(msgspec.Struct, frozen=True, kw_only=True):
    """
    A systemd-nspawn that makes a machine.

    `name` is "" where the command line alone does not say it: an ephemeral machine has a
    random one, and one on the host's own root file system the host's.
    `directory` and `image` are as they were written. `settings` is the option: "no",
    "override" or "trusted" say which settings file is read and which wins.
    """

    name: str
    directory: str = ""
    image: str = ""
    settings: str = ""
    wishes: Wishes = Wishes()


def nspawn_call(argv: Sequence[str]) -> NspawnCall | None:
    """
    Return the call that makes a machine, or None for any other command line.

    >>> nspawn_call("systemd-nspawn -D /srv/db1 --private-network /bin/sh".split()).name
    'db1'
    >>> nspawn_call(["systemd-nspawn", "-bM", "db1"]).wishes.boot
    True
    """
    if program_of(argv) != "systemd-nspawn":
        return None
    options, words = _options(argv)

    def last(name: str) -> str:
        return options.get(name, [""])[-1]

    directory, image = last("directory"), last("image")
    name = last("machine")
    if not name and "ephemeral" not in options:
        name = _last_name(image.removesuffix(".raw") or directory)
    if (name and _NAME.fullmatch(name) is None) or max(len(directory), len(image)) > PATH_MAX:
        return None
    return NspawnCall(
        name=name,
        directory=directory or (f"{_IMAGES}/{name}" if name and not image else ""),
        image=image,
        settings=last("settings"),
        wishes=Wishes(
            boot="boot" in options or None,
            command=tuple(map(jsonable, words)),
            user=jsonable(last("user")) or None,
            cwd=jsonable(last("chdir")) or None,
            capabilities=_listed(options.get("capability", ())),
            dropped=_listed(options.get("drop-capability", ())),
            no_new_privileges=_boolean(last("no-new-privileges")),
            read_only="read-only" in options or None,
            private_network=not _NETWORKS.isdisjoint(options) or None,
            network_of=jsonable(last("network-namespace-path")),
            mounts=(
                *_binds(options.get("bind", ()), read_only=False),
                *_binds(options.get("bind-ro", ()), read_only=True),
            ),
            selinux=jsonable(last("selinux-context")),
            properties=tuple(
                (key, value)
                for key, _, value in (word.partition("=") for word in options.get("property", ()))
            ),
        ),
    )


def _options(argv: Sequence[str]) -> tuple[dict[str, list[str]], Sequence[str]]:
    """All options by their long names, and the words after the last: the first ends them."""
    options: dict[str, list[str]] = {}
    at = 1
    while at < len(argv):
        word = argv[at]
        if word == "--":
            return options, argv[at + 1 :]
        if len(word) < 2 or word[0] != "-":
            break
        following = argv[at + 1] if at + 1 < len(argv) else ""
        found, took_following = flags_of(word, following, _NSPAWN)
        for flag, value in found:
            options.setdefault(_SHORT.get(flag, flag), []).append(value)
        at += 1 + took_following
    return options, argv[at:]


def _last_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


# --- the settings file ----------------------------------------------------------------

_SECTION: Final = re.compile(r"\[(\w+)\]")
_SETTING: Final = re.compile(r"(\w+)\s*=\s*(.*)")


def wishes(text: str) -> Wishes:
    """
    Return what a settings file asks for; see systemd.nspawn(5).

    >>> wishes("[Exec]\\nBoot=yes\\n[Network]\\nPrivate=no\\n").boot
    True
    """
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if (match := _SECTION.fullmatch(line.strip())) is not None:
            section = match[1]
        elif (match := _SETTING.fullmatch(line.strip())) is not None:
            found.setdefault(f"{section}.{match[1]}", []).append(match[2])

    def last(name: str) -> str:
        return found.get(name, [""])[-1]

    networks = ("VirtualEthernet", "VirtualEthernetExtra", "Interface", "MACVLAN", "IPVLAN",
                "Bridge", "Zone")  # fmt: skip
    own = [last(f"Network.{name}") for name in networks]
    private = _boolean(last("Network.Private"))
    if any(word and _boolean(word) is not False for word in own):
        private = True
    return Wishes(
        boot=_boolean(last("Exec.Boot")),
        command=tuple(_split(last("Exec.Parameters"))),
        user=last("Exec.User") or None,
        cwd=last("Exec.WorkingDirectory") or None,
        capabilities=_listed(found.get("Exec.Capability", ())),
        dropped=_listed(found.get("Exec.DropCapability", ())),
        no_new_privileges=_boolean(last("Exec.NoNewPrivileges")),
        read_only=_boolean(last("Files.ReadOnly")),
        private_network=private,
        mounts=(
            *_binds(found.get("Files.Bind", ()), read_only=False),
            *_binds(found.get("Files.BindReadOnly", ()), read_only=True),
        ),
    )


_BOOLEANS: Final = {
    **dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True),
    **dict.fromkeys(("0", "no", "n", "false", "f", "off"), False),
}


def _boolean(word: str) -> bool | None:
    return _BOOLEANS.get(word.lower())


def _listed(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for line in lines for word in re.split(r"[,\s]+", line) if word)


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # quotes without an end
        return command.split()


def _binds(lines: Sequence[str], *, read_only: bool) -> Iterator[oci.Mount]:
    """SOURCE[:DESTINATION[:OPTIONS]]; a ":" in a name is written "\\:"."""
    for line in lines:
        parts = [part.replace("\\:", ":") for part in re.split(r"(?<!\\):", jsonable(line))]
        source = parts[0].lstrip("+-")  # of the image itself; missing is no error
        destination = parts[1] if len(parts) > 1 and parts[1] else source
        if destination:
            yield bind(source, destination, read_only=read_only)


# --- what it may do -------------------------------------------------------------------


def user(asked: Wishes) -> str:
    """The user of the first process as "uid:gid"; "" is a name that only the machine knows."""
    return "0:0" if asked.user in {None, "0", "root"} else ""


def config(asked: Wishes) -> oci.Config:
    """
    Return in the OCI spec's words what *asked* leads to.

    systemd-nspawn always has a filter of system calls, its own pid, ipc and uts namespaces,
    a closed list of devices, and hides parts of /proc (nspawn-mount.c, 252).
    """
    capabilities = {*named(_GRANTED.split()), *named(asked.capabilities)}
    if asked.private_network:
        capabilities |= {"CAP_NET_ADMIN"}
    if "all" in asked.capabilities:
        capabilities = set(ALL)
    dropped = ALL if "all" in asked.dropped else set(named(asked.dropped))
    namespaces = [oci.Namespace(type=kind) for kind in ("pid", "ipc", "uts")]
    if asked.network_of:
        namespaces.append(oci.Namespace(type="network", path=asked.network_of))
    elif asked.private_network:
        namespaces.append(oci.Namespace(type="network"))
    # "init" stands for the first of several places that has one.
    args = ("init", *asked.command) if asked.boot else asked.command
    return oci.Config(
        process=oci.Process(
            args=list(args),
            cwd=asked.cwd,
            user=oci.User(username=asked.user),
            capabilities=oci.Capabilities(bounding=sorted(capabilities - dropped)),
            selinux_label=asked.selinux,
            no_new_privileges=bool(asked.no_new_privileges),
        ),
        root=oci.Root(readonly=bool(asked.read_only)),
        mounts=list(asked.mounts),
        linux=oci.Linux(
            namespaces=namespaces,
            devices=inside(asked.mounts, "/dev/"),
            resources=_resources(dict(asked.properties)),
            seccomp=oci.Seccomp(default_action="filter"),
            masked_paths=["/proc/kcore"],
        ),
    )


def _resources(properties: dict[str, str]) -> oci.Resources:
    """Of the machine's scope; systemd.resource-control(5). Percents of memory are not known here."""
    percent = properties.get("CPUQuota", "").strip()
    cores = percent.removesuffix("%")
    is_percent = percent.endswith("%") and cores.isascii() and cores.isdigit()
    return oci.Resources(
        memory=oci.Memory(limit=size(properties.get("MemoryMax", ""))),
        cpu=oci.Cpu(quota=int(cores[:9]) * 1000, period=100_000) if is_percent else None,
        pids=oci.Pids(limit=size(properties.get("TasksMax", ""))),
    )
