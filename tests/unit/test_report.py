"""The report for an auditor: the numbers, the holes, and strangers' words in it."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings, strategies as st

from ctrwatch.cli import main
from ctrwatch.commands.report import Question, made
from ctrwatch.core import page, ran, reporting, rows
from ctrwatch.core.costs import Cost
from ctrwatch.core.coverage import Coverage, Start, covered_ns
from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.markup import tag
from ctrwatch.core.reported import Chain, Report
from ctrwatch.core.reporting import Reporter
from ctrwatch.event import Audit, ContainerEvent, Creator, EventName, Image, Violation, WatchGap
from ctrwatch.model import Runtime
from ctrwatch.policies import load
from tests.unit import costly
from tests.unit.test_render import WEB
from tests.unit.test_store import storing

BEGIN_NS = wall_ns("2026-11-23T00:00:00.000000000Z")
HOUR_NS = 3_600 * 1_000_000_000
MINUTE_NS = HOUR_NS // 60
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202egpj\"'&"
CHAIN = Chain(whole=True, rows=0, pruned_rows=0, head="0:00", compared=0, findings=())


def at(hours: float) -> int:
    return BEGIN_NS + int(hours * HOUR_NS)


def birth(
    number: int,
    hours: float,
    name: EventName = "container_create",
    suffix: str = "",
    **fields: Any,
) -> ContainerEvent:
    return msgspec.structs.replace(
        WEB,
        event=name,
        id=f"{number:032x}{suffix}",
        time=rfc3339(at(hours)),
        container_id=f"{number:064x}",
        **fields,
    )


def begin(hours: float, boot: str = "boot-1") -> rows.WatchStart:
    return rows.watch_start(
        "node-1", at(hours), version="1", kernel="6.1", boot_id=boot, cgroups="v2", sensor="ebpf"
    )


def end(hours: float, **counts: int) -> rows.WatchStop:
    return rows.watch_stop("node-1", at(hours), **{"seen": 1, "lost": 0, "rows_lost": 0, **counts})


def signs(first: float, last: float) -> list[rows.WatchAlive]:
    """A watch that has nothing to tell: a row every five minutes."""
    steps = int((last - first) * 12)
    return [
        rows.watch_alive("node-1", at(first) + step * 5 * MINUTE_NS) for step in range(steps + 1)
    ]


def violation(number: int, hours: float, **fields: Any) -> Violation:
    event = birth(number, hours)
    given = Violation(
        id=f"v{number}", time=event.time, host="node-1", policy="p", rule="r", severity="high",
        tags=("T1",), message="bad", event_id=event.id, runtime=Runtime.DOCKER,
        container_id=event.container_id,
    )  # fmt: skip
    return msgspec.structs.replace(given, **fields)


def report(
    told: Sequence[rows.Kept],
    since: float = 0,
    until: float = 24,
    policies: Sequence[str] = (),
    heaviest: Sequence[Cost] = (),
) -> Report:
    """*told*: in the order in which it was written."""
    written = [(seq, rows.body_of(event)) for seq, event in enumerate(told, 1)]
    kept = [(seq, rows.keys_of(body), body) for seq, body in written]
    starts = [
        Start(seq, keys.time_ns, event)
        for (seq, keys, _), event in zip(kept, told, strict=True)
        if isinstance(event, rows.WatchStart)
    ]
    reporter = Reporter(at(since), at(until), load(policies), starts)
    for seq, keys, body in sorted(kept, key=lambda row: (row[1].time_ns, row[0])):
        if keys.time_ns < at(until):
            reporter.add(seq, keys, body)
    return reporter.report(
        version="1",
        made_ns=at(until),
        chain=CHAIN,
        heaviest={"cpu": heaviest} if heaviest else None,
    )


# --- what was watched ---------------------------------------------------------------------


def test_a_day_that_was_watched_has_no_hole() -> None:
    made = report([begin(0), *signs(0, 24)])

    assert made.holes == ()
    assert made.covered == 100
    assert [each.end for each in made.watchings] == ["goes_on"]


def test_between_two_watches_is_a_hole() -> None:
    made = report([begin(0), *signs(0, 6), end(6, lost=3, rows_lost=2), begin(12), *signs(12, 24)])

    [hole] = made.holes
    assert (hole.reason, hole.since, hole.until) == ("not_watched", rfc3339(at(6)), rfc3339(at(12)))
    assert made.covered == 75
    first, second = made.watchings
    assert (first.end, first.lost, first.rows_lost) == ("stopped", 3, 2)
    assert second.end == "goes_on"


def test_a_watch_that_was_killed_ends_with_its_last_sign() -> None:
    made = report([begin(0), *signs(0, 6), begin(12), *signs(12, 24)])

    assert made.watchings[0].end == "no_stop"
    assert made.watchings[0].until == rfc3339(at(6))
    assert made.covered == 75


def test_silence_is_a_hole() -> None:
    made = report([begin(0), *signs(0, 6), *signs(9, 24)])

    assert [(hole.reason, hole.since) for hole in made.holes] == [("silent", rfc3339(at(6)))]
    assert made.covered == 87.5


def test_a_birth_of_a_gap_is_no_sign_of_a_watch() -> None:
    """It is told by the next watch, with the time at which nobody watched."""
    made = report([begin(0), *signs(0, 6), begin(12), birth(1, 9), *signs(12, 24)])

    assert [hole.reason for hole in made.holes] == ["not_watched"]
    assert made.births == 1


def test_gaps_that_overlap_count_once() -> None:
    gap = WatchGap(
        id="g", time=rfc3339(at(12)), host="node-1", reason="restart",
        since=rfc3339(at(6)), until=rfc3339(at(12)), lost=5,
    )  # fmt: skip
    made = report([begin(0), *signs(0, 6), begin(12), gap, *signs(12, 24)])

    assert sorted(hole.reason for hole in made.holes) == ["not_watched", "restart"]
    assert made.covered == 75


def test_nothing_covered_where_nothing_was_kept() -> None:
    made = report([])

    assert made.covered == 0
    assert made.watchings == ()
    assert "No watch was running" in page.html(made)


def test_covered_is_never_rounded_up() -> None:
    """One nanosecond that is missing is seen."""
    gap = WatchGap(
        id="g", time=rfc3339(at(1)), host="h", reason="lost", since=rfc3339(at(1)),
        until=rfc3339(at(1) + 1), lost=1,
    )  # fmt: skip
    assert report([begin(0), *signs(0, 24), gap]).covered < 100


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100))))
def test_what_is_covered_is_what_no_gap_has(gaps: list[tuple[int, int]]) -> None:
    coverage = Coverage([])
    for second in range(101):
        coverage.sign(1, second)
    pairs = [(min(pair), max(pair)) for pair in gaps]
    for first, last in pairs:
        coverage.gap(
            WatchGap(
                id="g",
                time=rfc3339(0),
                host="h",
                reason="lost",
                since=rfc3339(first),
                until=rfc3339(last),
            )
        )
    free = [at for at in range(100) if not any(first <= at < last for first, last in pairs)]

    assert covered_ns(0, 100, coverage.holes(0, 100)) == len(free)


# --- what ran -----------------------------------------------------------------------------


def test_an_image_is_counted_with_its_digest() -> None:
    other: dict[str, Any] = {"container_image_digest": "sha256:" + "e" * 64}
    made = report([begin(0), birth(1, 1), birth(2, 2), birth(3, 3, **other)])

    counted = {each.container_image_digest[7:9]: each.births for each in made.images}
    assert counted == {"dd": 2, "ee": 1}
    twice = next(each for each in made.images if each.births == 2)
    assert (twice.first, twice.last) == (rfc3339(at(1)), rfc3339(at(2)))
    assert (twice.registry, twice.repository) == ("docker.io", "library/nginx")
    assert twice.approved == "not_judged"


def test_an_update_says_what_the_image_was() -> None:
    born = birth(1, 1, container_image="", container_image_digest="", image=Image())
    learnt = birth(1, 1.001, "container_update", "-update-1", changed=("container_image",))
    made = report([begin(0), born, learnt])

    [image] = made.images
    assert image.container_image == WEB.container_image
    assert (image.births, image.first) == (1, rfc3339(at(1)))


def test_a_birth_that_two_watches_tell_is_one() -> None:
    made = report([begin(0), birth(1, 1), begin(2), birth(1, 1, "existing_container")])

    assert (made.births, made.running) == (1, 0)


def test_who_ran_before_and_still_runs_is_in_the_report() -> None:
    ended = [birth(2, 1), birth(2, 2, "container_remove", "-remove")]
    made = report([begin(0), birth(1, 1), *ended, *signs(1, 24)], since=12)

    assert (made.births, made.running) == (0, 1)
    assert made.images[0].containers[0].container_id == f"{1:064x}"


def test_who_ran_in_an_earlier_boot_is_not() -> None:
    there = birth(2, 6, "existing_container")  # older than the watch of the second boot
    made = report([begin(0), birth(1, 1), begin(8, "boot-2"), there, *signs(8, 24)], since=12)

    [image] = made.images
    assert [each.container_id for each in image.containers] == [f"{2:064x}"]


def test_what_is_beyond_the_bounds_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_BEFORE", 2)
    monkeypatch.setattr(reporting, "_OPEN", 1)
    monkeypatch.setattr(ran, "_IMAGES", 3)
    born = [birth(number, number, container_image=f"example/{number}") for number in range(1, 9)]
    made = report([begin(0), *born, *signs(0, 24)], since=4.5)

    assert (made.births, made.running, made.running_left_out) == (4, 2, 2)
    assert [each.container_image for each in made.images] == [
        "example/3", "example/4", "example/5"
    ]  # fmt: skip
    assert made.images_left_out == 3
    html = page.html(made)
    assert "3 containers of further images are only counted" in html
    assert "2 containers of before" in html


def test_a_policy_says_which_image_is_approved_and_by_which_rule() -> None:
    strange: dict[str, Any] = {
        "container_image": "evil.example/miner:1",
        "image": Image(registry="evil.example", repository="miner", tag="1"),
    }
    made = report(
        [begin(0), birth(1, 1), birth(2, 2, **strange), birth(3, 20, **strange)],
        policies=["approved-images"],
    )

    bad, good = made.images
    assert (bad.container_image, bad.approved) == ("evil.example/miner:1", "no")
    assert bad.broke == {"approved-images/image": 2}
    assert good.approved == "yes"
    assert good.held["approved-images/image"] == 1
    assert made.judged is not None
    assert made.judged.violations == 2
    assert made.judged.by_severity["high"] == 2
    assert sum(made.judged.over_time["high"]) == 2
    [creator] = made.judged.by_creator
    assert (creator.comm, creator.uid, creator.violations) == ("runc", 0, 2)
    rule = next(rule for rule in made.policies[0].rules if rule.name == "image")
    assert rule.outcomes == {"pass": 1, "violation": 2}


def test_of_rules_on_use_a_history_has_no_looks() -> None:
    made = report([begin(0), birth(1, 1)], policies=["resources"])

    assert [rule.name for rule in made.policies[0].rules] == ["unlimited"]
    assert made.images[0].approved == "no"
    assert made.judged is not None
    assert (made.judged.violations, made.judged.undecided) == (1, 0)


def test_a_field_that_nobody_learnt_is_no_approval() -> None:
    unknown: dict[str, Any] = {
        "container_image": "", "container_image_digest": "", "image": Image(),
        "evidence": msgspec.structs.replace(
            WEB.evidence, status="partial", missing={"container_image": "deadline"}
        ),
    }  # fmt: skip
    made = report([begin(0), birth(1, 1, **unknown)], policies=["approved-images"])

    assert made.images[0].approved == "unknown"
    assert made.judged is not None
    assert made.judged.violations == 0
    assert made.judged.undecided > 0


def test_a_registry_of_before_the_period_is_not_new() -> None:
    made = report(
        [begin(0), birth(1, 1), birth(1, 2, "container_remove", "-remove"), birth(2, 13)],
        since=12,
        policies=["attack-containers"],
    )

    assert made.judged is not None
    assert "new-registry" not in {each.rule for each in made.judged.by_rule}


def test_what_the_watch_told_has_its_creator() -> None:
    shell = birth(1, 1, creator=Creator(pid=5, ppid=1, uid=1000, gid=1000, comm="bash"))
    made = report(
        [begin(0), shell, violation(1, 1), violation(9, 2, verdict="undecided", severity="low")]
    )

    assert (made.told.violations, made.told.undecided) == (1, 1)
    assert [(each.comm, each.uid) for each in made.told.by_creator] == [("bash", 1000)]
    assert made.judged is None


def test_a_rule_whose_severity_was_changed_counts_as_two() -> None:
    made = report(
        [
            begin(0),
            violation(1, 1),
            violation(2, 2, severity="low"),
            violation(3, 3, severity="low"),
        ]
    )

    assert [(each.severity, each.violations) for each in made.told.by_rule] == [
        ("high", 1),
        ("low", 2),
    ]


# --- the page -----------------------------------------------------------------------------


class _Read(HTMLParser):
    """Its elements, its anchors and its links."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in {"meta", "br", "line"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            self.attributes.add(key)
            if key == "id":
                self.ids.append(value or "")
            if key in {"href", "src"}:
                self.links.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def hostile() -> Report:
    named: dict[str, Any] = {
        "container_image": HOSTILE,
        "container_image_digest": HOSTILE,
        "container_name": HOSTILE,
        "pod_name": HOSTILE,
        "labels": {HOSTILE: HOSTILE},
        "image": Image(registry=HOSTILE, repository=HOSTILE),
        "creator": Creator(pid=1, ppid=1, uid=0, gid=0, comm=HOSTILE),
        "host": HOSTILE,
    }
    found = Audit(
        id="a", time=rfc3339(at(3)), host="node-1", finding="missed", runtime=Runtime.DOCKER,
        container_id=HOSTILE, container_name=HOSTILE, container_image=HOSTILE, source=HOSTILE,
    )  # fmt: skip
    words: dict[str, Any] = {
        "message": HOSTILE, "rule": HOSTILE, "policy": HOSTILE, "tags": (HOSTILE,),
        "container_name": HOSTILE, "container_image": HOSTILE,
    }  # fmt: skip
    cost = Cost(
        born=rfc3339(at(1)), runtime=HOSTILE, container_id=HOSTILE, container_name=HOSTILE,
        container_image=HOSTILE, cpu_seconds=5.0, missing={"cpu_share_of_used": "no_host"},
    )  # fmt: skip
    return report(
        [
            *(begin(0), birth(1, 1, **named), violation(1, 1, **words), found),
            *(costly.host(5000, 10), costly.host(5010, 25, since=5000, cores=1.5), end(4)),
        ],
        policies=["approved-images", "attack-containers"],
        heaviest=[cost],
    )


def read(html: str) -> _Read:
    reader = _Read()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_no_word_of_a_stranger_is_markup() -> None:
    html = page.html(hostile())

    reader = read(html)
    assert "script" not in reader.tags
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert html.count("&lt;script&gt;") > 5
    assert all(character.isprintable() or character == "\n" for character in html)
    assert "\\u202e" in html  # shown, not obeyed


@given(st.text(), st.text())
def test_any_text_stays_text(text: str, value: str) -> None:
    html = tag("p", text, title=value)

    assert html.count("<") == 2
    assert html.count('"') == 2
    assert all(character.isprintable() for character in html)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_that_somebody_changed_make_a_report_all_the_same(data: st.DataObject) -> None:
    gap = WatchGap(
        id="g", time=rfc3339(at(3)), host="h", reason="lost", since=rfc3339(at(1)),
        until=rfc3339(at(2)), lost=1,
    )  # fmt: skip
    update = birth(1, 1.1, "container_update", "-update-1")
    told: list[rows.Kept] = [
        begin(0), birth(9, 0.5), birth(1, 1), update, violation(1, 1), gap,
        costly.used(1, 4000, 60, 5.0), costly.host(4000, 9, since=3990, cores=2.0),
        costly.removed(1, 5000, 1400, 9.0), end(4),
    ]  # fmt: skip
    reporter = Reporter(at(0.7), at(24), load(["approved-images"]), [])
    for seq, event in enumerate(told, 1):
        body = bytearray(rows.body_of(event))
        keys = rows.keys_of(bytes(body))
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(body) - 1))
            body[place : place + data.draw(st.integers(0, 3))] = data.draw(
                st.sampled_from([b"", b"0", b"-", b"9", b'"', b"null", b"\xff", b"Z", b"{"])
            )
        if data.draw(st.booleans()):
            odd = data.draw(st.sampled_from([-1, 0, at(2), 1 << 63, "x", None, 1.5]))
            keys = keys._replace(time_ns=odd)  # type: ignore[arg-type]
        reporter.add(seq, keys, bytes(body))

    read(page.html(reporter.report(version="1", made_ns=at(24), chain=CHAIN)))


def test_it_needs_nothing_but_itself() -> None:
    reader = read(page.html(hostile()))

    assert not reader.tags & {"script", "link", "img", "iframe", "object"}
    assert all(link.startswith("#") for link in reader.links)


def test_each_link_has_its_place() -> None:
    reader = read(page.html(hostile()))

    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links} <= set(reader.ids)


# --- the command --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "history.db"
    with storing(path) as made:
        told: tuple[rows.Kept, ...] = (
            begin(0), birth(1, 1, container_image="=cmd|' /C calc'!A0"), birth(2, 2),
            violation(1, 1), *signs(0, 23), end(23),
        )  # fmt: skip
        for event in told:
            made.add(event)
    return path


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ("report", "--store", str(path), *options))


DAY = ("--since", "2026-11-23", "--until", "2026-11-24")


def test_json_is_the_whole_report(store: Path) -> None:
    done = run(store, *DAY, "--policy", "approved-images", "--json")

    assert done.exit_code == 0, done.output
    made = msgspec.json.decode(done.stdout_bytes, type=Report)
    assert made.births == 2
    assert made.chain.whole
    assert made.chain.rows == 2 + 1 + 277 + 2
    assert made.covered == pytest.approx(100 * 23 / 24, abs=0.01)
    assert json.loads(done.output)["policies"][0]["name"] == "approved-images"


def test_csv_is_for_spreadsheets(store: Path) -> None:
    done = run(store, *DAY, "--policy", "approved-images", "--csv")

    table = list(csv.DictReader(io.StringIO(done.output)))
    assert [row["approved"] for row in table] == ["no", "yes"]
    assert table[0]["container_image"] == "'=cmd|' /C calc'!A0"
    assert "approved-images/image" in table[0]["broke"]


def test_a_file_is_whole_or_not_there(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert run(store, *DAY, "--output", str(file)).exit_code == 0

    assert file.read_text() == re.sub(  # but for the moment in which it was made
        r"Made [^ ]+ [^ ]+", re.search(r"Made [^ ]+ [^ ]+", file.read_text())[0],  # type: ignore[index]
        run(store, *DAY).output,
    )  # fmt: skip
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert file.stat().st_mode & 0o777 <= 0o640
    done = run(store, "--output", str(tmp_path / "none" / "report.html"))
    assert done.exit_code == 2
    assert "No such file or directory" in done.output


def test_without_a_period_it_is_the_whole_history(store: Path) -> None:
    assert made(Question(store)).since == rfc3339(at(0))


def test_a_broken_chain_is_said(store: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(store.read_bytes())
    with closing(sqlite3.connect(broken)) as database, database:
        database.execute("DELETE FROM body WHERE seq = 2")
    done = run(broken, *DAY)

    assert done.exit_code == 1
    assert "NOT whole" in done.output
    assert "row 2: missing" in done.output
    assert run(store, *DAY, "--head", "3:" + "0" * 64).exit_code == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--since", "soon"), "--since soon: give a time"),
        (("--since", "2026-11-24", "--until", "2026-11-23"), "--since is not before --until"),
        (("--policy", "aproved-images"), "did you mean approved-images?"),
        (("--head", "5"), "--head 5: give it as --verify prints it"),
        (("--json", "--csv"), "not both"),
    ],
)
def test_a_mistake_is_said(store: Path, options: tuple[str, ...], says: str) -> None:
    done = run(store, *options)

    assert done.exit_code == 2
    assert says in done.output


def test_where_there_is_no_history(tmp_path: Path) -> None:
    assert run(tmp_path / "none.db").exit_code == 2
