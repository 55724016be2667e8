"""The bed itself: each runtime really runs a container, and nothing is left when the bed ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.bed import Bed
from tests.live.leftovers import cgroups_of, mounts_of, processes_of
from tests.live.waiting import until

PROGRAM = ("sleep", "3571")  # a number that no other process on this machine sleeps


def run_docker(bed: Bed) -> str:
    return bed.docker.run(*PROGRAM)


def run_ctr(bed: Bed) -> str:
    return bed.ctr.run(f"bed-{os.getpid()}", *PROGRAM, namespace="bed-any-namespace")


def run_cri(bed: Bed) -> str:
    return bed.cri.run(bed.cri.pod("web"), "main", *PROGRAM)


def run_podman(bed: Bed) -> str:
    return bed.podman.run(*PROGRAM)


def run_in_podman_pod(bed: Bed) -> str:
    return bed.podman.run(*PROGRAM, options=["--pod", bed.podman.pod("web")])


def run_runc(bed: Bed) -> str:
    return bed.runc.run(f"bed-{os.getpid()}", *PROGRAM)


@pytest.mark.parametrize(
    "run", [run_docker, run_ctr, run_cri, run_podman, run_in_podman_pod, run_runc]
)
def test_runs_and_leaves_nothing(run: Callable[[Bed], str]) -> None:
    with Bed() as bed:
        container = run(bed)
        assert container in cgroups_of_program(bed.home)
    assert_nothing_left(bed.home, container)


def test_leaves_nothing_when_a_test_fails() -> None:
    bed = Bed()

    def fail() -> None:
        with bed:
            containers.append(run_podman(bed))
            raise ZeroDivisionError

    containers: list[str] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert_nothing_left(bed.home, *containers)


def test_leaves_nothing_after_ctrl_c() -> None:
    home, container = start_and_end_a_bed_by(signal.SIGINT)
    assert_nothing_left(home, container)


def test_next_bed_removes_what_a_killed_one_left() -> None:
    home, container = start_and_end_a_bed_by(signal.SIGKILL)
    with Bed():
        assert_nothing_left(home, container)


def test_pulled_image_has_a_registry_digest(bed: Bed) -> None:
    name = bed.registry.name("busybox:test")
    repository = name.rpartition(":")[0]
    for runtime in (bed.docker, bed.podman, bed.cri):
        runtime.pull(name)
    digest = f"{repository}@{bed.registry.served('busybox:test').digest}"
    assert digest in bed.docker.inspect_image(name)["RepoDigests"]
    assert digest in bed.podman.inspect_image(name)["RepoDigests"]
    assert digest in bed.cri.image_status(name).repo_digests


def start_and_end_a_bed_by(how: signal.Signals) -> tuple[Path, str]:
    """A bed with one container, in a process of its own; its home and the container's id."""
    code = (
        "from tests.live.bed import Bed\n"
        "with Bed() as bed:\n"
        f"    print(bed.home, bed.ctr.run('bed-{os.getpid()}', *{PROGRAM}), flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        home, container = process.stdout.readline().split()
        assert container in cgroups_of_program(Path(home))
        process.send_signal(how)
    return Path(home), container


def cgroups_of_program(home: Path) -> str:
    """The cgroups of the one process of the bed that runs PROGRAM."""
    cmdline = "\0".join(PROGRAM) + "\0"

    def pids() -> list[int]:
        return [pid for pid in processes_of(home) if read(pid, "cmdline") == cmdline]

    until(f"{PROGRAM} runs", lambda: len(pids()) == 1)
    return read(pids()[0], "cgroup")


def read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it has ended
        return ""


def assert_nothing_left(home: Path, *containers: str) -> None:
    assert processes_of(home) == []
    assert mounts_of(home) == []
    assert cgroups_of(containers) == []
    assert not home.exists()
