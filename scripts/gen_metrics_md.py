"""
docs/metrics.md, from the table that the metrics are made of: `python -m scripts.gen_metrics_md`.

The alerts come from packaging/prometheus-alerts.yml and prometheus-alerts-usage.yml.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from ctrwatch.core.configuration import CONTAINERS_MAX
from ctrwatch.core.totals import IMAGES, OTHER
from ctrwatch.outputs import endpoint
from ctrwatch.outputs.metrics import LABELS, METRICS, Metric
from ctrwatch.outputs.series import OF_CONTAINERS, OF_IMAGES, OF_USE

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/metrics.md"
ALERTS: Final = ROOT / "packaging/prometheus-alerts.yml"
ALERTS_OF_USE: Final = ROOT / "packaging/prometheus-alerts-usage.yml"

PROMISES: Final = {
    "1": "every container, exactly once",
    "2": "complete, in time",
    "3": "never silent",
    "4": "cheap",
}

# What no table says.
LABELS_MEAN: Final = {
    "action": "what a rule asked for",
    "ended": "`failed`: with an exit code, by a signal, or it could not be started; `killed`: after 10 s;"
    " `dropped`: too many waited",
    "result": "as in the [enforcement event](actions.md#stop-the-container)",
    "sent": "`delivered`: taken; `failed`: a try that was not; `dropped`: no room; `refused`: three times, for what"
    " it is",
    "cause": "`kernel`: the ring was full, as `lost_before` says; `unreadable`: a record of another shape;"
    " `forgotten`: somebody made so many that could become a container's that it is not known of the oldest;"
    " `output`: its reader was too slow, or it failed; `journal`: `--record` could not be written",
    "event": "the container event's name",
    "in_time": "the birth had been told, complete, by the time of its first instruction",
    "outcome": "three answers: it knows the container, it does not, it could not be asked",
    "reason": "why a field is empty: [events.md](events.md#why-a-field-is-empty)",
    "runtime": "who manages the container",
    "sensor": "how it hears of cgroups",
    "source": "who is asked: [design.md](design.md#evidence); `init`: `/proc`, for the first process",
    "state": "of a daemon; `unreadable`: it answers, but nothing that can be read; `away`: it hangs,"
    " refuses, or its socket is gone",
    "status": "of the event's `evidence`",
}

TOP: Final = f"""\
# Metrics and health

Off, unless asked for:

```console
$ sudo ctrwatch events --metrics 127.0.0.1:9470
$ sudo ctrwatch events --metrics unix:/run/ctrwatch/metrics.sock
```

A line on standard error says where it really listens: port 0 is any that is free. What a killed ctrwatch
left at the path of a unix socket is replaced; anything else that lies there stays, and ctrwatch ends with
exit code 2, as it does where a port is in use. The socket is for its owner and group; its directory must
be there (systemd: `RuntimeDirectory=ctrwatch`).

```console
$ curl 127.0.0.1:9470/metrics
$ curl --unix-socket /run/ctrwatch/metrics.sock localhost/healthz
{{"healthy":true}}
```

- `GET /metrics` is Prometheus' text format, some 300 series and one for each image. A label's value comes from
  a closed set, and each such series is there from the start, at 0. No stranger can make them more: of what
  containers bring only the image is a label, and [bounded](#what-strangers-chose). Series of single containers
  are off, unless [asked for](#of-single-containers).
- `GET /healthz` is 200 when the kernel is listened to, the containers that were there are listed, and the
  output takes lines; else 503, and `why` says in a sentence what is wrong.

There is neither TLS nor a password: whoever reaches the address may read. Give `127.0.0.1`, or the unix
socket, unless the network is trusted. Who asks can't hold up the events: {endpoint.AT_ONCE} connections at a time
(one more puts the oldest out), {endpoint.A_SECOND} a second (who comes after waits), {endpoint.DEADLINE_S:.0f} s for each, a request of at most
{endpoint.REQUEST_BYTES // 1024} KB, one for each connection. What it costs stands in [limits.md](limits.md#cost).
"""

HEAD: Final = ("| name | type | labels | meaning | when it moves |", "|---|---|---|---|---|")
USE: Final = """\
### With `--usage`
What [containers use](usage.md), by runtime and image: `sum by (runtime) (…)` and `sum by (image) (…)` say the
one or the other.

- A sum is of what was used while ctrwatch watched: all of a container that was born meanwhile, its bill
  included, and of one that was there before what came after the first look. It never goes back, but where
  ctrwatch itself was started anew.
- A figure that the host does not count has no series, so that it is not taken for 0.
- Old containers are looked at each minute (`--usage-every`): give `rate()` five minutes.
"""
CONTAINERS: Final = f"""\
### Of single containers
Off, unless asked for:

```console
$ sudo ctrwatch events --usage --metrics 127.0.0.1:9470 --metrics-containers 50
```

- At most so many containers have series, seven of each: those that were born last, for they are what nobody
  knows yet. The heaviest ones would be others at each scrape, and their series full of holes; what is heavy
  and old shows in the sums by image. `ctrwatch_containers_left_out` says how many have none.
- The most that can be asked for is {CONTAINERS_MAX}. To write their series takes 15 ms, in which no birth is told.
- A container has series from its first look, 50 ms after its first instruction. They vanish some 15 s after its end, and
  have its bill until then; they never take a living one's place.
- Each new container is a new set of series, which Prometheus keeps. On a host with thousands of births a day
  that is its disk's matter.
"""
STRANGERS: Final = f"""\
### What strangers chose
`image`, `name`, `pod`, `namespace` and `container_id` are as in the [event](events.md), empty where they are not
known. Control characters and what is no UTF-8 are written as escapes (`\\x1b`), and no more than 256
characters are taken. The first {IMAGES} pairs of runtime and image have series of their own; those that come
later are one for each runtime, `image="{OTHER}"`. Where the scrape job sets labels `pod` and `namespace` itself,
`honor_labels: true` keeps these.
"""
TABLES: Final = (
    ("", (*METRICS, *OF_IMAGES)), (USE, OF_USE), (CONTAINERS, OF_CONTAINERS),
)  # fmt: skip


def alerts(file: Path = ALERTS) -> Iterator[dict[str, Any]]:
    """The rules of the alert file."""
    for group in yaml.safe_load(file.read_text())["groups"]:
        yield from group["rules"]


def page() -> str:
    lines = [TOP.rstrip(), "", "## What there is"]
    for text, metrics in TABLES:
        lines += ["", *([text, *HEAD] if text else HEAD), *_metrics(metrics)]
        if not text:
            lines += ["", *_process()]
    lines += ["", STRANGERS.rstrip(), "", "## Labels", ""]
    lines += ["| label | values | meaning |", "|---|---|---|", *_labels()]
    lines += ["", "## Alerts", ""]
    lines += ["| promise | alert | when | what to do |", "|---|---|---|---|", *_alerts()]
    lines += ["", *_about_alerts()]
    lines += ["", "### Alerts on use", ""]
    lines += ["| alert | when | what to do |", "|---|---|---|", *_alerts_of_use()]
    lines += ["", *_about_alerts_of_use()]
    return "\n".join(lines) + "\n"


def _metrics(metrics: tuple[Metric, ...]) -> Iterator[str]:
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        yield f"| `{metric.name}` | {metric.kind} | {labels} | {metric.means} | {metric.moves} |"


def _process() -> Iterator[str]:
    yield "A histogram is three: its name with `_bucket` (and the label `le`, seconds), `_sum` and `_count`. The"
    yield "usual ones of the process come with them: `process_resident_memory_bytes`, `process_cpu_seconds_total`,"
    yield "`process_start_time_seconds`, `process_open_fds`, `process_max_fds`, `process_virtual_memory_bytes`."


def _labels() -> Iterator[str]:
    if unknown := set(LABELS) ^ set(LABELS_MEAN):
        raise KeyError(*unknown)
    for label, values in LABELS.items():
        yield f"| `{label}` | {', '.join(f'`{each}`' for each in values)} | {LABELS_MEAN[label]} |"
    yield "| `version` | ctrwatch's own | one value in the life of a process |"


def _alerts() -> Iterator[str]:
    for rule in alerts():
        promise = rule["labels"]["promise"]
        yield f"| {promise}. {PROMISES[promise]} {_alert(rule)}"


def _alerts_of_use() -> Iterator[str]:
    return map(_alert, alerts(ALERTS_OF_USE))


def _alert(rule: dict[str, Any]) -> str:
    when = " ".join(rule["expr"].split()).replace("|", "\\|")
    lasting = f", for {rule['for']}" if "for" in rule else ""
    return f"| {rule['alert']} | `{when}`{lasting} | {rule['annotations']['description']} |"


def _about_alerts() -> Iterator[str]:
    yield "[packaging/prometheus-alerts.yml](../packaging/prometheus-alerts.yml) has them as Prometheus reads them,"
    yield 'for a scrape job that is called "ctrwatch". Prometheus itself scrapes no unix socket: give it a port.'


def _about_alerts_of_use() -> Iterator[str]:
    yield "[packaging/prometheus-alerts-usage.yml](../packaging/prometheus-alerts-usage.yml) has them. The first"
    yield "needs neither option, those on a single container `--metrics-containers`. What is much on one host is"
    yield "nothing on another: the numbers are examples."


if __name__ == "__main__":
    PAGE.write_text(page())
