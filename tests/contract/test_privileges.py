"""What a process may still do that has called `keep`: as root, and as whoever runs the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctrwatch.privileges import NUMBERS

HEADER = Path("/usr/include/linux/capability.h")
SCRIPT = """
from pathlib import Path
from ctrwatch.privileges import keep
keep(["CAP_SYS_PTRACE"])
print(Path("/proc/self/status").read_text())
"""
OTHER_USER = 65534


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(None, id="whoever-runs-this"),
        pytest.param(
            OTHER_USER,
            id="another-user",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
        ),
    ],
)
def test_nothing_is_left_but_what_is_kept(user: int | None) -> None:
    done = subprocess.run(
        (sys.executable, "-B", "-c", SCRIPT), capture_output=True, text=True, check=False,
        user=user, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status = dict(re.findall(r"^(\w+):\t(\w+)$", done.stdout, re.MULTILINE))
    kept = 1 << NUMBERS["CAP_SYS_PTRACE"]

    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16)
    assert int(status["CapPrm"], 16) & ~kept == 0
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0


@pytest.mark.skipif(not HEADER.exists(), reason="needs the kernel's headers")
def test_the_numbers_are_the_kernels() -> None:
    defined = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE))

    assert {name: int(defined[name]) for name in NUMBERS} == NUMBERS
