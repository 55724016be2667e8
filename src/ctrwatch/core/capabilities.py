"""The kernel's capabilities by name. Pure data: include/uapi/linux/capability.h, Linux 5.9."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ("ALL", "named")

_NAMES: Final = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN
    DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE
    LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST
    NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT
    SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG WAKE_ALARM
"""
ALL: Final = frozenset(f"CAP_{name}" for name in _NAMES.split())


def named(words: Iterable[str]) -> list[str]:
    """
    Those of *words* that are capabilities, as the kernel spells them, sorted.

    >>> named(["sys_time", "CAP_KILL", "cap_of_nothing"])
    ['CAP_KILL', 'CAP_SYS_TIME']
    """
    spelled = {"CAP_" + word.upper().removeprefix("CAP_") for word in words}
    return sorted(spelled & ALL)
