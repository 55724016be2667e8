"""
Where to listen, as `--metrics` says it: an address with a port, or a unix socket.

What stands at the path of a unix socket is only replaced if it is a socket of this very
user's that nobody listens on: what a killed ctrwatch leaves behind.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from types import TracebackType
from typing import Final, NoReturn, Self

from ctrwatch.errors import InputError

__all__ = ("Listening",)

_PATH_BYTES: Final = 107  # sockaddr_un's sun_path has 108, with the NUL
_UMASK: Final = 0o117  # a socket is 0777 without: for its owner and group, as the output is
# Connections that wait to be accepted; the kernel refuses, or lets wait, who comes then.
_BACKLOG: Final = 8
_OTHERS: Final = "something else listens there already; stop it, or choose another"


class Listening:
    """
    A socket that listens, from the making until `close`.

    *given*: `127.0.0.1:9470`, `[::1]:9470`, `localhost:9470`, port 0 for any that is free;
    or `unix:/PATH`, or `/PATH`. Raises InputError where that can't be.
    """

    def __init__(self, given: str) -> None:
        self._given = given
        self._made: os.stat_result | None = None  # our file
        at_path = given.startswith(("unix:", "/"))
        self._path = given.removeprefix("unix:") if at_path else ""
        if self._path:
            self.socket = self._at_path()
            self.where = f"unix:{self._path}"  # as it can be given again
        else:
            self.socket, self.where = self._at_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove the socket's file if it is still ours."""
        self.socket.close()
        if self._made is not None:
            try:
                if os.path.samestat(os.lstat(self._path), self._made):
                    os.unlink(self._path)
            except OSError:
                pass  # somebody removed it, or we may not any more: the next one replaces it
            self._made = None

    # --- a port -------------------------------------------------------------------------

    def _at_port(self) -> tuple[socket.socket, str]:
        host, colon, port = self._given.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            address = ipaddress.ip_address(
                "127.0.0.1" if host == "localhost" else host[1:-1] if bracketed else host
            )
        except ValueError:
            self._refuse("")
        plain = port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535
        if not colon or not plain or bracketed != (address.version == 6):
            self._refuse("")
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        made = self._bound(family, (str(address), int(port)))
        real: int = made.getsockname()[1]
        return made, f"[{address}]:{real}" if address.version == 6 else f"{address}:{real}"

    def _bound(self, family: socket.AddressFamily, address: tuple[str, int] | str) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family == socket.AF_UNIX:
                before = os.umask(_UMASK)  # a chmod after could meet another file
                try:
                    made.bind(address)
                finally:
                    os.umask(before)
                self._made = os.lstat(self._path)
            else:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(address)
            made.listen(_BACKLOG)
        except OSError as error:
            made.close()
            self._refuse(
                _OTHERS if error.errno == errno.EADDRINUSE else error.strerror or "can't listen"
            )
        made.settimeout(0)
        return made

    # --- a path -------------------------------------------------------------------------

    def _at_path(self) -> socket.socket:
        if not self._path.startswith("/") or "\0" in self._path:
            self._refuse("")
        if len(os.fsencode(self._path)) > _PATH_BYTES:
            self._refuse(f"a socket's path has at most {_PATH_BYTES} bytes")
        try:
            self._make_room()
        except FileNotFoundError:
            pass  # nothing is there; or its directory is not, and then bind says so
        except OSError as error:
            self._refuse(error.strerror or "can't be looked at")
        return self._bound(socket.AF_UNIX, self._path)

    def _make_room(self) -> None:
        there = os.lstat(self._path)
        if not stat.S_ISSOCK(there.st_mode):
            self._refuse("a file that is no socket is there, and stays; choose another path")
        if there.st_uid != os.geteuid():
            self._refuse("another user's socket is there, and stays; choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0)  # one that hangs is in use
            try:
                probe.connect(self._path)
            except ConnectionRefusedError:
                os.unlink(self._path)
            except BlockingIOError:
                self._refuse(_OTHERS)
            else:
                self._refuse(_OTHERS)

    def _refuse(self, why: str) -> NoReturn:
        """Raise InputError; without a *why* it was not given as an address."""
        ways = "give 127.0.0.1:PORT, another ADDRESS:PORT, or unix:/path/to/socket"
        raise InputError(f"--metrics {self._given}: {why or ways}") from None
