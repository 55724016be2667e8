"""The report's section on what was used: the heaviest newborns, by image, and the host. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ctrwatch.core import drawing
from ctrwatch.core.costs import Cost
from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.drawing import Line, Mark
from ctrwatch.core.markup import Markup, joined, tag, trusted
from ctrwatch.core.parts import counted, rest, short, table, when
from ctrwatch.core.reported import Report
from ctrwatch.core.said import percent, size
from ctrwatch.core.spending import HostOverTime, Spent

__all__ = ("spent",)

_HEAVIEST: Final = 10  # of each kind; JSON has more, and `history --heaviest` any number
_MARKED: Final = 5  # births that go through the drawing
_IMAGES: Final = 20
_KINDS: Final = {
    "cpu": "By CPU time",
    "memory": "By the peak of their memory",
    "io": "By what they read and wrote",
}
_OF_IMAGES: Final = (
    "Unread: containers of which nothing is known; an empty cell is known of none of the image. Of used:"
    " of all that looks at the host tell of."
    " Peak of one: the most memory that any one container of the image had."
)
_WHY: Final = {
    "no_controller": "not counted",
    "not_offered": "not told by the kernel",
    "gone": "gone before it was read",
    "unreadable": "unreadable",
    "not_read": "never read",
    "no_birth": "birth not known",
    "no_host": "host not looked at",
    "too_short": "too short a life",
}


def spent(report: Report) -> Markup:
    title = tag("h2", "What it cost: newborns and the host")
    if report.spent is None:
        how = "The history says nothing of what containers use. A watch with --usage keeps it: "
        command = tag("code", "ctrwatch events --usage --store FILE")
        return tag("section", title, tag("p", how, command), id="spent")
    return tag(
        "section",
        title,
        _sum(report.spent),
        _host(report, report.spent),
        *_heaviest(report.spent),
        _images(report.spent),
        id="spent",
    )


def _sum(spent: Spent) -> Markup:
    said = (
        f"What {counted(spent.containers, 'container')} used is known of those that were born in"
        f" this period: {_seconds(spent.cpu_seconds)} of CPU time."
    )
    if spent.unread:
        said += f" Of {spent.unread:,} more nothing is."
    if spent.host is not None and spent.host.looked_at_s:
        said += (
            f" All of the host used {_seconds(spent.host.cpu_seconds)} in the"
            f" {_seconds(spent.host.looked_at_s)} of which looks at it tell."
        )
    return tag("p", said)


# --- over time ----------------------------------------------------------------------------


def _host(report: Report, spent: Spent) -> Markup:
    host = spent.host
    if host is None:
        return tag("p", "No look at the host itself is in this period.")
    begin_ns, whole_ns = wall_ns(report.since), wall_ns(report.until) - wall_ns(report.since)

    def at(time: str) -> float:
        return (wall_ns(time) - begin_ns) / whole_ns

    top = float(host.cpus or max((each or 0 for each in host.cpu_cores_most), default=0) or 1)
    memory = host.memory_total_bytes or max(each or 0 for each in host.memory_bytes) or 1
    heavy = [each for each in spent.heaviest.get("cpu", ())[:_MARKED] if each.cpu_seconds]
    label = "What the host used, with births"
    return joined(
        (
            tag("h3", "The host over time"),
            drawing.levels(
                label,
                [*_titles(host, begin_ns)],
                area=Line("cpu", [_part(each, top) for each in host.cpu_cores]),
                lines=(
                    Line("most", [_part(each, top) for each in host.cpu_cores_most]),
                    Line("memory", [_part(each, memory) for each in host.memory_bytes]),
                ),
                births=host.births,
                marks=[
                    Mark(at(each.born), f"{_name(each)} was born {when(each.born)}: {_cpu(each)}")
                    for each in heavy
                    if each.born
                ],
                holes=[
                    (at(each.since), at(each.until), f"{each.reason} {when(each.since)}")
                    for each in report.holes
                ],
            ),
            tag(
                "div",
                tag("span", when(report.since)),
                tag("span", when(report.until)),
                class_="ends",
            ),
            _legend(host, top, memory, marked=bool(heavy)),
        )
    )


def _legend(host: HostOverTime, top: float, memory: int, *, marked: bool) -> Markup:
    cpus = f"the top is {host.cpus} CPUs" if host.cpus else f"the top is {top:g} cores"
    of = size(memory) if host.memory_total_bytes else f"the most, {size(memory)}"
    keys = (
        ("cpu", f"CPU, mean ({cpus})"),
        ("most", "CPU, the most between two looks"),
        ("memory", f"memory (the top is {of})"),
        (
            "births",
            f"births: {sum(host.births):,}, at most {max(host.births, default=0):,} in a step",
        ),
        *((("mark", "birth of one of the heaviest"),) if marked else ()),
        ("gap", "containers may be missing"),
    )
    return tag(
        "div",
        *(tag("span", tag("span", class_=f"key fill-{name}"), said) for name, said in keys),
        tag("span", "nothing drawn: not looked at, for no container lived", class_="faint"),
        class_="legend",
    )


def _titles(host: HostOverTime, begin_ns: int) -> Iterator[str]:
    for step, births in enumerate(host.births):
        mean, most = host.cpu_cores[step], host.cpu_cores_most[step]
        memory = host.memory_bytes[step]
        said = [when(rfc3339(begin_ns + int(step * host.step_s * 1e9)))]
        if mean is not None and most is not None:
            said.append(f"{mean:.2f} cores, at most {most:.2f}")
        if memory is not None:
            said.append(f"memory {size(memory)}")
        if births:
            said.append(counted(births, "birth"))
        yield ", ".join(said)


def _part(value: float | None, whole: float) -> float | None:
    return None if value is None else value / whole


# --- who ----------------------------------------------------------------------------------


def _heaviest(spent: Spent) -> Iterator[Markup]:
    head = ("Born", "Container", "Image", "CPU", "Peak memory", "I/O", "In")
    for kind, title in _KINDS.items():
        costs = spent.heaviest.get(kind, ())
        if not costs:
            continue
        yield tag("h3", f"The heaviest newborns: {title[0].lower()}{title[1:]}")
        yield table(head, [_row(each) for each in costs[:_HEAVIEST]])
        yield rest(len(costs), _HEAVIEST, "--json, and ctrwatch history --heaviest")
    if any(spent.heaviest.values()):
        said = (
            "Of used: of what all of the host used while the container lived; of host: of what its"
            " CPUs could give in that time, and of its memory. In: the time of its life that the"
            " figures are of, with a + where more may have come."
        )
        yield tag("p", said, class_="faint")


def _row(cost: Cost) -> tuple[str, ...]:
    return (
        when(cost.born),
        _lines(cost.container_name, short(cost.container_id)),
        cost.container_image,
        _lines(
            _known(cost, "cpu_seconds", _seconds),
            _share(cost, "cpu_seconds", "cpu_share_of_used", "of used"),
            _share(cost, "cpu_seconds", "cpu_share_of_host", "of host"),
        ),
        _lines(
            _known(cost, "memory_peak_bytes", lambda number: size(int(number))),
            _share(cost, "memory_peak_bytes", "memory_share_of_host", "of host"),
            tag("span", counted(cost.oom_kills, "OOM kill"), class_="bad")
            if cost.oom_kills
            else "",
        ),
        _lines(_moved(cost), _share(cost, "io_read_bytes", "io_share_of_used", "of used")),
        "" if cost.seconds is None else _seconds(cost.seconds) + "+" * (not _whole(cost)),
    )


def _lines(*lines: str) -> Markup:
    return joined((line for line in lines if line), tag("br"))


def _share(cost: Cost, figure: str, name: str, of: str) -> str:
    """Empty where the figure itself is not known: its reason is said once."""
    if getattr(cost, figure) is None:
        return ""
    value = getattr(cost, name)
    said = (
        f"{percent(value)} {of}"
        if value is not None
        else f"{of}: {_WHY[cost.missing.get(name, 'not_read')]}"
    )
    return tag("span", said, class_="faint")


def _whole(cost: Cost) -> bool:
    return bool(cost.ended) and cost.final


def _known(cost: Cost, name: str, said: Callable[[float], str]) -> str:
    value = getattr(cost, name)
    if value is not None:
        return said(value)
    why = cost.missing.get(name, "not_read")
    return tag("span", _WHY[why], class_="faint")


def _moved(cost: Cost) -> str:
    reads, writes = cost.io_read_bytes, cost.io_write_bytes
    return _read_and_written(reads, writes) or _known(cost, "io_read_bytes", str)


def _name(cost: Cost) -> str:
    return cost.container_name or cost.container_id[:12]


def _cpu(cost: Cost) -> str:
    used = "" if cost.cpu_share_of_used is None else f", {percent(cost.cpu_share_of_used)} of used"
    return f"{_seconds(cost.cpu_seconds or 0)} of CPU time{used}"


def _images(spent: Spent) -> Markup:
    if not spent.images:
        return trusted("")
    whole = spent.host.cpu_seconds if spent.host is not None else 0
    rows: Sequence[Sequence[str]] = [
        (
            _lines(each.container_image or "(no image known)", short(each.container_image_digest)),
            f"{each.containers:,}",
            f"{each.unread:,}",
            "" if each.cpu_seconds is None else _seconds(each.cpu_seconds),
            _of_used(each.cpu_seconds, whole),
            "" if each.memory_peak_bytes is None else size(each.memory_peak_bytes),
            _read_and_written(each.io_read_bytes, each.io_write_bytes),
            "" if each.oom_kills is None else f"{each.oom_kills:,}",
        )
        for each in spent.images[:_IMAGES]
    ]
    head = (
        *("Image", "Containers", "Unread", "CPU", "Of used"),
        *("Peak of one", "I/O", "OOM kills"),
    )
    left = f"{counted(spent.images_left_out, 'container')} of further images are only counted."
    return joined(
        (
            tag("h3", "By image, all that were born in this period"),
            table(head, rows),
            rest(len(spent.images), _IMAGES, "--csv or --json"),
            tag("p", _OF_IMAGES, class_="faint"),
            tag("p", left, class_="bad") if spent.images_left_out else "",
        )
    )


def _of_used(cpu_s: float | None, whole_s: float) -> str:
    if cpu_s is None:
        return ""
    return percent(min(cpu_s / whole_s, 1.0)) if whole_s else "unknown"


def _read_and_written(reads: int | None, writes: int | None) -> str:
    """Empty where neither is known."""
    return "" if reads is None and writes is None else f"{size(reads or 0)} + {size(writes or 0)}"


def _seconds(seconds: float) -> str:
    """
    >>> _seconds(0.123), _seconds(90), _seconds(5400), _seconds(200_000)
    ('0.12 s', '90.0 s', '90.0 min', '55.6 h')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 600:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 36_000 else f"{seconds / 3600:,.1f} h"
