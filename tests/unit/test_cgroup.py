"""Paths in, identities out: the vectors, the edges of each layout, and what any text does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import cgroup
from ctrwatch.core.cgroup import LAYOUTS, Layout, explain, identify, pod_uid
from ctrwatch.model import Runtime

VECTORS = Path(__file__).parents[1] / "data" / "cgroup_paths.tsv"
CID = "0a1b2c3d4e5f6789" * 4
INNER = "f" * 64
UID = "91b4778d-c090-7727-b36a-bf0be1b7dc91"
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
CONTAINERS = [layout for layout in LAYOUTS if layout.runtime is not None]
LONG_IDS = [layout for layout in CONTAINERS if "<id>" in layout.spelling]
EXAMPLES = {
    "<id>": CID,
    "<64>": INNER,
    "<guid>": "e843b8a2-71fb-3a45-0538-4219",
    "<build>": "8har6w5t3a6e07z00m2c9bxk4",
    "<step>": "buildah-buildah734222356",
    "<name>": "web1",
    "<machine>": "db1",
    "<uid>": UID,
    "<slice>": SLICE,
    "*": "x.slice",
    "…": f"/libpod-{CID}",
}


def example(layout: Layout, **changes: str) -> str:
    """Return a component or two as *layout* spells them."""
    text = layout.spelling
    for placeholder, value in (EXAMPLES | {f"<{k}>": v for k, v in changes.items()}).items():
        text = text.replace(placeholder, value)
    return text


class Vector(NamedTuple):
    path: str
    container_id: str
    runtime: str
    is_root: str
    outer: str
    pod_uid: str
    note: str


def vectors() -> list[Vector]:
    lines = VECTORS.read_text(encoding="utf-8").splitlines()
    return [Vector(*line.split("\t")) for line in lines if not line.startswith("#")]


def test_no_vector_is_lost() -> None:
    assert len(vectors()) == 86


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v.note}-{v.path}") for v in vectors()])
def test_vector(vector: Vector) -> None:
    said = explain(vector.path)

    assert said.path == vector.path
    assert (said.container_id or "-", said.runtime or "-") == (vector.container_id, vector.runtime)
    assert said.is_root is (vector.is_root == "yes")
    assert (",".join(said.outer) or "-", said.pod_uid or "-") == (vector.outer, vector.pod_uid)


@pytest.mark.parametrize("vector", [pytest.param(v, id=f"{v.note}-{v.path}") for v in vectors()])
def test_a_child_is_the_same_container_and_never_a_root(vector: Vector) -> None:
    here, below = explain(vector.path), explain(vector.path.rstrip("/") + "/init.scope")

    assert below == msgspec.structs.replace(here, path=below.path, is_root=False)


@pytest.mark.parametrize("layout", [pytest.param(row, id=row.spelling) for row in CONTAINERS])
def test_each_layout(layout: Layout) -> None:
    identity = identify(f"/a.slice/{example(layout)}")

    assert identity is not None
    assert (identity.runtime, identity.is_root) == (layout.runtime, True)
    assert identity.container_id in example(layout)


@pytest.mark.parametrize(
    "layout", [pytest.param(row, id=row.spelling) for row in LAYOUTS if row.runtime is None]
)
def test_what_is_no_container_is_none_and_not_an_enclosing_one(layout: Layout) -> None:
    pod = example(layout).removesuffix(EXAMPLES["…"])

    if pod != INNER:  # a pod under a --cgroup-parent can be told only by its member
        assert identify(f"/{pod}") is None
    identity = identify(f"/{pod}/libpod-{CID}")
    assert identity is not None
    assert (identity.container_id, identity.outer) == (CID, ())


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/docker/{CID}\n", id="newline"),
        pytest.param(f"/docker/{CID}.scope", id="docker-both-drivers"),
        pytest.param(f"/docker-{CID}", id="docker-no-scope"),
        pytest.param(f"/xdocker-{CID}.scope", id="docker-prefix"),
        pytest.param(f"/docker-{CID}.scopes", id="docker-suffix"),
        pytest.param("/garden/e843b8a2-71fb-3a45-0538-42199", id="garden-one-digit-long"),
        pytest.param("/garden/e843b8a2-71fb-3a45-0538", id="garden-one-group-short"),
        pytest.param("/docker/buildkit/8har6w5t3a6e07z00m2c9bxk", id="buildkit-one-short"),
        pytest.param("/docker/buildkit/8Har6w5t3a6e07z00m2c9bxk4", id="buildkit-upper-case"),
        pytest.param("/lxc", id="lxc-parent"),
        pytest.param("/lxc.payload", id="lxc-payload-parent"),
        pytest.param("/lxc.pivot", id="lxc-pivot"),
        pytest.param(f"/lxc/{'a' * 256}", id="lxc-longer-than-a-file-name"),
        pytest.param("/lxc.monitor/web1", id="lxc-3.1-monitor"),
        pytest.param("/machine.slice/systemd-nspawn@db1.service", id="nspawn-manager"),
        pytest.param("/machine.slice/systemd-nspawn@db1.service/supervisor", id="nspawn-monitor"),
        pytest.param("/buildah-buildah", id="buildah-no-number"),
    ],
)
def test_no_container(path: str) -> None:
    assert identify(path) is None


def test_a_podman_pod_under_a_cgroup_parent_is_known_by_its_member() -> None:
    identity = identify(f"/batch/{INNER}/libpod-{CID}/container")

    assert identity == (CID, Runtime.PODMAN, False, (), "")


def test_of_two_layouts_at_one_place_the_first_wins() -> None:
    assert identify(f"/{SLICE}:cri-containerd:{CID}") == (CID, Runtime.CONTAINERD, True, (), UID)
    assert identify(f"/x.slice:cri-containerd:{CID}") == (CID, Runtime.CONTAINERD, True, (), "")


def test_an_id_twice_is_one_container_and_its_first_directory_the_root() -> None:
    twice = identify(f"/docker/{CID}/docker/{CID}")

    assert twice == (CID, Runtime.DOCKER, False, (), "")


def test_a_container_can_not_pass_for_the_one_around_it() -> None:
    """Whoever may make a cgroup in the inner container may name it like the outer one."""
    identity = identify(f"/docker/{CID}/docker/{INNER}/docker/{CID}")

    assert identity == (INNER, Runtime.DOCKER, False, (CID,), "")


def test_a_container_in_a_pods_container_is_no_member_of_the_pod() -> None:
    path = f"/kubepods/burstable/pod{UID}/{CID}/docker/{INNER}"

    assert identify(path) == (INNER, Runtime.DOCKER, True, (CID,), "")
    assert pod_uid(path) == ""


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        pytest.param(f"/docker/{CID}/kubelet/kubepods/pod{UID}", UID, id="in-a-kind-node"),
        pytest.param(f"/kubepods/burstable/pod{UID}/{CID}/init", UID, id="below-a-member"),
        pytest.param(f"/kubepods/{SLICE}".replace("_", "-"), "", id="dashes-in-a-slice"),
        pytest.param(f"/kubepods/pod{UID}".replace("-", "_"), "", id="underscores-not-in-a-slice"),
        pytest.param(f"/kubepods/burstable/pod{UID[:-1]}", "", id="one-digit-short"),
        pytest.param(f"/kubepods/guaranteed/pod{UID}", "", id="no-such-class"),
        pytest.param(f"/pod{UID}", "", id="not-under-kubepods"),
    ],
)
def test_pod_uid(path: str, uid: str) -> None:
    assert pod_uid(path) == uid


def test_explain_of_bytes_that_are_no_utf8_can_be_written() -> None:
    said = explain(b"/caf\xe9".decode("utf-8", "surrogateescape"))

    assert msgspec.json.decode(msgspec.json.encode(said)) == {
        "path": "/caf\\xe9",
        "container_id": "",
        "runtime": "",
        "is_root": False,
        "outer": [],
        "pod_uid": "",
    }


@given(
    st.sampled_from(LONG_IDS), st.integers(0, 63), st.text("gGA:._-xyz \n", min_size=1, max_size=1)
)
def test_one_wrong_digit_is_no_container(layout: Layout, position: int, wrong: str) -> None:
    """The whole id is checked, wherever it stands in the path."""
    bad = CID[:position] + wrong + CID[position + 1 :]

    assert identify(f"/some/quite/long/parent.slice/{example(layout, id=bad)}") is None
    within = identify(f"/lxc/web1/{example(layout, id=bad)}")
    assert within is not None
    assert within.container_id == "web1"


@given(st.sampled_from(LONG_IDS), st.integers(0, 64), st.sampled_from("0f"))
def test_one_digit_more_or_less_is_no_container(layout: Layout, at: int, digit: str) -> None:
    for bad in (CID[:at] + digit + CID[at:], CID[:at] + CID[at + 1 :] if at < 64 else CID[1:]):
        assert identify(f"/{example(layout, id=bad)}") is None


_PIECES = st.sampled_from([*(example(row) for row in LAYOUTS), "a.slice", "", ":", CID[1:], "lxc"])


@given(st.one_of(st.text(max_size=300), st.lists(_PIECES, max_size=6).map("/".join)))
def test_any_text_gets_an_answer_that_the_path_bears_out(path: str) -> None:
    identity, said = identify(path), explain(path)

    msgspec.json.encode(said)
    assert (identity is None) is (said.container_id == "")
    if identity is not None:
        ids = [*identity.outer, identity.container_id]
        assert len(set(ids)) == len(ids)
        assert all(one in path for one in ids)
        end = path.strip("/").split("/")[-2:]  # …@<id>.service/payload
        assert not identity.is_root or any(identity.container_id in part for part in end)


@given(st.lists(_PIECES, max_size=6).map("/".join))
def test_the_short_way_out_says_what_the_long_way_says(path: str) -> None:
    """`identify` looks closer only where some layout could match."""
    long_way, _ = cgroup._read(path)

    assert identify(path) == long_way


@pytest.mark.parametrize("placeholder", [p for p in cgroup.PLACEHOLDERS if p != "…"])
def test_no_placeholder_crosses_a_component(placeholder: str) -> None:
    """That keeps the work linear, whatever the path (see the module's head)."""
    pattern, text = re.compile(cgroup.PLACEHOLDERS[placeholder]), EXAMPLES[placeholder]

    assert pattern.fullmatch(text)
    for at in range(len(text) + 1):
        assert not pattern.fullmatch(f"{text[:at]}/{text[at:]}")
        assert not pattern.fullmatch(f"{text[:at]}/{text[at + 1 :]}")
