"""A program for each violation: real programs, that succeed, fail, hang, or can't be run."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctrwatch.actions.command import Command, words
from ctrwatch.errors import InputError
from tests.unit.verdicts import EVENT, VIOLATION, numbered

DEADLINE_S = 10.0


@contextmanager
def command(*program: str | Path, deadline_s: float = 5.0) -> Iterator[Command]:
    made: list[Command] = []
    # In a thread of its own: what it gives up is a thread's, and the tests go on with theirs.
    thread = threading.Thread(
        target=lambda: made.append(Command([str(word) for word in program], deadline_s=deadline_s))
    )
    thread.start()
    thread.join()
    try:
        yield made[0]
    finally:
        made[0].close()


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s


def script(directory: Path, text: str) -> Path:
    path = directory / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_it_gets_the_violation_on_its_standard_input(tmp_path: Path) -> None:
    program = script(tmp_path, f'cat > "{tmp_path}/got"; echo "$1" > "{tmp_path}/word"')
    with command(program, "a b; $(false)") as made:
        made.push(VIOLATION, EVENT)

    said = json.loads((tmp_path / "got").read_text())
    assert said["violation"]["id"] == "v1"
    assert said["container"]["container_name"] == "web"
    assert (tmp_path / "word").read_text() == "a b; $(false)\n"
    assert made.counted == {"succeeded": 1}


def test_it_has_no_privilege_and_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    program = script(
        tmp_path,
        f'cat /proc/self/status > "{tmp_path}/status"; env > "{tmp_path}/env";'
        f' ls -l /proc/self/fd > "{tmp_path}/fds"; cut -d" " -f6,19 /proc/self/stat > "{tmp_path}/stat"',
    )  # fmt: skip
    with command(program) as made:
        made.push(VIOLATION, EVENT)

    status = dict(re.findall(r"^(\w+):\t(\w+)$", (tmp_path / "status").read_text(), re.MULTILINE))
    assert [int(status[f"Cap{which}"], 16) for which in ("Eff", "Prm", "Inh", "Amb")] == [0] * 4
    assert status["NoNewPrivs"] == "1"
    assert "NOTIFY_SOCKET" not in (tmp_path / "env").read_text()
    opened = re.findall(r" (\d+) -> (\S+)", (tmp_path / "fds").read_text())
    assert [(number, file) for number, file in opened if number in "12"] == [
        ("1", str(tmp_path / "fds")), ("2", "/dev/null")
    ]  # fmt: skip
    assert {number for number, _ in opened} <= {"0", "1", "2", "3"}  # 3: ls's own
    session, nice = (tmp_path / "stat").read_text().split()
    assert int(session) != os.getsid(0)
    assert nice == str(os.getpriority(os.PRIO_PROCESS, 0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("exit 3", "exit code 3", id="exit-code"),
        pytest.param("kill -11 $$", "killed by signal 11", id="signal"),
    ],
)
def test_one_that_fails_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    with command(script(tmp_path, text)) as made:
        made.push(VIOLATION, EVENT)

    assert made.counted == {"failed": 1}
    assert said in caplog.text


def test_one_that_hangs_is_killed_with_what_it_has_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    program = script(tmp_path, f'sleep 600 > "{fifo}" & sleep 600')
    with command(program, deadline_s=0.3) as made:
        made.push(VIOLATION, EVENT)
        with fifo.open() as alive:
            assert alive.read() == ""  # its last writer has ended
        until(lambda: made.counted["killed"] == 1)

    assert "killed after 0.3 s" in caplog.text


def test_at_most_four_run_at_a_time_and_all_have_their_turn(tmp_path: Path) -> None:
    with command(script(tmp_path, f'cat > "{tmp_path}/$$"')) as made:
        for number in range(23):
            made.push(numbered(number), EVENT)

    got = {json.loads(path.read_text())["violation"]["id"] for path in tmp_path.glob("[0-9]*")}
    assert got == {f"v{number}" for number in range(23)}
    assert made.counted == {"succeeded": 23}


def test_what_finds_no_room_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = tmp_path / "go"
    program = script(tmp_path, f'until [ -e "{go}" ]; do sleep 0.01; done')
    with command(program) as made:
        before_s = time.monotonic()
        for number in range(20_000):
            made.push(numbered(number), EVENT)
        assert time.monotonic() - before_s < DEADLINE_S
        assert made.counted["dropped"] > 1000
        assert caplog.text.count("too slow") == 1
        made._waiting.clear()  # thousands would take a minute
        go.touch()


def test_a_program_that_is_gone_when_it_is_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with command(tmp_path / "none") as made:
        made.push(VIOLATION, EVENT)

    assert made.counted == {"failed": 1}
    assert "No such file or directory" in caplog.text


def test_the_program_is_found_before_anything_happens() -> None:
    assert words("cat -n")[0].startswith("/")
    assert stat.S_IXUSR & os.stat(words("cat")[0]).st_mode
    assert words(f"{sys.executable} -c 'print(1)'")[1:] == ["-c", "print(1)"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param("", "give a program", id="empty"),
        pytest.param("cat 'x", "No closing quotation", id="quote"),
        pytest.param("no-such-program-here -x", "no such program", id="unknown"),
        pytest.param("/etc/passwd", "can't be executed", id="no-program"),
    ],
)
def test_what_is_no_command(given: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        words(given)
