"""Podman without a daemon: any user's storage, while Podman writes to it, and nothing of it changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.bed import Bed
from tests.live.daemons import command
from tests.live.runtimes import IMAGE, Podman, RootlessPodman
from tests.live.watching import Watching


@pytest.fixture
def watching() -> Iterator[Watching]:
    with Watching() as watching:
        yield watching


@pytest.fixture(scope="module")
def rootless(bed: Bed) -> RootlessPodman:
    return bed.rootless


def test_a_users_container_is_announced_complete(
    rootless: RootlessPodman, watching: Watching
) -> None:
    container = rootless.run("sleep", "600", options=["--name", "hers", "--label", "team=a"])
    event = watching.event("container_create", container)
    rootless.remove(container)
    watching.event("container_remove", container)

    assert event["evidence"]["status"] == "complete", event["evidence"]
    assert (event["runtime"], event["container_name"]) == ("podman", "hers")
    assert event["container_image"] == IMAGE
    assert event["labels"]["team"] == "a"
    assert event["process"]["args"] == ["sleep", "600"]
    assert event["creator"]["uid"] == rootless.uid
    assert event["evidence"]["sources"]["container_name"] == "podman.files"


def test_a_users_existing_container_is_listed_complete(rootless: RootlessPodman) -> None:
    container = rootless.run("sleep", "600", options=["--name", "older"])
    with Watching() as watching:
        event = watching.event("existing_container", container)
    rootless.remove(container)

    assert event["evidence"]["status"] == "complete", event["evidence"]
    assert (event["runtime"], event["container_name"]) == ("podman", "older")


def test_births_are_complete_while_podman_writes(podman: Podman, watching: Watching) -> None:
    """53 containers come and go in the same storage. ctrwatch has no lock, Podman no error."""
    failed: list[BaseException] = []

    def churn() -> None:
        try:
            for _ in range(53):
                podman.remove(podman.cli("create", "--network", "none", IMAGE, "true"))
        except BaseException as error:  # noqa: BLE001 - it is raised below
            failed.append(error)

    churning, watched = threading.Thread(target=churn), []
    locks: set[str] = set()
    churning.start()
    while churning.is_alive():
        container = podman.run("true")
        event = watching.event("container_create", container)
        watched.append(event)
        locks |= locks_of(watching.process.pid)
        podman.remove(container)
    churning.join()

    assert failed == []
    assert len(watched) > 10
    incomplete = [
        event["evidence"] for event in watched if event["evidence"]["status"] != "complete"
    ]
    assert incomplete == []
    assert {event["evidence"]["sources"]["container_name"] for event in watched} == {"podman.files"}
    assert locks == set()


def test_reading_changes_no_file_and_makes_none(podman: Podman) -> None:
    """Not even an access time: a storage is left as it was found."""
    container = podman.run("sleep", "600", options=["--name", "untouched"])
    for path in files_of(podman.graph_root):
        os.utime(path, ns=(1, path.stat().st_mtime_ns), follow_symlinks=False)
    before = state_of(podman.graph_root)
    with Watching() as watching:
        event = watching.event("existing_container", container)
    after = state_of(podman.graph_root)
    podman.remove(container)

    assert event["container_name"] == "untouched"
    assert event["evidence"]["sources"]["container_name"] == "podman.files"
    assert event["evidence"]["sources"]["container_image_digest"] == "podman.files"
    assert after == before


def test_an_image_in_an_additional_store_has_its_digest(
    bed: Bed, podman: Podman, watching: Watching
) -> None:
    """storage.conf is the creator's: here in a mount namespace in which /etc is another."""
    home = bed.home / "additional"
    (home / "etc").mkdir(parents=True)
    (home / "etc/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (home / "etc/storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/storage"\nrunroot = "{home}/run"\n'
        f'[storage.options]\nadditionalimagestores = ["{podman.graph_root}"]\n'
    )
    digest = podman.inspect_image()["Digest"]

    def run(*arguments: str) -> str:
        script = f'mount --make-rprivate / && mount --bind {home}/etc /etc/containers && exec "$@"'
        return command(
            "unshare", "--mount", "sh", "-c", script, "sh",
            "podman", "--tmpdir", f"{home}/tmp", *arguments, environment=podman.environment,
        )  # fmt: skip

    container = run("run", "--detach", "--network", "none", IMAGE, "sleep", "600")
    event = watching.event("container_create", container)
    run("rm", "--force", "--time", "0", container)

    assert not list((home / "storage/overlay-images").glob("*/manifest"))
    assert event["evidence"]["status"] == "complete", event["evidence"]
    assert event["container_image_digest"] == digest


def files_of(root: Path) -> list[Path]:
    """What Podman keeps about containers and images; not what a container has in it."""
    places = ("libpod", "*-containers", "*-images", "db.sql*", "storage.lock")
    found = [path for place in places for path in root.glob(place)]
    return [each for path in found for each in (path, *path.rglob("*")) if not is_mount(each)]


def is_mount(path: Path) -> bool:
    return any(part in {"merged", "shm"} for part in path.parts)


def state_of(root: Path) -> dict[str, tuple[int, ...]]:
    """Of each file: which it is, how large, and its times of access, writing and change."""
    state = {}
    for path in files_of(root):
        status = path.lstat()
        times = (status.st_mtime_ns, status.st_ctime_ns)
        read = () if path.is_dir() else (status.st_atime_ns,)  # listing it here is an access
        state[str(path)] = (status.st_ino, status.st_size, *times, *read)
    return state


def locks_of(pid: int) -> set[str]:
    """The file locks that a process holds: the kernel's list (proc_locks(5))."""
    lines = Path("/proc/locks").read_text().splitlines()
    return {line for line in lines if line.split()[-4] == str(pid)}
