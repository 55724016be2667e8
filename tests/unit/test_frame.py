"""The live table as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from ctrwatch.core.columns import view
from ctrwatch.core.frame import Frame, frame, line
from ctrwatch.event import HostFigures
from tests.unit.boards import OFFSET_NS, Stage, bustle


def whole(stage: Stage, limit: int | None = None) -> dict[str, Any]:
    made = frame(
        stage.board,
        view(stage.board, stage.now_ns)[:limit],
        HostFigures(cpus=2),
        None,
        host="testhost",
        now_ns=stage.now_ns,
        offset_ns=OFFSET_NS,
    )
    raw = line(made)
    assert msgspec.json.decode(raw, type=Frame) == made
    decoded: dict[str, Any] = msgspec.json.decode(raw)
    return decoded


def test_a_frame() -> None:
    said = whole(bustle())

    assert (said["living"], said["born_last_minute"], said["gaps"], said["lost"]) == (4, 4, 0, 0)
    assert [row["container_name"] for row in said["containers"]] == [
        *("unseen", "hungry-newborn", "done", "payments", "old")
    ]
    unseen, hungry, done, payments, _ = said["containers"]
    assert (unseen["usage"], unseen["rates"], unseen["first_minute_cpu_cores"]) == (None,) * 3
    assert (hungry["state"], hungry["rates"]["cpu_cores"], hungry["age_seconds"]) == (
        "running",
        1.98,
        2,
    )
    assert hungry["first_minute_cpu_cores"][:3] == [1.98, 1.98, None]
    assert (done["state"], done["bill"]["exit_code"]) == ("ended", 3)
    assert (payments["pod_name"], payments["pod_namespace"]) == ("payments-7d9f", "shop")
    assert len(payments["first_minute_cpu_cores"]) == 60


def test_a_limit_leaves_rows_out() -> None:
    said = whole(bustle(), limit=2)

    assert said["living"] == 4
    assert len(said["containers"]) == 2


def test_names_that_no_encoder_takes() -> None:
    stage = Stage()
    stage.born("caf\udce9", container_id="\udcff")
    [row] = whole(stage)["containers"]

    assert row["container_name"] == "caf\\xe9"
