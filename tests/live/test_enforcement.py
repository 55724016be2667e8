"""Containers that are stopped before they run, and everything else that is not touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.live.bed import Bed
from tests.live.daemons import BedError
from tests.live.forbidden import WAYS, attempt, enforced, enforcing, of, prepare, remove
from tests.live.waiting import until
from tests.live.watching import unified

# What of ctrwatch knows nothing of the unified hierarchy is on a host with cgroup v1 alone.
WITHOUT_UNIFIED = ("unshare", "--mount", "sh", "-c", 'umount "$0"; exec "$@"', str(unified()))
HYBRID = Path("/sys/fs/cgroup/unified").is_dir()


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    return tmp_path


# Of `docker run`: 127 where its error speaks of a file that is not there, 126 of a permission.
REFUSED = frozenset({125, 126, 127})


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            yield run
        finally:
            run.kill()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, bed: Bed) -> str:
    prepare(bed, request.param)
    return str(request.param)


def test_a_kill_comes_before_the_first_instruction(bed: Bed, way: str, mark: Path) -> None:
    with enforcing("kill") as watching:
        tried = [attempt(bed, way, mark, f"forbidden-kill-{each}") for each in range(3)]
        told = [enforced(watching, each.name) for each in tried]
        for each in tried:
            remove(bed, way, each.name)

    for each, event in zip(tried, told, strict=True):
        assert event["result"] == "done", event
        # A busy host may be too slow for one; then it is said.
        in_time = not of(watching, "container_start", each.name)
        assert event["before_start"] is in_time
        assert not in_time or (each.said != "" and not (mark / each.name).exists())
        assert len(of(watching, "container_create", each.name)) == 1
    assert any(event["before_start"] for event in told)


def test_what_no_rule_forbids_runs(bed: Bed, way: str, mark: Path) -> None:
    with enforcing("kill") as watching:
        tried = attempt(bed, way, mark, "allowed")
        until("it has run", (mark / "allowed").exists)
        remove(bed, way, "allowed")

    assert tried.said == ""
    assert of(watching, "enforcement", "allowed") == []


def test_a_dry_run_changes_nothing(bed: Bed, way: str, mark: Path) -> None:
    with enforcing("kill", "--enforce=dry-run") as watching:
        tried = attempt(bed, way, mark, "forbidden-dry")
        event = enforced(watching, "forbidden-dry")
        until("it has run", (mark / "forbidden-dry").exists)
        cgroup = of(watching, "container_create", "forbidden-dry")[0]["cgroup"]
        directory = Path(f"{unified()}{cgroup['path']}")
        assert "frozen 0" in (directory / "cgroup.events").read_text()
        remove(bed, way, "forbidden-dry")

    assert tried.said == ""
    assert (event["result"], event["action"]) == ("dry_run", "kill")


def test_a_frozen_one_stands_until_it_is_thawed(bed: Bed, mark: Path) -> None:
    """`docker run` waits for it, and comes back when somebody thaws it."""
    prepare(bed, "docker")
    words = bed.docker.words(
        "run", "--detach", "--name", "forbidden-ice", "--network", "none", "-v", f"{mark}:/mark",
        "docker.io/library/busybox:test", "sh", "-c", "echo ran >/mark/forbidden-ice; sleep 600",
    )  # fmt: skip
    with enforcing("freeze") as watching, running(words) as run:
        event = enforced(watching, "forbidden-ice")
        assert (event["result"], event["before_start"]) == ("done", True)
        assert not (mark / "forbidden-ice").exists()
        assert run.poll() is None
        cgroup = of(watching, "container_create", "forbidden-ice")[0]["cgroup"]
        Path(f"{unified()}{cgroup['path']}/cgroup.freeze").write_text("0")
        assert run.wait(20) == 0
        until("it has run", (mark / "forbidden-ice").exists)
        bed.docker.remove("forbidden-ice")


@pytest.mark.skipif(not HYBRID, reason="needs cgroup v1")
@pytest.mark.parametrize("action", ["kill", "freeze"])
def test_on_cgroup_v1_it_is_the_freezer(bed: Bed, mark: Path, action: str) -> None:
    prepare(bed, "docker")
    name = f"forbidden-v1-{action}"
    words = bed.docker.words(
        "run", "--name", name, "--network", "none", "-v", f"{mark}:/mark",
        "docker.io/library/busybox:test", "sh", "-c", f"echo ran >/mark/{name}; sleep 600",
    )  # fmt: skip
    ran = mark / name
    with enforcing(action, within=WITHOUT_UNIFIED) as watching, running(words) as run:
        event = enforced(watching, name)
        assert event["result"] == "done", event
        created = of(watching, "container_create", name)[0]
        if action == "freeze":
            state = Path(f"/sys/fs/cgroup/freezer{created['cgroup']['path']}/freezer.state")
            assert state.read_text() == "FROZEN\n"
            assert not ran.exists()
            state.write_text("THAWED")
            # Where it came while the runtime was still at work, that may have given up: docs/actions.md.
            until("it has run, or never will", lambda: ran.exists() or run.poll() in REFUSED)
        remove(bed, "docker", name)
        if action == "kill":
            assert run.wait(20) in REFUSED
            assert not ran.exists()


def test_a_users_own_container_is_stopped_in_his_cgroup(bed: Bed) -> None:
    prepare(bed, "rootless")
    program = ("sh", "-c", "sleep 600; : forbidden")
    with enforcing("kill") as watching:
        with suppress(BedError):  # a busy host may be too slow; then it has started
            bed.rootless.run(*program, options=("--name", "forbidden-ann"))
        event = enforced(watching, "forbidden-ann")
        created = of(watching, "container_create", "forbidden-ann")[0]
        bed.rootless.remove("forbidden-ann")

    assert created["creator"]["uid"] == bed.rootless.uid
    assert event["result"] == "done", event
