"""What people ask for, and what a spreadsheet or a terminal gets."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, strategies as st

from ctrwatch.cli import main
from ctrwatch.core import cells
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.hashchain import GENESIS, Head, Link, breaks, link_hash
from ctrwatch.core.moments import moment
from ctrwatch.core.render import json_line
from ctrwatch.errors import InputError
from tests.unit.test_store import VIOLATION, event, storing

NOW_NS = 1_795_463_172_460_562_493


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "d",
        "7 d",
        "-7d",
        "7y",
        "yesterday",
        "2026-13-01",
        "2026-11-23T25:00Z",
        "9" * 12 + "d",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--since"):
        moment("--since", text, NOW_NS)


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_a_time_that_was_printed_is_read_again(time_ns: int) -> None:
    assert moment("--since", rfc3339(time_ns), NOW_NS) == time_ns


@given(st.text())
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        moment("--since", text, NOW_NS)


@given(st.lists(st.text(), min_size=2))  # a line of one empty cell is an empty line
def test_no_cell_is_a_formula_and_each_stays_one_cell(texts: list[str]) -> None:
    [read] = csv.reader(io.StringIO(cells.row(texts), newline=""))

    assert len(read) == len(texts)
    assert not any(cell.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in read if cell)
    assert all(cell.isprintable() for cell in read)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.data())
def test_any_change_breaks_the_chain(bodies: list[bytes], data: st.DataObject) -> None:
    links, head = [], GENESIS
    for body in bodies:
        head = Head(head.seq + 1, link_hash(head.hash, head.seq + 1, body))
        links.append(Link(head.seq, body, head.hash))
    assert list(breaks(GENESIS, links, head)) == []

    at = data.draw(st.integers(0, len(links) - 1))
    broken = [*links]
    match data.draw(st.sampled_from(["changed", "missing", "put in", "re-ordered"])):
        case "changed":
            broken[at] = broken[at]._replace(body=broken[at].body + b"x")
        case "missing":
            del broken[at]
        case "put in":
            broken[at:] = [
                Link(at + 1, b"y", bytes(32)),
                *(link._replace(seq=link.seq + 1) for link in links[at:]),
            ]
        case _:
            other = (at + 1) % len(links)
            if links[at][1:] == links[other][1:]:
                return
            broken[at] = links[other]._replace(seq=at + 1)
            broken[other] = links[at]._replace(seq=other + 1)

    findings = list(breaks(GENESIS, broken, head))
    assert findings
    assert findings[0].first <= at + 2


# --- the command --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "history.db"
    with storing(path) as made:
        made.add(event(1, container_name="=cmd|' /C calc'!A0", container_image="evil\x1b[2J"))
        made.add(event(2, "container_update", changed=("container_image",)))
        made.add(VIOLATION)
    return path


def history(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ("history", "--store", str(path), *options))


def test_json_is_what_left(store: Path) -> None:
    done = history(store, "--json", "--event", "container_update")

    assert done.stdout_bytes == json_line(
        event(2, "container_update", changed=("container_image",))
    )
    [violation] = history(store, "--json", "--violations").output.splitlines()
    assert json.loads(violation)["rule"] == "r"


def test_csv_is_for_spreadsheets(store: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(history(store, "--csv").output)))

    named = {row["container_name"] for row in rows}
    assert "'=cmd|' /C calc'!A0" in named
    assert not any("\x1b" in cell for row in rows for cell in row.values())
    assert [row["severity"] for row in rows if row["event"] == "violation"] == ["high"]


def test_a_table_is_safe_for_a_terminal(store: Path) -> None:
    done = history(store)

    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert len(done.output.splitlines()) == 3
    assert "high p/r: =bad" in done.output


def test_an_image_is_named_as_users_do(store: Path) -> None:
    assert len(history(store, "--json", "--image", "nginx").output.splitlines()) == 1
    assert history(store, "--json", "--image", "nginx:1.26").output == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--since", "soon"), "--since soon: give a time"),
        (("--digest", "xyz"), "--digest xyz: give"),
        (("--verify", "--head", "5"), "--head 5: give it as --verify prints it"),
        (("--json", "--csv"), "not both"),
        (("--head", "1:ab"), "goes with --verify"),
    ],
)
def test_a_mistake_is_said(store: Path, options: tuple[str, ...], says: str) -> None:
    done = history(store, *options)

    assert done.exit_code == 2
    assert says in done.output


def test_where_there_is_no_history(tmp_path: Path) -> None:
    done = history(tmp_path / "none.db")

    assert done.exit_code == 2
    assert "no such file; `ctrwatch events --store" in done.output


def test_a_proof_ends_with_the_head(store: Path) -> None:
    done = history(store, "--verify")

    assert done.exit_code == 0
    rows, head = done.output.splitlines()
    assert rows == "3 rows: the chain is whole"
    assert history(store, "--verify", "--head", head.removeprefix("head ")).exit_code == 0
    assert history(store, "--verify", "--head", "3:" + "0" * 64).exit_code == 1


# --- --where ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`web` was born twice, and once `web2`; a verdict on each birth of `web`."""
    path = tmp_path_factory.mktemp("where") / "history.db"
    with storing(path) as made:
        for number, container, image in (
            (1, "web", "docker.io/library/old:1"),
            (2, "web2", "docker.io/library/two:1"),
            (3, "web", ""),
        ):
            born = event(number, container_id=container, container_image=image)
            made.add(born)
            if container == "web":
                made.add(
                    msgspec.structs.replace(
                        VIOLATION, id=f"v{number}", container_id="web", time=born.time
                    )
                )
        made.add(
            event(
                3,
                "container_update",
                container_id="web",
                container_image="docker.io/library/new:1",
                changed=("container_image",),
            )
        )
    return path


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("container_image.contains('old')", ["1", "v1"]),
        ("container_image.contains('two')", ["2"]),
        (
            "container_image.contains('new')",
            ["3", "v3"],
        ),  # the update, and the verdict on its birth
        ("container_id == 'web'", ["1", "v1", "3", "v3", "3"]),
        ("1 / 0 == 1", []),
    ],
)
def test_only_of_containers_for_which_it_holds(lives: Path, where: str, ids: list[str]) -> None:
    lines = history(lives, "--json", "--where", where).stdout.splitlines()

    told = [json.loads(line)["id"].lstrip("0") for line in lines]
    assert sorted(told) == sorted(ids)


def test_a_limit_counts_what_is_shown(lives: Path) -> None:
    where = ("--where", "container_image.contains('old')")

    assert history(lives, *where, "--limit", "1").stdout.count("\n") == 1
    assert "violation" in history(lives, *where, "--limit", "1", "--csv").stdout
    assert history(lives, *where, "--violations", "--json").stdout.count("\n") == 1


def test_a_misspelt_expression_is_said(lives: Path) -> None:
    done = history(lives, "--where", "container_imag == ''")

    assert done.exit_code == 2
    assert "did you mean container_image?" in done.output
