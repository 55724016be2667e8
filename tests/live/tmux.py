"""A terminal that can be looked at: a tmux of its own, with one window."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.live.watching import CTRWATCH, DEADLINE_S, environment

PROMPT = "ready>"


class Tmux:
    """`with Tmux(home, 200, 50) as tmux: tmux.type("ctrwatch top"); tmux.until("AGE")`."""

    def __init__(self, home: Path, width: int, height: int, **variables: str) -> None:
        self._socket, self._size = home / "tmux", (width, height)
        self._variables = variables

    def __enter__(self) -> Self:
        width, height = map(str, self._size)
        shell = ("sh", "-c", f"PS1='{PROMPT} ' exec sh -i")
        self._run("-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, *shell)
        self.until(PROMPT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """The terminal goes, and with it who sits at it."""
        self._run("kill-server", check=False)

    def _run(self, *arguments: str, check: bool = True) -> str:
        path = os.pathsep.join([os.path.dirname(CTRWATCH[0]), os.environ["PATH"]])
        own = {**environment(), "LC_ALL": "C.UTF-8", "PATH": path, **self._variables}
        own = {name: value for name, value in own.items() if name not in ("TMUX", "TMUX_PANE")}
        done = subprocess.run(
            ("tmux", "-u", "-S", str(self._socket), *arguments),
            capture_output=True, check=False, env=own, timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr.decode()
        return done.stdout.decode()

    def write(self, text: str) -> None:
        self._run("send-keys", "-l", "--", text)

    def type(self, text: str) -> None:
        """And enter."""
        self.write(text)
        self._run("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """By tmux's names."""
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def shown(self, *, escapes: bool = False) -> str:
        return self._run("capture-pane", "-p", *(("-e",) if escapes else ()))

    def lines(self) -> list[str]:
        return self.shown().split("\n")

    def asked(self, what: str) -> str:
        """Of the pane, by tmux's format: `#{alternate_on}`."""
        return self._run("display-message", "-p", what).strip()

    def until(self, what: str | Callable[[str], bool], deadline_s: float = DEADLINE_S) -> str:
        """Until the screen has that text, or is as *what* says; the screen."""
        holds = (lambda shown: what in shown) if isinstance(what, str) else what
        until_s = time.monotonic() + deadline_s
        while not holds(shown := self.shown()):
            if time.monotonic() > until_s:
                raise TimeoutError(f"not within {deadline_s} s: {what}; the screen:\n{shown}")
            time.sleep(0.02)
        return shown

    def top(self, *options: str) -> None:
        """`ctrwatch top`, and the terminal's state before it in `before`."""
        self.before = self._state("before")
        self.type(f'{shlex.join([*CTRWATCH, "top", *options])}; echo "ended=$?"')
        self.until("Filter")

    def ended(self) -> int:
        """Once the shell is back: `top`'s exit code. The screen before it is there a little sooner."""
        return int(self._answer("ended"))

    def after(self) -> str:
        """The terminal's state now."""
        return self._state("after")

    def _state(self, name: str) -> str:
        self.type(f'echo "{name}=$(stty -g | cksum)"')
        return self._answer(name)

    def _answer(self, name: str) -> str:
        """What the shell has echoed behind that name."""
        answer = re.compile(rf"^{name}=([\d ]+)$", re.MULTILINE)
        shown = self.until(lambda shown: answer.search(shown) is not None)
        return answer.findall(shown)[-1].strip()  # type: ignore[no-any-return]
