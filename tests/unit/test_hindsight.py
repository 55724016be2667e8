"""Policies over the history: what they would have said, and what is learnt from it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, strategies as st

from ctrwatch.cli import main
from ctrwatch.core.approved import Approved, by, quoted
from ctrwatch.core.policy import parse
from ctrwatch.event import ContainerEvent, Evidence, Image
from ctrwatch.model import Missing, Runtime
from tests.unit.test_store import event, storing

HOSTILE = 'x"\n  - name: any\n    require: "true" # \x1b[2J\u2028\u202e\x85\\'
LATE = Evidence(
    status="partial",
    missing=dict.fromkeys(
        ("container_image", "container_image_digest", "image.id"), Missing.DEADLINE
    ),
)
NO_IMAGE = Evidence(status="complete", missing={"container_image": Missing.NO_IMAGE})
BARE: dict[str, Any] = {"container_image": "", "container_image_digest": "", "image": Image()}
BUILT: dict[str, Any] = {"container_image": "localhost/mine:1", "container_image_digest": ""}
NAMED: dict[str, Any] = {**BARE, "container_image": "docker.io/library/old:1"}
RUNC: dict[str, Any] = {**BARE, "runtime": Runtime.RUNC, "evidence": NO_IMAGE}
HOUSE = """
apiVersion: ctrwatch/v1
kind: Policy
metadata: {name: house}
rules:
  - {name: new, deny: new_registry, severity: low}
  - {name: ours, require: 'image.repository.startsWith("library/")', severity: high}
"""


def from_(registry: str, repository: str = "library/x") -> dict[str, Any]:
    return {"image": Image(registry=registry, repository=repository)}


def ran() -> list[ContainerEvent]:
    """Of every kind that can be approved."""
    return [
        event(1),
        event(2, "existing_container"),
        event(3, **BUILT),
        event(4, **NAMED),
        event(5, **RUNC),
        event(6, container_image=HOSTILE, container_image_digest=HOSTILE, container_name=HOSTILE),
        event(7, **BARE, evidence=LATE),
        event(8, "container_remove"),
        event(7, "container_update", container_image_digest="sha256:" + "7" * 64),
    ]


def made(path: Path, events: Sequence[ContainerEvent]) -> Path:
    with storing(path) as store:
        for each in events:
            store.add(each)
    return path


def policy(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, ("policy", command, *map(str, arguments)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("learn") / "history.db", ran())


def test_rules_on_use_are_left_out_and_that_is_said(store: Path) -> None:
    done = policy("replay", "resources", "--store", store, "--json")

    lines = done.stdout.split("\n")[:-1]  # a name has another line break in it
    assert {json.loads(line)["rule"] for line in lines} <= {"unlimited"}
    assert "nobody looks at what containers use: resources/cpu-hog, resources/th" in done.stderr


# --- learn --------------------------------------------------------------------------------


def test_what_is_learnt_is_a_policy_that_approves_what_ran(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "approved.yaml"
    done = policy("learn", "--store", store, "--output", file)

    assert done.exit_code == 0, done.output
    assert "births: 7; images: 6; review it" in done.stderr
    assert policy("check", file).exit_code == 0
    assert policy("test", file).exit_code == 0
    again = policy("replay", file, "--store", store, "--fail-on", "info")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "births judged: 7; no violation" in again.stderr


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param({"container_image_digest": "sha256:" + "e" * 64}, id="digest"),
        pytest.param({**BUILT, "image": Image(id="sha256:" + "e" * 64)}, id="image_id"),
        pytest.param({**NAMED, "container_image": "docker.io/library/old:2"}, id="name"),
        pytest.param(
            {**NAMED, "image": Image(id="sha256:" + "e" * 64)}, id="known_name_other_content"
        ),
        pytest.param({**RUNC, "runtime": Runtime.CRUN}, id="no_image"),
        pytest.param({**RUNC, "evidence": Evidence(status="unverified")}, id="unverified"),
        pytest.param({**BARE, "evidence": LATE}, id="not_known_in_time"),
    ],
)
def test_what_did_not_run_is_not_approved(
    store: Path, tmp_path: Path, stranger: dict[str, Any]
) -> None:
    stranger.setdefault("image", Image(id="sha256:" + "0" * 64))
    file = tmp_path / "approved.yaml"
    assert policy("learn", "--store", store, "--output", file).exit_code == 0
    other = made(tmp_path / "other.db", [event(1, **stranger)])

    assert policy("replay", file, "--store", other, "--fail-on", "high").exit_code == 4


def test_a_reviewer_is_told_how_often_and_when(store: Path) -> None:
    text = policy("learn", "--store", store).stdout

    assert (
        "# docker.io/library/nginx:1.27: 2 births by containerd,"
        " first 2026-11-23T19:46:12Z, last 2026-11-23T19:46:12Z\n"
        f'    - "sha256:{"d" * 64}"\n'
    ) in text
    assert text.count("CAUTION") == 2
    assert not text.isprintable()  # its line ends,
    assert all(line.isprintable() for line in text.split("\n"))  # and nothing else


def test_what_nobody_can_approve_is_left_out_and_said(tmp_path: Path) -> None:
    unknown = {**BARE, "runtime": Runtime.UNKNOWN, "evidence": Evidence(status="unverified")}
    path = made(tmp_path / "h.db", [event(1), event(2, **BARE, evidence=LATE), event(3, **unknown)])
    file = tmp_path / "approved.yaml"

    done = policy("learn", "--store", path, "--output", file)
    assert "births: 3; images: 1; births left out: 2" in done.stderr
    assert "# NOT in it: 2 births" in file.read_text()
    lines = policy("replay", file, "--store", path, "--json").stdout.splitlines()
    assert {json.loads(line)["verdict"] for line in lines} == {"violation", "undecided"}


@given(st.text(), st.text())
def test_no_name_breaks_out(name: str, value: str) -> None:
    approved = Approved()
    approved.add(event(1, container_image=name, container_image_digest=value or "x", host=name))
    text = approved.yaml()
    [learnt] = parse(text.encode(), "p.yaml", lambda _: b"")

    assert [rule.name for rule in learnt.rules] == ["image", "no-image"]
    assert yaml.safe_load(text)["parameters"] == {
        "digests": [value or "x"], "image_ids": [], "names": [], "without_image": [],
    }  # fmt: skip


@given(st.text())
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    assert yaml.safe_load(quoted(text)) == text
    assert quoted(text).isascii()


def test_a_digest_that_was_cut_approves_nothing() -> None:
    cut = Evidence(status="partial", missing={"container_image_digest": Missing.CUT})

    assert by(event(1, evidence=cut)) == ("image_ids", event(1).image.id)


def test_a_file_that_is_there_stays(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    done = policy("learn", "--store", store, "--output", file)

    assert done.exit_code == 2
    assert "is there already" in done.stderr
    assert file.read_text() == "mine"


def test_more_than_a_policy_holds_is_refused(tmp_path: Path) -> None:
    approved = Approved()
    for number in range(4_000):
        approved.add(event(number, container_image_digest=f"sha256:{number:064x}"))

    with pytest.raises(Exception, match="4000 images are more than a policy of 524,288 bytes"):
        approved.yaml()


def test_nothing_is_learnt_from_nothing(tmp_path: Path) -> None:
    done = policy("learn", "--store", made(tmp_path / "h.db", []))

    assert (done.exit_code, done.stdout) == (1, "")
    assert "no births" in done.stderr


# --- replay -------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> Path:
    file = tmp_path / "house.yaml"
    file.write_text(HOUSE)
    return file


def test_births_are_judged_in_the_order_of_their_time(house: Path, tmp_path: Path) -> None:
    late_first = [event(2, **from_("a.example")), event(1, **from_("a.example"))]
    path = made(tmp_path / "h.db", [*late_first, event(3, **from_("b.example", "mine/x"))])
    done = policy("replay", house, "--store", path, "--json")

    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(int(each["event_id"], 16), each["rule"]) for each in told] == [
        (1, "new"),
        (3, "new"),
        (3, "ours"),
    ]
    assert "births judged: 3; 3 violations" in done.stderr


def test_a_birth_that_is_told_again_is_judged_once(house: Path, tmp_path: Path) -> None:
    strange = from_("a.example", "mine/x")
    again = [event(1, **strange), event(1, "existing_container", **strange)]
    done = policy("replay", house, "--store", made(tmp_path / "h.db", again))

    assert "births judged: 1; 2 violations" in done.stderr
    assert [line.split()[4:6] for line in done.stdout.splitlines()] == [
        ["low", "house/new:"],
        ["high", "house/ours:"],
    ]


@pytest.mark.parametrize(("severity", "code"), [("high", 4), ("critical", 0)])
def test_fail_on(house: Path, tmp_path: Path, severity: str, code: int) -> None:
    path = made(tmp_path / "h.db", [event(1, **from_("a.example", "mine/x"))])

    assert policy("replay", house, "--store", path, "--fail-on", severity).exit_code == code


def test_only_since_then(house: Path, store: Path) -> None:
    done = policy("replay", house, "--store", store, "--since", "2100-01-01")

    assert (done.stdout, done.exit_code) == ("", 0)
    assert "births judged: 0; no violation" in done.stderr


def test_births_that_cannot_be_read_are_counted(house: Path, tmp_path: Path) -> None:
    path = made(tmp_path / "h.db", [event(1), event(2)])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE body SET body = ? WHERE seq = 1", (b'{"event":"of 2030"}',))

    said = "; 1 more are of another version of ctrwatch and can't be read"
    assert f"births judged: 1; 1 violation{said}" in policy("replay", house, "--store", path).stderr
    assert f"births: 1; images: 1{said}" in policy("learn", "--store", path).stderr
