"""`ctrwatch events` with a policy that forbids: the container is stopped, somebody is called, a program runs."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from ctrwatch.core.alerting import signature
from ctrwatch.privileges import NUMBERS, READING
from tests.contract.receivers import HANG, OK, free_port, receiving
from tests.live.bed import Bed
from tests.live.forbidden import attempt, enforced, of, policy, prepare, remove
from tests.live.waiting import until
from tests.live.watching import Watching

HYBRID = Path("/sys/fs/cgroup/unified").is_dir()


@pytest.fixture(name="policy")
def policy_(tmp_path: Path) -> str:
    tmp_path.chmod(0o777)  # containers write there
    return policy(tmp_path, "kill")


def test_a_violation_is_told_and_acted_upon(bed: Bed, policy: str, tmp_path: Path) -> None:
    prepare(bed, "docker")
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\ncat > "{tmp_path}/given"\n')
    program.chmod(0o755)
    key = tmp_path / "key"
    key.write_bytes(b"secret\n")
    with (
        receiving(OK) as server,
        Watching(
            *("--no-existing", "--policy", policy, "--enforce", "--on-violation", str(program)),
            *("--webhook", server.url(), "--webhook-queue", str(tmp_path / "queue")),
            *("--webhook-secret-file", str(key)),
        ) as watching,
    ):
        tried = attempt(bed, "docker", tmp_path, "forbidden-1")
        enforcement = enforced(watching, "forbidden-1")
        (sent,) = server.got(1)
        until("the program has it", (tmp_path / "given").exists)
        status = Path(f"/proc/{watching.process.pid}/status").read_text()
        remove(bed, "docker", "forbidden-1")
        watching.stop()

    (violation,) = of(watching, "violation", "forbidden-1")
    assert violation["action"] == "kill"
    assert enforcement["violation_id"] == violation["id"]
    assert (enforcement["action"], enforcement["result"]) == ("kill", "done")
    assert (tried.said != "") is enforcement["before_start"]
    assert sent.json["violation"] == violation
    sent_s = int(sent.headers["x-ctrwatch-timestamp"])
    assert sent.headers["x-ctrwatch-signature"] == signature(b"secret", sent_s, sent.body)
    assert json.loads((tmp_path / "given").read_text())["violation"] == violation
    kept = READING | ({"CAP_KILL"} if HYBRID else set())
    effective = int(re.findall(r"CapEff:\t(\w+)", status)[0], 16)
    assert effective == sum(1 << NUMBERS[name] for name in kept)


@pytest.mark.parametrize("given", [(), ("--enforce=dry-run",)], ids=["no-flag", "dry-run"])
def test_without_the_flag_the_rule_only_speaks(
    bed: Bed, policy: str, tmp_path: Path, given: tuple[str, ...]
) -> None:
    prepare(bed, "docker")
    with Watching("--policy", policy, *given) as watching:
        tried = attempt(bed, "docker", tmp_path, "forbidden-2")
        until("it has run", (tmp_path / "forbidden-2").exists)
        remove(bed, "docker", "forbidden-2")
        watching.until(lambda: bool(of(watching, "container_remove", "forbidden-2")), "its end")

    assert tried.said == ""
    assert len(of(watching, "violation", "forbidden-2")) == 1
    results = [event["result"] for event in of(watching, "enforcement", "forbidden-2")]
    assert results == (["dry_run"] if given else [])


def test_what_was_there_before_is_never_stopped(bed: Bed, policy: str, tmp_path: Path) -> None:
    prepare(bed, "docker")
    attempt(bed, "docker", tmp_path, "forbidden-3")
    with Watching("--policy", policy, "--enforce") as watching:
        event = enforced(watching, "forbidden-3")
        assert bed.docker.inspect("forbidden-3")["State"]["Running"] is True
        remove(bed, "docker", "forbidden-3")

    assert event["result"] == "refused"
    assert "its birth was not heard" in event["reason"]


def test_a_kill_9_and_an_hour_without_network_lose_no_violation(
    bed: Bed, policy: str, tmp_path: Path
) -> None:
    prepare(bed, "docker")
    port = free_port()
    options = (
        *("--policy", policy, "--state", str(tmp_path / "state")),
        *("--webhook", f"http://127.0.0.1:{port}/"),
    )
    with Watching(*options) as watching:
        attempt(bed, "docker", tmp_path, "forbidden-4")
        watching.until(lambda: bool(of(watching, "violation", "forbidden-4")), "its violation")
        (violation,) = of(watching, "violation", "forbidden-4")
        watching.until(lambda: any("can't be reached" in line for line in watching.errors), "a try")
        watching.stop(signal.SIGKILL)
        remove(bed, "docker", "forbidden-4")
    with Watching(*options), receiving(OK, port=port) as server:
        server.until(lambda: violation["id"] in [each.violation for each in server.requests])


def test_a_receiver_that_hangs_delays_no_event(bed: Bed, policy: str, tmp_path: Path) -> None:
    prepare(bed, "docker")
    queue = str(tmp_path / "queue")
    with (
        receiving(HANG) as server,
        Watching(
            "--policy", policy, "--webhook", server.url(), "--webhook-queue", queue
        ) as watching,
    ):
        for each in range(3):
            attempt(bed, "docker", tmp_path, f"forbidden-5-{each}")
            started = of(watching, "container_create", f"forbidden-5-{each}")
            assert len(started) == 1
            remove(bed, "docker", f"forbidden-5-{each}")
        server.ended.set()
