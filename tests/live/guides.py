"""A page of the docs as its reader follows it: the files that it shows, the commands that it gives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.live.tmux import Tmux
from tests.live.waiting import until
from tests.live.watching import DEADLINE_S, ctrwatch, environment

DOCS: Final = Path(__file__).parents[2] / "docs"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FILE: Final = re.compile(r"# (\S+\.\w+)\n")
_FOLLOWS: Final = re.compile(r"ctrwatch events\b")  # it goes on until it is ended
_TABLE: Final = re.compile(r"ctrwatch top$")  # the same, and it wants a terminal
_STORE: Final = re.compile(r"--store (\S+)")
_MAY: Final = (0, 1, 4)  # exit codes: done, differs, --fail-on


class Step(NamedTuple):
    """A command, and the lines that the page shows as what it prints."""

    command: str
    shown: tuple[str, ...]


def steps(page: str) -> Iterator[Step | tuple[str, str]]:
    """Commands, and files as (name, content), in the page's order."""
    for language, text in _BLOCK.findall(page):
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *shown = part.replace("\\\n", "").splitlines()
                yield Step(command, tuple(shown))
        elif found := _FILE.match(text):
            yield found[1], text


class Guide:
    """
    Follows a page in *home*; `followed` has what each command printed.

    *meanwhile* happens on the host once a watch of the page is listening.
    """

    def __init__(self, page: str, home: Path, meanwhile: Callable[[], None] | None = None) -> None:
        self._page, self._home, self._meanwhile = page, home, meanwhile
        self.followed: list[tuple[Step, str]] = []
        self._running: list[subprocess.Popen[str]] = []

    def follow(self) -> None:
        """Raises AssertionError at the first command that does not do what the page says."""
        try:
            for step in steps((DOCS / self._page).read_text()):
                if isinstance(step, Step):
                    self._run(step)
                else:
                    (self._home / step[0]).write_text(step[1])
        finally:
            for process in self._running:
                self._end(process)

    def _run(self, step: Step) -> None:
        if _FOLLOWS.search(step.command):
            self._running.append(self._started(step))
            if self._meanwhile is not None:
                self._meanwhile()
            return
        if _TABLE.search(step.command):
            self._look(step)
            return
        ran = subprocess.run(
            ("bash", "-o", "pipefail", "-c", step.command),
            cwd=self._home, env=_environment(), capture_output=True, text=True, check=False,
            timeout=3 * DEADLINE_S,
        )  # fmt: skip
        assert ran.returncode in _MAY, f"{step.command}: {ran.stderr}"
        assert "Traceback" not in ran.stderr, ran.stderr
        self.followed.append((step, ran.stdout))
        if step.shown:
            assert ran.stdout.splitlines() == list(step.shown), step.command

    def _started(self, step: Step) -> subprocess.Popen[str]:
        """Listening, when it is returned."""
        process = subprocess.Popen(
            ("bash", "-c", f"exec {step.command.removeprefix('sudo ')}"),
            cwd=self._home, env=_environment(), text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "listening" in line:
                self._wait_for_rows(step.command)
                return process
        raise AssertionError(f"{step.command}: {''.join(said)}")

    def _look(self, step: Step) -> None:
        """As who looks at a table, and has seen enough."""
        with Tmux(self._home, 100, 30) as tmux:
            tmux.top(*step.command.split()[3:])
            self.followed.append((step, tmux.shown()))
            tmux.press("q")
            assert tmux.ended() == 0

    def _wait_for_rows(self, command: str) -> None:
        """A reader comes to the next command later than what was there comes to the store."""
        if found := _STORE.search(command):
            last = "violation" if "--policy" in command else "existing_container"
            ask = ("history", "--store", str(self._home / found[1]), "--json", "--event", last)
            until(f"{last} in the store", lambda: bool(ctrwatch(*ask)), DEADLINE_S)

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode in _MAY, errors
        assert "Traceback" not in errors


def _environment() -> dict[str, str]:
    """With our `ctrwatch`, and a `sudo` for those who are root anyway."""
    bin_ = Path(sys.executable).parent
    return {
        **environment(),
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "BASH_FUNC_sudo%%": '() { "$@"; }',
    }
