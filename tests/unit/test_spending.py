"""
What newborns used and what the host did, over a period: numbers, the drawing, and the page.

`python -m tests.unit.test_spending` writes the golden section anew.
"""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ctrwatch.cli import main
from ctrwatch.core import page, rows, spending
from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.drawing import Line, Mark, levels
from ctrwatch.core.reported import Report
from ctrwatch.core.spending import HostOverTime, Spending, Spent
from ctrwatch.core.spent import spent
from ctrwatch.event import Bill, HostUsage, Unread
from ctrwatch.outputs.heaviest import BY, heaviest
from ctrwatch.outputs.history import Asked, History
from tests.unit.costly import GB, at, birth, host, removed, used
from tests.unit.test_report import begin, end, read, report, signs
from tests.unit.test_store import storing

GOLDEN = Path(__file__).parents[1] / "golden/report_spent.html"
DAY_S = 86_400
STEP_S = DAY_S / 240


def over_time(looks: Sequence[HostUsage], since: float = 0, until: float = DAY_S) -> HostOverTime:
    spending = Spending(at(since), at(until))
    for look in looks:
        spending.host(wall_ns(look.time), look)
    value = spending.value({})
    assert value is not None
    assert value.host is not None
    return value.host


# --- the host over time -------------------------------------------------------------------


def test_a_look_says_what_was_used_since_the_one_before() -> None:
    made = over_time([host(0, 0), host(STEP_S * 1.5, 0, since=STEP_S * 0.5, cores=2.0)])

    assert made.cpu_cores[:3] == [2.0, 2.0, None]
    assert made.cpu_cores_most[:3] == [2.0, 2.0, None]
    assert made.memory_bytes[:3] == [2 * GB, 2 * GB, None]
    assert (made.cpu_seconds, made.looked_at_s) == (2 * STEP_S, STEP_S)
    assert (made.cpus, made.memory_total_bytes, made.step_s) == (4, 8 * GB, STEP_S)


def test_a_step_has_the_mean_and_the_most_of_its_looks() -> None:
    looks = [host(t, 0, since=t - 10, cores=c) for t, c in ((10, 1.0), (20, 3.0), (40, 0.5))]
    made = over_time([*looks, host(41, 0, memory_bytes=5 * GB)])

    assert made.cpu_cores[0] == pytest.approx(1.5)
    assert made.cpu_cores_most[0] == 3.0
    assert made.memory_bytes[0] == 5 * GB


def test_of_which_no_look_tells_is_a_gap() -> None:
    looks = [host(10, 0, since=0, cores=1.0), host(DAY_S - 1, 0), host(DAY_S - 0.5, 0)]
    made = over_time(looks)

    assert set(made.cpu_cores[1:]) == {None}
    assert set(made.memory_bytes[1:-1]) == {None}


def test_memory_of_a_long_pause_is_of_its_end_only() -> None:
    made = over_time([host(DAY_S - 1, 0, since=10, cores=0.1)])

    assert None not in made.cpu_cores[:-1]  # a counter: the mean over it is known
    assert set(made.memory_bytes[:-1]) == {None}


def test_one_look_alone_is_a_point() -> None:
    made = over_time([host(DAY_S / 2, 100)])

    assert set(made.cpu_cores) == {None}
    assert [step for step, each in enumerate(made.memory_bytes) if each] == [120]


def test_what_is_outside_of_the_period_is_not_in_it() -> None:
    looks = [host(-5, 0, since=-15, cores=4.0), host(5, 0, since=-5, cores=1.0), host(DAY_S, 0)]
    made = over_time(looks)

    assert (made.cpu_seconds, made.looked_at_s) == (5.0, 5.0)


def test_figures_that_are_not_known_leave_the_others() -> None:
    made = over_time([host(10, None, since=0, memory_bytes=None, cpus=None)])

    assert set(made.cpu_cores) == set(made.memory_bytes) == {None}
    assert made.memory_total_bytes == 8 * GB


def test_a_period_of_a_nanosecond_has_a_step() -> None:
    made = over_time([host(0, 0, since=-10, cores=1.0)], until=1e-9)

    assert len(made.births) == len(made.cpu_cores) == 1


def test_three_months_of_looks_are_some_hundred_steps() -> None:
    spending = Spending(at(0), at(90 * DAY_S))
    look, cores = host(10, 0, since=0, cores=1.0), (0.5, 1.5)
    assert look.rates is not None
    looks = [replace(look, rates=replace(look.rates, cpu_cores=each)) for each in cores]
    began_s = time.process_time()
    for number in range(777_600):  # every ten seconds
        spending.host(at(10 + number * 10 - 1e-6), looks[number % 2])
    took_s = time.process_time() - began_s
    value = spending.value({})

    assert value is not None
    assert value.host is not None
    assert len(value.host.cpu_cores) == 240
    assert value.host.cpu_cores == pytest.approx([1.0] * 240, abs=1e-3)
    assert took_s < 30  # some 3 s


@given(
    st.lists(
        st.tuples(
            st.floats(-1e5, 2e5), st.none() | st.floats(0, 1e18), st.none() | st.floats(0, 1e18)
        ),
        max_size=20,
    )
)
def test_any_looks_make_steps_and_a_drawing(
    drawn: list[tuple[float, float | None, float | None]],
) -> None:
    spending = Spending(at(0), at(DAY_S))
    for second, seconds, cores in drawn:
        since = None if seconds is None else second - seconds
        look = host(second, 5.0, since=since, cores=cores, io_read_bytes=0, io_write_bytes=0)
        spending.host(at(second), look)
    value = spending.value({})
    made = report([begin(0)])
    read(str(spent(_with(made, value))))
    if value is not None and value.host is not None:
        assert all(each is None or each >= 0 for each in value.host.cpu_cores)
        assert value.host.looked_at_s <= DAY_S * (len(drawn) + 1)


def _with(made: Report, value: Spent | None) -> Report:
    return replace(made, spent=value)


# --- who ----------------------------------------------------------------------------------


def test_what_an_image_cost_is_what_all_of_its_containers_did() -> None:
    other = "docker.io/library/other:1"
    told: list[rows.Kept] = [
        birth(1, 1), birth(2, 2), birth(3, 3), birth(4, 4, container_image=other),
        used(1, 61, 60, 5.0), removed(2, 62, 60, 7.0, oom_kills=1, memory_peak_bytes=3 * GB),
        removed(4, 70, 66, 1.0, container_image=other),
    ]  # fmt: skip
    made = report(told).spent

    assert made is not None
    first, second = made.images
    assert (first.container_image, first.containers, first.unread) == (
        birth(1, 1).container_image,
        *(2, 1),
    )
    assert (first.cpu_seconds, first.memory_peak_bytes, first.oom_kills) == (12.0, 3 * GB, 1)
    assert (first.io_read_bytes, first.io_write_bytes) == (2000, 1000)
    assert (second.container_image, second.cpu_seconds) == (other, 1.0)
    assert (made.cpu_seconds, made.containers, made.unread) == (13.0, 3, 1)


def test_what_is_known_of_no_container_of_an_image_is_no_zero() -> None:
    unread = birth(2, 2, container_image="unread:1")
    made = report(
        [birth(1, 1), removed(1, 9, 8, 1.0, io_read_bytes=None, io_write_bytes=None), unread]
    ).spent

    assert made is not None
    first, second = made.images
    assert (first.cpu_seconds, first.io_read_bytes, first.io_write_bytes) == (1.0, None, None)
    assert (second.unread, second.cpu_seconds, second.memory_peak_bytes) == (1, None, None)
    assert (second.io_read_bytes, second.oom_kills) == (None, None)
    page = spent(_with(report([begin(0)]), made))
    assert "0 B" not in page
    assert "0.00 s" not in page


def test_only_those_that_were_born_in_the_period_count() -> None:
    told = [birth(1, 1), removed(1, 4000, 3999, 50.0), birth(2, 3700), removed(2, 3800, 100, 2.0)]
    made = report(told, since=1).spent

    assert made is not None
    assert (made.cpu_seconds, made.containers) == (2.0, 1)


def test_a_birth_that_two_watches_tell_is_one() -> None:
    again = birth(1, 1, "existing_container")
    made = report([birth(1, 1), used(1, 61, 60, 5.0), again, used(1, 121, 120, 6.0)]).spent

    assert made is not None
    assert (made.cpu_seconds, made.containers, made.unread) == (6.0, 1, 0)


def test_who_was_there_before_was_born_before() -> None:
    told: list[rows.Kept] = [
        birth(1, 1),
        birth(1, 5000, "existing_container", ctime=at(1)),  # another watch
        birth(2, 5000, "existing_container", ctime=at(2)),
        birth(3, 5000, "existing_container", ctime=at(1)),  # and started again
        birth(4, 5000, "existing_container", ctime=None),
        used(1, 5010, 5009, 50.0), used(2, 5010, 5008, 60.0), used(3, 5010, 1000, 7.0),
        host(5020, 100, since=5010),
    ]  # fmt: skip
    made = report(told, since=1).spent

    assert made is not None
    assert made.host is not None
    assert (made.cpu_seconds, made.containers, made.unread) == (7.0, 1, 0)
    assert sum(made.host.births) == 1


def test_an_update_says_what_its_image_was() -> None:
    told: list[rows.Kept] = [
        birth(1, 1, container_image=""),
        birth(1, 2, "container_update"),
        used(1, 61, 60, 5.0),
    ]
    made = report(told).spent

    assert made is not None
    assert [each.container_image for each in made.images] == [birth(1, 1).container_image]


def test_what_was_not_read_makes_a_total_no_smaller() -> None:
    last = Bill(cpu_seconds=None, missing={"cpu_seconds": Unread.GONE})
    told: list[rows.Kept] = [
        birth(1, 1),
        used(1, 61, 60, 5.0),
        birth(1, 90, "container_remove", usage=last),
    ]
    made = report(told).spent

    assert made is not None
    assert (made.cpu_seconds, made.containers) == (5.0, 1)


def test_what_is_beyond_the_bounds_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "_LIVING", 2)
    monkeypatch.setattr(spending, "_IMAGES", 1)
    births = [birth(n, n, container_image=f"i{n}") for n in range(1, 6)]
    made = report([*births, used(5, 61, 60, 5.0)]).spent

    assert made is not None
    assert (len(made.images), made.images_left_out) == (1, 4)
    assert (made.containers, made.unread) == (1, 4)


# --- the drawing --------------------------------------------------------------------------


def drawn(*heights: float | None) -> str:
    return levels(
        "l", [f"t{n}" for n in range(len(heights))],
        area=Line("cpu", heights), lines=[Line("memory", heights)], births=[0] * len(heights),
        marks=[], holes=[],
    )  # fmt: skip


def test_a_gap_is_drawn_as_a_gap_and_zero_is_not() -> None:
    html = drawn(0.5, None, 0.0, 1.0)

    assert html.count("<rect") == 3
    assert len(re.findall(r'd="M[^"M]*M[^"M]*"', html)) == 1  # two strokes of the line
    assert "t1" not in html


def test_heights_beyond_the_top_end_at_it() -> None:
    html = drawn(7.0, 1e300)

    assert 'height="120.0"' in html
    assert "-" not in re.sub(r"aria-label|fill-cpu|line-memory|[a-zA-Z]+-", "", html)


def test_births_and_marks_have_their_words() -> None:
    html = levels(
        "l", ["one", "two"], area=Line("cpu", [None, None]), lines=[], births=[0, 3],
        marks=[Mark(0.5, "<b> was born"), Mark(9.0, "late")], holes=[(0.9, 1.0, "gap")],
    )  # fmt: skip

    assert html.count("fill-births") == 1
    assert "<title>two</title>" in html
    assert "&lt;b&gt; was born" in html
    assert 'd="M960 0V120"' in html


# --- the page -----------------------------------------------------------------------------


def lived() -> list[rows.Kept]:
    """A day: somebody eats three CPUs for an hour, and lives on beside one that ate nothing."""
    return [
        begin(0),
        *signs(0, 10),
        host(7199, 0),
        birth(1, 7200, container_name="miner", container_image="evil.example/miner:1"),
        host(7200.01, 1, since=7199, cores=0.3),
        birth(2, 7205),
        host(7260, 181, since=7200.01, cores=3.0),
        used(1, 7260, 60, 150.0),
        host(10_800, 10_801, since=7260, cores=3.0, memory_bytes=6 * GB),
        removed(1, 10_800, 3600, 9000.0, memory_peak_bytes=5 * GB, oom_kills=2, container_name="miner",
                container_image="evil.example/miner:1"),
        birth(3, 10_900, container_name="unread"),
        end(10),
        begin(12),
        *signs(12, 24),
    ]  # fmt: skip


def stored(path: Path) -> Path:
    with storing(path) as store:
        for event in lived():
            store.add(event)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("spending") / "history.db")


def whole(path: Path) -> Report:
    with History(path) as history:
        costs = {by: tuple(heaviest(history, Asked(), by, 9)) for by in BY}
    made = report(lived())
    assert made.spent is not None
    return replace(made, spent=replace(made.spent, heaviest={**costs}))


def golden_section(path: Path) -> str:
    return spent(whole(path)).replace("><", ">\n<") + "\n"


def test_the_section_is_the_golden_one(store: Path) -> None:
    assert golden_section(store) == GOLDEN.read_text()


def test_the_section_says_who_and_how_much(store: Path) -> None:
    html = golden_section(store)

    for words in ("miner", "150.0 min", "83.3 % of used", "62.5 % of host", "never read"):
        assert words in html
    read(html)


def test_without_use_it_says_how_to_get_it() -> None:
    made = report([begin(0), birth(1, 1), end(4)])
    html = page.html(made)

    assert made.spent is None
    assert "ctrwatch events --usage --store FILE" in html


def test_use_without_any_look_at_the_host() -> None:
    html = spent(report([begin(0), birth(1, 1), used(1, 61, 60, 5.0)]))

    assert "No look at the host" in html
    assert "unknown" in html  # its share


def run(path: Path, *options: str) -> Result:
    asked = ["report", "--store", str(path), "--until", rfc3339(at(DAY_S))]
    return CliRunner().invoke(main, [*asked, *options], catch_exceptions=False)


def test_json_and_csv_have_the_same(store: Path) -> None:
    made = json.loads(run(store, "--json").stdout)["spent"]
    lines = csv.DictReader(io.StringIO(run(store, "--csv").stdout))
    by_image = {line["container_image"]: line for line in lines}

    assert made["heaviest"]["cpu"][0]["container_name"] == "miner"
    assert made["heaviest"]["memory"][0]["memory_share_of_host"] == 5 / 8
    assert made["heaviest"]["cpu"][0]["cpu_share_of_host"] == 0.625
    assert sum(made["host"]["births"]) == 3
    assert len(made["host"]["cpu_cores"]) == 240
    miner = by_image["evil.example/miner:1"]
    assert (miner["measured"], miner["cpu_seconds"]) == ("1", "9000.0")
    assert by_image[birth(2, 1).container_image]["measured"] == "0"
    assert by_image[birth(2, 1).container_image]["cpu_seconds"] == ""


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        GOLDEN.write_text(golden_section(stored(Path(directory) / "history.db")))
