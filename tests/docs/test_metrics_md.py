"""docs/metrics.md is what is scraped, and the alerts ask for what there is."""

from __future__ import annotations

import os
import re
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ctrwatch.core.tally import Told, Vitals
from ctrwatch.core.totals import Latest, Totals
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.outputs.metrics import LABELS, Exposition
from ctrwatch.outputs.series import (
    ByImage,
    InUse,
    OfContainers,
)
from scripts.gen_metrics_md import ALERTS_OF_USE, PAGE, PROMISES, alerts, page
from tests.unit.test_totals import event, reading

ROW: Final = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*) \|", re.MULTILINE)
RULES: Final = list(alerts())
OF_USES: Final = list(alerts(ALERTS_OF_USE))
EVERY: Final = {
    **dict.fromkeys(("cpu_seconds", "oom_kills", "io_read_bytes", "io_write_bytes"), 1),
    **dict.fromkeys(("throttled_seconds", "memory_working_set_bytes", "memory_limit_bytes"), 1),
}  # figures that have series
# Prometheus adds `job` and `instance`, `up` is its own, and histograms have `le`.
ANYBODYS: Final = {"job", "instance", "le"}

# What a rule's expression is made of. Not a parser: promtool is one, where it is at hand.
TOKEN: Final = re.compile(
    r"""\s+
    | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<span>\[\d+[smhd]\])
    | (?P<number>\d+(?:\.\d+)?(?:e\d+)?)
    | (?P<bracket>[(){}])
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/<>=,])""",
    re.VERBOSE,
)
WORDS: Final = {"sum", "by", "increase", "rate", "changes", "histogram_quantile"}
GROWING: Final = re.compile(r"(?:increase|rate)\((\w+)\{")


def documented() -> dict[str, tuple[str, set[str]]]:
    """What the page says there is: name, type, labels."""
    return {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(PAGE.read_text())
    }


def scraped(text: str) -> dict[str, tuple[str, set[str]]]:
    """The same of a scrape's answer, without the process's own."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("ctrwatch_")
    }


def samples(text: str) -> set[str]:
    return {each.name for family in text_string_to_metric_families(text) for each in family.samples}


@pytest.fixture(scope="module")
def text() -> str:
    output = LineOutput(os.open(os.devnull, os.O_WRONLY), owned=True)
    vitals = Vitals(
        attached=True, listed=True, living=0, untold=0, losses={}, asked={}, daemons={}
    )  # fmt: skip
    totals, latest = Totals(usage=True), Latest(1)
    totals.told(event(1))
    totals.read(reading(event(1), **EVERY))
    latest.read(reading(event(1), **EVERY))
    more = (ByImage(totals), InUse(totals), OfContainers(latest, lambda: 0))
    body = Exposition(lambda: vitals, Told(), output, "ebpf", more=more).metrics().body
    output.close()
    return body.decode()


def test_the_page_is_the_one_that_the_tables_give() -> None:
    assert PAGE.read_text() == page(), "run: python -m scripts.gen_metrics_md"


def test_the_page_says_what_is_scraped(text: str) -> None:
    assert documented() == scraped(text)


def test_the_process_has_what_the_page_says(text: str) -> None:
    assert set(re.findall(r"`(process_\w+)`", PAGE.read_text().partition("## Alerts")[0])) == {
        name for name in samples(text) if name.startswith("process_")
    }


@pytest.mark.parametrize("name", documented())
def test_names_are_prometheus_own_way(name: str) -> None:
    kind, _ = documented()[name]

    assert re.fullmatch(r"ctrwatch_[a-z_]+", name)
    assert name.endswith("_total") == (kind == "counter")
    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb)(_|$)", name)
    assert kind != "histogram" or name.endswith("_seconds")


# --- alerts ---------------------------------------------------------------------------------


def tokens(expression: str) -> list[tuple[str, str]]:
    """The expression's words, by kind. Raises where something is none."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(expression):
        token = TOKEN.match(expression, at)
        assert token is not None, f"at {expression[at:]!r}"
        if token.lastgroup is not None:
            found.append((token.lastgroup, token[0]))
        at = token.end()
    return found


each_rule = pytest.mark.parametrize(
    "rule", [*RULES, *OF_USES], ids=[rule["alert"] for rule in [*RULES, *OF_USES]]
)


def test_every_promise_has_an_alert() -> None:
    assert {rule["labels"]["promise"] for rule in RULES} == set(PROMISES)
    assert len({rule["alert"] for rule in [*RULES, *OF_USES]}) == len([*RULES, *OF_USES])


def test_the_promises_are_the_designs() -> None:
    goals = (PAGE.parent / "design.md").read_text().partition("## Goals")[2].partition("\n## ")[0]

    for number, promise in PROMISES.items():
        assert f"\n{number}. **{promise.capitalize()}.**" in goals


@each_rule
def test_a_rule_has_what_prometheus_knows(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert set(rule["labels"]) - {"promise"} == {"severity"}
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    for said in rule["annotations"].values():
        assert re.sub(r"\{\{ \$(?:labels\.\w+|value(?: \| \w+)?) \}\}", "", said).count("{") == 0


@each_rule
def test_a_rule_closes_what_it_opens(rule: dict[str, Any]) -> None:
    open_: list[str] = []
    for kind, token in tokens(rule["expr"]):
        if kind == "bracket" and token in "({":
            open_.append({"(": ")", "{": "}"}[token])
        elif kind == "bracket":
            assert open_.pop() == token
    assert open_ == []


@each_rule
def test_a_rule_asks_for_what_is_scraped(rule: dict[str, Any], text: str) -> None:
    of_names = {name: (kind, frozenset(labels)) for name, (kind, labels) in documented().items()}
    labels = {label for _, labels in of_names.values() for label in labels} | ANYBODYS
    names = {token for kind, token in tokens(rule["expr"]) if kind == "name"}

    assert names - WORDS - labels - {"up"} <= samples(text)
    assert len({labels for name, (_, labels) in of_names.items() if name in names}) <= 1


@each_rule
def test_a_rule_asks_for_values_that_a_label_can_have(rule: dict[str, Any]) -> None:
    for label, sign, values in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', rule["expr"]):
        if label == "job":
            assert values == "ctrwatch"
        else:
            assert set(values.split("|") if sign == "=~" else [values]) <= set(LABELS[label])


@each_rule
def test_a_rule_looks_at_how_counters_grow(rule: dict[str, Any]) -> None:
    used = re.findall(r"\b(\w+_(?:total|bucket))\{", rule["expr"])

    assert used == GROWING.findall(rule["expr"])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("up == 0; drop", id="another-language"),
        pytest.param('up{job="ctrwatch} == 0', id="open-text"),
        pytest.param("rate(x[5 minutes])", id="span"),
    ],
)
def test_what_is_no_expression_is_seen(wrong: str) -> None:
    with pytest.raises(AssertionError):
        tokens(wrong)
