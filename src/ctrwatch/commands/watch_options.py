"""The options of every command that watches, and what they set. Light: `--help` loads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ctrwatch.core.configuration import Sockets

__all__ = ("by_kind", "config", "configured", "sockets", "watch_options")


def config(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What is set there holds unless it is given here.  [default: /etc/ctrwatch.toml, if it is there]",
    )(command)


def watch_options(command: Callable[..., None]) -> Callable[..., None]:
    options = (
        config,
        click.option(
            "--wait",
            type=float,
            metavar="SECONDS",
            help="How long an event may wait to become complete; 0 tells at once.  [default: 2]",
        ),
        click.option(
            "--socket",
            "sockets",
            multiple=True,
            metavar="KIND=PATH",
            help="A daemon's socket in an unusual place. KIND: docker, containerd, cri.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def configured(config: Path | None, given: Sequence[str]) -> Sockets:
    """The sockets that are given, or stand in the file."""
    from ctrwatch.commands.configured import Configured
    from ctrwatch.core.configuration import Configuration

    return Configured(config, Configuration(sockets=sockets(given))).value.sockets


def sockets(given: Sequence[str]) -> Sockets:
    from ctrwatch.core.configuration import Sockets

    return Sockets(**{kind: tuple(paths) for kind, paths in by_kind(given).items()})


def by_kind(sockets: Sequence[str]) -> dict[str, list[str]]:
    from ctrwatch.config import SOCKET_KINDS, refuse_socket

    by_kind: dict[str, list[str]] = {}
    for given in sockets:
        kind, equals, path = given.partition("=")
        if kind not in SOCKET_KINDS or not equals or not path.startswith("/"):
            refuse_socket(given)
        by_kind.setdefault(kind, []).append(path)
    return by_kind
