"""README.md shows a real run, true commands, and Python that works."""

from __future__ import annotations

import ast
import os
import re
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import ctrwatch
from ctrwatch import ContainerEvent
from ctrwatch.cli import main
from ctrwatch.core import render
from ctrwatch.core.chain import Chain
from ctrwatch.core.story import Tell
from ctrwatch.sensor.journal import read_journal
from scripts.readme_run import BEGIN, END, README, STREAM, with_block

DOCS = [*sorted(README.parent.glob("*.md")), *sorted((README.parent / "docs").glob("*.md"))]
PAGE = README.read_text()


def shown() -> list[str]:
    """The lines of the run that the first screen shows."""
    (block,) = re.findall(
        re.escape(BEGIN) + r"```console\n(.*?)```\n" + re.escape(END), PAGE, re.DOTALL
    )
    return str(block).splitlines(keepends=True)


def python() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return str(block)


def replayed() -> list[ContainerEvent]:
    header, inputs = read_journal(STREAM)
    chain = Chain(header)
    return [
        effect.event for item in inputs for effect in chain.feed(item) if isinstance(effect, Tell)
    ]


def test_the_run_is_the_recorded_one() -> None:
    events = [line for line in shown() if re.match(r"\d\d:\d\d:\d\d", line)]

    assert events == [render.text_line(event) for event in replayed()]
    assert len(events) >= 3


def test_what_stands_around_the_events_is_what_the_program_says() -> None:
    command, watching, hint, listening, *_, counts = shown()
    told = replayed()
    births = [event for event in told if event.event == "container_create"]
    complete = [event for event in births if event.evidence.status == "complete"]

    assert command == "$ sudo ctrwatch events\n"
    assert re.fullmatch(
        r"ctrwatch: watching \S+ \(Linux \S+, cgroups \w+\) by ebpf; runtimes: .+\n", watching
    )
    assert "Ctrl-C ends" in hint
    assert "listening" in listening
    assert counts.startswith(f"ctrwatch: {len(births)} seen, {len(complete)} complete, ")


def test_a_new_run_takes_the_place_of_the_old_one_and_nothing_else() -> None:
    page = with_block(PAGE, f"{BEGIN}new\n{END}")

    assert page.count(BEGIN) == page.count(END) == 1
    assert page.partition(BEGIN)[0] == PAGE.partition(BEGIN)[0]
    assert page.partition(END)[2] == PAGE.partition(END)[2]


def test_python_example_prints_the_births(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On recorded events; tests/live/test_api.py runs it on this host."""

    async def events() -> AsyncIterator[ContainerEvent]:
        for event in replayed():
            yield event

    @asynccontextmanager
    async def watch() -> AsyncIterator[AsyncIterator[ContainerEvent]]:
        yield events()

    example = tmp_path / "example.py"
    example.write_text(python())
    monkeypatch.setattr(ctrwatch, "watch", watch, raising=False)

    runpy.run_path(str(example))

    births = [event for event in replayed() if event.event == "container_create"]
    assert capsys.readouterr().out.splitlines() == [
        f"{event.runtime} {event.container_name} {event.container_image}" for event in births
    ]


def test_python_example_uses_what_there_is() -> None:
    fields = {
        node.attr
        for node in ast.walk(ast.parse(python()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        and node.value.id == "event"
    }  # fmt: skip

    assert fields <= {field.name for field in msgspec.structs.fields(ContainerEvent)}


def test_every_command_stands_in_the_table_and_no_other() -> None:
    named = set(re.findall(r"^\| `ctrwatch (\w+)", PAGE, re.MULTILINE))

    assert named == set(main.commands)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake (\w+)`?", PAGE))))
def test_make_targets_exist(target: str) -> None:
    makefile = (README.parent / "Makefile").read_text()

    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z]+)", PAGE))))
def test_options_exist(option: str) -> None:
    pages = "".join(
        CliRunner().invoke(main, [command, "--help"]).output
        for command in ("events", "ps", "replay")
    )

    assert option in pages


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not os.path.exists(page.parent / target)] == []


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) <= 150
