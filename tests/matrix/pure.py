"""A host with cgroup v2 alone, in a mount namespace of its own: any host can be one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

__all__ = ("in_pure_v2",)

# What lies on top goes first. The runtimes and ctrwatch look at what is mounted here, so they
# find a v2 host; the v1 hierarchies go on elsewhere, and hold the controllers.
_SCRIPT = """
set -e
mount --make-rprivate /
awk '$5 ~ "^/sys/fs/cgroup" {{ print $5 }}' /proc/self/mountinfo | tac | xargs -r -n1 umount -l
mount -t cgroup2 none /sys/fs/cgroup
exec {command}
"""


def in_pure_v2(words: Sequence[str]) -> list[str]:
    """The command that runs *words* there, as root."""
    return ["unshare", "--mount", "sh", "-c", _SCRIPT.format(command=shlex.join(words))]
