"""The command line: what is said, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from ctrwatch.cli import main

COMMANDS = ("doctor", "events", "explain", "history", "ps", "replay", "schema")
ID = "ab" * 32
HEADER = {
    "type": "header", "version": 1, "host": "h", "boot_id": "b",
    "wall_offset_ns": 0, "wait_ns": 0, "unified": True,
}  # fmt: skip
HEAVY = (
    "asyncio",
    "ctypes",
    "grpclib",
    "google.protobuf",
    "h11",
    "h2",
    "json",
    "prometheus_client",
    "socket",
    "sqlite3",
)


def ctrwatch(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def process(*arguments: str | bytes, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """As a user's shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "ctrwatch", *arguments],
        input=given, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


# --- help -----------------------------------------------------------------------------


def test_help_names_every_command_and_every_exit_code() -> None:
    result = ctrwatch("--help")

    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.output for command in COMMANDS)
    words = " ".join(result.output.split())
    assert "0 done, 1 something went wrong, 2 bad option or file, 3 this host can't" in words


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(command: str) -> None:
    result = ctrwatch(command, "--help")

    assert result.exit_code == 0
    assert "Example: " in result.output
    assert f"ctrwatch {command}" in " ".join(result.output.partition("Example: ")[2].split())


def test_ctrl_c_before_a_command_is_done(tmp_path: Path) -> None:
    stream = tmp_path / "stream"
    os.mkfifo(stream)
    words = [sys.executable, "-m", "ctrwatch", "replay", str(stream)]
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as replaying,
        stream.open("wb"),  # it reads
    ):
        replaying.send_signal(signal.SIGINT)
        said = replaying.communicate(timeout=60)

    assert (replaying.returncode, *said) == (130, b"", b"\n")


def test_version() -> None:
    result = ctrwatch("--version")

    assert result.output.startswith("ctrwatch ")
    assert result.output.split()[1][0].isdigit()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("birth",), id="unknown-command"),
        pytest.param(("explain",), id="no-path"),
        pytest.param(("events", "--wiat", "1"), id="unknown-option"),
        pytest.param(("events", "--format", "xml"), id="unknown-format"),
        pytest.param(("events", "--sensor", "magic"), id="unknown-sensor"),
        pytest.param(("events", "--wait", "soon"), id="wait-is-no-number"),
        pytest.param(("events", "--wait", "-1"), id="wait-before-now"),
        pytest.param(("events", "--wait", "61"), id="wait-too-long"),
        pytest.param(("events", "--wait", "nan"), id="wait-is-not-a-number"),
        pytest.param(("events", "--usage-at", "0"), id="an-age-of-nothing"),
        pytest.param(("events", "--usage-at", "nan"), id="an-age-that-is-no-number"),
        pytest.param(("events", *("--usage-at", "5") * 17), id="too-many-ages"),
        pytest.param(("events", "--usage-every", "inf"), id="a-beat-that-never-comes"),
        pytest.param(("ps", "--json", "extra"), id="extra-argument"),
    ],
)
def test_a_mistake_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = ctrwatch(*arguments)

    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ("5",), "5: there are no metrics; give --metrics ADDRESS, too", id="no-metrics"
        ),
        pytest.param(
            ("5", "--metrics", "127.0.0.1:0"),
            "5: what containers use is not read; give --usage, too",
            id="no-usage",
        ),
        pytest.param(
            ("301", "--metrics", "127.0.0.1:0", "--usage"),
            "301: give a number from 0 to 300",
            id="too-many",
        ),
        pytest.param(("-1",), "-1: give a number from 0 to 300", id="fewer-than-none"),
    ],
)
def test_series_of_containers_that_can_not_be_had(arguments: tuple[str, ...], says: str) -> None:
    result = ctrwatch("events", "--metrics-containers", *arguments)

    assert result.exit_code == 2
    assert result.output == f"ctrwatch: --metrics-containers {says}\n"


def test_series_of_containers_that_a_file_asks_for_in_vain(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("metrics_containers = 5\n")
    result = ctrwatch("events", "--config", str(file))

    assert result.exit_code == 2
    assert result.output == (
        f"ctrwatch: {file}: metrics_containers: 5: there are no metrics; give --metrics ADDRESS, too\n"
    )


@pytest.mark.parametrize("command", ["doctor", "events", "ps"])
@pytest.mark.parametrize(
    "given",
    [
        pytest.param("/run/docker.sock", id="no-kind"),
        pytest.param("docker=run/docker.sock", id="relative"),
        pytest.param("docker=", id="no-path"),
        pytest.param("rkt=/run/rkt.sock", id="unknown-kind"),
    ],
)
def test_a_socket_that_is_given_wrongly(command: str, given: str) -> None:
    result = ctrwatch(command, "--socket", given)

    assert result.exit_code == 2
    assert result.output == (
        f"ctrwatch: --socket {given}: give docker=/path/to/socket or containerd=/path/to/socket"
        " or cri=/path/to/socket\n"
    )


# --- the configuration ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["doctor", "events", "ps"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param('sockets.docker = ["x"]', ': sockets.docker: not an absolute path: "x"', id="value"),
        pytest.param("wiat = 1", ": wiat: no such key; did you mean wait?", id="key"),
        pytest.param("wait = 1\n\nwait", ":3: Expected '=' after a key", id="toml"),
        pytest.param(None, ": No such file or directory", id="file"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_one_line(
    command: str, content: str | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_text(content)

    result = ctrwatch(command, "--config", str(path))

    assert result.exit_code == 2
    assert f"ctrwatch: {path}{says}" in result.output
    assert "Traceback" not in result.output
    assert result.output.count("c.toml") == 1


def test_an_address_in_the_file_is_named_as_its_own(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('metrics = "nowhere"')

    theirs = ctrwatch("events", "--config", str(path))
    given = ctrwatch("events", "--config", str(path), "--metrics", "here")

    assert (theirs.exit_code, given.exit_code) == (2, 2)
    assert theirs.output.startswith(f"ctrwatch: {path}: metrics: nowhere: ")
    assert given.output.startswith("ctrwatch: --metrics here: ")


# --- explain --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(("--enforce=maybe",), "'maybe' is not one of", id="enforce"),
        pytest.param(("--on-violation", "no-such-program x"), "no such program", id="program"),
        pytest.param(("--on-violation", ""), "give a program", id="no-program"),
        pytest.param(("--webhook", "htp://x/SECRET"), "--webhook: not a URL; give", id="url"),
        pytest.param(("--webhook", "http://u:p@x/"), "no user or password", id="password"),
        pytest.param(("--webhook", "http://x/"), "--state DIR or --webhook-queue", id="no-queue"),
        pytest.param(("--webhook-queue", "q"), "give --webhook URL, too", id="no-webhook"),
        pytest.param(
            ("--webhook", "http://x/", "--webhook-queue", "q", "--webhook-secret-file", "/none"),
            "--webhook-secret-file /none: No such file", id="no-secret",
        ),
        pytest.param(
            ("--webhook", "http://x/", "--webhook-queue", "q", "--webhook-secret-file", "/dev/null"),
            "give 1 to 4096 bytes", id="empty-secret",
        ),
    ],
)  # fmt: skip
def test_an_action_that_can_not_be_done(given: tuple[str, ...], says: str) -> None:
    result = process("events", *given)

    assert result.returncode == 2
    said = result.stderr.decode()
    assert says in " ".join(said.split())
    assert "SECRET" not in said
    assert "Traceback" not in said


def test_explain_answers_each_path() -> None:
    result = ctrwatch("explain", f"/docker/{ID}", "/user.slice")

    assert result.exit_code == 0
    assert [json.loads(line) for line in result.output.splitlines()] == [
        {
            "path": f"/docker/{ID}", "container_id": ID, "runtime": "docker",
            "is_root": True, "outer": [], "pod_uid": "",
        },
        {
            "path": "/user.slice", "container_id": "", "runtime": "",
            "is_root": False, "outer": [], "pod_uid": "",
        },
    ]  # fmt: skip


def test_explain_reads_standard_input_between_the_other_paths() -> None:
    done = process("explain", "/first", "-", "/last", given=b"/a b\n\n/last-line-without-end")

    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == [
        "/first", "/a b", "", "/last-line-without-end", "/last",
    ]  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("by", ["argument", "stdin"])
def test_explain_takes_any_bytes(by: str) -> None:
    path = b"/caf\xe9\x1b[2J/docker/" + ID.encode()

    done = process("explain", path) if by == "argument" else process("explain", "-", given=path)

    (line,) = done.stdout.splitlines()
    assert json.loads(line)["path"] == f"/caf\\xe9\x1b[2J/docker/{ID}"
    assert json.loads(line)["container_id"] == ID
    assert b"\x1b" not in line


def test_explain_of_nothing_is_nothing() -> None:
    done = process("explain", "-", given=b"")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_explain_whose_reader_has_enough() -> None:
    """`… | ctrwatch explain - | head -1` ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [sys.executable, "-m", "ctrwatch", "explain", "-"],
        input=b"/a\n" * 1000, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    os.close(writer)

    assert done.stderr == b""


# --- schema ---------------------------------------------------------------------------


def test_schema_is_a_json_schema() -> None:
    result = ctrwatch("schema")

    jsonschema.Draft202012Validator.check_schema(json.loads(result.output))
    assert result.exit_code == 0


# --- replay ---------------------------------------------------------------------------


def test_replay_of_a_stream_where_nothing_happened(tmp_path: Path) -> None:
    path = tmp_path / "quiet.jsonl"
    path.write_text(json.dumps(HEADER) + "\n")

    result = ctrwatch("replay", str(path))

    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "No such file or directory", id="no-such-file"),
        pytest.param(b"", "not a recorded stream", id="empty"),
        pytest.param(b"\x7fELF\x02\x01", "not a recorded stream", id="binary"),
        pytest.param(b'{"event":"container_create"}\n', "not a recorded stream", id="events"),
        pytest.param(
            json.dumps({**HEADER, "version": 2}).encode() + b"\n",
            "recorded by another version of ctrwatch (format 2, this one reads 1)",
            id="another-version",
        ),
        pytest.param(json.dumps(HEADER).encode() + b"\n{}\n", "stream:2: ", id="no-input"),
        pytest.param(json.dumps(HEADER).encode() + b'\n{"type":"lo', "stream:2: ", id="torn-line"),
        pytest.param(
            json.dumps(HEADER).encode() + b'\n{"type":"\xff"}\n', "stream:2: ", id="no-utf8"
        ),
        pytest.param(
            json.dumps(HEADER).encode() + b'\n{"type":"\\u001b[2J\\u202e\\n"}\n',
            "Invalid value '\\x1b[2J\\u202e\\x0a'",
            id="escapes-in-the-error",
        ),
    ],
)
def test_a_file_that_can_not_be_replayed(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "stream"
    if content is not None:
        path.write_bytes(content)

    result = ctrwatch("replay", str(path))

    assert result.exit_code == 2
    assert result.output.startswith(f"ctrwatch: {path}")
    assert says in result.output
    assert result.output.count("\n") == 1


def test_a_directory_can_not_be_replayed(tmp_path: Path) -> None:
    result = ctrwatch("replay", str(tmp_path))

    assert result.exit_code == 2
    assert "Is a directory" in result.output


# --- imports --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [pytest.param(["--help"], id="help"), pytest.param(["explain", "/x"], id="explain")],
)
def test_what_answers_at_once_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from ctrwatch.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, check=True, text=True, timeout=60,
    )  # fmt: skip

    assert not set(HEAVY) & set(done.stderr.split())


def test_the_api_is_loaded_when_it_is_asked_for() -> None:
    script = (
        "import sys, ctrwatch\n"
        "assert not [m for m in sys.modules if m.startswith('ctrwatch.')]\n"
        "assert all(getattr(ctrwatch, name).__name__ == name for name in ctrwatch.__all__)\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# --- what strangers wrote, on standard error ---------------------------------------------


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        pytest.param(
            "log.warning('%s: away', HOSTILE)", "ctrwatch: a\\x1b[2J\\x0actrwatch: b", id="log"
        ),
        pytest.param(
            "try: raise ValueError(HOSTILE)\nexcept ValueError: log.exception('x')",
            "  ValueError: a\\x1b[2J",
            id="stack-trace",
        ),
    ],
)
def test_a_word_in_the_log_is_one_printable_line(way: str, shown: str) -> None:
    script = (
        "import logging, sys\n"
        "from ctrwatch import cli\n"
        "HOSTILE = 'a\\x1b[2J\\nctrwatch: b\\u202e'\n"
        "log = logging.getLogger('ctrwatch')\n"
        "try: cli.main(['schema'])\n"
        "except SystemExit: pass\n"
        f"{way}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60
    )

    lines = done.stderr.splitlines()
    assert any(line.startswith(shown) for line in lines)
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("ctrwatch: ") for line in lines) == 1
