"""
What ctrwatch keeps of its privileges once it listens: what reading takes, and no more.

Capabilities are a thread's, and a new thread has those of the one that makes it: `keep`
comes before the first thread. See capabilities(7); the numbers and structures are those
of include/uapi/linux/capability.h and prctl.h.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import os
from collections.abc import Iterable
from typing import Final

__all__ = ("NUMBERS", "READING", "keep")

NUMBERS: Final = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_KILL": 5,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
}
# Why each: docs/security.md. tests/live/test_privileges.py shows what goes without it.
READING: Final = frozenset({"CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"})

_LAST: Final = 63  # the masks have no more bits
_CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 23, 24, 38
_VERSION_3: Final = 0x20080522  # two words of 32 bits each


class _Header(c.Structure):
    _fields_ = (("version", c.c_uint32), ("pid", c.c_int))


class _Word(c.Structure):
    _fields_ = (("effective", c.c_uint32), ("permitted", c.c_uint32), ("inheritable", c.c_uint32))


_libc: Final = c.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (c.c_int, c.c_ulong, c.c_ulong, c.c_ulong, c.c_ulong)


def keep(names: Iterable[str]) -> None:
    """
    Give up every capability but *names*, and with it each way to get one back.

    Of *names* only what this thread has is kept. Raises OSError where the kernel refuses.
    """
    kept = sum(1 << NUMBERS[name] for name in names)
    for number in range(_LAST + 1):
        if not kept >> number & 1 and _prctl(_CAPBSET_READ, number) == 1:
            # Without CAP_SETPCAP the bounds stay: nothing new is gained within them below.
            with contextlib.suppress(PermissionError):
                _checked(_prctl(_CAPBSET_DROP, number))
    _checked(_prctl(_SET_NO_NEW_PRIVS, 1))
    header, words = _Header(_VERSION_3, 0), (_Word * 2)()
    _checked(_libc.capget(c.byref(header), words))
    for place, word in enumerate(words):
        word.permitted &= kept >> 32 * place & 0xFFFFFFFF
        word.effective, word.inheritable = word.permitted, 0
    _checked(_libc.capset(c.byref(header), words))


def _prctl(option: int, argument: int) -> int:
    return int(_libc.prctl(option, argument, 0, 0, 0))


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(c.get_errno(), os.strerror(c.get_errno()))
