"""What containers cost, and their share of the host: by the index, from any rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ctrwatch.cli import main
from ctrwatch.core import rows
from ctrwatch.core.costs import Around, Cost, Life, cost
from ctrwatch.core.describe import rfc3339
from ctrwatch.event import Bill, Unread
from ctrwatch.outputs.heaviest import By, heaviest
from ctrwatch.outputs.history import Asked, History
from tests.unit.costly import CPUS, GB, at, birth, host, removed, used
from tests.unit.test_store import storing

# --- shares of the host -------------------------------------------------------------------


def life(last: object, born: float = 100, ended: float | None = None) -> Life:
    return Life(
        born_ns=at(born),
        ended_ns=None if ended is None else at(ended),
        last=last,  # type: ignore[arg-type]
    )


def test_a_share_is_of_what_the_host_used_and_could_give_meanwhile() -> None:
    # The host used 2 cores in the ten seconds around the birth, and 3 in those around the end.
    at_birth = Around(host(95, 0), host(105, 20, since=95))
    at_end = Around(host(155, 120, since=145), host(165, 150, since=155))
    said = cost(life(removed(1, 160, 60, 62.5), ended=160), at_birth, at_end)

    # By 100 s it had used 10 s, by 160 s 135 s.
    assert said.cpu_share_of_used == 62.5 / 125
    assert said.cpu_share_of_host == round(62.5 / (CPUS * 60), 6)
    assert said.memory_share_of_host == 1 / 8
    assert said.io_share_of_used == round(1500 / 120_000, 6)
    assert said.missing == {}
    assert (said.seconds, said.final) == (60, True)


def test_beyond_the_looks_it_went_on_as_it_was_for_a_few_seconds() -> None:
    at_birth = Around(None, host(100.5, 1000))
    at_end = Around(host(155, 1055, since=145, cores=1.0), None)
    said = cost(life(used(1, 160, 60, 30.0)), at_birth, at_end)

    assert said.cpu_share_of_used == 30 / 60  # 1,000 at its birth, 1,060 at 160 s


@pytest.mark.parametrize(
    ("at_birth", "at_end", "why"),
    [
        (Around(), Around(), "no_host"),
        (Around(None, host(130, 5)), Around(host(155, 9), None), "no_host"),  # too far
        (Around(host(95, 0), host(125, 9)), Around(host(155, 9), None), "no_host"),  # another watch
        (Around(host(95, 9), host(105, 3, since=95)), Around(host(155, 9), None), "no_host"),
    ],
    ids=["none", "too far", "two watches", "it went back"],
)
def test_where_the_host_is_not_known_there_is_no_share(
    at_birth: Around, at_end: Around, why: str
) -> None:
    said = cost(life(removed(1, 160, 60, 12.0), ended=160), at_birth, at_end)

    assert said.cpu_share_of_used is None
    assert said.missing["cpu_share_of_used"] == why
    assert said.cpu_seconds == 12.0


def test_one_that_lived_between_two_looks_has_no_share_of_what_was_used() -> None:
    around = Around(host(95, 0), host(105, 20, since=95))
    said = cost(life(removed(1, 101, 1, 1.0), ended=101), around, around)

    assert said.missing["cpu_share_of_used"] == "too_short"
    assert said.cpu_share_of_host == 1 / CPUS


def test_one_whose_birth_and_end_were_looks_has_it_however_short() -> None:
    at_birth = Around(host(40, 0), host(100.01, 20, since=40))
    at_end = Around(host(100.01, 20, since=40), host(101.2, 22.4, since=100.01))
    said = cost(life(removed(1, 101, 1, 1.0), ended=101), at_birth, at_end)

    assert said.cpu_share_of_used is not None
    assert 0.4 < said.cpu_share_of_used < 0.6


def test_a_share_is_never_more_than_all() -> None:
    at_birth, at_end = Around(None, host(100, 0)), Around(host(160, 50, since=150), None)
    said = cost(life(removed(1, 160, 60, 51.0), ended=160), at_birth, at_end)

    assert said.cpu_share_of_used == 1.0


def test_who_used_nothing_has_no_share_of_it_also_where_nobody_used_any() -> None:
    idle = {"io_read_bytes": 7, "io_write_bytes": 7}
    at_birth, at_end = Around(None, host(100, 5, **idle)), Around(host(160, 5, since=150, **idle))
    last = removed(1, 160, 60, 0.0, io_read_bytes=0, io_write_bytes=0)
    said = cost(life(last, ended=160), at_birth, at_end)

    assert (said.cpu_share_of_used, said.io_share_of_used) == (0.0, 0.0)


def test_what_is_not_known_has_its_reason() -> None:
    bill = Bill(missing={"cpu_seconds": Unread.GONE}, memory_peak_bytes=5)
    unread = cost(life(birth(1, 160, "container_remove", usage=bill)), Around(), Around())
    never = cost(life(None), Around(), Around())

    assert unread.missing["cpu_seconds"] == unread.missing["cpu_share_of_host"] == "gone"
    assert unread.missing["io_read_bytes"] == "not_read"
    assert unread.missing["memory_share_of_host"] == "no_host"
    assert never.missing["cpu_seconds"] == "not_read"
    assert (never.read, never.seconds, never.final) == ("", None, False)


def test_without_a_birth_there_is_no_share_of_a_time() -> None:
    last = replace(used(1, 160, 60, 12.0), age_seconds=None)
    around = Around(host(150, 0), host(170, 20, since=150))
    said = cost(Life(born_ns=None, ended_ns=None, last=last), around, around)

    assert said.missing["cpu_share_of_used"] == said.missing["cpu_share_of_host"] == "no_birth"
    assert said.memory_share_of_host == 1 / 8


@given(
    cpu=st.floats(0, 1e18), seconds=st.floats(0, 1e6), before=st.floats(0, 1e18),
    after=st.floats(0, 1e18), cpus=st.none() | st.integers(0, 1000),
)  # fmt: skip
def test_any_figures_give_shares_between_none_and_all(
    cpu: float, seconds: float, before: float, after: float, cpus: int | None
) -> None:
    around = Around(host(90, before, cpus=cpus), host(110, after, since=90, cpus=cpus))
    said = cost(life(removed(1, 100, seconds, cpu)), around, around)

    for name in Cost.__struct_fields__:
        if "share" in name:
            value = getattr(said, name)
            assert (value is None) == (name in said.missing)
            assert value is None or 0 <= value <= 1


# --- from the history ---------------------------------------------------------------------


def kept(path: Path, told: Sequence[rows.Kept]) -> Path:
    with storing(path) as store:
        for event in told:
            store.add(event)
    return path


def asked(path: Path, by: By = "cpu", most: int = 100, **question: object) -> list[str]:
    with History(path) as history:
        found = heaviest(history, Asked(**question), by, most)  # type: ignore[arg-type]
    return [each.container_name for each in found]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    told: list[rows.Kept] = [
        host(0, 0),
        birth(1, 1),  # lives: 30 s of CPU by its 60th second
        birth(2, 2),  # ended: 50 s
        host(10, 20, since=0),
        used(1, 11, 10, 9.0),
        used(2, 12, 10, 20.0, memory_peak_bytes=3 * GB),
        birth(3, 20),  # never read
        birth(4, 21, container_image="docker.io/library/other:1"),
        host(30, 60, since=10),
        removed(2, 32, 30, 50.0, memory_peak_bytes=3 * GB),
        removed(4, 33, 12, 50.0, io_write_bytes=9000, container_image="docker.io/library/other:1"),
        used(1, 61, 60, 30.0),
        birth(5, 62),  # ended unread
        birth(5, 63, "container_remove", usage=Bill(missing={"cpu_seconds": Unread.GONE})),
        host(70, 160, since=30),
    ]
    return kept(tmp_path_factory.mktemp("costs") / "history.db", told)


def test_the_heaviest_is_first_and_who_is_not_known_last(store: Path) -> None:
    # Of equals the one that was read last; the unknown by their birth, the newest first.
    assert asked(store) == ["web-4", "web-2", "web-1", "web-5", "web-3"]


def test_by_memory_and_by_io(store: Path) -> None:
    assert asked(store, "memory")[0] == "web-2"
    assert asked(store, "io")[0] == "web-4"


def test_the_figures_are_of_the_bill_or_of_the_latest_look(store: Path) -> None:
    with History(store) as history:
        by = {each.container_name: each for each in heaviest(history, Asked(), "cpu", 9)}

    assert (by["web-2"].cpu_seconds, by["web-2"].seconds, by["web-2"].final) == (50.0, 30, True)
    assert by["web-2"].ended
    lives = by["web-1"]
    assert (lives.cpu_seconds, lives.seconds, lives.ended, lives.final) == (30.0, 60, "", False)
    assert by["web-5"].missing["cpu_seconds"] == "gone"
    assert by["web-3"].missing["cpu_seconds"] == "not_read"
    # The host: 2 s at its birth, 137.5 s at 61 s.
    assert lives.cpu_share_of_used == round(30 / 135.5, 6)
    assert lives.cpu_share_of_host == 30 / 240


def test_only_those_that_were_born_then(store: Path) -> None:
    assert asked(store, since_ns=at(2), until_ns=at(21)) == ["web-2", "web-3"]
    assert asked(store, since_ns=at(100)) == []


def test_what_was_read_later_may_be_left_out(store: Path) -> None:
    with History(store) as history:
        [first, *_] = heaviest(history, Asked(until_ns=at(3)), "cpu", 9, read_until_ns=at(31))

    assert (first.container_name, first.cpu_seconds, first.ended) == ("web-2", 20.0, "")


def test_only_those_that_are_asked_for(store: Path) -> None:
    other = "docker.io/library/other:1"
    digest = birth(1, 1).container_image_digest
    assert asked(store, image="*other*") == asked(store, image=other) == ["web-4"]
    assert asked(store, name="web-[13]") == ["web-1", "web-3"]
    assert asked(store, id=f"{2:064x}") == ["web-2"]
    assert digest
    assert asked(store, digest=digest) == asked(store)
    assert asked(store, digest="sha256:00*") == []
    assert asked(store, runtime="podman") == []


@pytest.mark.parametrize("most", range(6))
def test_no_more_than_asked_for(store: Path, most: int) -> None:
    assert asked(store, most=most) == asked(store)[:most]


def test_a_birth_that_was_pruned_is_reckoned_from_its_bill(tmp_path: Path) -> None:
    path = kept(tmp_path / "history.db", [removed(1, 100, 60, 5.0)])

    assert asked(path, since_ns=at(39), until_ns=at(41)) == ["web-1"]
    assert asked(path, since_ns=at(41)) == []


def test_a_birth_that_two_watches_tell_is_one_with_the_first_ones_figures(tmp_path: Path) -> None:
    again = birth(1, 1, "existing_container")
    end = birth(1, 99, "container_remove", usage=Bill(duration_seconds=98))
    path = kept(tmp_path / "history.db", [birth(1, 1), used(1, 11, 10, 9.0), again, end])

    with History(path) as history:
        [only] = heaviest(history, Asked(), "cpu", 9)
    assert (only.cpu_seconds, bool(only.ended)) == (9.0, True)


@pytest.mark.parametrize("looked", [True, False])
def test_who_was_there_before_was_born_before(tmp_path: Path, *, looked: bool) -> None:
    old = birth(1, 5000, "existing_container", ctime=at(100))
    later = [birth(2, 6000, "existing_container", ctime=None), birth(3, 7000)]
    looks = [used(1, 5001, 4901, 30.0)] if looked else []
    path = kept(tmp_path / "history.db", [old, *looks, *later])

    assert asked(path, since_ns=at(4000)) == ["web-3"]  # of web-2 nobody knows
    assert asked(path, since_ns=at(99), until_ns=at(101)) == ["web-1"]
    with History(path) as history:
        by = {each.container_name: each.born for each in heaviest(history, Asked(), "cpu", 9)}
    assert (by["web-1"], by["web-2"]) == (rfc3339(at(100)), "")


def test_updates_say_what_it_is_called(tmp_path: Path) -> None:
    early = birth(1, 1, container_name="")
    named = birth(1, 2, "container_update", container_name="late")
    end = removed(1, 99, 98, 3.0, container_name="late")
    path = kept(tmp_path / "history.db", [early, named, end])

    assert asked(path) == ["late"]


# --- the command --------------------------------------------------------------------------


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["history", "--store", str(path), *options], catch_exceptions=False
    )


def test_a_table_says_shares_and_reasons(store: Path) -> None:
    done = run(store, "--heaviest")
    lines = done.stdout.splitlines()

    assert done.exit_code == 0
    assert lines[0].split()[:3] == ["CPU", "OF", "USED"]
    assert "web-4" in lines[1]
    assert lines[3].split()[:6] == ["30.0", "s", "22.1", "%", "12.5", "%"]
    assert " 60.0 s+ " in lines[3]
    assert "not_read" in lines[5]
    assert {line.index("containerd") for line in lines[1:]} == {lines[0].index("RUNTIME")}


def test_json_is_an_object_a_line(store: Path) -> None:
    done = run(store, "--heaviest", "memory", "--json", "--limit", "2")
    found = [json.loads(line) for line in done.stdout.splitlines()]

    assert [each["container_name"] for each in found] == ["web-2", "web-1"]
    assert list(found[0]) == list(Cost.__struct_fields__)


def test_csv_is_for_spreadsheets(tmp_path: Path) -> None:
    told = [birth(1, 1, container_name="=x"), removed(1, 9, 8, 1.0, container_name="=x")]
    done = run(kept(tmp_path / "h.db", told), "--heaviest=io", "--csv")
    [only] = csv.DictReader(io.StringIO(done.stdout))

    assert only["container_name"] == "'=x"
    assert (only["cpu_seconds"], only["final"]) == ("1.0", "true")
    assert "cpu_share_of_used: no_host" in only["missing"]


def test_a_table_is_safe_for_a_terminal(tmp_path: Path) -> None:
    name = "\x1b[2J\u202eevil"
    told = [birth(1, 1, container_name=name), removed(1, 9, 8, 1.0, container_name=name)]

    assert "\x1b" not in run(kept(tmp_path / "h.db", told), "--heaviest").stdout


def test_a_small_share_is_no_zero(tmp_path: Path) -> None:
    told: list[rows.Kept] = [
        host(100, 0), birth(1, 100), removed(1, 160, 60, 0.001), host(160, 100, since=100),
    ]  # fmt: skip
    done = run(kept(tmp_path / "h.db", told), "--heaviest")

    assert "<0.1 %" in done.stdout.splitlines()[1]
    assert " 0.0 %" not in done.stdout


def test_without_use_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = run(kept(tmp_path / "h.db", [birth(1, 1)]), "--heaviest")

    assert "not_read" in done.stdout
    assert "events --usage --store" in done.stderr


def test_more_than_are_shown_is_said(tmp_path: Path) -> None:
    told = [event for n in range(1, 23) for event in (birth(n, n), removed(n, 50, 50 - n, n))]
    path = kept(tmp_path / "h.db", told)

    assert len(run(path, "--heaviest").stdout.splitlines()) == 21
    assert "--limit shows more" in run(path, "--heaviest").stderr
    assert len(run(path, "--heaviest", "--limit", "22").stdout.splitlines()) == 23


@pytest.mark.parametrize(
    "options", [("--where", "true"), ("--event", "container_create"), ("--violations",)]
)
def test_what_it_does_not_go_with_is_said(store: Path, options: tuple[str, ...]) -> None:
    done = run(store, "--heaviest", *options)

    assert done.exit_code == 2
    assert "--heaviest goes with neither" in done.stderr


def test_looks_at_the_host_are_shown_when_they_are_asked_for(store: Path) -> None:
    assert "host_usage" not in run(store, "--json").stdout
    assert run(store, "--event", "host_usage").stdout.count("! all of the host: memory 2.0 GB") == 4


def test_what_was_used_stands_in_its_rows(store: Path) -> None:
    shown = run(store, "--name", "web-[12]").stdout

    assert "  ! after 60 s: I/O 1000 B + 500 B" in shown
    assert "  ! lived 30.0 s, CPU 50.00 s, peak 3.0 GB" in shown
