"""`ctrwatch top` in a terminal, over real containers."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.runtimes import Docker
from tests.live.terminal import Terminal
from tests.live.tmux import PROMPT, Tmux
from tests.live.waiting import until
from tests.live.watching import CTRWATCH, DEADLINE_S, Event, ctrwatch, environment

BUSY = ("sh", "-c", "while :; do :; done")
FIRST = 3  # line of the screen that has the first row


@pytest.fixture(scope="module")
def quiet(docker: Docker) -> Iterator[str]:
    """A container that was there before."""
    container = docker.run("sleep", "600", options=("--name", "quiet-one", "--memory", "64m"))
    yield container
    docker.remove(container)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    with Tmux(tmp_path, 200, 50) as tmux:
        yield tmux


def top_pid(tmux: Tmux) -> int:
    """Of the `ctrwatch top` below the pane's shell."""
    shell = tmux.asked("#{pane_pid}")
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    [pid] = [
        int(child) for child in children if b"top" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return pid


def test_it_is_used(docker: Docker, quiet: str, tmux: Tmux) -> None:
    tmux.top("--every", "1", "--filter=-one")  # other tests' containers are not ours to count
    tmux.until("quiet-one")

    busy = docker.run(*BUSY, options=("--name", "busy-one"))
    tmux.until(lambda _: "busy-one" in tmux.lines()[FIRST])  # the newest is the first
    idle = docker.run("sleep", "600", options=("--name", "idle-one"))
    tmux.until(lambda _: "idle-one" in tmux.lines()[FIRST])
    tmux.press("s")
    tmux.until("sort by")
    tmux.press("Down", "Down", "Down", "Down", "Enter")
    tmux.until(lambda shown: "by cpu" in shown and "busy-one" in tmux.lines()[FIRST])
    tmux.until(lambda _: "█" in tmux.lines()[FIRST] or "▇" in tmux.lines()[FIRST])

    tmux.press("/")
    tmux.write("-one quiet")
    tmux.until(lambda shown: "filter: -one quiet" in shown and "busy-one" not in shown)
    tmux.press("Enter")

    tmux.resize(80, 24)
    shown = tmux.until(
        lambda shown: "1–1 of 1" in shown and "%LIM" in shown and "READ" not in shown
    )
    assert all(len(line) <= 80 for line in shown.split("\n"))
    tmux.press("Enter")
    tmux.until('"container_name": "quiet-one"')
    tmux.press("Escape")
    tmux.until(lambda shown: '"container_name"' not in shown)  # Esc and a key at once are Alt
    tmux.press("/")
    tmux.write("-one")
    tmux.press("Enter")
    tmux.until("busy-one")

    docker.remove(busy, idle)
    tmux.until("signal 9, CPU")
    tmux.until(lambda shown: "busy-one" not in shown)

    tmux.press("q")
    assert tmux.ended() == 0
    assert tmux.asked("#{alternate_on}#{cursor_flag}#{mouse_any_flag}") == "010"
    assert tmux.after() == tmux.before
    assert "busy-one" not in tmux.shown()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)
def test_a_signal_ends_it_and_the_terminal_is_as_before(tmux: Tmux, number: signal.Signals) -> None:
    tmux.top()
    os.kill(top_pid(tmux), number)
    assert tmux.ended() == 0

    assert tmux.asked("#{alternate_on}#{cursor_flag}#{mouse_any_flag}") == "010"
    assert tmux.after() == tmux.before


def test_ctrl_c_ends_it(tmux: Tmux) -> None:
    tmux.top("--no-mouse")
    assert tmux.asked("#{mouse_any_flag}") == "0"
    tmux.press("C-c")
    assert tmux.ended() == 0


def test_a_terminal_that_goes_ends_it(tmux: Tmux) -> None:
    tmux.top()
    pid = top_pid(tmux)
    tmux.kill()

    until("it has ended", lambda: not Path(f"/proc/{pid}").exists())


def test_without_colours(tmp_path: Path, quiet: str) -> None:
    with Tmux(tmp_path, 80, 24, NO_COLOR="1") as tmux:
        tmux.top()
        tmux.until("quiet-one")
        shown = tmux.shown(escapes=True)
        tmux.press("q")
        assert tmux.ended() == 0

    codes = {code for part in shown.split("\x1b[")[1:] for code in part.split("m")[0].split(";")}
    assert not {code for code in codes if code.isdigit() and 30 <= int(code) <= 49} - {"39", "49"}


def test_once_is_a_table(docker: Docker, quiet: str) -> None:
    busy = docker.run(*BUSY, options=("--name", "busy-one"))
    table = ctrwatch("top", "--once", "--sort", "cpu", "--filter=-one").splitlines()
    docker.remove(busy)

    titles, first = table[0].split(), table[1].split()
    assert titles[:6] == ["AGE", "RUNTIME", "NAME", "IMAGE", "CPU", "MEM"]
    assert first[titles.index("NAME")] == "busy-one"
    assert float(first[titles.index("CPU")]) > 0.1
    assert any("quiet-one" in line for line in table)


def test_once_fits_a_terminal(tmp_path: Path, quiet: str) -> None:
    with Tmux(tmp_path, 80, 24) as tmux:
        tmux.type(shlex.join([*CTRWATCH, "top", "--once", "--filter", "quiet"]))
        shown = tmux.until(lambda shown: "quiet-one" in shown and shown.count(PROMPT) == 2)

    lines = shown.split("\n")
    titles = next(at for at, line in enumerate(lines) if line.startswith("AGE"))
    assert "quiet-one" in lines[titles + 1]  # no line was wrapped
    assert lines[titles].split()[-1] == "MIN"


def test_once_as_json(docker: Docker, quiet: str) -> None:
    options = ("--filter", "quiet", "--where", "runtime == 'docker'")
    whole = json.loads(ctrwatch("top", "--once", "--json", *options))

    [row] = whole["containers"]
    assert (row["container_id"], row["container_name"]) == (quiet, "quiet-one")
    assert row["usage"]["memory_limit_bytes"] == 64 << 20
    assert row["rates"]["seconds"] == pytest.approx(1, abs=0.9)
    assert whole["host_rates"]["cpu_cores"] is not None
    assert whole["living"] >= 1


def test_json_is_an_object_each_time(docker: Docker, quiet: str) -> None:
    command = (*CTRWATCH, "top", "--json", "--every", "0.5", "--filter", "newborn")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        first: Event = json.loads(process.stdout.readline())
        container = docker.run("sleep", "600", options=("--name", "newborn"))
        seen = next(row for row in _rows(process.stdout) if row["usage"] is not None)
        docker.remove(container)
        ended = next(row for row in _rows(process.stdout) if row["state"] == "ended")
        process.send_signal(signal.SIGTERM)
        process.stdout.read()

    assert first["containers"] == []
    assert (seen["container_id"], seen["born_seen"]) == (container, True)
    assert ended["bill"]["duration_seconds"] > 0
    assert process.returncode == 0


def _rows(stream: object) -> Iterator[Event]:
    until_s = time.monotonic() + DEADLINE_S
    for line in stream:  # type: ignore[attr-defined]
        yield from json.loads(line)["containers"]
        assert time.monotonic() < until_s


def test_a_reader_that_has_enough_is_no_failure() -> None:
    with subprocess.Popen(
        (*CTRWATCH, "top", "--json", "--every", "0.5"), stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0


def test_without_a_terminal_it_says_what_to_do() -> None:
    done = subprocess.run(
        (*CTRWATCH, "top"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=environment(),
    )

    assert done.returncode == 2
    assert b"--once" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_plain_terminal(quiet: str) -> None:
    """Not tmux: a pty that answers nothing."""
    with Terminal("top") as terminal:
        terminal.until("quiet-one")
    assert terminal.shown.count("\x1b[?1049l") == 1
