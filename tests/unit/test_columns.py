"""The live table's columns: what they show, by what they sort, who fits a width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from ctrwatch.commands.top_cli import SORTS
from ctrwatch.core.board import Row
from ctrwatch.core.columns import COLUMNS, GAP, amount, cells, column, fit, spark, view
from ctrwatch.core.fitting import fitted, harmless
from ctrwatch.event import Pressure
from tests.unit.boards import MB, S, Stage, bustle

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = (
    "a\x1b[2J\u202e\r\n\x00\x9b",
    "日本語のコンテナ" * 9,
    "مرحبا بالعالم",
    "z" + "\u0301" * 200,
    "\u0301\u0301",
    "👩‍👩‍👧‍👦🏳️‍🌈" * 5,
    "\U000e0041\u200b\u2800\uffa0",
    b"caf\xe9".decode("utf-8", "surrogateescape"),
    "[b]markup[/b]",
    "",
)
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=80))


def table(stage: Stage, width: int, **asked: bool | str) -> str:
    layout = fit(width)
    titles = (fitted(each.title, wide, right=each.right) for each, wide in layout.columns)
    rows = view(stage.board, stage.now_ns, **asked)  # type: ignore[arg-type]
    lines = [titles, *(cells(row, layout, stage.now_ns) for row in rows)]
    return "".join((" " * GAP).join(line).rstrip() + "\n" for line in lines)


@pytest.mark.parametrize("width", [80, 200])
def test_the_table(width: int) -> None:
    golden = GOLDEN / f"top-{width}.txt"

    assert table(bustle(), width) == golden.read_text(), f"it is now:\n{table(bustle(), width)}"


def test_80_cells_have_what_matters() -> None:
    wanted = ("age", "runtime", "name", "image", "cpu", "memory", "limit", "io", "tasks")
    shown = [each.key for each, _ in fit(80).columns]

    assert shown == [*wanted, "pressure", "minute"]
    assert [each for each, _ in fit(200).columns] == [*COLUMNS]


@given(st.integers(0, 400))
def test_columns_fit_their_width(width: int) -> None:
    layout = fit(width)
    keys = {each.key for each, _ in layout.columns}

    assert layout.width <= width
    assert all(each.least <= wide <= each.most for each, wide in layout.columns)
    assert keys <= {
        each.key for each, _ in fit(width + 1).columns
    }  # none goes as there is more room


STRANGERS = ("container_name", "container_image", "pod_name", "pod_namespace", "container_id")


@given(st.integers(0, 250), st.fixed_dictionaries(dict.fromkeys(STRANGERS, TEXTS)))
def test_a_row_is_as_wide_as_its_columns(width: int, texts: dict[str, Any]) -> None:
    stage = Stage()
    stage.born("web", **texts)
    layout = fit(width)
    for _ in range(2):
        pieces = cells(stage.row("web"), layout, stage.now_ns)
        line = (" " * GAP).join(pieces)

        assert cell_len(line) == layout.width
        assert line.isprintable()
        stage.ended("web")


@given(TEXTS, st.integers(0, 60), st.booleans())
def test_text_fits_its_cells(text: str, width: int, right: bool) -> None:
    shown = fitted(harmless(text, 256), width, right=right)

    assert cell_len(shown) == width
    assert shown.isprintable()


def test_no_letter_has_a_tower_of_marks() -> None:
    assert harmless("z" + "\u0301" * 200, 256) == "z\u0301\u0301"
    assert harmless("Việt", 20) == "Việt"


# --- sorting and filtering ----------------------------------------------------------------


def figures() -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(0, 1e6)


@given(
    st.lists(st.tuples(figures(), figures(), st.integers(0, 5000)), max_size=20),
    st.sampled_from(SORTS),
    st.booleans(),
)
def test_sorting_keeps_all_and_puts_the_unknown_last(
    looks: list[tuple[float | None, float | None, int]], sort: str, reverse: bool
) -> None:
    stage = Stage()
    for number, (cores, memory, age_s) in enumerate(looks):
        stage.born(f"web-{number % 7}-{number}", age_s=age_s)
        if cores is not None:
            memory_bytes = None if memory is None else int(memory)
            stage.looked(f"web-{number % 7}-{number}", cores=cores, memory_bytes=memory_bytes)
    rows = view(stage.board, stage.now_ns, sort=sort, reverse=reverse)

    assert sorted(row.birth for row in rows) == sorted(row.birth for row in stage.board)
    values = [column(sort).value(row, stage.now_ns) for row in rows]
    known = [value for value in values if value is not None]
    assert values[: len(known)] == known
    assert known == sorted(known, reverse=column(sort).down != reverse)
    again = view(reversed([*stage.board]), stage.now_ns, sort=sort, reverse=reverse)
    if len({row.born_ns for row in rows}) == len(rows):  # whatever order they come in
        assert [row.birth for row in again] == [row.birth for row in rows]


@given(st.lists(TEXTS, max_size=9), TEXTS)
def test_a_filter_keeps_those_that_have_each_word(names: list[str], text: str) -> None:
    stage = Stage()
    for number, name in enumerate(names):
        stage.born(f"web-{number}", container_name=name)
    kept = view(stage.board, stage.now_ns, text=text)

    def has(row: Row) -> bool:
        said = (row.name, row.image, row.pod, row.runtime, row.container_id)
        return all(
            any(word in each.casefold() for each in said) for word in text.casefold().split()
        )

    assert {row.birth for row in kept} == {row.birth for row in stage.board if has(row)}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("NGINX", ["hungry-newborn"], id="an image, in capitals"),
        pytest.param("shop/pay", ["payments"], id="a pod"),
        pytest.param("docker nginx", ["hungry-newborn"], id="two words"),
        pytest.param("podman", ["old"], id="a runtime"),
        pytest.param("0003000", ["hungry-newborn"], id="an id"),
        pytest.param("old payments", [], id="nobody has both"),
        pytest.param("   ", ["unseen", "hungry-newborn", "done", "payments", "old"], id="blanks"),
    ],
)
def test_words_of_the_filter(text: str, names: list[str]) -> None:
    stage = bustle()

    assert [row.name for row in view(stage.board, stage.now_ns, text=text)] == names


def test_the_options_name_every_column() -> None:
    assert tuple(each.key for each in COLUMNS) == SORTS


# --- figures ------------------------------------------------------------------------------


@given(st.floats(0, 1e19) | st.integers(0, 1 << 64))
def test_an_amount_has_five_cells(number: float) -> None:
    assert len(amount(number)) <= 5


def test_a_spark_line_has_the_shape_of_the_minute() -> None:
    stage = Stage()
    stage.born("web")
    for second in range(60):
        stage.now_s += 1
        stage.looked("web", cores=0 if second < 20 else 4 if second < 40 else 1)
    row = stage.row("web")

    assert spark(row, 0, 60) == "▁" * 20 + "█" * 20 + "▃" * 20
    assert spark(row, 0, 30) == "▁" * 10 + "█" * 10 + "▃" * 10
    assert spark(row, 0, 6) == "▁▁██▃▃"
    assert len(spark(row, 0, 7)) <= 7


def test_a_spark_line_that_has_only_begun() -> None:
    stage = Stage()
    stage.born("web")
    stage.now_s += 2
    stage.looked("web", cores=0.5, over_s=2)

    assert spark(stage.row("web"), 0, 60) == "▅▅"


def test_pressure_is_the_worst_of_three_and_a_kill_before_all() -> None:
    stage = Stage()
    stage.born("web")
    said = Pressure(cpu_waited_percent=3, memory_waited_percent=100, io_waited_percent=0)
    stage.looked("web", pressure=said)
    row, now_ns = stage.row("web"), stage.now_ns
    shown = column("pressure").shown

    assert shown(row, now_ns, 6) == "99%mem"
    row.killed_ns = now_ns
    assert shown(row, now_ns + 9 * S, 6) == "OOM"
    assert shown(row, now_ns + 11 * S, 6) == "99%mem"


@pytest.mark.parametrize(
    ("limit", "said"),
    [(None, "-"), (0, "100%"), (64 * MB, "50%"), (1, "999%")],
    ids=["none", "zero", "half", "far beyond"],
)
def test_memory_of_its_limit(limit: int | None, said: str) -> None:
    stage = Stage()
    stage.born("web")
    stage.looked("web", memory_bytes=32 * MB, memory_limit_bytes=limit)

    assert column("limit").shown(stage.row("web"), stage.now_ns, 4) == said


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (60, "registry.example.org/team/payments-service:2026.11.3"),
        (28, "…/payments-service:2026.11.3"),
        (12, "payments-ser"),
    ],
)
def test_an_image_is_cut_where_it_tells_least(width: int, said: str) -> None:
    row = bustle().row("payments")

    assert column("image").shown(row, 0, width)[: len(said)] == said
