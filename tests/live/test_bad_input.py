"""Hosts that can't, files that lie, directories that vanish: a clear result, and the events go on."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.runtimes import Ctr
from tests.live.terminal import Terminal
from tests.live.watching import CTRWATCH, SENSORS, Event, Watching, environment, unified

NOBODY = 65534
RUNTIME = """
import os, sys
os.mkdir(os.environ["CGROUP"])
print("made", flush=True)
sys.stdin.read()
os.rmdir(os.environ["CGROUP"])
"""


@pytest.fixture(scope="module")
def watching() -> Iterator[Watching]:
    with Watching("--wait", "0.5") as watching:
        yield watching


@contextmanager
def runtime(directory: Path, name: str, *arguments: str | Path) -> Iterator[None]:
    """
    A process whose command line is `runc create …`, and who makes the cgroup *name*.

    It is Python that executes a script called "create": to the kernel, and so to
    ctrwatch, that is all there is to see.
    """
    (directory / "create").write_text(RUNTIME)
    with subprocess.Popen(
        ("/usr/bin/runc", "create", *arguments), executable="/usr/bin/python3", cwd=directory,
        env={"CGROUP": str(unified() / name)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        yield


def failed(*command: str | Path, sensor: str = "ebpf", user: int | None = None) -> tuple[int, str]:
    """Exit code and standard error of `ctrwatch events` that can't run."""
    done = subprocess.run(
        (*command, *CTRWATCH, "events", "--sensor", sensor), capture_output=True, text=True, check=False,
        user=user, env={**environment(), "HOME": "/"}, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def hidden(path: str) -> tuple[str, ...]:
    """A prefix for a command that does not see what is at *path*."""
    cover = "mount -t tmpfs none" if Path(path).is_dir() else "mount --bind /dev/null"
    return "unshare", "--mount", "sh", "-c", f'{cover} {path}; exec "$@"', "sh"


@pytest.mark.parametrize("sensor", [*SENSORS, "auto"])
def test_no_privilege_is_one_sentence_and_exit_code_3(sensor: str) -> None:
    code, said = failed(sensor=sensor, user=NOBODY)

    assert code == 3
    assert "run as root" in said
    assert len(said.splitlines()) == 1


def test_a_kernel_without_btf_is_one_sentence_and_exit_code_3() -> None:
    code, said = failed(*hidden("/sys/kernel/btf"))

    assert code == 3
    assert "no BTF" in said
    assert "CONFIG_DEBUG_INFO_BTF" in said
    assert len(said.splitlines()) == 1


def test_a_missing_libbpf_is_one_sentence_and_exit_code_3() -> None:
    library = next(Path("/usr/lib").rglob("libbpf.so.1"))
    code, said = failed(*hidden(str(library.resolve())))

    assert code == 3
    assert "apt-get install libbpf1" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        pytest.param(b"{not json", "unavailable", id="no-json"),
        pytest.param(b"[1, 2]", "unavailable", id="no-object"),
        pytest.param(b" " * (100 << 20), "unavailable", id="100-megabytes"),
        pytest.param(None, "not_found", id="no-such-file"),
    ],
)
def test_a_bundle_that_cant_be_read_is_a_reason(
    watching: Watching, tmp_path: Path, config: bytes | None, reason: str
) -> None:
    name = f"bad-bundle-{reason}-{len(config or b'')}"
    if config is not None:
        (tmp_path / "config.json").write_bytes(config)
    with runtime(tmp_path, name, "--bundle", tmp_path, name):
        event = watching.event("container_create", name)

    assert event["evidence"]["status"] == "unverified"
    assert event["evidence"]["missing"]["security"] in (reason, "no_evidence")
    watching.event("container_remove", name)


def test_a_command_line_without_a_bundle_means_the_working_directory(
    watching: Watching, tmp_path: Path
) -> None:
    spec = {"ociVersion": "1.0.2", "process": {"args": ["/bin/here"], "cwd": "/"}}
    (tmp_path / "config.json").write_text(json.dumps(spec))
    with runtime(tmp_path, "no-bundle", "no-bundle"):
        event = watching.event("container_create", "no-bundle")

    assert event["process"]["args"] == ["/bin/here"]
    assert event["runtime"] == "runc"


def test_a_name_of_4_kb_with_control_characters_is_escaped_and_bounded(
    watching: Watching, tmp_path: Path
) -> None:
    hostile = "\x1b[2J\x00\u202e\n" * 700
    annotations = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": hostile,
    }
    spec = {"ociVersion": "1.0.2", "annotations": annotations, "process": {"args": ["x"]}}
    bundle = tmp_path / "io.containerd.runtime.v2.task/k8s.io/hostile-name"
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(spec))
    with runtime(tmp_path, "hostile-name", "--bundle", bundle, "hostile-name"):
        event = watching.event("container_create", "hostile-name")

    name = event["container_name"]  # JSON escapes it; for terminals there is core.text.clean
    assert len(name) <= 512
    assert hostile.startswith(name.removesuffix("…"))


@pytest.mark.parametrize("format_", ["text", "json", "tracee"])
def test_nothing_a_stranger_wrote_moves_a_terminals_cursor(tmp_path: Path, format_: str) -> None:
    """A name, a bundle's path in a warning of the log, and a cgroup's path, on a real terminal."""
    hostile = "a\x1b[2J\x9b31m\u202e\x07\r"
    bundle, bad = (tmp_path / f"{name}{hostile}" for name in ("good", "bad"))
    for directory in (bundle, bad):
        directory.mkdir()
    spec = {"ociVersion": "1.0.2", "process": {"args": [hostile]}, "annotations": {"a": hostile}}
    (bundle / "config.json").write_text(json.dumps(spec))
    (bad / "config.json").write_text("{")
    parent = unified() / f"ctrwatch-{hostile}"
    parent.mkdir()
    with Terminal("events", "--raw", "--wait", "0.5", "--format", format_) as terminal:
        terminal.until("listening")
        for name, place in (("good-name", bundle), ("bad-name", bad)):
            with runtime(tmp_path, f"{parent.name}/{name}", "--bundle", place, name):
                terminal.until("it is asked again" if place is bad else name)
    parent.rmdir()
    shown = re.sub(r"\x1b\[(?:0|2|31|32|33)m", "", terminal.shown)  # our own colours

    assert "\\x1b[2J" in shown or "\\u001b[2J" in shown
    assert [line for line in shown.split("\n") if not line.removesuffix("\r").isprintable()] == []


def test_a_directory_that_is_gone_before_it_is_looked_at_is_told(watching: Watching) -> None:
    container = "e1" * 32
    directory = unified() / f"docker-{container}.scope"
    directory.mkdir()
    directory.rmdir()
    watching.event("container_remove", container)

    created, removed = watching.of(container)
    assert (created["event"], removed["event"]) == ("container_create", "container_remove")
    assert created["evidence"]["status"] == "unverified"
    assert created["runtime"] == "docker"
    assert all(
        created[field] or field in created["evidence"]["missing"]
        for field in ("container_image", "container_name", "pod_name", "container_image_digest")
    )


def test_a_socket_that_refuses_is_a_reason_and_others_stay_in_time(
    ctr: Ctr, tmp_path: Path
) -> None:
    refusing = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(refusing))  # nobody listens
        with Watching("--wait", "0.5", "--socket", f"docker={refusing}") as watching:
            container = "e2" * 32
            directory = unified() / f"docker-{container}.scope"
            directory.mkdir()
            ctr.run("beside-refusal", "sleep", "600")
            beside = watching.event("container_create", "beside-refusal")
            event = watching.event("container_create", container)
            directory.rmdir()
            ctr.remove("beside-refusal")

    assert event["evidence"]["missing"]["container_image"] == "unavailable"
    assert beside["evidence"]["status"] == "complete"
    assert any(str(refusing) in line for line in watching.errors)


def test_what_the_kernel_dropped_is_counted_exactly(ctr: Ctr) -> None:
    """A reader that is stopped for a while: seen and lost add up to what happened."""
    births, directory = 60_013, unified() / "ctrwatch-loss"
    with Watching("--raw", "--no-existing") as watching:
        watching.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(births):
                directory.mkdir()
                directory.rmdir()
        finally:
            watching.process.send_signal(signal.SIGCONT)
        ctr.run("after-the-storm", "true")
        after = watching.event("container_create", "after-the-storm")
        watching.stop()
        seen = sum(1 for event in events(watching) if event.get("cgroup_path") == "/ctrwatch-loss")
        ctr.remove("after-the-storm")

    assert after["lost_before"] > 0
    assert seen + after["lost_before"] == 2 * births
    assert f"{after['lost_before']} lost" in watching.errors[-1]


def events(watching: Watching) -> Sequence[Event]:
    return [line.event for line in watching.lines]
