"""
Streams recorded from real runtimes, played through the chain: the same lines as ever.

`python -m tests.golden.record` records them anew. Two seams only: stream to JSON lines,
stream to text.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrwatch.core import render
from ctrwatch.core.cgroup import identify
from ctrwatch.core.chain import Chain
from ctrwatch.core.story import Tell
from ctrwatch.sensor.journal import read_journal

HERE = Path(__file__).parent
STREAMS = sorted(HERE.glob("*.stream.jsonl"))
TREES = sorted((HERE.parent / "data/cgroups").glob("*.txt"))


def replayed(stream: Path, kind: str) -> bytes:
    """What `ctrwatch replay --format KIND` prints of *stream*."""
    header, inputs = read_journal(stream)
    chain = Chain(header)
    events = [
        effect.event for item in inputs for effect in chain.feed(item) if isinstance(effect, Tell)
    ]
    if kind == "json":
        return b"".join(render.json_line(event) for event in events)
    return "".join(render.text_line(event) for event in events).encode()


@pytest.mark.parametrize("stream", STREAMS, ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_stream_gives_the_same_json(stream: Path) -> None:
    expected = stream.with_name(stream.name.replace(".stream.jsonl", ".events.jsonl"))

    assert replayed(stream, "json") == expected.read_bytes()


@pytest.mark.parametrize("stream", STREAMS, ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_stream_gives_the_same_text(stream: Path) -> None:
    expected = stream.with_name(stream.name.replace(".stream.jsonl", ".txt"))

    assert replayed(stream, "text") == expected.read_bytes()


@pytest.mark.parametrize("tree", TREES, ids=lambda path: path.stem)
def test_in_a_captured_tree_the_containers_are_found_and_nothing_else(tree: Path) -> None:
    lines = tree.read_text().splitlines()
    expected = {line.split()[-1] for line in lines if line.startswith("# container ")}
    paths = [line.split(":", 2)[2] for line in lines if not line.startswith("#")]
    found = {
        identity.container_id
        for path in paths
        if (identity := identify(path)) is not None and identity.is_root
    }

    assert found == expected


def test_the_streams_are_there() -> None:
    assert len(STREAMS) >= 7
    assert len(TREES) >= 3
