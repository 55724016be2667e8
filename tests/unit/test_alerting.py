"""What is sent of a violation, and what an answer means."""

from __future__ import annotations

import hashlib
import hmac
import json

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.alerting import alert, answered, body, signature
from ctrwatch.errors import InputError
from ctrwatch.event import Violation
from ctrwatch.outputs.webhook import receiver
from tests.unit.verdicts import EVENT, VIOLATION


def test_the_violation_whole_and_which_container_it_is() -> None:
    said = json.loads(body(alert(VIOLATION, EVENT), "json"))

    assert msgspec.convert(said["violation"], Violation) == VIOLATION
    assert said["container"]["container_image"] == EVENT.container_image
    assert said["container"]["cgroup"]["path"] == "/docker/c1"
    assert said["container"]["security"]["privileged"] is True
    assert said["dropped_before"] == 0


@pytest.mark.parametrize("format_", ["json", "slack"])
def test_arguments_and_labels_stay_here(format_: str) -> None:
    assert b"hunter2" not in body(alert(VIOLATION, EVENT), format_)  # type: ignore[arg-type]


def test_a_chat_gets_text() -> None:
    said = msgspec.structs.replace(alert(VIOLATION, EVENT), dropped_before=7)
    chat = json.loads(body(said, "slack"))

    assert chat.keys() == {"text"}
    lines = chat["text"].split("\n")
    assert lines[:2] == ["*high*: p/no-nginx", "nginx is not approved"]
    assert "image: docker.io/library/nginx:1.27" in lines
    assert "action: kill" in lines
    assert lines[-1] == "7 violations before this one were dropped"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("<!channel>", "&lt;!channel&gt;", id="everybody"),
        pytest.param("<http://x|ok>", "&lt;http://x|ok&gt;", id="a-link"),
        pytest.param("a\nimage: approved", "a\\x0aimage: approved", id="a-line"),
        pytest.param("\u202eexe", "\\u202eexe", id="direction"),
        pytest.param("*_~`", "\u2217\uff3f\u223c\u02cb", id="marks"),
    ],
)
def test_a_name_can_not_speak_for_us(name: str, shown: str) -> None:
    event = msgspec.structs.replace(EVENT, container_name=name)
    text = json.loads(body(alert(VIOLATION, event), "slack"))["text"]

    assert f"\ncontainer: {shown}\n" in text


def test_the_signature_is_of_the_time_and_the_body() -> None:
    wanted = hmac.new(b"s", b"17.{}", hashlib.sha256).hexdigest()

    assert signature(b"s", 17, b"{}") == f"sha256={wanted}"
    assert signature(b"s", 18, b"{}") != signature(b"s", 17, b"{}")
    assert signature(b"s", 17, b"{ }") != signature(b"s", 17, b"{}")
    assert signature(b"t", 17, b"{}") != signature(b"s", 17, b"{}")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        *((status, "taken") for status in (200, 202, 204)),
        *((status, "later") for status in (301, 307, 401, 403, 404, 408, 429, 500, 503)),
        *((status, "never") for status in (400, 413, 415, 422)),
    ],
)
def test_what_an_answer_means(status: int, answer: str) -> None:
    assert answered(status, {})[0] == answer


def test_a_redirect_says_where_to_and_that_nobody_goes() -> None:
    said = answered(302, {b"location": b"http://evil/\x1b[2J"})[1]

    assert "http://evil/\\x1b[2J" in said
    assert "not followed" in said


@pytest.mark.parametrize(
    "url",
    [
        "htp://x/", "x", "http://", "http://x:99999/", "http://u:p@x/", "http://x/\u00fc",
        "http://x/a b", "http://[::1/", "file:///etc/passwd", "http://x/\r\nX: y",
    ],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InputError, match="--webhook") as error:
        receiver(url)
    assert "passwd" not in str(error.value)


def test_where_it_goes() -> None:
    assert receiver("http://[::1]:8080").authority == "[::1]:8080"
    assert receiver("http://x:80/").authority == "x"
    assert receiver("https://x:80/").authority == "x:80"


@given(st.integers(100, 999), st.binary(max_size=300))
def test_any_answer_is_said_in_one_printable_line(status: int, where: bytes) -> None:
    answer, said = answered(status, {b"location": where})

    assert answer in ("taken", "later", "never")
    assert said.isprintable()
    assert len(said) < 300


@given(st.text(max_size=50), st.text(max_size=700))
def test_any_name_and_message_are_a_chats_text(name: str, message: str) -> None:
    event = msgspec.structs.replace(EVENT, container_name=name)
    violation = msgspec.structs.replace(VIOLATION, message=message, rule=name)
    said = alert(violation, event)
    text = json.loads(body(said, "slack"))["text"]
    assert "<" not in text
    assert text.count("\n") <= 7
