"""
In the guest: ctrwatch as packaging/ctrwatch.service runs it. What became of it, as JSON.

    python3 -m tests.vm.service /results/service.json
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.live.bed import Bed
from tests.live.daemons import command
from tests.live.waiting import until
from tests.live.watching import Line
from tests.matrix.watch import Outcome, go
from tests.matrix.ways import WAYS
from tests.vm.disk import ROOT

UNIT: Final = "ctrwatch.service"
PLACE: Final = Path("/etc/systemd/system", UNIT)
PROGRAM: Final = Path("/usr/local/bin/ctrwatch")
METADATA: Final = Path(site.getsitepackages()[0], "ctrwatch.dist-info/METADATA")
# As an installation leaves it, from the checkout and the packages beside it.
SCRIPT: Final = f"""#!/bin/sh
export PYTHONPATH={os.environ.get("PYTHONPATH", "")}
exec python3 -m ctrwatch "$@"
"""
CONFIG: Final = Path("/etc/ctrwatch.toml")
WATCHDOG_S: Final = 10  # for the test; an emulated machine is slow
# As the unit says that it may be asked for more.
STORE: Final = "/var/lib/ctrwatch/history.db"
ASKED: Final = f"ctrwatch events --state /var/lib/ctrwatch --usage --store {STORE}"
DEADLINE_S: Final = 90
# Each place where evidence lies: root's daemon and its files, a storage, a user's, a bare
# bundle, a configuration, and a machine below systemd.
CHOSEN: Final = (
    "`docker run`",
    "`ctr run` in three namespaces",
    "`podman run`",
    "`podman run` by a user",
    "`runc run`",
    "LXC",
    "systemd-nspawn",
)


class Result(msgspec.Struct, kw_only=True):
    ways: dict[str, Outcome]
    threads: list[dict[str, str]]  # of /proc/PID/status
    properties: dict[str, str]
    reloaded: bool  # a file that was not there before
    restarted: bool  # after it had hung
    ended: dict[str, str]
    bills: list[bool]  # of the containers that ended: whether their last look was in time
    kept: list[str]  # events of the history, by name
    exposure: float  # by systemd-analyze security: 0 is best, 10 worst
    said: list[str]


class Journal:
    """What the service prints, as tests.live.watching has it of a ctrwatch of its own."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.said: list[str] = []
        self._changed = threading.Condition()

    @contextmanager
    def read(self) -> Iterator[None]:
        words = ("journalctl", "--unit", UNIT, "--follow", "--output=cat", "--lines=all")
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            reader = threading.Thread(target=self._read, args=(process.stdout,))
            reader.start()
            try:
                yield
            finally:
                process.terminate()
                reader.join()

    def _read(self, output: Any) -> None:
        for raw in output:
            with self._changed:
                if raw.startswith(b"{"):
                    arrived_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                    self.lines.append(Line(arrived_ns, json.loads(raw)))
                else:
                    self.said.append(raw.decode().rstrip())
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)


def main(results: Path) -> None:
    install()
    journal = Journal()
    with Bed() as bed, journal.read():
        command("systemctl", "start", UNIT)  # Type=notify: it listens when this returns
        chosen = [way for way in WAYS if way.name in CHOSEN]
        ways = {way.name: outcome for way, outcome in go(chosen, bed, journal)}
        pid = int(properties("MainPID")["MainPID"])
        threads = [status(path) for path in Path(f"/proc/{pid}/task").iterdir()]
        reloaded = reload(journal)
        known = properties(
            "ActiveState", "NRestarts", "MemoryCurrent", "TasksCurrent", "StatusText"
        )
        restarted = hang(pid)
        command("systemctl", "stop", UNIT)
        ended = properties("Result", "ExecMainStatus", "ActiveState")
    result = Result(
        ways=ways,
        threads=threads,
        properties=known,
        reloaded=reloaded,
        restarted=restarted,
        ended=ended,
        bills=[
            line.event.get("usage", {}).get("final", False)
            for line in journal.lines
            if line.event["event"] == "container_remove"
        ],
        kept=kept(),
        exposure=exposure(),
        said=journal.said,
    )
    results.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def install() -> None:
    PROGRAM.write_text(SCRIPT)
    PROGRAM.chmod(0o755)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    METADATA.parent.mkdir(parents=True)
    METADATA.write_text(f"Metadata-Version: 2.1\nName: ctrwatch\nVersion: {version}\n")
    shutil.copyfile(ROOT / "packaging" / UNIT, PLACE)
    command("systemd-analyze", "verify", PLACE)
    drop_in = PLACE.with_suffix(".service.d") / "test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\nExecStart=\nExecStart={ASKED}\n")
    command("systemctl", "daemon-reload")


def properties(*names: str) -> dict[str, str]:
    said = command("systemctl", "show", UNIT, *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in said.splitlines())


def status(thread: Path) -> dict[str, str]:
    lines = (line.split(":", 1) for line in (thread / "status").read_text().splitlines())
    return {key: value.strip() for key, value in lines if key.startswith(("Cap", "NoNew", "Secc"))}


def reload(journal: Journal) -> bool:
    """Whether it takes a file that is made now, and writes where that says."""
    output = Path("/var/log/ctrwatch/events.jsonl")
    CONFIG.write_text(f'wait = 1\n[output]\npath = "{output}"\n')
    command("systemctl", "reload", UNIT)
    try:
        until(
            "it has said so",
            lambda: any("wait, output.path" in said for said in list(journal.said)),
            deadline_s=DEADLINE_S,
        )
    finally:
        CONFIG.unlink()
        command("systemctl", "reload", UNIT)
    return output.exists()


def hang(pid: int) -> bool:
    """Whether another one takes its place when it does not go on."""

    def is_another() -> bool:
        now = properties("MainPID", "ActiveState", "NRestarts")
        return now["ActiveState"] == "active" and int(now["MainPID"]) not in (0, pid)

    os.kill(pid, signal.SIGSTOP)
    try:
        until("systemd has started it anew", is_another, deadline_s=DEADLINE_S)
    except TimeoutError:
        os.kill(pid, signal.SIGCONT)
        return False
    return True


def kept() -> list[str]:
    said = command(str(PROGRAM), "history", "--store", STORE, "--json")
    return [json.loads(line)["event"] for line in said.splitlines()]


def exposure() -> float:
    said = command("systemd-analyze", "security", "--no-pager", UNIT)
    print(said, flush=True)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
