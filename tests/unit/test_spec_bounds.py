"""config.json as an enemy writes it: a spec in its bounds or a named error, never anything else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import spec
from ctrwatch.core.spec import Spec, SpecError, read_spec
from ctrwatch.model import Missing

CONFIG: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"args": ["sh"], "user": {"uid": 0}, "capabilities": {"bounding": ["CAP_KILL"]}},
    "linux": {
        "namespaces": [{"type": "pid"}],
        "resources": {"devices": [{"allow": True}], "memory": {}, "cpu": {}},
    },
}


def changed(path: str, value: object) -> Spec:
    """Read `CONFIG` with one thing changed; *path* is dotted."""
    copy = json.loads(json.dumps(CONFIG))
    *parents, last = path.split(".")
    place = copy
    for parent in parents:
        place = place[parent]
    place[last] = value
    return read_spec(json.dumps(copy).encode())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0" * 10, id="zeros"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'{"hostname": "x"', id="cut"),
        pytest.param(b'{"hostname": "x"} {}', id="two"),
        pytest.param(b'{"hostname": 1}', id="hostname-a-number"),
        pytest.param(b'{"hostname": "\xff"}', id="no-utf8"),
        pytest.param(b'{"hostname": "\\ud800"}', id="half-a-character"),
        pytest.param(b'{"annotations": ["a"]}', id="annotations-a-list"),
        pytest.param(b'{"annotations": {"a": 1}}', id="annotation-a-number"),
        pytest.param(b'{"process": {"args": "sh"}}', id="args-a-string"),
        pytest.param(b'{"linux": {"namespaces": [{}]}}', id="namespace-without-a-type"),
        pytest.param(b'{"linux": {"resources": {"memory": {"limit": 1.5}}}}', id="half-a-byte"),
        pytest.param(b'{"a": ' + b"[" * 100_000, id="nested-too-deeply"),
    ],
)
def test_garbage_is_a_named_error(raw: bytes) -> None:
    with pytest.raises(SpecError, match=r"\S"):
        read_spec(raw)


@pytest.mark.parametrize(
    ("path", "value", "cut"),
    [
        pytest.param("process.args", ["x" * 4095], (), id="args-fit"),
        pytest.param("process.args", ["x" * 4096], ("process.args",), id="one-long-arg"),
        pytest.param("process.args", ["x"] * 2049, ("process.args",), id="many-args"),
        pytest.param("mounts", [{"type": "bind", "destination": "/d"}] * 256, (), id="mounts-fit"),
        pytest.param(
            "mounts",
            [{"type": "bind", "destination": "/d"}] * 257,
            ("security.mounts",),
            id="many-mounts",
        ),
        pytest.param(
            "mounts",
            [{"type": "bind", "destination": "/" * 9999}] * 17,
            ("security.mounts",),
            id="long-mounts",
        ),
        pytest.param("linux.devices", [{"path": "/d"}] * 256, (), id="devices-fit"),
        pytest.param(
            "linux.devices", [{"path": "/d"}] * 257, ("security.devices",), id="many-devices"
        ),
        pytest.param("linux.sysctl", dict.fromkeys(map(str, range(64)), "0"), (), id="sysctls-fit"),
        pytest.param(
            "linux.sysctl",
            dict.fromkeys(map(str, range(65)), "0" * 9999),
            ("security.sysctls",),
            id="many-sysctls",
        ),
    ],
)
def test_what_is_too_long_is_cut_and_says_so(
    path: str, value: object, cut: tuple[str, ...]
) -> None:
    said = changed(path, value)

    assert said.cut == cut
    assert said.facts.security is not None
    assert len(said.facts.security.devices) <= spec.DEVICES_MAX
    assert said.facts.absent == dict.fromkeys(cut, Missing.CUT)
    assert len(msgspec.json.encode(said.facts)) < 300_000
    assert said.facts.process is not None
    if "process.args" in cut:
        assert said.facts.process.args[-1].endswith("…")
        assert sum(map(len, said.facts.process.args)) <= spec.ARGS_MAX
    for text in (said.hostname, *(mount.destination for mount in said.facts.security.mounts)):
        assert len(text) <= spec.TEXT_MAX


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
PATHS = """
    process process.args process.user process.user.uid process.capabilities.bounding root mounts
    annotations hostname linux linux.namespaces linux.devices linux.resources linux.seccomp
    linux.resources.devices linux.resources.memory linux.resources.cpu linux.resources.unified
    linux.resources.cpu.quota linux.maskedPaths linux.cgroupsPath linux.sysctl
"""


@given(st.sampled_from(PATHS.split()), JSON)
def test_a_wrong_type_anywhere_is_a_spec_or_a_named_error(path: str, value: object) -> None:
    try:
        said = changed(path, value)
    except SpecError:
        return
    msgspec.json.encode(said.facts)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_spec_or_a_named_error(raw: bytes) -> None:
    with suppress(SpecError):
        read_spec(raw)
