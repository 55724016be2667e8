"""
Run a command on another machine: cgroup v2, systemd as pid 1, Debian's own kernel.

    python -m tests.vm                                vm.json: every way to make a container;
                                                      service.json: packaging/ctrwatch.service;
                                                      usage.xml: what containers use
    python -m tests.vm --keep                         and the support table's column "vm"
    python -m tests.vm sh -c 'podman info >/results/info'

What it leaves in /results is afterwards in .build/vm/results, or below the directory that the
environment variable CTRWATCH_VM names: there lies everything that this makes.
"""

import argparse
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.matrix.table import write_page
from tests.vm.disk import ROOT, NoDebianError, VmError, disk, python_packages
from tests.vm.machine import Machine

MATRIX = ("python3", "-m", "tests.matrix", "--column", "vm", "--results", "/results/vm.json")
SERVICE = ("python3", "-m", "tests.vm.service", "/results/service.json")
USAGE = ("python3", "-m", "tests.vm.usage", "/results/usage.xml")
RESULT = ROOT / "tests/matrix/results/vm.json"
DEADLINE_S = 1080.0  # with boot and shutdown below twenty minutes
JOURNAL = ("sh", "-c", "journalctl --boot --no-pager >/results/journal.txt")
JOURNAL_S = 60.0
CAN_NOT = 77  # as automake's tests say that they can't be run here


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="SECONDS")
    parser.add_argument("--keep", action="store_true", help="write docs/support.md anew")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what root runs in the guest")
    chosen = parser.parse_args()
    place = cache()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            code = run(
                place,
                [chosen.command] if chosen.command else [MATRIX, SERVICE, USAGE],
                chosen.deadline,
            )
        if chosen.keep and code == 0:
            shutil.copyfile(place / "results/vm.json", RESULT)
            write_page()
        return code  # noqa: TRY300
    except NoDebianError as error:
        print(f"error: {error}", file=sys.stderr)
        return CAN_NOT
    except (VmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def cache() -> Path:
    return Path(os.environ.get("CTRWATCH_VM") or ROOT / ".build/vm").absolute()


def run(place: Path, commands: Sequence[Sequence[str]], deadline_s: float) -> int:
    """One after the other, as long as they end well; the last one's exit code."""
    results = place / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    machine = Machine(disk(place), python_packages(place), results)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {what}", file=sys.stderr, flush=True)

    say("boot")
    with machine:
        say(f"Linux {machine.up['kernel']} is up")
        for command in commands:
            say(f"running {' '.join(command)}")
            code = machine.run(command, deadline_s, _print)
            say(f"exit code {code}" + (f": not done in {deadline_s:.0f} s" if code == 124 else ""))
            if code != 0:
                break
        machine.run(JOURNAL, JOURNAL_S)
    say(f"switched off; what it left, and its journal, are in {results}")
    return code


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VmError(f"another machine is at work in {place}; or set CTRWATCH_VM") from None
        yield


def _print(text: str) -> None:
    print(text, end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
