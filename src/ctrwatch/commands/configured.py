"""What is set: by the command line, else by the file, else by default."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from ctrwatch.config import Settings
from ctrwatch.core.configuration import (
    BYTES_MAX,
    CONTAINERS_MAX,
    DEFAULT,
    Configuration,
    Sockets,
    overlaid,
    parse,
    said,
)
from ctrwatch.errors import InputError

__all__ = ("PATH", "Configured", "by_kind", "containers", "settings")

PATH: Final = Path("/etc/ctrwatch.toml")


class Configured:
    """
    `value` holds now, until `read` gives another one and somebody takes it.

    *given*: the file, which must be there; None: `PATH`, which need not. *command*: what the
    command line says, which stays whatever becomes of the file. Raises InputError.
    """

    def __init__(self, given: Path | None, command: Configuration) -> None:
        self._given, self._command = given, command
        self.path: Final = given or PATH
        self.is_there = False  # the file, when it was read last
        self.value = self.read()

    def read(self) -> Configuration:
        """Read the file again. Raises InputError, naming file and key; `value` stays as it is."""
        raw = _content(self.path, needed=self._given is not None)
        theirs = parse(raw or b"", str(self.path))
        self.is_there = raw is not None
        return overlaid(self._command, overlaid(theirs, DEFAULT))

    def blamed(self, option: str, error: InputError) -> InputError:
        """The same, naming the file where the option --*option* was not given."""
        key = option.replace("-", "_")
        if key in said(self._command):
            return error
        return InputError(f"{self.path}: {str(error).replace(f'--{option} ', f'{key}: ', 1)}")


def settings(value: Configuration) -> Settings:
    """
    Those of a watch.

    >>> settings(DEFAULT) == Settings(sockets=by_kind(DEFAULT.sockets))
    True
    """
    return Settings(
        wait_s=value.wait if value.wait is not None else Settings().wait_s,
        existing=value.existing is not False,
        raw=value.raw is True,
        record=_path(value.record),
        sensor=value.sensor or "auto",
        state=_path(value.state),
        audit_s=value.audit if value.audit is not None else Settings().audit_s,
        usage=value.usage is True,
        usage_at_s=value.usage_at if value.usage_at is not None else Settings().usage_at_s,
        usage_every_s=(
            value.usage_every if value.usage_every is not None else Settings().usage_every_s
        ),
        sockets=by_kind(value.sockets),
    )


def containers(value: Configuration) -> int:
    """Of how many the metrics say what each uses. Raises InputError where that can't be had."""
    number = value.metrics_containers or 0
    if not 0 <= number <= CONTAINERS_MAX:
        wrong = f"give a number from 0 to {CONTAINERS_MAX}"
    elif number and value.metrics is None:
        wrong = "there are no metrics; give --metrics ADDRESS, too"
    elif number and not value.usage:
        wrong = "what containers use is not read; give --usage, too"
    else:
        return number
    raise InputError(f"--metrics-containers {number}: {wrong}")


def by_kind(sockets: Sockets) -> dict[str, list[str]]:
    return {kind: list(getattr(sockets, kind) or ()) for kind in Sockets.__struct_fields__}


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None


def _content(path: Path, *, needed: bool) -> bytes | None:
    """None: it is not there, and need not be."""
    try:
        # Not to wait where it is no file: a FIFO has all the time in the world.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):  # /dev/null: nothing is set
                raise InputError(f"{path}: not a file")
            return file.read(BYTES_MAX + 1) or b""
    except FileNotFoundError:
        if not needed:
            return None
        raise InputError(f"{path}: {os.strerror(2)}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
