"""
Command lines of the programs that make containers: OCI runtimes, shims, monitors.

Pure: words in, values out. A command line is written by whoever started the process;
nothing in it raises, and what does not fit is None.

The flags below come from the programs' own `--help`: runc 1.1.5, crun 1.8.1, conmon
2.1.6, containerd-shim-runc-v2 of containerd 1.6.20, and from youki's and runsc's
documents. runc and the shims are Go (``-flag``, ``--flag``, ``--flag=value``; runc
also takes flags after the id), crun, conmon and youki add ``-bVALUE`` and ``-dbVALUE``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

__all__ = (
    "COMMANDS",
    "ConmonCall",
    "Grammar",
    "OciCall",
    "ShimCall",
    "conmon_call",
    "flags_of",
    "grammar",
    "is_container_id",
    "is_stage",
    "oci_call",
    "program_of",
    "shim_call",
    "words_of",
)

COMMANDS: Final = ("create", "run", "restore")  # those that make a container
PATH_MAX: Final = 4096  # linux/limits.h: a longer path can't be opened
NAME_MAX: Final = 255  # linux/limits.h: an id is the name of a directory

RUNTIMES: Final = {
    # What the program is called (also runc-1.2, runc.amd64): what it is.
    "runc": "runc",
    "docker-runc": "runc",
    "buildkit-runc": "runc",
    "nvidia-container-runtime": "runc",  # edits the bundle, then executes runc
    "crun": "crun",
    "krun": "crun",
    "youki": "youki",
    "runsc": "runsc",
    "sysbox-runc": "sysbox-runc",
    "kata-runtime": "kata",
}


class Grammar(NamedTuple):
    values: frozenset[str]  # flags that take a value
    switches: frozenset[str]  # flags that take none


def grammar(values: str, switches: str) -> Grammar:
    return Grammar(frozenset(values.split()), frozenset(switches.split()))


_OCI: Final = grammar(
    values="""
        root r log l log-format log-level criu rootless cgroup-manager
        bundle b config f console-socket pid-file p preserve-fds image-path work-path
        manage-cgroups-mode empty-ns lsm-profile lsm-mount-context user-log
    """,
    switches="""
        debug systemd-cgroup s systemd-log detach d keep no-pivot no-new-keyring no-subreaper
        tcp-established ext-unix-sk shell-job file-locks auto-dedup lazy-pages
    """,
)
_SHIM: Final = grammar(
    values="namespace id address bundle publish-binary socket workdir containerd-binary runtime-root",
    switches="debug info v systemd-cgroup",
)
_CONMON: Final = grammar(
    values="""
        api-version bundle b cid c conmon-pidfile P container-pidfile p cuuid u
        exec-process-spec exit-command exit-command-arg exit-delay exit-dir log-level log-path l
        log-size-max log-global-size-max log-max-files log-allowlist-dir log-label
        log-tag name n persist-dir 0 restore runtime r runtime-arg runtime-opt sdnotify-socket
        socket-dir-path timeout T seccomp-notify-socket seccomp-notify-plugins
    """,
    switches="""
        exec e exec-attach leave-stdin-open no-new-keyring no-pivot no-sync-log log-rotate
        replace-listen-pid stdin i sync syslog systemd-cgroup s terminal t full-attach version
    """,
)


class OciCall(msgspec.Struct, frozen=True, kw_only=True):
    """
    An OCI runtime that makes a container.

    `bundle` is as it was written, so it may be relative to the process's working
    directory; "" is not given: then it is that directory. `container_id` is "" only
    where the command line was cut before it.
    """

    oci_runtime: str  # of `RUNTIMES`, else the program's own name
    command: str  # of `COMMANDS`
    container_id: str
    bundle: str = ""
    root: str = ""
    systemd_cgroup: bool = False


class ShimCall(msgspec.Struct, frozen=True, kw_only=True):
    """
    A shim of containerd.

    `task_id` is the task it was started for. Under the CRI that is the sandbox, and
    the pod's containers have the same shim.
    """

    task_id: str
    namespace: str  # containerd's: moby, k8s.io, default
    address: str = ""  # the socket of the containerd that owns it
    bundle: str = ""  # "": the working directory


class ConmonCall(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor of Podman or CRI-O (whose names begin with k8s_) for one container."""

    container_id: str
    name: str = ""
    oci_runtime: str = ""  # path of the program
    bundle: str = ""
    systemd_cgroup: bool = False


def oci_call(argv: Sequence[str], *, cut: bool = False) -> OciCall | None:
    """
    Return the call that makes a container, or None for any other command line.

    *cut* says that *argv* is only a beginning: its last word may be half of one and is
    not believed. A program that `RUNTIMES` does not know is one when it makes a
    container as they all do: ``… create --bundle DIR … ID``.

    >>> call = oci_call("runc --root /run/r --log /l create --bundle /b --pid-file /p web".split())
    >>> call.command, call.container_id, call.bundle
    ('create', 'web', '/b')
    >>> oci_call(["runc", "--root", "/run/r", "state", "web"]) is None
    True
    """
    split = _split(argv[:-1] if cut else argv)
    if split is None:
        return None
    command, words, options = split
    bundle = options.get("bundle") or options.get("b") or ""
    program = program_of(argv)
    oci_runtime = RUNTIMES.get(_VERSION.sub("", program), "")
    if not oci_runtime and bundle and command == "create" and program.isprintable():
        oci_runtime = program[:NAME_MAX]
    # The id is the only word; after a flag that we do not know it is at least the last.
    container_id = words[-1] if words else ""
    has_id = is_container_id(container_id, oci_runtime) or (cut and not container_id)
    if not (oci_runtime and has_id) or len(bundle) > PATH_MAX:
        return None
    return OciCall(
        oci_runtime=oci_runtime,
        command=command,
        container_id=container_id,
        bundle=bundle,
        root=options.get("root") or options.get("r") or "",
        systemd_cgroup=_is_on(options, "systemd-cgroup", "s")
        or options.get("cgroup-manager") == "systemd",
    )


def _split(argv: Sequence[str]) -> tuple[str, list[str], dict[str, str]] | None:
    """Return an OCI runtime's command, the words after it and all flags."""
    command = ""
    words: list[str] = []
    options: dict[str, str] = {}
    in_doubt = False  # after a flag that we do not know: the next word may be its value
    for flag, word in words_of(argv, _OCI):
        if flag:
            options[flag] = word
            in_doubt = not (word or flag in _OCI.switches or flag in _OCI.values)
        elif command:
            words.append(word)
        elif word in COMMANDS:
            command = word
        elif in_doubt:
            in_doubt = False
        else:
            return None
    return (command, words, options) if command else None


def shim_call(argv: Sequence[str]) -> ShimCall | None:
    """
    Return what a containerd shim was started for, or None for any other command line.

    >>> line = "/usr/bin/containerd-shim-runc-v2 -namespace moby -id 0a1b -address /run/c.sock"
    >>> shim_call(line.split()).namespace
    'moby'
    """
    if not program_of(argv).removeprefix("docker-").startswith("containerd-shim"):
        return None
    options = {flag: word for flag, word in words_of(argv, _SHIM) if flag}
    # The shim of containerd's v1 runtime has no -id: its -workdir ends in <namespace>/<id>.
    task_id = options.get("id") or options.get("workdir", "").rstrip("/").rpartition("/")[2]
    namespace = options.get("namespace", "")
    bundle, address = options.get("bundle", ""), options.get("address", "")
    is_named = is_container_id(namespace) and is_container_id(task_id)
    if not is_named or max(len(bundle), len(address)) > PATH_MAX:
        return None
    return ShimCall(task_id=task_id, namespace=namespace, address=address, bundle=bundle)


def conmon_call(argv: Sequence[str]) -> ConmonCall | None:
    """Return what a conmon monitors; None for an exec session and any other command line."""
    if program_of(argv) != "conmon":
        return None
    options = {flag: word for flag, word in words_of(argv, _CONMON) if flag}
    container_id = options.get("cid") or options.get("c") or ""
    bundle = options.get("bundle") or options.get("b") or ""
    is_session = "exec" in options or "e" in options
    if is_session or len(bundle) > PATH_MAX or not is_container_id(container_id):
        return None
    return ConmonCall(
        container_id=container_id,
        name=options.get("name") or options.get("n") or "",
        oci_runtime=options.get("runtime") or options.get("r") or "",
        bundle=bundle,
        systemd_cgroup=_is_on(options, "systemd-cgroup", "s"),
    )


def is_container_id(text: str, oci_runtime: str = "runc") -> bool:
    r"""
    Tell whether *oci_runtime* takes *text* as a container's id.

    runc's rule is ``^[\w+-\.]+$`` (libcontainer/factory_linux.go; read as Go reads it,
    "+-." is a range, and a comma is in it), and containerd's and the engines' are
    stricter. crun refuses only what is no file name: we ask besides that it is visible.
    """
    if text in {"", ".", ".."} or len(text) > NAME_MAX:
        return False
    if oci_runtime == "crun":
        return "/" not in text and text.isprintable()
    return _ID.fullmatch(text) is not None


def is_stage(comm: str) -> bool:
    """
    Tell whether an OCI runtime's own process may be called so, on its way into a container.

    runc executes a copy of itself (/proc/self/exe, /dev/fd/6) and names its stages
    ``runc:[1:CHILD]`` (libcontainer/nsenter/nsexec.c); crun forks. The kernel keeps 15 bytes.
    """
    return _STAGE.match(comm) is not None


_STAGE: Final = re.compile(
    "|".join([*(re.escape(name[:15]) for name in RUNTIMES), "exe$", r"\d+$"])
)
_ID: Final = re.compile(r"[A-Za-z0-9_+,.-]+")
_VERSION: Final = re.compile(
    r"[-.](?:v?[0-9][\w.]*|amd64|arm64|cdi|legacy|experimental|wasm|real)\Z"
)


_OFF: Final = frozenset(("false", "False", "FALSE", "f", "F", "0"))  # strconv.ParseBool


def program_of(argv: Sequence[str]) -> str:
    return argv[0].rpartition("/")[2] if argv else ""


def _is_on(options: dict[str, str], *names: str) -> bool:
    """Tell whether a switch is on: Go takes ``--switch=false``."""
    return any(options.get(name, "false") not in _OFF for name in names)


def words_of(argv: Sequence[str], grammar: Grammar) -> Iterator[tuple[str, str]]:
    """Return (flag, its value or "") and ("", word) for all but the program's name."""
    at = 1
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            yield from (("", rest) for rest in argv[at:])
            return
        if len(word) < 2 or word[0] != "-":
            yield "", word
            continue
        following = argv[at] if at < len(argv) else ""
        found, took_following = flags_of(word, following, grammar)
        yield from found
        at += took_following


def flags_of(word: str, following: str, grammar: Grammar) -> tuple[list[tuple[str, str]], bool]:
    """Return the flags that *word* holds, and whether it took the *following* word."""
    flag, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
    if has_value and (flag in grammar.values or flag in grammar.switches):
        return [(flag, value)], False
    if flag in grammar.values:
        return [(flag, following)], True
    if flag in grammar.switches or word.startswith("--"):
        return [(flag, value)], False
    switches: list[tuple[str, str]] = []
    for at, letter in enumerate(word[1:], start=2):
        if letter in grammar.values:
            return [*switches, (letter, word[at:] or following)], at == len(word)
        if letter not in grammar.switches:
            return [(flag, value)], False
        switches.append((letter, ""))
    return switches, False
