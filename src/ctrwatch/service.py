"""
What a service manager is told: listening, alive, ending. sd_notify(3), and nothing of systemd's.

A datagram to the socket that `NOTIFY_SOCKET` names; where it names none, nobody is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

__all__ = ("Service",)

log = logging.getLogger(__name__)


class Service:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        for_us = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        period = environment.get("WATCHDOG_USEC", "") if for_us else ""
        self._beat_s = int(period) / 2e6 if period.isdigit() else 0.0

    def ready(self, status: str) -> None:
        """It listens; *status* is the line that `systemctl status` shows."""
        self._say(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    async def beat(self) -> None:
        """Say that the event loop goes round, as often as asked for; not asked, return."""
        while self._beat_s:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._beat_s)

    def _say(self, what: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sender:
                sender.sendto(what.encode(), self._address)
        except OSError as error:
            log.warning("the service manager can't be told %s: %s", what.partition("\n")[0], error)
