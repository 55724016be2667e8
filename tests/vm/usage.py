"""
In the guest: what containers use, on cgroup v2 with systemd, by the live tests that can be sure of it.

    python3 -m tests.vm.usage /results/usage.xml
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

FILE: Final = "tests/live/test_usage.py"
# A minute in an emulated machine. Without those that only win or lose a race many times.
CHOSEN: Final = (
    "test_a_busy_loop_that_is_held_back",
    "test_what_podman_says",
    "test_what_is_written_to_a_disk",
    "test_a_memory_hog_is_told_at_once",
    "test_a_kill_in_a_container_that_lives_on",
    "test_a_fork_storm_under_its_limit",
)


def main(results: str) -> None:
    """What failed is read from *results*, not from the exit code: the machine has more to do."""
    words = (*("python3", "-B", "-m", "pytest"), *("-p", "no:cacheprovider"), "--quiet")
    tests = (f"{FILE}::{name}" for name in CHOSEN)
    done = subprocess.run((*words, f"--junit-xml={results}", *tests), check=False)
    if done.returncode not in (0, 1):  # 1: tests failed
        sys.exit(done.returncode)


if __name__ == "__main__":
    main(sys.argv[1])
