"""
Containers that break the rules of the pack `resources`, and one that breaks none.

As the offenders are (tests/live/offenders.py), but they have to be watched for a while.
"""

from collections.abc import Callable
from typing import Final

from tests.live.bed import Bed
from tests.live.offenders import SLEEP, Offender

RESOURCES: Final = "resources"
BUSY: Final = "while :; do :; done"
THRIFTY: Final = ("--memory", "64m", "--pids-limit", "64", "--cpus", "1")
_TASKS: Final = "for each in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; wait"


def _docker(*options: str, script: str = "") -> Callable[[Bed], str]:
    program = ("sh", "-c", script) if script else SLEEP
    return lambda bed: bed.docker.run(*program, options=options)


def _how(*options: str, script: str = "sleep 600") -> str:
    return " ".join(("docker run", *options, "IMAGE", "sh -c", f"'{script}'"))


def _hog(rules: str, *options: str, script: str) -> Offender:
    made = _docker(*options, script=script)
    return Offender(_how(*options, script=script), {RESOURCES: rules}, made)


HOGS: Final = {
    "busy": _hog("cpu-hog unlimited", script=BUSY),
    "held back": _hog("throttled", "--cpus", "0.1", script=BUSY),
    "full": _hog(
        "memory-near-limit",
        *("--memory", "48m", "--memory-swap", "48m", "--shm-size", "64m"),
        script="dd if=/dev/zero of=/dev/shm/x bs=1M count=45; sleep 600",
    ),
    "thrashing": _hog(
        "memory-pressure",
        *("--memory", "16m", "--memory-swap", "16m"),
        script="dd if=/dev/zero of=/x bs=1M count=48; while :; do cat /x >/dev/null; done",
    ),
    "killed": _hog(
        "oom-killing",
        *("--memory", "16m", "--memory-swap", "16m"),
        script="tail /dev/zero; sleep 600",
    ),
    "crowd": _hog("pids-near-limit", "--pids-limit", "10", script=_TASKS),
}
