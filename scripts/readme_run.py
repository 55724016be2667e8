"""
The run that README.md shows.

    sudo .venv/bin/python -m scripts.readme_run     recorded anew
    .venv/bin/python -m scripts.readme_run --again  the recorded one, as it is printed now

`ctrwatch events` watches while `make demo`'s containers are born by every runtime that
is there; what it printed is put between the page's markers, and its first event below
the page's `jq` command. The recorded stream lies beside the other golden ones;
tests/docs/test_readme.py replays it, tests/live/test_readme.py compares it with a new run.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
STREAM = ROOT / "tests/golden/demo.stream.jsonl"
BEGIN, END = "<!-- run -->\n", "<!-- /run -->\n"
EVENT = re.compile(r"(?<=jq -c '\{)(?P<fields>[\w, ]+)\}'\n\{.*\}(?=\n)")
DEADLINE_S = 60.0


def record() -> tuple[list[str], list[str]]:
    """What a watch says on standard error and prints, while the demo's containers come and go."""
    watch = subprocess.Popen(
        (sys.executable, "-m", "ctrwatch", "events", "--format", "text", "--no-existing",
         "--record", str(STREAM)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    assert watch.stderr is not None
    printed: list[str] = []
    reading = threading.Thread(target=lambda: printed.extend(watch.stdout or ()))
    reading.start()
    said = []
    for line in watch.stderr:
        said.append(line)
        if "listening" in line:
            break
    subprocess.run((sys.executable, "-m", "scripts.demo"), check=True, cwd=ROOT)
    watch.send_signal(signal.SIGINT)
    said += watch.stderr
    watch.wait(DEADLINE_S)
    reading.join(DEADLINE_S)
    return said, printed


def block(said: list[str], printed: list[str]) -> str:
    """As a terminal shows it: what is said first, the events, the last word."""
    *first, last = said
    shown = "".join((*first, *printed, last))
    return f"{BEGIN}```console\n$ sudo ctrwatch events\n{shown}```\n{END}"


def with_block(page: str, made: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + made + after


def with_event(page: str, line: str) -> str:
    """The page with the event that the JSON *line* is, as its `jq` command prints it."""
    event = json.loads(line)

    def printed(found: re.Match[str]) -> str:
        chosen = {name: event[name] for name in found["fields"].split(", ")}
        text = json.dumps(chosen, separators=(",", ":"), ensure_ascii=False)
        return f"{found['fields']}}}'\n{text}"

    return EVENT.sub(printed, page)


def replayed(kind: str) -> str:
    return subprocess.run(
        (sys.executable, "-m", "ctrwatch", "replay", str(STREAM), "--format", kind),
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip


def said_before(page: str) -> list[str]:
    """What stands around the events in the page's present block."""
    _, _, rest = page.partition(BEGIN)
    lines = rest.partition(END)[0].splitlines(keepends=True)
    return [line for line in lines if line.startswith("ctrwatch: ")]


def main() -> None:
    page = README.read_text()
    if sys.argv[1:] == ["--again"]:
        said, printed = said_before(page), replayed("text").splitlines(keepends=True)
    elif os.geteuid() == 0:
        said, printed = record()
    else:
        sys.exit("error: only root may watch and start containers")
    lines = replayed("json")
    page = with_event(with_block(page, block(said, printed)), lines.splitlines()[0])
    README.write_text(page)
    STREAM.with_name("demo.events.jsonl").write_text(lines)
    STREAM.with_name("demo.txt").write_text(replayed("text"))


if __name__ == "__main__":
    main()
