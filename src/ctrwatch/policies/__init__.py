"""Where policies come from: a file, a directory, or one that ships, by its name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from ctrwatch.core.document import LONGEST
from ctrwatch.core.policy import Policy, check_names, parse
from ctrwatch.errors import InputError

__all__ = ("load", "shipped", "text_of")

_SUFFIXES: Final = (".yaml", ".yml")
_LIST: Final = 100 << 20  # bytes, of a list: a million digests
_FILES: Final = 1_000  # of a directory


def shipped() -> list[str]:
    """The names of the policies that ship."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load(sources: Sequence[str]) -> list[Policy]:
    """
    The policies of files, directories and names, in this order.

    Raises InputError: one that can't be read or used, or two of one name. Nothing else is
    done: who asks can go on with what he has.
    """
    policies = [policy for source in sources for policy in _of(source)]
    check_names(policies)
    return policies


def text_of(source: str) -> str:
    """The YAML of a file, or of a policy that ships. Raises InputError."""
    load([source])  # what is no policy is not shown
    if os.path.exists(source):
        return _read(source, LONGEST).decode()
    return (resources.files(__name__) / f"{source}.yaml").read_text()


def _of(source: str) -> list[Policy]:
    if os.path.isdir(source):
        names = sorted(name for name in os.listdir(source) if name.endswith(_SUFFIXES))
        if not names:
            raise InputError(f"{source}: no policy (*.yaml) is in it")
        if len(names) > _FILES:
            raise InputError(f"{source}: more than {_FILES:,} files")
        return [policy for name in names for policy in _file(os.path.join(source, name))]
    if "/" not in source and not source.endswith(_SUFFIXES) and not os.path.exists(source):
        return _shipped(source)
    return _file(source)


def _shipped(name: str) -> list[Policy]:
    known = shipped()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise InputError(f'"{name}": no such file, and no policy of that name ships: {hint}')
    file = resources.files(__name__) / f"{name}.yaml"
    return parse(file.read_bytes(), f"{name}.yaml", lambda each: _read(each, _LIST))


def _file(path: str) -> list[Policy]:
    beside = Path(path).parent
    try:
        text = _read(path, LONGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    return parse(text, path, lambda name: _read(os.path.join(beside, name), _LIST))


def _read(path: str, limit: int) -> bytes:
    """At most *limit* bytes of a regular file: a FIFO would have no end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(0, "not a regular file")
    with open(path, "rb") as file:
        return file.read(limit)
