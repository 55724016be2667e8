import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm.__main__ import CAN_NOT, DEADLINE_S, cache

# Making the disk, once; booting.
REST_S = 900


@pytest.fixture(scope="session")
def results() -> Path:
    """What the machine leaves of its run."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", "tests.vm"],
        stderr=subprocess.PIPE,
        check=False,
        text=True,
        timeout=DEADLINE_S + REST_S,
    )
    if done.returncode == CAN_NOT:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return cache() / "results"
