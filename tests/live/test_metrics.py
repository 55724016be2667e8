"""`ctrwatch events --metrics`: births, then a scrape, which says what the lines said."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctrwatch.outputs.metrics import METRICS
from ctrwatch.outputs.series import OF_IMAGES
from tests.docs.test_metrics_md import documented, scraped
from tests.live.runtimes import Ctr, Docker
from tests.live.waiting import until
from tests.live.watching import CTRWATCH, DEADLINE_S, SENSORS, Watching, environment, unified

Samples = dict[str, Counter[tuple[str, ...]]]
SILENT = 23


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(self.host)


def where(watching: Watching) -> str:
    """The address that it says it really listens at."""
    (said,) = re.findall(r"metrics at (?:http://)?(\S+)", "".join(watching.errors))
    return str(said.removesuffix("/metrics"))


def get(address: str, path: str) -> tuple[int, str]:
    unix = address.removeprefix("unix:")
    made = (
        _Unix(unix) if unix != address else http.client.HTTPConnection(address, timeout=DEADLINE_S)
    )
    made.request("GET", path)
    response = made.getresponse()
    body = response.read().decode()
    made.close()
    return response.status, body


def samples(address: str) -> Samples:
    """By name and label values, in the order of the labels' names."""
    found: Samples = {}
    for family in text_string_to_metric_families(get(address, "/metrics")[1]):
        for each in family.samples:
            labels = tuple(value for _, value in sorted(each.labels.items()))
            found.setdefault(each.name, Counter())[labels] += int(each.value)
    return found


def nonzero(counter: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    return {labels: number for labels, number in counter.items() if number}


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_scrape_says_what_the_lines_said(docker: Docker, ctr: Ctr, sensor: str) -> None:
    there = docker.run("sleep", "600")
    with Watching("--sensor", sensor, "--metrics", "127.0.0.1:0") as watching:
        for number in range(3):
            ctr.run(f"counted-{number}", "true")
            ctr.remove(f"counted-{number}")
            watching.event("container_remove", f"counted-{number}")
        lives = docker.run("sleep", "600")
        watching.event("container_start", lives)
        docker.remove(there)
        watching.event("container_remove", there)
        text = get(where(watching), "/metrics")[1]
        seen = samples(where(watching))
        events = [line.event for line in watching.lines]
        docker.remove(lives)
        watching.event("container_remove", lives)

        left = seen["ctrwatch_living_containers"][()] - 1  # others' containers may live, too
        until("the removal counted", lambda: samples(where(watching))["ctrwatch_living_containers"][()] == left)  # fmt: skip

    births = [event for event in events if event["event"] == "container_create"]
    statuses = Counter((each["runtime"], each["evidence"]["status"]) for each in births)
    reasons = Counter((why,) for each in births for why in each["evidence"]["missing"].values())
    always = {metric.name for metric in (*METRICS, *OF_IMAGES)}
    assert scraped(text) == {name: said for name, said in documented().items() if name in always}
    assert nonzero(seen["ctrwatch_events_total"]) == Counter((each["event"],) for each in events)
    assert nonzero(seen["ctrwatch_births_total"]) == statuses
    assert nonzero(seen["ctrwatch_missing_fields_total"]) == reasons
    existing = [event for event in events if event["event"] == "existing_container"]
    there_before = Counter((each["runtime"], each["evidence"]["status"]) for each in existing)
    assert nonzero(seen["ctrwatch_existing_containers_total"]) == there_before
    removed = sum(event["event"] == "container_remove" for event in events)
    assert seen["ctrwatch_living_containers"][()] == len(existing) + len(births) - removed
    assert seen["ctrwatch_untold_births"][()] == 0
    assert seen["ctrwatch_birth_complete_seconds_count"][()] == len(births) == 4
    assert sum(seen["ctrwatch_starts_total"].values()) == 4
    assert nonzero(seen["ctrwatch_losses_total"]) == {}
    assert nonzero(seen["ctrwatch_questions_waiting"]) == {}
    assert seen["ctrwatch_answers_total"]["found", "bundle"] >= 5  # other tests' live on, too
    for source in ("bundle", "containerd"):
        answers = sum(n for (_, who), n in seen["ctrwatch_answers_total"].items() if who == source)
        assert seen["ctrwatch_answer_seconds_count"][(source,)] == answers > 0
    assert seen["ctrwatch_build_info"].keys() == {(sensor, "0.1.0")}
    assert get_out(text, "process_resident_memory_bytes") < 120e6


def get_out(text: str, name: str) -> float:
    (value,) = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(value)


def test_health_and_a_socket_that_a_killed_one_left(ctr: Ctr, tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    for number in (signal.SIGKILL, signal.SIGTERM):
        with Watching("--metrics", f"unix:{path}") as watching:
            assert where(watching) == f"unix:{path}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert get(where(watching), "/healthz") == (200, '{"healthy":true}\n')
            watching.stop(number)
        assert path.exists() == (number == signal.SIGKILL)


def test_a_daemon_that_is_gone_is_away(docker: Docker, tmp_path: Path) -> None:
    """A socket on which nobody listens: a daemon that was killed."""
    dead = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    with Watching("--metrics", "127.0.0.1:0", "--socket", f"docker={dead}", "--wait", "1") as watching:  # fmt: skip
        seen = samples(where(watching))["ctrwatch_daemons"]
        assert seen["docker", "away"] == 0
        cgroup = make_cgroup("ab" * 32)
        try:
            event = watching.event("container_create", "ab" * 32)
        finally:
            cgroup.rmdir()
        assert event["evidence"]["status"] == "unverified"
        until("away", lambda: samples(where(watching))["ctrwatch_daemons"]["docker", "away"] == 1)
        counted = samples(where(watching))
        assert counted["ctrwatch_births_total"]["docker", "unverified"] == 1
        assert counted["ctrwatch_answers_total"]["unavailable", "docker"] >= 1


def make_cgroup(container_id: str) -> Path:
    made = unified() / f"docker-{container_id}.scope"
    made.mkdir()
    return made


def test_an_output_that_nobody_reads_is_no_health(ctr: Ctr, tmp_path: Path) -> None:
    """A full pipe, and then 64 MB: the raw stream brings them soon."""
    path = tmp_path / "m.sock"
    command = (*CTRWATCH, "events", "--raw", "--format", "json", "--metrics", str(path))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    try:
        until("it listens", lambda: path.exists() and get(f"unix:{path}", "/healthz")[0] == 200)
        storm(lambda: bool(samples(f"unix:{path}")["ctrwatch_losses_total"][("output",)]))
        status, body = get(f"unix:{path}", "/healthz")
        waiting = samples(f"unix:{path}")["ctrwatch_output_waiting_bytes"][()]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE_S)

    assert status == 503
    assert "nobody reads the output" in json.loads(body)["why"]
    assert waiting > 60 << 20


def storm(enough: Callable[[], bool]) -> None:
    """Cgroups with long names, until it is *enough*."""
    made = unified() / ("s" * 250)
    made.mkdir()
    try:
        while not enough():
            for number in range(5000):
                below = made / f"{number:0250}"
                below.mkdir()
                below.rmdir()
    finally:
        made.rmdir()


def test_silent_and_hostile_scrapers_delay_no_event(ctr: Ctr) -> None:
    """While they hold every connection, and one asks without end, births are told as ever."""
    with Watching("--metrics", "127.0.0.1:0") as watching:
        host, _, port = where(watching).partition(":")
        flood = f"import socket\nwhile True:\n s = socket.create_connection(({host!r}, {port}))\n s.sendall(b'GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' * 100)\n"
        crowd = [subprocess.Popen(("/usr/bin/python3", "-c", flood)) for _ in range(2)]
        try:
            for number in range(SILENT):
                ctr.run(f"calm-{number}", "true")
                ctr.remove(f"calm-{number}")
            lines = [watching.line("container_create", f"calm-{n}") for n in range(SILENT)]
            starts = [watching.line("container_start", f"calm-{n}") for n in range(SILENT)]
        finally:
            for each in crowd:
                each.kill()
                each.wait(DEADLINE_S)

    assert [line.event["evidence"]["status"] for line in lines] == ["complete"] * SILENT
    early = [line.arrived_ns for line in lines], [line.arrived_ns for line in starts]
    assert all(create < start for create, start in zip(*early, strict=True))
    took = sorted(line.event["evidence"]["after_ms"] for line in lines)
    assert took[len(took) // 2] < 30, took


def test_bad_addresses_end_it_at_once(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    done = subprocess.run(
        (*CTRWATCH, "events", "--metrics", str(precious)),
        capture_output=True, check=False, env=environment(), timeout=DEADLINE_S,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.decode() == (
        f"ctrwatch: --metrics {precious}: a file that is no socket is there, and stays;"
        " choose another path\n"
    )
    assert precious.read_text() == "kept"
    assert os.listdir(tmp_path) == ["precious"]
