"""
docs/policies-table.md: what of each standard is judged, by which rule: `python -m scripts.gen_policies_md`.

The rules come from the packs that ship, who breaks them from tests/live/{offenders,hogs}.py. Which controls
there are, and why some can't be judged, stands here: a rule without its control ends the run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.core.policy import Policy
from ctrwatch.policies import load
from tests.live.hogs import HOGS, RESOURCES, THRIFTY
from tests.live.offenders import APPROVED, ATTACK, BASELINE, CIS, LSM, MODEST, OFFENDERS, RESTRICTED

PAGE: Final = Path(__file__).parents[1] / "docs/policies-table.md"


class Control(NamedTuple):
    name: str
    rules: str = ""  # with a space between; without one, `note` says why
    note: str = ""


_WINDOWS: Final = "Windows has it, Linux does not."
_PORTS: Final = (
    "not judged: an event has no ports, for the engine or a network plug-in opens them, not the OCI runtime."
    " Of pods that are on the host's network `host-namespaces` tells."
)

CONTROLS: Final[dict[str, tuple[Control, ...]]] = {
    BASELINE: (
        Control("HostProcess", note=f"not judged: {_WINDOWS}"),
        Control(
            "Host Namespaces",
            "host-namespaces",
            "Of a pod, its sandbox is told: the others share that one's.",
        ),
        Control("Privileged Containers", "privileged"),
        Control(
            "Capabilities",
            "capabilities",
            "`NET_RAW` passes, also where it was added by hand: engines give it by themselves.",
        ),
        Control(
            "HostPath Volumes",
            "host-path",
            "A PersistentVolume that is a directory of the node (`hostPath`, `local`) looks the same, and"
            " is told.",
        ),
        Control("Host Ports", note=_PORTS),
        Control(
            "Host Probes / Lifecycle Hooks",
            note="not judged: the kubelet calls them, the container does not know of them.",
        ),
        Control("AppArmor", "apparmor", "A profile that is not there at all passes, as undefined."),
        Control("SELinux", "selinux", "No label passes, as undefined."),
        Control("/proc Mount Type", "proc-mount"),
        Control(
            "Seccomp",
            "seccomp",
            "A pod that asks for nothing runs unconfined unless the kubelet has `seccompDefault`, and looks as"
            " one that asks for that. So pods pass unless the parameter `kubelet_seccomp_default` is true.",
        ),
        Control("Sysctls", "sysctls", "Of a pod, its sandbox is told."),
    ),
    RESTRICTED: (
        Control(
            "everything of baseline",
            "host-namespaces privileged host-path apparmor selinux proc-mount sysctls",
            "Host ports, as above: not judged.",
        ),
        Control(
            "Volume Types",
            "volume-types host-path",
            "Of the other types each may be a PersistentVolume's, which is allowed.",
        ),
        Control("Privilege Escalation", "privilege-escalation"),
        Control(
            "Running as Non-root",
            "non-root",
            "The user that it does run as, whoever decided that; also where the standard lets go of it, in a"
            " user namespace of the pod's own.",
        ),
        Control("Running as Non-root user", "non-root"),
        Control("Seccomp", "seccomp"),
        Control("Capabilities", "capabilities"),
    ),
    CIS: (
        Control("5.1 swarm mode", note="not judged: the daemon's, not a container's."),
        Control(
            "5.2 AppArmor profile",
            "5.2-apparmor",
            "That there is none counts if the parameter `apparmor` says that the host has AppArmor.",
        ),
        Control(
            "5.3 SELinux security options",
            "5.3-selinux",
            "Counts if the parameter `selinux` says that the host has SELinux.",
        ),
        Control("5.4 Linux kernel capabilities", "5.4-capabilities"),
        Control("5.5 privileged containers", "5.5-privileged"),
        Control("5.6 sensitive host directories", "5.6-host-directories"),
        Control("5.7 sshd", "5.7-sshd", "As the entry point; not what is started later."),
        Control("5.8 privileged ports", note="not judged: an event has no ports."),
        Control("5.9 only needed ports", note="not judged: which are needed, a person knows."),
        Control("5.10 the host's network namespace", "5.10-host-network"),
        Control("5.11 memory usage", "5.11-memory"),
        Control("5.12 CPU priority", "5.12-cpu", "A limit of CPU passes, too."),
        Control("5.13 root file system read only", "5.13-read-only-root"),
        Control("5.14 a specific host interface", note="not judged: an event has no ports."),
        Control(
            "5.15 restart policy on-failure",
            note="not judged: Docker keeps it to itself, and no bundle has it.",
        ),
        Control("5.16 the host's process namespace", "5.16-host-pid"),
        Control("5.17 the host's IPC namespace", "5.17-host-ipc"),
        Control("5.18 host devices", "5.18-host-devices", "Also by a rule, without a node."),
        Control("5.19 ulimits", note="not judged: what is needed, a person knows."),
        Control("5.20 mount propagation", "5.20-mount-propagation"),
        Control("5.21 the host's UTS namespace", "5.21-host-uts"),
        Control("5.22 the default seccomp profile", "5.22-seccomp", "Whether there is a filter."),
        Control("5.23 docker exec, privileged", note="not judged: it is no birth."),
        Control("5.24 docker exec as root", note="not judged: it is no birth."),
        Control("5.25 cgroup usage", "5.25-cgroup"),
        Control("5.26 additional privileges", "5.26-new-privileges"),
        Control("5.27 health check", note="not judged: it stands in no bundle."),
        Control("5.28 latest version of an image", note="not judged: no host knows it."),
        Control("5.29 PIDs cgroup limit", "5.29-pids"),
        Control(
            "5.30 the bridge docker0", note="not judged: a network's name stands in no bundle."
        ),
        Control(
            "5.31 the host's user namespaces",
            note="not judged: where dockerd remaps no users every container shares it.",
        ),
        Control("5.32 the Docker socket", "5.32-docker-socket"),
    ),
    ATTACK: (
        Control("Deploy Container (T1610), Escape to Host (T1611)", "privileged"),
        Control("Escape to Host (T1611): a runtime's socket", "runtime-socket"),
        Control("Escape to Host (T1611): the host's root", "host-root"),
        Control("Escape to Host (T1611): the host's /proc, /sys", "host-proc"),
        Control("Escape to Host (T1611): keys, jobs, programs", "host-files"),
        Control("Escape to Host (T1611): disks, memory", "host-devices"),
        Control("Escape to Host (T1611): capabilities", "capabilities"),
        Control("Escape to Host (T1611): the host's processes", "host-pid"),
        Control("Escape to Host (T1611): all of /proc", "proc-unmasked"),
        Control("Build Image on Host (T1612)", "build", "BuildKit's and Buildah's."),
        Control("a container that no engine knows", "no-engine"),
        Control("a container that no runtime knows", "unverified"),
        Control(
            "a creator that is no runtime",
            "creator",
            "By its name, which whoever starts it can choose.",
        ),
        Control(
            "an image from a registry never seen here", "new-registry", "Since ctrwatch started."
        ),
    ),
    APPROVED: (
        Control("registries and repositories", "image", "The parameter `images`."),
        Control("no image at all", "no-image"),
        Control("digests", "digest", "The parameter `digests`."),
        Control("tags without a digest", "by-digest", "If the parameter `by_digest` is true."),
        Control(
            "built, loaded or tagged here", "from-registry", "Unless `from_registry` is false."
        ),
    ),
    RESOURCES: (
        Control("many cores (T1496)", "cpu-hog", "For 60 s; the parameter `cpu_cores`."),
        Control("held back by its CPU limit", "throttled", "For 60 s; `throttled_share`."),
        Control(
            "memory near its limit",
            "memory-near-limit",
            "For 30 s; `memory_share`, without the cache that the kernel would drop first.",
        ),
        Control(
            "waiting for memory",
            "memory-pressure",
            "For 30 s; `pressure_percent`. Undecided where there is no PSI, or no unified hierarchy.",
        ),
        Control("out of memory", "oom-killing", "At once, and once in its life."),
        Control("tasks near their limit (T1499.001)", "pids-near-limit", "For 30 s; `pids_share`."),
        Control(
            "started without limits (T1499)",
            "unlimited",
            "At its birth: of memory and of tasks. CPU is shared by weight where it is not limited.",
        ),
        Control(
            "I/O",
            note="not judged: what is much depends on the disk. Write `usage.io_…_per_second`.",
        ),
    ),
}

TITLES: Final = {
    BASELINE: "Pod Security Standards, baseline, as of Kubernetes 1.34",
    RESTRICTED: "Pod Security Standards, restricted, as of Kubernetes 1.34",
    CIS: "CIS Docker Benchmark 1.6.0, section 5",
    ATTACK: "Beginnings of an attack, by MITRE ATT&CK's matrix for containers",
    APPROVED: "Only approved images: to copy, and to fill in the parameters",
    RESOURCES: "What containers use: `events --usage`. CPU, memory, tasks, and what nothing bounds",
}


def page() -> str:
    return "\n".join((*_head(), *(line for name in CONTROLS for line in _pack(name)))) + "\n"


def _head() -> Iterator[str]:
    yield "<!-- Generated by scripts/gen_policies_md.py: edit that, or the policies in src/ctrwatch/policies. -->"
    yield "# What the policies that ship judge"
    yield ""
    yield "A birth shows what a container may do, not what somebody wrote in a manifest: so each policy judges"
    yield "the effect, under any runtime. What a birth does not show is named here, too. `resources` judges what"
    yield "containers use while they run."
    yield ""
    yield "Two containers are started for each rule by a live test: one that breaks it, of those below, and a"
    yield "modest or thrifty one that breaks none. Besides, each policy has tests of its own in its file."
    yield ""
    yield "| container | how it is made |"
    yield "|---|---|"
    for name, offender in (*OFFENDERS.items(), *HOGS.items()):
        yield f"| {name} | `{offender.how}` |"
    yield f"| thrifty | `docker run {' '.join(THRIFTY)} IMAGE sleep 600` |"
    yield f"| modest | `docker run {' '.join(MODEST)} REGISTRY/IMAGE@sha256:…` |"
    yield ""
    yield "A mount is judged by the path that the runtime was given. A symbolic link on the host can lead"
    yield "elsewhere; who can make one there can do without."


def _pack(name: str) -> Iterator[str]:
    (policy,) = load([name])
    _check(policy)
    yield from ("", f"## {name}", "", f"{TITLES[name]}.", "")
    yield "| control | rule | broken by |"
    yield "|---|---|---|"
    for control in CONTROLS[name]:
        yield f"| {control.name} | {_rules(control)} | {_broken_by(name, control)} |"


def _check(policy: Policy) -> None:
    """Raise KeyError for a rule without a control, or a control's rule that is not there."""
    named = {rule for control in CONTROLS[policy.name] for rule in control.rules.split()}
    if wrong := named ^ {rule.name for rule in policy.rules}:
        raise KeyError(policy.name, *wrong)


def _rules(control: Control) -> str:
    said = (*(f"`{rule}`" for rule in control.rules.split()), control.note)
    if not control.rules:
        return control.note
    return ", ".join(said[:-1]) + (f". {said[-1]}" if said[-1] else "")


def _broken_by(pack: str, control: Control) -> str:
    """Who breaks its rules. Raises KeyError where nobody does."""
    found = {who_breaks(pack, rule): None for rule in control.rules.split()}
    return ", ".join(found)


def who_breaks(pack: str, rule: str) -> str:
    packs = (pack, LSM) if pack == CIS else (pack,)
    for name, offender in (*OFFENDERS.items(), *HOGS.items()):
        if any(rule in offender.breaks.get(each, "").split() for each in packs):
            return name
    raise KeyError(pack, rule)


if __name__ == "__main__":
    PAGE.write_text(page())
