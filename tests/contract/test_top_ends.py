"""How `ctrwatch top` ends when something fails: the terminal first, then the word of what failed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import NoReturn, cast

import pytest

from ctrwatch.app import Watch
from ctrwatch.commands.top import _around, _beside, _enough, _print, _quiet
from ctrwatch.core.columns import view
from ctrwatch.errors import HostError
from ctrwatch.sensor.hostuse import HostLook
from tests.contract.test_top_app import Behaviour
from tests.unit.boards import bustle, crowded

DEADLINE_S = 10.0


class Idle:
    """A watch to which nothing happens."""

    async def run(self) -> None:
        await asyncio.Event().wait()


class Failing:
    async def run(self) -> NoReturn:
        raise HostError("the kernel said no")


async def app_runs(top: Behaviour) -> int:
    await top.app.run_async(headless=True, size=(80, 24))
    return top.app.return_code or 0


async def test_where_the_watch_fails_the_app_ends_first() -> None:
    top = Behaviour(bustle())

    with pytest.raises(HostError, match="the kernel said no"):
        await _around(cast("Watch", Failing()), top.app, app_runs(top))

    assert top.app.return_code == 0
    assert not top.app._running


async def test_for_scripts_too_what_the_watch_says_is_a_users_word() -> None:
    with pytest.raises(HostError, match="the kernel said no"):
        await _beside(cast("Watch", Failing()), asyncio.Event().wait())


async def test_for_scripts_too_what_fails_is_raised_as_it_is() -> None:
    async def works() -> NoReturn:
        raise ValueError("a mistake of ours")

    with pytest.raises(ValueError, match="a mistake of ours"):
        await _beside(cast("Watch", Idle()), works())


async def test_for_scripts_it_ends_while_everybody_is_looked_at_first() -> None:
    ended = asyncio.Event()
    ended.set()

    await asyncio.wait_for(
        _beside(cast("Watch", Idle()), asyncio.Event().wait(), ended.wait()), DEADLINE_S
    )


def test_a_reader_that_has_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = crowded(2_000)
    reads, writes = os.pipe()
    os.close(reads)
    gone = open(writes, "w", encoding="utf-8")  # noqa: SIM115 - it is taken as it is
    monkeypatch.setattr(sys, "stdout", gone)
    with _enough():
        _print(view(stage.board, stage.now_ns))
    gone.close()


async def test_where_the_app_fails_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> HostLook:
        raise RuntimeError("a mistake of ours")

    top = Behaviour(bustle())
    top.app._behind = top.app._behind._replace(host_look=fails)

    assert await _around(cast("Watch", Idle()), top.app, app_runs(top)) == 1
    assert "a mistake of ours" in capsys.readouterr().err


def test_the_log_waits_until_the_terminal_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("ctrwatch.test")
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        with _quiet() as said:
            assert said() == ""
            for number in range(100):
                log.warning("word %d", number)
            assert said() == "word 99"
            assert capsys.readouterr().err == ""
    finally:
        logging.getLogger().removeHandler(handler)
    words = capsys.readouterr().err.split("\n")

    assert words[0] == "word 80"  # a table that is there for days keeps the last ones
    assert words[-2] == "word 99"
