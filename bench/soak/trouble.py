"""What is killed and stopped: the daemons, and ctrwatch itself. Each is there again when that returns."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from bench.programs import CTRWATCH, BenchError, environment
from bench.soak.verdict import Away
from tests.live.daemons import start_daemon
from tests.live.waiting import until

_LISTENING_S: Final = 60.0  # two cores are busy with a hundred containers
_STOPPED_S: Final = (0.3, 4.0)


class Target(Protocol):
    name: str

    def kill(self) -> None: ...

    def pause(self, seconds: float) -> None: ...


class Daemon:
    """A daemon of the bed that listens at *socket*; its home is that socket's directory."""

    def __init__(self, name: str, socket_path: Path, runtimes: set[str]) -> None:
        self.name, self._socket = name, socket_path
        self._runtimes = frozenset(runtimes)
        # Never closed: the bed's own end needs its daemons, and sweeps what is left of them.
        self._processes = ExitStack()
        self.aways: list[Away] = []
        self._pid = pid_behind(socket_path)
        raw = Path(f"/proc/{self._pid}/cmdline").read_bytes()
        self._words = [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]

    def kill(self) -> None:
        since_ns = time.time_ns()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)  # dockerd takes a zombie for another dockerd
        home = self._socket.parent
        (home / "notify").unlink()
        start_daemon(home, self._processes, *self._words)
        self._pid = pid_behind(self._socket)
        self._away(since_ns, dead=True)

    def pause(self, seconds: float) -> None:
        since_ns = time.time_ns()
        os.kill(self._pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self._pid, signal.SIGCONT)
        self._away(since_ns, dead=False)

    def _away(self, since_ns: int, *, dead: bool) -> None:
        self.aways.append(Away(self._runtimes, since_ns, time.time_ns(), dead))


class Watcher:
    """`ctrwatch events --state`, started again as often as it is killed; its lines are in `events`."""

    name = "ctrwatch"

    def __init__(self, home: Path, *options: str, record: bool = False) -> None:
        self.events, self._log = home / "events.jsonl", home / "ctrwatch.log"
        self._home, self._record, self._lives = home, record, 0
        self._words: list[str | Path] = [
            *CTRWATCH, "--state", home / "state", "--output", self.events, *options
        ]  # fmt: skip
        self.samples: list[int] = []  # bytes resident, of this life
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BenchError("ctrwatch was not started")
        return self._process

    def start(self) -> None:
        self._lives += 1
        self.samples = []
        words = list(self._words)
        if self._record:
            words += ["--record", self._home / f"journal-{self._lives}.jsonl"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the soak, which ends it in order
            )

    def until_listening(self) -> None:
        def holds() -> bool:
            self.check()
            return self._log.read_bytes().count(b"ctrwatch: listening") >= self._lives

        until("ctrwatch listens", holds, _LISTENING_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.start()

    def pause(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.process.send_signal(signal.SIGCONT)

    def check(self) -> None:
        """Raises BenchError if it has ended by itself."""
        if self.process.poll() is not None:
            said = self._log.read_text(errors="replace")[-2000:]
            raise BenchError(f"ctrwatch ended with exit code {self.process.returncode}:\n{said}")

    def sample(self) -> None:
        self.samples.append(self.resident())

    def resident(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) << 10

    def stop(self) -> None:
        """In order: what it knows is told."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise BenchError("ctrwatch did not end within 30 s of SIGTERM") from None


class Trouble:
    """By chance, one at a time; `done` counts them by what was done to whom."""

    def __init__(self, targets: list[Target], seed: int) -> None:
        self._targets = targets
        self._chance = random.Random(f"{seed} trouble")
        self.done: Counter[str] = Counter()

    def pause_s(self) -> float:
        """Until the next one."""
        return self._chance.uniform(2, 10)

    def strike(self, spared: str = "") -> str:
        """*spared*: whom not to kill; it may be stopped for a moment. Returns what was done."""
        target = self._chance.choice(self._targets)
        stops = self._chance.random() < 0.4
        seconds = self._chance.uniform(*_STOPPED_S)
        if stops or target.name == spared:
            target.pause(seconds)
            what = f"{target.name} SIGSTOP"
        else:
            target.kill()
            what = f"{target.name} SIGKILL"
        self.done[what] += 1
        return what


def pid_behind(path: Path) -> int:
    """Of the process that listens there."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", raw)[0]
    return pid
