"""The keys of `ctrwatch top`, without a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input

from ctrwatch.commands.top_app import Behind, TopApp
from ctrwatch.commands.top_panels import Choice, Panel
from ctrwatch.commands.top_table import Table
from ctrwatch.event import ContainerEvent, HostFigures, HostRates
from ctrwatch.sensor.hostuse import HostLook
from tests.unit.boards import MB, Stage, bustle, crowded

NEWEST_FIRST = ["unseen", "hungry-newborn", "done", "payments", "old"]
LOOKED = ["hungry-newborn", "done", "payments", "old"]


class Behaviour:
    """An app over a stage, and what it asks for."""

    def __init__(self, stage: Stage, **options: Any) -> None:
        self.stage = stage
        self.followed: list[Sequence[int]] = []
        self.word = ""
        host = HostLook(
            HostFigures(cpus=2, memory_bytes=3 << 30, memory_total_bytes=8 << 30),
            HostRates(seconds=2.0, cpu_cores=1.25),
        )
        behind = Behind(
            stage.board,
            "testhost",
            lambda: stage.now_ns,
            lambda: host,
            self._last_told,
            self.followed.append,
            lambda: self.word,
        )
        self.app = TopApp(behind, **options)

    def _last_told(self, serial: int) -> ContainerEvent | None:
        return next(one for one in self.stage.events.values() if int(one.id[:32], 16) == serial)

    def names(self) -> list[str]:
        return [row.name for row in self.app.screen_stack[0].query_one(Table).rows]

    def lines(self) -> list[str]:
        """The screen, as text."""
        screen = self.app.screen
        width, height = screen.size
        lines = screen._compositor.render_strips()
        assert len(lines) == height
        return [strip.text.ljust(width) for strip in lines]

    def shown(self) -> str:
        return "\n".join(self.lines())


@pytest.fixture
def top() -> Behaviour:
    return Behaviour(bustle())


async def beat(pilot: Pilot[None]) -> None:
    """As the clock would: what has changed is drawn."""
    app = pilot.app
    assert isinstance(app, TopApp)
    app._beat()
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 10), (9, 3)], ids=str)
async def test_it_is_drawn_at_any_size(top: Behaviour, size: tuple[int, int]) -> None:
    async with top.app.run_test(size=size) as pilot:
        await pilot.pause()
        lines = top.lines()

    assert all(len(line) == size[0] for line in lines)
    if size[0] >= 80:
        assert "5 living" not in lines[0]  # one has ended
        assert "4 living, 4 born in a minute  CPU 1.25 of 2  MEM 3.0G of 8.0G" in lines[0]
        assert "1–5 of 5" in lines[1]
        assert lines[2].split()[:3] == ["AGE▲", "RUNTIME", "NAME"]
        assert "hungry" in lines[4]
        assert "Filter" in lines[-1]


async def test_the_newest_is_the_first(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        assert top.names() == NEWEST_FIRST
        await pilot.press("r")
        assert top.names() == NEWEST_FIRST[::-1]


async def test_a_column_is_chosen_by_key(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s", "down", "down", "down", "down")
        assert isinstance(top.app.screen, Choice)
        await pilot.press("enter")
        await pilot.pause()
        assert top.names() == [*LOOKED[:1], "done", "payments", "old", "unseen"]
        assert "CPU▼" in top.shown()
        await pilot.press(">")
        assert "by mem" in top.shown()
        await pilot.press("<", "<")
        assert top.app._sort_key == "image"
        await pilot.press("s", "escape")
        assert top.app._sort_key == "image"


async def test_a_column_is_chosen_by_mouse(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        at = top.lines()[2].index("MEM")
        await pilot.click("#titles", offset=(at, 0))
        await pilot.pause()
        assert top.names()[0] == "old"
        await pilot.click("#titles", offset=(at, 0))
        await pilot.pause()
        assert top.names()[0] == "done"
        await pilot.click("#table", offset=(2, 1))
        assert top.app._table.chosen == top.app._table.rows[1].birth


async def test_what_is_typed_filters(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"PAY")
        assert top.names() == ["payments"]
        assert "filter: PAY" in top.shown()
        await pilot.press("enter")
        assert not isinstance(top.app.focused, Input)
        await pilot.press("slash", *" nothing", "q")  # q is a letter there
        assert top.names() == []
        assert "0–0 of 0" in top.shown()
        await pilot.press("escape")
        assert top.names() == NEWEST_FIRST


async def test_what_is_typed_at_once_is_the_filters(top: Behaviour) -> None:
    """All in one read, as over a slow line, also where there is a filter already."""
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"hungry", "enter")
        for key in ("slash", *"pay"):
            top.app.post_message(Key(key, "/" if key == "slash" else key))
        await pilot.pause()
        assert top.names() == ["payments"]


async def test_the_whole_story(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 40)) as pilot:
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        assert isinstance(top.app.screen, Panel)
        assert '"container_name": "hungry-newborn"' in top.shown()
        await pilot.press("escape")
        await pilot.press("down", "enter")
        await pilot.pause()
        shown = top.shown()
        assert '"event": "container_remove"' in shown
        await pilot.press("r")  # nothing, there
        await pilot.press("q")
        assert not isinstance(top.app.screen, Panel)
        assert top.names() == NEWEST_FIRST


async def test_a_story_that_a_stranger_wrote() -> None:
    top = Behaviour(Stage())
    top.stage.born("[b]x[/b]\x1b[2J\u202e", container_id="[/]" * 20)
    top.stage.looked("[b]x[/b]\x1b[2J\u202e")
    async with top.app.run_test(size=(120, 50)) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        shown = top.shown()

    assert '"container_name": "[b]x[/b]\\u001b[2J\\u202e"' in shown
    assert all(line.isprintable() for line in shown.split("\n"))


async def test_a_pause_holds_what_is_seen(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("p")
        before = top.lines()[3:]
        top.stage.now_s += 30
        top.stage.born("meanwhile")
        top.stage.looked("hungry-newborn", cores=0.1, memory_bytes=50 * MB)
        top.app.changed()
        await beat(pilot)
        assert top.lines()[3:] == before
        assert "PAUSED" in top.shown()
        row = next(row for row in top.app._table.rows if row.name == "hungry-newborn")
        assert '"age_seconds": 2.0' in top.app._story(row)  # as the row has it
        await pilot.press("p")
        assert top.names() == ["meanwhile", "unseen", "hungry-newborn", "payments", "old"]


async def test_a_birth_is_seen_at_the_next_beat(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await beat(pilot)
        top.stage.now_s += 0.2
        top.stage.born("newer")
        await beat(pilot)
        assert "newer" not in top.names()  # the next second has not come
        top.app.changed()
        await beat(pilot)
        assert top.names()[0] == "newer"


async def test_figures_and_ages_move(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await beat(pilot)
        assert " 2s docker   hungry-new… nginx:1.27  1.98" in top.shown()
        top.stage.now_s += 1
        top.stage.looked("hungry-newborn", cores=1.23)
        await beat(pilot)
        assert " 3s docker   hungry-new… nginx:1.27  1.23" in top.shown()


async def test_those_that_are_seen_are_followed() -> None:
    top = Behaviour(crowded(101))
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        top.app._draw()
        height = top.app._table.size.height
        assert len(top.followed[-1]) == height
        first = top.followed[-1]
        await pilot.press("pagedown", "pagedown")
        await pilot.pause()
        await beat(pilot)
        assert not set(first) & set(top.followed[-1][1:])


async def test_keys_move_through_more_than_a_screen() -> None:
    top = Behaviour(crowded(101))
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        table = top.app._table
        for keys, at in (
            (("down", "down"), 1),
            (("end",), 100),
            (("up",), 99),
            (("pageup",), 80),
            (("pageup", "pagedown"), 80),
            (("home",), 0),
            (("j", "j", "k"), 1),
        ):
            await pilot.press(*keys)
            assert table.chosen == table.rows[at].birth
            assert table.rows[at] in table.seen()
        await pilot.press("end", "escape")
        assert (table.chosen, table.scroll_offset.y) == (None, 0)
        table.scroll_end(animate=False)
        await pilot.pause()
        assert "82–101 of 101" in top.lines()[1]


async def test_the_chosen_row_stays_chosen(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "down", "down")
        chosen = top.app._table.chosen
        top.stage.born("newer")
        top.app.changed()
        await beat(pilot)
        assert top.app._table.chosen == chosen == top.stage.row("done").birth
        await pilot.press("end")
        assert top.app._table.chosen == top.stage.row("old").birth
        await pilot.press("escape")
        assert top.app._table.chosen is None


async def test_a_word_of_the_log_is_a_line_of_the_screen(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        top.word = "the kernel dropped 7 raw events\x1b[2J"
        top.app.changed()
        await beat(pilot)
        assert "the kernel dropped 7 raw events\\x1b[2J" in top.lines()[1]


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_it_ends(top: Behaviour, key: str) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press(key)

    assert top.app.return_code == 0


async def test_ctrl_c_ends_it_from_a_panel_too(top: Behaviour) -> None:
    async with top.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        assert "the other way round" in top.shown()
        await pilot.press("ctrl+c")

    assert not top.app._running
