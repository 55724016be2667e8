"""`ctrwatch events` as its users run it: formats, files, records, and a clean end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from tests.live.runtimes import Ctr
from tests.live.waiting import until
from tests.live.watching import (
    CTRWATCH,
    DEADLINE_S,
    SENSORS,
    Watching,
    ctrwatch,
    environment,
    unified,
)

ESCAPE = "\x1b[2Jowned"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_ends_cleanly_with_a_line_of_counts(ctr: Ctr, number: int) -> None:
    with Watching("--no-existing") as watching:
        ctr.run("ends", "sleep", "600")
        watching.event("container_start", "ends")
        ctr.remove("ends")
        watching.event("container_remove", "ends")
        code = watching.stop(number)

    assert code == 0
    assert "1 seen, 1 complete, 0 partial, 0 unverified, 0 lost" in watching.errors[-1]


@pytest.mark.parametrize("sensor", SENSORS)
def test_says_what_it_watches_and_how(ctr: Ctr, sensor: str) -> None:
    with Watching("--sensor", sensor) as watching:
        pass

    assert f"by {sensor}" in watching.errors[0]
    assert "runtimes:" in watching.errors[0]


@pytest.mark.parametrize("sensor", SENSORS)
def test_raw_prints_the_kernels_own_events(ctr: Ctr, sensor: str) -> None:
    with Watching("--sensor", sensor, "--raw") as watching:
        made = unified() / "ctrwatch-raw"
        made.mkdir()
        number = made.stat().st_ino
        made.rmdir()
        watching.until(lambda: len(raw(watching, "/ctrwatch-raw")) == 2, "mkdir and rmdir")

    mkdir, rmdir = raw(watching, "/ctrwatch-raw")
    assert (mkdir["event"], rmdir["event"]) == ("cgroup_mkdir", "cgroup_rmdir")
    assert mkdir["cgroup_id"] == rmdir["cgroup_id"] == number
    assert mkdir["hierarchy_id"] == 0
    assert mkdir["pid"] == os.getpid()


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_path_longer_than_the_kernels_buffer_is_whole(ctr: Ctr, sensor: str) -> None:
    """The tracepoint cuts at 1,023 bytes; a container's id stands at the end."""
    parts = [letter * 250 for letter in "abcde"]
    container = "f0" * 32
    with Watching("--sensor", sensor, "--wait", "0.1") as watching:
        made = [unified().joinpath(*parts[: i + 1]) for i in range(len(parts))]
        made.append(made[-1] / f"docker-{container}.scope")
        try:
            for directory in made:
                directory.mkdir()
            event = watching.event("container_create", container)
        finally:
            for directory in reversed(made):
                directory.rmdir()

    assert event["cgroup"]["path"] == "/" + "/".join(parts) + f"/docker-{container}.scope"
    assert event["evidence"]["status"] == "unverified"
    assert event["creator"]["uid"] == 0


def test_output_appends_whole_lines_to_a_file(ctr: Ctr, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event":"before"}\n')
    with Watching("--no-existing", "--output", str(path)):
        ctr.run("filed", "true")
        ctr.remove("filed")
        until("the removal in the file", lambda: '"container_remove"' in path.read_text())

    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events[:3] == ["before", "container_create", "container_start"]


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_record_replays_to_the_same_lines(ctr: Ctr, sensor: str, tmp_path: Path) -> None:
    path = tmp_path / "births.jsonl"
    with Watching("--sensor", sensor, "--record", str(path)) as watching:
        for number in range(3):
            ctr.run(f"again-{number}", "true")
            ctr.remove(f"again-{number}")
            watching.event("container_remove", f"again-{number}")
    lines = ctrwatch("replay", str(path), "--format", "json").splitlines()

    assert [json.loads(line) for line in lines] == [line.event for line in watching.lines]


def test_tracee_format_is_tracees(ctr: Ctr) -> None:
    with Watching("--format", "tracee") as watching:
        ctr.run("traced", "true")
        ctr.remove("traced")
        watching.until(
            lambda: any(
                line.event.get("eventName") == "container_remove" for line in watching.lines
            ),
            "the removal",
        )

    event = next(
        line.event for line in watching.lines if line.event["eventName"] == "container_create"
    )
    assert event["eventId"] == "2018"
    assert event["processName"] == "runc"
    assert event["containerId"] == ""
    assert [argument["name"] for argument in event["args"]] == [
        "runtime", "container_id", "ctime", "container_image", "container_image_digest",
        "container_name", "pod_name", "pod_namespace", "pod_uid", "pod_sandbox",
    ]  # fmt: skip


def test_text_on_a_terminal_lets_no_escape_sequence_through(ctr: Ctr) -> None:
    """The label `nerdctl/name` is a name that anybody may choose."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        (*CTRWATCH, "events"), stdout=theirs, stderr=subprocess.PIPE, env=environment()
    ) as process:
        os.close(theirs)
        assert process.stderr is not None
        said = process.stderr.readline() + process.stderr.readline()
        ctr.run("hostile", "sleep", "600", options=["--label", f"nerdctl/name={ESCAPE}"])
        shown = b""
        while b"start" not in shown or not shown.endswith(b"\n"):
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)
    ctr.remove("hostile")

    assert b"watching" in said
    assert b"owned" in shown
    assert ESCAPE.encode() not in shown
    assert b"\\x1b[2Jowned" in shown
    os.close(ours)


def test_a_reader_that_has_had_enough_is_no_failure(ctr: Ctr) -> None:
    process = subprocess.Popen(
        (*CTRWATCH, "events"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    ctr.run("first", "sleep", "600")
    process.stdout.readline()
    process.stdout.close()
    ctr.remove("first")
    _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, errors
    assert b"Traceback" not in errors


def raw(watching: Watching, path: str) -> list[dict[str, object]]:
    return [line.event for line in watching.lines if line.event.get("cgroup_path") == path]
