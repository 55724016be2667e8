"""What people and programs type: command lines, configurations, images' names, our own options."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

from ctrwatch.commands.configured import settings
from ctrwatch.commands.watch_options import by_kind
from ctrwatch.config import Settings
from ctrwatch.core import configuration, lxc, nspawn, reference
from ctrwatch.core.cmdline import conmon_call, is_stage, oci_call, shim_call
from ctrwatch.core.keepers import kept, named_by
from ctrwatch.core.machines import machine
from ctrwatch.errors import InputError
from ctrwatch.evidence.nspawn import _facts, _merged
from ctrwatch.model import Runtime
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import Mutator
from tests.fuzz.telling import CID, tell

__all__ = (
    "config",
    "images_name",
    "keepers",
    "lxc_config",
    "nspawn_settings",
    "oci",
    "options",
)

_BUNDLE: Final = "/run/containerd/io.containerd.runtime.v2.task/demo/t1"
_OCI: Final = (
    f"runc --root /run/r --log /l/log.json --log-format json create --bundle {_BUNDLE} --pid-file /p t1",
    f"/usr/bin/runc --root /run/docker/runtime-runc/moby --systemd-cgroup create --bundle {_BUNDLE} {CID}",
    f"/usr/bin/crun --systemd-log -r /r --cgroup-manager=systemd create -b /b --pid-file /p {CID}",
    "crun run -db/b web",
    "youki create --bundle /b web",
    "runsc -root=/r -bundle=/b restore web",
    "kata create --unknown word --bundle /b web",
    "runc state web",
)
_KEEPERS: Final = (
    f"/usr/bin/containerd-shim-runc-v2 -namespace moby -id {CID} -address /run/c.sock",
    "docker-containerd-shim -namespace moby -workdir /var/lib/moby/0a1b -address /run/c.sock",
    f"/usr/bin/conmon --api-version 1 -c {CID} -u {CID} -r /usr/bin/crun -b /b -n web --exit-dir /e",
    f"conmon --cid={CID} --exec --runtime=/usr/bin/runc",
    "lxc-start -F -n web -P /srv/lxc -s lxc.init.cwd=/srv --share-net 42 -- sh",
    "lxc-execute --name=web -u 5 -- sh -c x",
    "systemd-nspawn -qbxD /srv/db1 -M web --capability=all --bind=/a:/b:ro --property=CPUQuota=20%",
    "systemd-nspawn -i /srv/db1.raw --private-network --user=me --settings=override /bin/sh",
)
_LXC: Final = """\
lxc.include = /usr/share/lxc/config/common.conf
lxc.uts.name = 'web'
lxc.init.cmd = /sbin/init "a b" c
lxc.init.uid = 1000
lxc.cap.drop = mac_admin mac_override sys_time
lxc.cap.drop =
lxc.cap.keep = none chown
lxc.net.0.type = none
lxc.net.1.type = veth
lxc.namespace.clone = net pid
lxc.namespace.share.net = 42
lxc.mount.entry = /srv srv none bind,ro,create=dir 0 0
lxc.mount.entry = /dev/fuse dev/fuse none rbind 0 0
lxc.mount.auto = cgroup:mixed proc:mixed sys:rw
lxc.rootfs.options = ro,noatime
lxc.idmap = u 0 100000 65536
lxc.apparmor.profile = generated
lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp
lxc.no_new_privs = 1
lxc.cgroup2.memory.max = 64M
lxc.cgroup2.cpu.max = 50000 100000
lxc.cgroup.pids.max = max
lxc.cgroup.devices.deny = a
"""
_NSPAWN: Final = """\
# a machine
[Exec]
Boot=yes
Parameters=sh -c "a b"
User=me
WorkingDirectory=/srv
Capability=CAP_NET_ADMIN,CAP_SYS_TIME
DropCapability=all
NoNewPrivileges=no
[Files]
ReadOnly=true
Bind=/srv:/data:rbind
BindReadOnly=+/a\\:b
Bind=/dev/fuse
[Network]
Private=no
VirtualEthernet=yes
"""


def oci() -> Boundary:
    def feed(words: tuple[str, ...]) -> Hashable:
        outcome = []
        for cut in (False, True):
            call = oci_call(words, cut=cut)
            if call is not None:
                require("an id is a name", "/" not in call.container_id)
                require("an id can be written", call.container_id.isprintable())
                require("it is bounded", len(call.container_id) <= 255 >= len(call.oci_runtime))
            outcome.append(call and (call.oci_runtime[:4], call.command, bool(call.bundle)))
        return tuple(outcome), bool(words) and is_stage(words[0])

    seeds = [tuple(line.split()) for line in _OCI]
    return Boundary(seeds, lambda mutator, seeds: mutator.words(seeds), feed)


def keepers() -> Boundary:
    """All who keep containers, and what LXC's and nspawn's command lines ask for."""

    def feed(words: tuple[str, ...]) -> Hashable:
        shim, conmon, its = shim_call(words), conmon_call(words), kept(words)
        ids = [each for each in (shim and shim.task_id, conmon and conmon.container_id) if each]
        require("an id is a name", all(len(each) <= 255 and "/" not in each for each in ids))
        its_name = its[1] if its else ""
        require("a name is one", "/" not in named_by(its_name, "/a/b.service/payload"))
        outcome: list[Hashable] = [bool(shim), bool(conmon), its and its[0]]
        if (lxc_call := lxc.lxc_call(words)) is not None:
            found = list(lxc.settings(_LXC))
            facts = machine(Runtime.LXC, lxc_call.name, lxc.config(found, lxc_call))
            outcome.append(tell(facts, "lxc"))
        if (call := nspawn.nspawn_call(words)) is not None:
            merged = _merged(call, nspawn.wishes(_NSPAWN))
            outcome.append(tell(_facts(call, merged, "id"), "nspawn"))
        return tuple(outcome)

    seeds = [tuple(line.split()) for line in _KEEPERS] + [("[lxc monitor] /var/lib/lxc web",)]
    return Boundary(seeds, lambda mutator, seeds: mutator.words(seeds), feed)


def lxc_config() -> Boundary:
    calls = [lxc.LxcCall(name="web"), lxc.LxcCall(name="web", program="lxc-execute")]

    def feed(text: str) -> Hashable:
        # A file's bytes that are no UTF-8 are replaced when it is read.
        found = list(lxc.settings(text.encode("utf-8", "replace").decode()))
        call = calls[len(text) % len(calls)]
        return len(found).bit_length(), tell(
            machine(Runtime.LXC, "web", lxc.config(found, call)), "lxc"
        )

    return Boundary(_settings(_LXC), lambda mutator, seeds: mutator.text(seeds), feed)


def nspawn_settings() -> Boundary:
    call = nspawn.NspawnCall(name="web", wishes=nspawn.Wishes(command=("sh",), cwd="/"))

    def feed(text: str) -> Hashable:
        asked = nspawn.wishes(text.encode("utf-8", "replace").decode())
        theirs = asked if len(text) % 3 else asked.harmless()
        return tell(_facts(call, _merged(call, theirs), "id"), "nspawn")

    return Boundary(_settings(_NSPAWN), lambda mutator, seeds: mutator.text(seeds), feed)


def _settings(text: str) -> list[str]:
    """The whole, and each line: what is small is broken in more places."""
    return [text, *text.splitlines(keepends=True)]


# --- images' names -------------------------------------------------------------------------

_DIGEST: Final = "sha256:" + "ab" * 32
_NAMES: Final = (
    *(
        "nginx",
        "docker.io/library/nginx:1.27",
        "localhost:5000/a/b:1.0",
        "[::1]:5000/x",
        "a.b/c__d",
    ),
    *(f"registry.k8s.io/pause@{_DIGEST}", f"a:b@{_DIGEST}", _DIGEST, "ab" * 32, "4aeeaa410028"),
    *(
        "index.docker.io/nginx",
        "Upper.io/a",
        "a" * 255,
        "",
        "x:" + "y" * 128,
        "sha512:" + "c" * 128,
    ),
)


def images_name() -> Boundary:
    def feed(text: str) -> Hashable:
        parsed, whole = reference.parse(text), reference.normalise(text)
        require("a name is bounded", len(whole) <= reference.TEXT_MAX)
        require("a whole name stays as it is", reference.normalise(whole) == whole)
        digest = reference.bare_digest(text)
        known = (text, f"docker.io/library/nginx@{_DIGEST}", text + "@" + _DIGEST)
        found = reference.registry_digests(text, known)
        one = reference.repository_digest(text, known)
        require("a digest is one", all(":" in each for each in (*found, one or _DIGEST)))
        is_id = reference.is_id_of(text, _DIGEST), reference.is_image_id(text)
        return parsed and tuple(map(bool, parsed)), bool(digest), bool(found), is_id

    return Boundary(_NAMES, lambda mutator, seeds: mutator.text(seeds), feed)


# --- our own ---------------------------------------------------------------------------------


def options() -> Boundary:
    """What may be set: times, and daemons' sockets in unusual places."""
    seeds: Sequence[tuple[str, ...]] = [
        ("2", "docker=/run/docker.sock"),
        ("0", "cri=/a", "containerd=/b=c"),
        ("60", "podman=/x"),
        ("nan",),
        ("-1e999", "docker="),
    ]

    def worse(mutator: Mutator, seeds: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return mutator.words(seeds)

    def feed(words: tuple[str, ...]) -> Hashable:
        try:
            wait_s = float(words[0]) if words else 2.0
        except ValueError:
            return "no number"  # click says so
        sockets: Any = by_kind(words[1:])
        made = Settings(wait_s=wait_s, sockets=sockets, record=Path("x"))
        require("a wait is one", 0 <= made.wait_s <= 60)
        require("a socket has a place", all(p[0] == "/" for each in sockets.values() for p in each))
        for odd in ({words[-1]: ["/a"]}, {"docker": words[-1]}) if words else ():
            try:
                Settings(sockets=odd)
            except InputError:
                continue
        return tuple(sorted(sockets)), int(wait_s * 1e9) > 0

    return Boundary(seeds, worse, feed, (InputError,))


_CONFIG: Final = (
    (Path(__file__).parents[2] / "packaging/ctrwatch.toml").read_bytes(),
    b'wait = 0.5\nexisting = false\nraw = true\naudit = 60\nsensor = "ebpf"\n',
    b'record = "/r"\nstate = "/s"\nmetrics = "127.0.0.1:9470"\n',
    b'[sockets]\ndocker = ["/run/d.sock", "/e"]\ncontainerd = []\ncri = ["/c"]\n',
    b'[output]\nformat = "text"\npath = "/var/log/x"\n',
    b'sockets.docker = [\n  "/a", # one\n  \'/b\',\n]\noutput = {format = "json"}\n',
    b'wait = 0x1f\naudit = 1_000\nwait = inf\nrecord = """\n/x"""\n',
    b"wait = 1979-05-27T07:32:00.999Z\n[[output]]\n",
)


def config() -> Boundary:
    def feed(raw: bytes) -> Hashable:
        value = configuration.parse(raw, "f")
        whole = settings(configuration.overlaid(value, configuration.DEFAULT))
        paths = [path for each in whole.sockets.values() for path in each]
        require("a path is one", all(path[0] == "/" and "\0" not in path for path in paths))
        again = configuration.overlaid(value, value)
        require("what is said is said", not configuration.changed(value, again))
        return tuple(configuration.said(value)), len(paths).bit_length(), whole.wait_s > 0

    return Boundary(_CONFIG, lambda mutator, seeds: mutator.raw(seeds), feed, (InputError,))
