"""What the pages name is there: options, addresses, modules, numbers, the order of asking."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from ctrwatch import enrich
from ctrwatch.cli import main
from ctrwatch.core import questions, steps, story

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {
    page.name: page.read_text() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
}
ADDRESSES: Final = {"keepachangelog.com", "semver.org", "cel.dev"}  # where a reader may be sent
OTHERS: Final = {"--root", "--cgroup-parent"}  # options of other programs that stand alone
UNITS: Final = {"bytes": 1, "characters": 1, "": 1, "KB": 1 << 10, "MB": 1 << 20}


def code(page: str) -> list[str]:
    """The code on a page: what stands between backticks, and the lines of its blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```\w*\n.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose)


def options(command: click.Command) -> set[str]:
    return {"--help"} | {
        name for option in command.params for name in (*option.opts, *option.secondary_opts)
    }


def named(words: str) -> click.Command | None:
    """A command, or one of a group's."""
    command: click.Command | None = main
    for word in words.split():
        command = command.commands.get(word) if isinstance(command, click.Group) else None
    return command


@pytest.mark.parametrize("name", PAGES)
def test_a_command_that_is_named_has_its_options(name: str) -> None:
    wrong = []
    for line in code(PAGES[name]):
        found = re.match(r"(?:sudo )?(?:\S*/)?ctrwatch ((?:policy )?\w+)\b([^|]*)", line)
        if found is None or found[1].startswith("-"):
            continue
        command = named(found[1])
        given = {word.partition("=")[0] for word in shlex.split(found[2]) if word[:2] == "--"}
        if command is None or not given <= options(command):
            wrong.append(line)

    assert wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_an_option_that_stands_alone_is_one_of_ours(name: str) -> None:
    ours = {option for command in main.commands.values() for option in options(command)}
    alone = {span.split()[0].partition("=")[0] for span in code(PAGES[name]) if span[:2] == "--"}

    assert alone - ours - OTHERS == set()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_sends_nobody_to_an_address_that_may_vanish(name: str) -> None:
    assert set(re.findall(r"https?://([^/\s)>]+)", PAGES[name])) <= ADDRESSES


def test_the_lock_ties_nobody_to_one_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()

    assert "://" not in lock
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\w)", lock) if "==" in entry)


@pytest.mark.parametrize("name", PAGES)
def test_a_file_that_is_named_is_there(name: str) -> None:
    places = (ROOT, ROOT / "src/ctrwatch")
    named = {
        span
        for span in code(PAGES[name])
        if re.fullmatch(r"(?:src|scripts|tests|bench|core|sensor|evidence|outputs|commands|docs)/[\w./]*", span)
    }  # fmt: skip

    assert [span for span in named if not any((place / span).exists() for place in places)] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_module_that_is_named_can_be_run(name: str) -> None:
    modules = {
        found[1]
        for span in code(PAGES[name])
        if (found := re.search(r"python -m ([\w.]+)", span)) is not None
    }

    assert [each for each in modules if not (ROOT / f"{each.replace('.', '/')}.py").exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_heading_that_is_linked_is_there(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", PAGES[name]):
        page = PAGES[Path(target).name or name]
        headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
        slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]

        assert anchor in slugs


# --- numbers --------------------------------------------------------------------------------

BOUND: Final = re.compile(
    r"^\| .*\| (?P<most>\d+) ?(?P<unit>\w*) \| `(?P<file>[\w/]+)\.py` `(?P<name>\w+)` \|$",
    re.MULTILINE,
)


@pytest.mark.parametrize(
    "bound",
    [pytest.param(each, id=each["name"]) for each in BOUND.finditer(PAGES["security.md"])],
)
def test_a_bound_is_the_codes(bound: re.Match[str]) -> None:
    module = importlib.import_module("ctrwatch." + bound["file"].replace("/", "."))

    assert getattr(module, bound["name"]) == int(bound["most"]) * UNITS[bound["unit"]]


def test_no_row_of_the_bounds_goes_unread() -> None:
    _, _, bounds = PAGES["security.md"].partition("## Bounds")

    assert len(BOUND.findall(bounds)) == bounds.count("\n|") - 2  # its head


@pytest.mark.parametrize(
    ("page", "says", "value"),
    [
        ("design.md", r"up to (\S+) ms after the\s+first task", story._SETTLE_NS / 1e6),
        ("design.md", r"until then it waits up to (\S+) ms", story._ENTER_NS / 1e6),
        ("design.md", r"and waits up to (\S+) ms", story._LISTED_NS / 1e6),
        ("design.md", r"under a deadline of (\S+) s\b", enrich.DEADLINE_S),
        ("design.md", r"up to (\S+) s after the birth", questions._UNKNOWN_NS / 1e9),
        ("security.md", r"under a deadline of (\S+) s\b", enrich.DEADLINE_S),
    ],
)
def test_a_time_is_the_codes(page: str, says: str, value: float) -> None:
    (number,) = re.findall(says, PAGES[page])

    assert float(number) == value


# --- the design -----------------------------------------------------------------------------


def test_the_sources_stand_in_the_order_in_which_they_are_asked() -> None:
    _, _, section = PAGES["design.md"].partition("## Evidence")
    table = section.partition("\n## ")[0]

    assert re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE) == list(
        dict.fromkeys(step.source for step in steps.STEPS)
    )


def test_every_module_of_the_core_has_its_place_in_the_layout() -> None:
    layout = PAGES["design.md"].partition("| `core/` |")[2].partition("| `sensor/` |")[0]
    modules = {path.stem for path in (ROOT / "src/ctrwatch/core").glob("[a-z]*.py")}

    assert modules - set(re.findall(r"`(\w+)`", layout)) == set()
