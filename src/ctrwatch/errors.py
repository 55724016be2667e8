"""What can go wrong for a user, each with its exit code. No stack trace for these."""

from __future__ import annotations


class CtrwatchError(Exception):
    """Something the user can do something about; its text says what."""

    exit_code = 1


class InputError(CtrwatchError):
    """A file, an option or a recorded stream that can't be used."""

    exit_code = 2


class HostError(CtrwatchError):
    """This host can't run the sensor: kernel, privilege or library missing."""

    exit_code = 3


class WireError(ValueError):
    """The sensor sent a record that this build cannot read. Counted, never skipped silently."""
