"""Who is believed, and what is still open."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.merge import FIELDS, Known
from ctrwatch.event import ContainerEvent
from ctrwatch.model import Facts, Leads, Limits, Missing, Process, Runtime, Security

VALUES: dict[str, Any] = {
    "runtime": Runtime.DOCKER,
    "created_ns": 1,
    "image": "docker.io/library/nginx:1.27",
    "image_digest": "sha256:" + "a" * 64,
    "digest_kind": "index",
    "image_id": "sha256:" + "b" * 64,
    "name": "web",
    "pod_name": "p",
    "pod_namespace": "n",
    "pod_uid": "u",
    "sandbox": False,
    "labels": {},
    "security": Security(),
    "limits": Limits(),
    "process": Process(),
    "init_pid": 0,
}


def test_every_fact_has_its_place_in_the_event() -> None:
    said = set(Facts.__struct_fields__) - {"leads", "absent", "corrects"}

    assert said == set(FIELDS)
    tops = {name.partition(".")[0] for name in FIELDS.values()} - {"created"}  # tells of ctime
    assert tops <= set(ContainerEvent.__struct_fields__)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_settled_by_the_first_who_says_something(field: str) -> None:
    known, name = Known(), FIELDS[field]
    assert name in known.unsettled

    assert known.add("one", Facts(**{field: VALUES[field]})) == {name}
    assert known.add("two", Facts(**{field: VALUES[field]})) == set()

    assert known.sources == {name: "one"}
    assert name not in known.unsettled
    assert getattr(known.facts, field) == VALUES[field]


@pytest.mark.parametrize("field", FIELDS)
def test_that_there_is_nothing_to_know_is_something_said(field: str) -> None:
    known, name = Known(), FIELDS[field]

    settled = known.add("one", Facts(absent={name: Missing.HAS_NONE}))
    later = known.add("two", Facts(**{field: VALUES[field]}))

    assert (settled, later) == ({name}, set())
    assert known.facts.absent == {name: Missing.HAS_NONE}
    assert getattr(known.facts, field) is None


@pytest.mark.parametrize(
    "nothing",
    [
        pytest.param(Facts(), id="none"),
        pytest.param(Facts(image="", name="", pod_uid=""), id="empty-strings"),
        pytest.param(Facts(runtime=Runtime.UNKNOWN), id="unknown-runtime"),
        pytest.param(Facts(leads=Leads(bundle="/b")), id="leads-only"),
    ],
)
def test_nothing_said_settles_nothing(nothing: Facts) -> None:
    known = Known()

    assert known.add("one", nothing) == set()
    assert known.unsettled == set(FIELDS.values())
    assert known.sources == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("sandbox", False, id="false"),
        pytest.param("labels", {}, id="no-labels"),
        pytest.param("init_pid", 0, id="zero"),
    ],
)
def test_falsehood_is_not_silence(field: str, value: object) -> None:
    known = Known()

    assert known.add("one", Facts(**{field: value})) == {FIELDS[field]}  # type: ignore[arg-type]


def test_a_value_and_its_absence_from_one_source_is_the_value() -> None:
    known = Known()

    known.add("one", Facts(name="web", absent={"container_name": Missing.HAS_NONE}))

    assert known.facts.name == "web"
    assert known.facts.absent == {}


def test_who_knows_better_corrects() -> None:
    known = Known()
    known.add("bundle", Facts(image="other:1", absent={"image.id": Missing.NOT_RECORDED}))

    settled = known.add("containerd", Facts(image="web:1", image_id="c", corrects=("image",)))

    assert (known.facts.image, known.facts.image_id) == ("web:1", None)
    assert known.sources == {"container_image": "containerd", "image.id": "bundle"}
    assert settled == {"container_image"}
    assert known.add("containerd", Facts(name="web", corrects=("image",))) == {"container_name"}
    assert known.facts.image == "web:1"


def test_leads_are_filled_up_and_never_overwritten() -> None:
    known = Known()

    known.add("one", Facts(leads=Leads(bundle="/a")))
    known.add("two", Facts(leads=Leads(bundle="/b", namespace="moby")))

    assert known.facts.leads == Leads(bundle="/a", namespace="moby")


FACTS = st.builds(
    lambda chosen, absent: Facts(
        **{field: VALUES[field] for field in chosen},
        absent={FIELDS[field]: Missing.HAS_NONE for field in absent},
    ),
    st.sets(st.sampled_from(list(FIELDS))),
    st.sets(st.sampled_from(list(FIELDS))),
)


@given(st.lists(FACTS, max_size=6))
def test_what_is_known_only_grows(facts: list[Facts]) -> None:
    known = Known()
    open_before, number = known.unsettled, itertools.count()
    for one in facts:
        before = msgspec.structs.asdict(known.facts)
        settled = known.add(f"source {next(number)}", one)

        assert settled <= open_before
        assert known.unsettled == open_before - settled
        open_before = known.unsettled
        assert set(known.sources) == set(FIELDS.values()) - open_before
        for field in FIELDS:
            if before[field] is not None:
                assert getattr(known.facts, field) == before[field]
            assert getattr(known.facts, field) is None or FIELDS[field] not in known.facts.absent
