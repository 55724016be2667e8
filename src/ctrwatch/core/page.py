"""The report as one HTML file that needs nothing else. Pure: a Report in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from ctrwatch.core.breaches import SEVERITIES, Breaches, Broken
from ctrwatch.core.look import STYLE
from ctrwatch.core.markup import Markup, joined, tag, trusted
from ctrwatch.core.parts import card, counted, over_time, rest, short, table, when, word
from ctrwatch.core.ran import Approved, Ran
from ctrwatch.core.reported import Report, UsedPolicy
from ctrwatch.core.spent import spent
from ctrwatch.core.watched import watched

__all__ = ("html",)

# On the page; a browser takes no longer, and nobody reads on. JSON and CSV have all.
_IMAGES: Final = 1_000
_ROWS: Final = 300


def html(report: Report) -> str:
    title = f"Containers on {', '.join(report.hosts) or 'this host'}"
    head = tag(
        "head",
        trusted('<meta charset="utf-8"/>'),
        # Nothing is fetched and nothing runs, whatever is in the data.
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}, {when(report.since)} – {when(report.until)}"),
        tag("style", trusted(STYLE)),
    )
    body = tag("body", _top(report, title), *_sections(report))
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en") + "\n"


def _sections(report: Report) -> Iterable[Markup]:
    yield watched(report)
    yield _images(report)
    yield spent(report)
    if report.judged is not None:
        yield _breaches(report, report.judged, "judged", "Violations of the given policies")
    yield _breaches(report, report.told, "told", "Violations that the watch told")
    yield from map(_policy, report.policies)
    yield _ran(report)
    yield _ends()


def _top(report: Report, title: str) -> Markup:
    by = ", ".join(policy.name for policy in report.policies)
    links = [("watched", "What was watched"), ("images", "Images"), ("spent", "What it cost")]
    links += [("judged", "Violations")] if report.judged is not None else []
    links += [("told", "Told by the watch")]
    links += [(f"policy-{policy.name}", policy.name) for policy in report.policies]
    links += [("limits", "What this can't prove")]
    return joined(
        (
            tag("h1", title),
            tag(
                "p",
                f"{when(report.since)} – {when(report.until)}. Made {when(report.made)}"
                f" by ctrwatch {report.version}. "
                + (f"Judged by {by}." if by else "No policy was given."),
                class_="faint",
            ),
            tag("nav", *(tag("a", name, href=f"#{anchor}") for anchor, name in links)),
            tag("div", *_cards(report), class_="cards"),
        )
    )


def _cards(report: Report) -> Iterable[Markup]:
    chain = report.chain
    yield card(
        "Time covered",
        f"{report.covered:g} %",
        f"{counted(len(report.holes), 'hole')}" if report.holes else "no hole",
        "good" if not report.holes else "open",
    )
    yield card(
        "Chain of the history",
        "whole" if chain.whole else "NOT whole",
        counted(chain.rows, "row"),
        "good" if chain.whole else "bad",
    )
    yield card("Births", f"{report.births:,}", f"and {report.running:,} that ran before")
    states = Counter(ran.approved for ran in report.images)
    yield card(
        "Images",
        f"{len(report.images):,}",
        ", ".join(f"{states[key]:,} {name}" for key, name in _STATES.items() if states[key]),
        "bad" if states["no"] else "open" if states["unknown"] else "",
    )
    against = report.told if report.judged is None else report.judged
    yield card(
        "Violations",
        f"{against.violations:,}",
        f"{against.undecided + against.errors:,} undecided"
        + ("" if report.judged is None else f"; told by the watch: {report.told.violations:,}"),
        "bad" if against.violations else "open" if against.undecided + against.errors else "good",
    )
    lost = _lost(report)
    yield card(
        "Events lost", f"{lost:,}", "raw events and rows, as said", "bad" if lost else "good"
    )


_STATES: Final[dict[Approved, str]] = {
    "no": "not approved",
    "unknown": "unknown",
    "not_judged": "not judged",
    "yes": "approved",
}


def _lost(report: Report) -> int:
    """Nobody knows the whole: what the events, or the watches' ends, say; the larger one."""
    ends = sum((each.lost or 0) + (each.rows_lost or 0) for each in report.watchings)
    gaps = sum(hole.lost or 0 for hole in report.holes)
    return max(ends, gaps, report.events_lost)


# --- images -----------------------------------------------------------------------------


def _images(report: Report) -> Markup:
    shown = report.images[:_IMAGES]
    rows = [
        (
            tag("a", ran.container_image or "(no image known)", href=f"#image-{number}"),
            short(ran.container_image_digest),
            f"{ran.births:,}",
            f"{ran.running:,}",
            joined((_kept(when(ran.first)), tag("br"), _kept(when(ran.last)))),
            joined(map(_kept, ran.runtimes), ", "),
            word(ran.approved),
            joined((_rule_link(rule) for rule in (*ran.broke, *ran.undecided)), ", "),
        )
        for number, ran in enumerate(shown)
    ]
    head = ("Image", "Digest", "Births", "Before", "First, last", "Runtimes", "Verdict", "By")
    left = f"{counted(report.images_left_out, 'container')} of further images are only counted."
    return tag(
        "section",
        tag("h2", "Every image and digest that ran"),
        table(head, rows) if rows else tag("p", "No container is in this period."),
        rest(len(report.images), _IMAGES, "--csv or --json"),
        tag("p", left, class_="bad") if report.images_left_out else "",
        id="images",
    )


def _ran(report: Report) -> Markup:
    shown = report.images[:_IMAGES]
    if not shown:
        return trusted("")
    return tag(
        "section",
        tag("h2", "Images one by one"),
        *(_image(number, ran) for number, ran in enumerate(shown)),
        id="one-by-one",
    )


def _image(number: int, ran: Ran) -> Markup:
    rows = [
        (
            when(each.time),
            each.runtime,
            short(each.container_id),
            each.container_name,
            each.pod,
            _who(each.creator, each.uid),
            each.status,
        )
        for each in ran.containers
    ]
    outcomes = [
        tag("p", f"{title}: ", joined((_rule_count(*each) for each in rules.items()), ", "))
        for title, rules in (
            ("Broke", ran.broke),
            ("Undecided", ran.undecided),
            ("Held", ran.held),
        )
        if rules
    ]
    total = ran.births + ran.running
    head = ("Born", "Runtime", "Container", "Name", "Pod", "Creator", "Evidence")
    newest = f"; the newest {len(rows)}:" if total > len(rows) else ":"
    return tag(
        "section",
        tag("h3", ran.container_image or "(no image known)"),
        tag(
            "p",
            tag("code", ran.container_image_digest or "no digest known"),
            " ",
            word(ran.approved),
        ),
        tag(
            "p",
            f"Registry {ran.registry or 'unknown'}, repository {ran.repository or 'unknown'}. "
            f"{counted(total, 'container')}{newest}",
        ),
        table(head, rows),
        *outcomes,
        tag("p", tag("a", "All images", href="#images")),
        id=f"image-{number}",
        class_="part",
    )


# --- violations -------------------------------------------------------------------------


def _breaches(report: Report, breaches: Breaches, anchor: str, title: str) -> Markup:
    if not (breaches.by_rule or breaches.left_out):
        return tag("section", tag("h2", title), tag("p", "None.", class_="good"), id=anchor)
    severities: dict[str, list[int]] = {
        severity: breaches.over_time[severity]
        for severity in SEVERITIES
        if severity in breaches.over_time
    }
    places: dict[str, int] = {}
    for number, ran in enumerate(report.images[:_IMAGES]):
        places.setdefault(ran.container_image, number)
    open_ = breaches.undecided + breaches.errors
    said = f"{counted(breaches.violations, 'violation')}; {open_:,} times nobody knows."
    creators = [
        (_who(each.comm, each.uid), f"{each.violations:,}") for each in breaches.by_creator[:_ROWS]
    ]
    return tag(
        "section",
        tag("h2", title),
        tag("p", said),
        over_time(f"{title}, over time", report.since, report.step_s, severities)
        if severities
        else "",
        tag("h3", "By rule"),
        _by_rule(breaches, anchor),
        tag("h3", "By creator: the process that made the cgroup"),
        table(("Creator", "Violations"), creators),
        *(
            _rule(f"{anchor}-{number}", each, places)
            for number, each in enumerate(breaches.by_rule[:_ROWS])
        ),
        id=anchor,
    )


def _by_rule(breaches: Breaches, anchor: str) -> Markup:
    rows = [
        (
            _severity(each.severity),
            tag("a", f"{each.policy}/{each.rule}", href=f"#{anchor}-{number}"),
            f"{each.violations:,}",
            f"{each.undecided + each.errors:,}",
            when(each.first),
            when(each.last),
            " ".join(each.tags),
        )
        for number, each in enumerate(breaches.by_rule[:_ROWS])
    ]
    head = ("Severity", "Rule", "Violations", "Unknown", "First", "Last", "Tags")
    return joined((table(head, rows), rest(len(breaches.by_rule), _ROWS, "--json")))


def _rule(anchor: str, rule: Broken, places: Mapping[str, int]) -> Markup:
    """*places*: images, and the numbers of their sections."""
    rows = [
        (
            when(each.time),
            each.message,
            each.container_name,
            short(each.container_id),
            _placed(each.container_image, places),
            each.pod,
            each.creator,
        )
        for each in rule.examples
    ]
    total = rule.violations + rule.undecided + rule.errors
    head = ("Time", "What", "Name", "Container", "Image", "Pod", "Creator")
    return tag(
        "section",
        tag("h3", _severity(rule.severity), f" {rule.policy}/{rule.rule}"),
        table(head, rows),
        tag("p", f"The newest {len(rows)} of {total:,}.", class_="faint")
        if total > len(rows)
        else "",
        id=anchor,
        class_="part",
    )


def _policy(policy: UsedPolicy) -> Markup:
    rows = [
        (
            rule.name,
            _severity(rule.severity),
            joined(
                (
                    rule.description,
                    tag("br"),
                    tag("code", *([f"when: {rule.when}", tag("br")] if rule.when else [])),
                    tag("code", rule.condition),
                )
            ),
            *(
                f"{sum(rule.outcomes.get(name, 0) for name in names):,}"
                for names in (
                    ("violation",),
                    ("undecided", "error"),
                    ("pass",),
                    ("not_applicable",),
                )
            ),
        )
        for rule in policy.rules
    ]
    head = ("Rule", "Severity", "What it says", "Broken", "Unknown", "Held", "Not applicable")
    ids = [f"rule-{policy.name}/{rule.name}" for rule in policy.rules]
    return tag(
        "section",
        tag("h2", f"Policy {policy.name}"),
        tag("p", f"{policy.description} ({policy.file})"),
        table(head, rows, ids),
        id=f"policy-{policy.name}",
    )


# --- small things -----------------------------------------------------------------------


def _ends() -> Markup:
    return tag(
        "section",
        tag("h2", "What this can't prove"),
        tag(
            "p",
            "Root on the host can write the whole history anew, every hash with it; only heads that"
            " were kept on another host show that. A container's name, labels and image name are"
            " what its runtime says of it. What ran in the holes above, and what ran before the"
            " history's first row and ended, is not in it. Times are the host's own clock.",
        ),
        id="limits",
    )


def _who(comm: str, uid: int | None) -> str:
    if not comm:
        return "unknown"
    return comm if uid is None else f"{comm} (uid {uid})"


def _severity(severity: str) -> Markup:
    return joined((tag("span", class_=f"key fill-{severity}"), severity))


def _placed(image: str, places: Mapping[str, int]) -> str:
    """A link to the image's own section, where it has one."""
    return tag("a", image, href=f"#image-{places[image]}") if image and image in places else image


def _kept(words: str) -> Markup:
    """In one line."""
    return tag("span", words, class_="kept")


def _rule_link(rule: str) -> Markup:
    return tag("a", rule.partition("/")[2], href=f"#rule-{rule}", title=rule)


def _rule_count(rule: str, number: int) -> Markup:
    return joined((_rule_link(rule), f" ({number:,})"))
