"""The report's section on what was watched, so that completeness is shown, not claimed. Pure."""

from __future__ import annotations

from typing import Final

from ctrwatch.core import drawing
from ctrwatch.core.describe import wall_ns
from ctrwatch.core.markup import Markup, joined, tag
from ctrwatch.core.parts import counted, over_time, rest, short, table, when
from ctrwatch.core.reported import Report

__all__ = ("watched",)

_ROWS: Final = 300  # of a table: nobody reads on, and --json has all
_REASONS: Final = {
    "restart": "ctrwatch was not there (it said so when it came back)",
    "lost": "the kernel dropped raw events",
    "output": "events could not be written",
    "not_watched": "no watch was running",
    "silent": "a watch was running and left no sign for longer than 11 minutes",
}
_ENDS: Final = {
    "stopped": "it said so",
    "goes_on": "goes on",
    "no_stop": "killed or crashed; that is its last sign",
}


def watched(report: Report) -> Markup:
    begin, whole = wall_ns(report.since), wall_ns(report.until) - wall_ns(report.since)

    def at(time: str) -> float:
        return (wall_ns(time) - begin) / whole

    runs = [
        (at(each.since), at(each.until), "watched", f"watched {_from_to(each.since, each.until)}")
        for each in report.watchings
    ]
    holes = [
        (
            at(each.since),
            at(each.until),
            "hole",
            f"{each.reason} {_from_to(each.since, each.until)}",
        )
        for each in report.holes
    ]
    return tag(
        "section",
        tag("h2", "What was watched, and when"),
        drawing.strip("When was watched", [*runs, *holes]),
        tag("div", tag("span", when(report.since)), tag("span", when(report.until)), class_="ends"),
        tag(
            "div",
            tag("span", tag("span", class_="key fill-watched"), "watched"),
            tag("span", tag("span", class_="key fill-hole"), "containers may be missing"),
            class_="legend",
        ),
        _runs(report),
        _holes(report),
        _proof(report),
        _known(report),
        _audits(report),
        tag("h3", "Births over time"),
        over_time(
            "Births over time", report.since, report.step_s, {"births": report.births_over_time}
        ),
        id="watched",
    )


def _runs(report: Report) -> Markup:
    rows = [
        (
            when(each.since),
            when(each.until),
            _ENDS[each.end],
            f"{each.version} by {each.sensor}, kernel {each.kernel}" if each.version else "",
            ", ".join(each.policies),
            _number(each.seen),
            _number(each.lost),
            _number(each.rows_lost),
        )
        for each in report.watchings[:_ROWS]
    ]
    if not rows:
        return tag(
            "p", "No watch was running in this period, as far as its rows say.", class_="bad"
        )
    head = ("From", "Until", "Its end", "ctrwatch", "Policies", "Seen", "Raw lost", "Rows lost")
    return joined((table(head, rows), rest(len(report.watchings), _ROWS, "--json")))


def _holes(report: Report) -> Markup:
    if not report.holes:
        return tag("p", "No hole: a watch left its signs over all of the period.", class_="good")
    rows = [
        (when(each.since), when(each.until), _REASONS[each.reason], _number(each.lost))
        for each in report.holes[:_ROWS]
    ]
    return joined(
        (
            tag("h3", "Holes: of these times containers may be missing"),
            table(("From", "Until", "Why", "Events lost"), rows),
            rest(len(report.holes) + report.holes_left_out, _ROWS, "--json"),
        )
    )


def _proof(report: Report) -> Markup:
    chain = report.chain
    said = [
        tag(
            "span", "whole" if chain.whole else "NOT whole", class_="good" if chain.whole else "bad"
        ),
        f" over {counted(chain.rows, 'row')}. ",
        f"Row 1 to {chain.pruned_rows:,} were removed for their age or number. "
        if chain.pruned_rows
        else "",
        f"Rows until {when(report.pruned_until)} are gone. " if report.pruned_until else "",
        f"Compared with {counted(chain.compared, 'head')} kept elsewhere. "
        if chain.compared
        else "It was compared with no head that was kept elsewhere (--head). ",
        f"{counted(report.unreadable, 'row')} can't be read by this version. "
        if report.unreadable
        else "",
        "Its head: ",
        tag("code", chain.head),
    ]
    more = f"… and {chain.more_findings:,} more"
    found = [*chain.findings, *([more] if chain.more_findings else [])]
    return joined(
        (
            tag("h3", "The chain of hashes"),
            tag("p", *said),
            tag("ul", *(tag("li", each) for each in found)) if found else "",
        )
    )


def _known(report: Report) -> Markup:
    parts = [
        f"{report.evidence.get(status, 0):,} {status}"
        for status in ("complete", "partial", "unverified")
    ]
    left = report.running_left_out
    before = (
        f" {left:,} containers of before, whose end was not heard, are left out." if left else ""
    )
    floods = f" {report.floods:,} cgroups came as floods." if report.floods else ""
    done = ", ".join(f"{name} ({number:,})" for name, number in report.enforcements.items())
    return joined(
        (
            tag("h3", "How much was learnt of the containers"),
            tag("p", f"{', '.join(parts)}.{before}{floods}"),
            tag("p", f"Enforcement: {done}.") if done else "",
        )
    )


def _audits(report: Report) -> Markup:
    title = tag("h3", "Audits: the kernel's word against the runtimes' lists")
    if not report.found:
        return joined((title, tag("p", "No audit found a difference.")))
    rows = [
        (
            when(each.time),
            each.finding.replace("_", " "),
            each.runtime,
            short(each.container_id),
            each.container_name,
            each.container_image,
            each.source,
        )
        for each in report.found[:_ROWS]
    ]
    head = ("Time", "Finding", "Runtime", "Container", "Name", "Image", "Source")
    number = sum(report.audits.values())
    return joined((title, table(head, rows), rest(number, _ROWS, "--json, or the history")))


def _from_to(since: str, until: str) -> str:
    return f"{when(since)} – {when(until)}"


def _number(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
