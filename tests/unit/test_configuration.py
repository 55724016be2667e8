"""The configuration file: what is said in it, what is wrong with it, and what holds."""

from __future__ import annotations

import os
import re
import typing
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ctrwatch import config
from ctrwatch.commands.configured import Configured, settings
from ctrwatch.core import configuration
from ctrwatch.core.configuration import (
    BYTES_MAX,
    DEFAULT,
    KEYS,
    Configuration,
    Output,
    Sockets,
    changed,
    overlaid,
    parse,
    said,
)
from ctrwatch.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "packaging/ctrwatch.toml"
WHOLE = b"""
wait = 1
existing = false
raw = true
record = "/r"
sensor = "fanotify"
state = "/s"
audit = 0
metrics = "unix:/m"
metrics_containers = 23
usage = true
usage_at = [5, 30.5]
usage_every = 90
[sockets]
docker = ["/d1", "/d2"]
containerd = []
cri = ["/c"]
[output]
format = "tracee"
path = "/o"
"""


def test_every_key_can_be_said() -> None:
    value = parse(WHOLE, "f")

    assert said(value).keys() == KEYS.keys()
    assert value == Configuration(
        wait=1.0, existing=False, raw=True, record="/r", sensor="fanotify", state="/s", audit=0.0,
        metrics="unix:/m", metrics_containers=23, usage=True, usage_at=(5.0, 30.5), usage_every=90.0,
        sockets=Sockets(docker=("/d1", "/d2"), containerd=(), cri=("/c",)),
        output=Output(format="tracee", path="/o"),
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\n# no more\n", b"[sockets]\n[output]\n"])
def test_a_file_may_say_nothing(content: bytes) -> None:
    assert said(parse(content, "f")) == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('sockets.docker = ["x"]', 'sockets.docker: not an absolute path: "x"'),
        ('sockets.docker = ["/a", "/\\u0000"]', 'sockets.docker: not an absolute path: "/\\u0000"'),
        ("usage_at = [5, 0]", "usage_at: not an age in seconds from 1 to 86400: 0"),
        ('sockets.cri = "/a"', 'sockets.cri: not a list of at most 64 absolute paths: "/a"'),
        (
            f"sockets.cri = {['/a'] * 65}",
            "sockets.cri: not a list of at most 64 absolute paths: a list",
        ),
        ("sockets.cri = [[1]]", "sockets.cri: not an absolute path: a list"),
        ("sockets = 1", "sockets: not a table: 1"),
        ('wait = "soon"', 'wait: not seconds from 0 to 60: "soon"'),
        ("wait = 61", "wait: not seconds from 0 to 60: 61"),
        ("wait = -0.1", "wait: not seconds from 0 to 60: -0.1"),
        ("wait = nan", "wait: not seconds from 0 to 60: nan"),
        ("wait = true", "wait: not seconds from 0 to 60: true"),
        ("wait = 0x" + "f" * 9000, "wait: not seconds from 0 to 60: a number too large"),
        ("audit = 0.5", "audit: not seconds from 1 to 86400, or 0: 0.5"),
        ("existing = 1", "existing: not true or false: 1"),
        ("raw = {a = 1}", "raw: not true or false: a table"),
        ("record = 1979-05-27", "record: not an absolute path: 1979-05-27"),
        ('state = "relative"', 'state: not an absolute path: "relative"'),
        ('sensor = "magic"', 'sensor: not "auto", "ebpf" or "fanotify": "magic"'),
        ('output.format = "xml"', 'output.format: not "text", "json" or "tracee": "xml"'),
        ('output.path = "/a\\u0000"', 'output.path: not an absolute path: "/a\\u0000"'),
        ('metrics = ""', 'metrics: not an address as "127.0.0.1:9470" or "unix:/PATH": ""'),
        ("metrics_containers = 301", "metrics_containers: not a number from 0 to 300: 301"),
        ("metrics_containers = -1", "metrics_containers: not a number from 0 to 300: -1"),
        ("wiat = 1", "wiat: no such key; did you mean wait?"),
        ("[socket]\ndocker = []", "socket: no such key; did you mean sockets?"),
        ("sockets.dokcer = []", "sockets.dokcer: no such key; did you mean sockets.docker?"),
        ('format = "json"', "format: no such key; did you mean output.format?"),
        ("[output]\nwait = 1", "output.wait: no such key; did you mean wait?"),
        ("zzz = 1", "zzz: no such key"),
        ('"\\u001b[2J" = 1', "\\x1b[2J: no such key"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(content: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        parse(content.encode(), "/etc/ctrwatch.toml")

    assert str(raised.value) == f"/etc/ctrwatch.toml: {says}"
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"wait = 1\nraw =\n", "f:2: Invalid value (column 6)"),
        (b"wait = 1\nwait = 2\n", "f:2: Cannot overwrite a value (column 9)"),
        (b"wait = 1\n\nsensor", "f:3: Expected '=' after a key in a key/value pair"),
        (b"wait = 1\n# \xff\n", "f:2: not UTF-8"),
        (b"\xef\xbb\xbfwait = 1", "f:1: Invalid statement (column 1)"),
        (b"wait = " + b"9" * 5000, "f: a number is too long, or a date is none"),
        (b"wait = " + b"[" * 9000, "f: nested too deeply"),
        (b"#" * (BYTES_MAX + 1), "f: larger than 1 MB"),
    ],
)
def test_what_is_no_toml_is_named_with_its_line(content: bytes, says: str) -> None:
    with pytest.raises(InputError) as raised:
        parse(content, "f")

    assert str(raised.value) == says


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.tuples(st.sampled_from([*KEYS, "x"]), st.text(max_size=20)).map(
            lambda line: f"{line[0]} = {line[1]}".encode(errors="replace")
        ),
        st.tuples(st.sampled_from([*KEYS]), st.integers() | st.floats() | st.booleans()).map(
            lambda line: f"{line[0]} = {str(line[1]).lower()}".encode()
        ),
    )
)
def test_any_bytes_are_a_value_or_a_named_error(raw: bytes) -> None:
    try:
        value = parse(raw, "/f")
    except InputError as error:
        assert str(error).startswith("/f:")  # noqa: PT017 - either is right
    else:
        settings(overlaid(value, DEFAULT))


# --- what holds ---------------------------------------------------------------------------


def test_what_is_given_holds_before_the_file_and_the_file_before_the_default(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.toml"
    path.write_text('wait = 1\nraw = true\n[sockets]\ndocker = ["/d"]\ncri = ["/c"]\n')
    given = Configuration(wait=3, raw=False, sockets=Sockets(docker=("/mine",)))

    value = Configured(path, given).value

    assert value.wait == 3
    assert value.raw is False
    assert value.sockets == Sockets(docker=("/mine",), containerd=(), cri=("/c",))
    assert (value.existing, value.sensor, value.audit) == (True, "auto", 600)


CONFIGURATIONS = st.builds(
    Configuration,
    wait=st.none() | st.floats(0, 60),
    raw=st.none() | st.booleans(),
    sockets=st.builds(Sockets, cri=st.none() | st.lists(st.just("/c"), max_size=2).map(tuple)),
    output=st.builds(Output, path=st.none() | st.sampled_from(["/a", "/b"])),
)


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_each_key_is_the_uppers_or_else_the_lowers(
    over: Configuration, under: Configuration
) -> None:
    value = overlaid(over, under)

    assert said(value) == said(under) | said(over)
    assert set(changed(under, value)) <= set(said(over))
    assert changed(value, value) == []


def test_the_defaults_are_those_of_a_watch() -> None:
    assert settings(DEFAULT) == config.Settings(sockets={kind: [] for kind in config.SOCKET_KINDS})
    assert settings(Configuration()) == settings(DEFAULT)
    assert Sockets.__struct_fields__ == config.SOCKET_KINDS
    assert typing.get_args(configuration.SensorName) == typing.get_args(config.SensorName)


def test_a_key_that_is_only_read_at_the_start() -> None:
    assert {key for key, each in KEYS.items() if not each.restart} == {
        "wait", "sockets.docker", "sockets.containerd", "sockets.cri", "output.format",
        "output.path",
    }  # fmt: skip


# --- the file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(lambda _: None, "No such file or directory", id="not-there"),
        pytest.param(Path.mkdir, "Is a directory", id="directory"),
        pytest.param(lambda path: path.symlink_to(path), "Too many levels", id="loop"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "larger than 1 MB", id="endless"),
        pytest.param(os.mkfifo, "not a file", id="fifo"),
    ],
)
def test_a_file_that_can_not_be_read(
    made: typing.Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.toml"
    made(path)

    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: {says}"):
        Configured(path, Configuration())


def test_a_file_of_nothing_leaves_the_defaults() -> None:
    assert Configured(Path("/dev/null"), Configuration()).value == DEFAULT


def test_the_usual_file_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrwatch.commands.configured.PATH", tmp_path / "c.toml")
    absent = Configured(None, Configuration())
    (tmp_path / "c.toml").write_text("wait = 7")

    assert (absent.is_there, absent.value) == (False, DEFAULT)
    assert absent.read().wait == 7
    assert absent.is_there


# --- the example --------------------------------------------------------------------------


def test_the_example_changes_nothing() -> None:
    assert said(parse(EXAMPLE.read_bytes(), "example")) == {}


def test_the_example_has_every_key_with_its_default_and_its_reason() -> None:
    text = EXAMPLE.read_text()
    value = parse(re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE).encode(), "example")
    defaults = said(DEFAULT)

    assert list(said(value)) == list(KEYS)  # in the table's order, too
    assert {key: said(value)[key] for key in defaults} == defaults
    reason, prefix = "", ""
    for line in text.splitlines():
        if line.startswith("# "):
            reason += line
        elif found := re.fullmatch(r"\[(\w+)\]", line):
            prefix = found[1] + "."
        elif found := re.match(r"#(\w+) = ", line):
            key = prefix + found[1]
            if prefix != "sockets.":  # the three have one
                assert reason, key
                assert ("(restart)" in reason) == KEYS[key].restart, key
                assert key in defaults or "Default: " in reason, key
            reason = "" if prefix != "sockets." else reason
        elif not line:
            reason = reason if prefix else ""
