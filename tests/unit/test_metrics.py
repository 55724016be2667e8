"""What /metrics and /healthz say, from values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctrwatch.core.tally import Asked, Told, Vitals
from ctrwatch.model import Facts, Found, NotFound, Unavailable
from ctrwatch.outputs import lines
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.outputs.metrics import LABELS, METRICS, Exposition, ailing
from tests.unit.test_tally import BORN_NS, MS, event, told

WELL = Vitals(
    attached=True,
    listed=True,
    living=2,
    untold=1,
    losses={"kernel": 23, "unreadable": 0, "forgotten": 7, "journal": 0},
    asked={},
    daemons={"docker": {"answering": 1, "away": 1}, "containerd": {"answering": 3}},
)
SERIES_MAX = 500


@pytest.fixture
def output() -> Iterator[LineOutput]:
    fd = os.open(os.devnull, os.O_WRONLY)
    output = LineOutput(fd, owned=True)
    yield output
    output.close()


def shown(vitals: Vitals, counts: Told, output: LineOutput) -> list[str]:
    """The samples that are not 0, without ctrwatch's own process."""
    text = Exposition(lambda: vitals, counts, output, "ebpf").metrics().body.decode()
    return [
        line
        for line in text.splitlines()
        if line[0] != "#" and line[:8] != "process_" and not line.endswith(" 0.0")
    ]


def test_what_a_scrape_shows(output: LineOutput) -> None:
    counts = told(
        (event("existing_container"), 0),
        (event("container_create"), 22.5),
        (event("container_start", after_ms=27), 28),
        (event("container_create", status="partial", birth_id="f" * 32), 2000),
    )
    asked = Asked()
    asked.answered(Found(Facts()), 0.0015)
    asked.answered(NotFound(), 0.25)
    asked.answered(Unavailable("docker: no answer in 0.5 s"), 0.75)
    asked.waiting = 5

    assert shown(WELL._replace(asked={"docker": asked}), counts, output) == [
        'ctrwatch_build_info{sensor="ebpf",version="0.1.0"} 1.0',
        "ctrwatch_healthy 1.0",
        'ctrwatch_events_total{event="container_create"} 2.0',
        'ctrwatch_events_total{event="container_start"} 1.0',
        'ctrwatch_events_total{event="existing_container"} 1.0',
        'ctrwatch_births_total{runtime="runc",status="complete"} 1.0',
        'ctrwatch_births_total{runtime="runc",status="partial"} 1.0',
        'ctrwatch_existing_containers_total{runtime="runc",status="complete"} 1.0',
        'ctrwatch_missing_fields_total{reason="deadline"} 1.0',
        *(
            f'ctrwatch_birth_complete_seconds_bucket{{le="{le}"}} 1.0'
            for le in ("0.03", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "10.0", "60.0", "+Inf")
        ),
        "ctrwatch_birth_complete_seconds_count 1.0",
        "ctrwatch_birth_complete_seconds_sum 0.0225",
        'ctrwatch_starts_total{in_time="true"} 1.0',
        "ctrwatch_living_containers 2.0",
        "ctrwatch_untold_births 1.0",
        'ctrwatch_losses_total{cause="kernel"} 23.0',
        'ctrwatch_losses_total{cause="forgotten"} 7.0',
        'ctrwatch_questions_waiting{source="docker"} 5.0',
        'ctrwatch_answers_total{outcome="found",source="docker"} 1.0',
        'ctrwatch_answers_total{outcome="not_found",source="docker"} 1.0',
        'ctrwatch_answers_total{outcome="unavailable",source="docker"} 1.0',
        *(
            f'ctrwatch_answer_seconds_bucket{{le="{le}",source="docker"}} {number}.0'
            for le, number in [
                ("0.0025", 1), ("0.005", 1), ("0.01", 1), ("0.025", 1), ("0.05", 1), ("0.1", 1),
                ("0.25", 2), ("0.5", 2), ("+Inf", 3),
            ]
        ),
        'ctrwatch_answer_seconds_count{source="docker"} 3.0',
        'ctrwatch_answer_seconds_sum{source="docker"} 1.0015',
        'ctrwatch_daemons{source="docker",state="answering"} 1.0',
        'ctrwatch_daemons{source="docker",state="away"} 1.0',
        'ctrwatch_daemons{source="containerd",state="answering"} 3.0',
    ]  # fmt: skip


def test_a_label_can_have_no_other_values() -> None:
    labels = {label for metric in METRICS for label in metric.labels} - {"version"}

    assert labels == set(LABELS)


def test_the_series_are_there_from_the_start_and_no_more_come(output: LineOutput) -> None:
    counts = Told()
    exposition = Exposition(lambda: WELL._replace(asked={}, daemons={}), counts, output, "ebpf")

    def series() -> list[tuple[str, dict[str, str]]]:
        families = text_string_to_metric_families(exposition.metrics().body.decode())
        return [(each.name, each.labels) for family in families for each in family.samples]

    before = series()
    for number in range(101):
        born = event("container_create", status="partial", birth_id=f"{number:032x}")
        counts.add(born, BORN_NS + number * MS)

    assert series() == before
    assert len(before) < SERIES_MAX
    assert {
        (label, value)
        for name, labels in before
        if name.startswith("ctrwatch_")
        for label, value in labels.items()
        if label not in {"le", "version"} and value not in LABELS[label]
    } == set()


# --- health ---------------------------------------------------------------------------------


def test_well(output: LineOutput) -> None:
    reply = Exposition(lambda: WELL, Told(), output, "ebpf").health()

    assert reply == (200, b'{"healthy":true}\n', "application/json")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        pytest.param({"attached": False}, "the kernel is not listened to", id="not-attached"),
        pytest.param(
            {"listed": False}, "the containers that were there are not listed yet", id="not-listed"
        ),
    ],
)
def test_not_well(output: LineOutput, wrong: dict[str, bool], why: str) -> None:
    vitals = WELL._replace(**wrong)  # type: ignore[arg-type]
    exposition = Exposition(lambda: vitals, Told(), output, "ebpf")

    assert exposition.health() == (
        503, f'{{"healthy":false,"why":"{why}"}}\n'.encode(), "application/json",
    )  # fmt: skip
    assert b"\nctrwatch_healthy 0.0\n" in exposition.metrics().body


def test_an_output_that_nobody_reads_is_not_well(
    output: LineOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BYTES", 10)
    output.write(b"longer than that\n")

    assert ailing(WELL, output) == "nobody reads the output: 1 lines were dropped"
    output.write(b"short\n")
    assert ailing(WELL, output) == ""


def test_an_output_that_fails_is_not_well(tmp_path: Path) -> None:
    full = LineOutput(os.open("/dev/full", os.O_WRONLY), owned=True)
    full.write(b"no room\n")
    full.close()

    assert ailing(WELL, full) == "the output can't be written: No space left on device"
