"""Violations by HTTP, to a real server that is well, or is not. Nothing is lost, and it is said."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctrwatch.core.alerting import Format, signature
from ctrwatch.outputs.backlog import Backlog
from ctrwatch.outputs.webhook import Webhook, receiver
from tests.contract.receivers import BROKEN, HANG, OK, free_port, receiving
from tests.unit.verdicts import EVENT, numbered

SOON = (0.01,)
REDIRECT = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def sending(
    url: str,
    queue: Path,
    *,
    secret: bytes | None = None,
    format_: Format = "json",
    most: int = 100,
    deadline_s: float = 5.0,
) -> Iterator[Webhook]:
    webhook = Webhook(
        receiver(url), Backlog(queue, most=most), secret=secret, format_=format_,
        pauses_s=SOON, deadline_s=deadline_s,
    )  # fmt: skip
    try:
        yield webhook
    finally:
        webhook.close()


def push(webhook: Webhook, *numbers: int) -> None:
    for number in numbers:
        webhook.push(numbered(number), EVENT)


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "queue"


def test_each_violation_once_and_in_order(queue: Path) -> None:
    with receiving(OK) as server, sending(server.url(), queue) as webhook:
        push(webhook, *range(5))
        got = server.got(5)

    assert [each.violation for each in got] == [f"v{number}" for number in range(5)]
    assert got[0].line == "POST /hook?a=b HTTP/1.1"
    assert got[0].headers["x-ctrwatch-id"] == "v0"
    assert got[0].headers["content-type"] == "application/json"
    assert "x-ctrwatch-signature" not in got[0].headers
    assert webhook.counted["delivered"] == 5
    assert webhook.counted["failed"] == 0


def test_it_is_signed_with_the_time_of_sending(queue: Path) -> None:
    with receiving(BROKEN, OK) as server, sending(server.url(), queue, secret=b"key") as webhook:
        push(webhook, 1)
        got = server.got(2)

    for each in got:
        sent_s = int(each.headers["x-ctrwatch-timestamp"])
        assert each.headers["x-ctrwatch-signature"] == signature(b"key", sent_s, each.body)
        assert abs(time.time() - sent_s) < 10


def test_a_chat_gets_text(queue: Path) -> None:
    with receiving(OK) as server, sending(server.url(), queue, format_="slack") as webhook:
        push(webhook, 1)

        assert server.got(1)[0].json["text"].startswith("*high*")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(BROKEN, "answers 500", id="500"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP", id="no-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999, "does not speak HTTP", id="endless-head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", "closes before it answers", id="no-answer"),
    ],
)  # fmt: skip
def test_one_that_is_not_taken_is_sent_again(
    queue: Path, caplog: pytest.LogCaptureFixture, answer: bytes, said: str
) -> None:
    with receiving(answer, answer, OK) as server, sending(server.url(), queue) as webhook:
        push(webhook, 1, 2)
        got = server.got(4)

    assert [each.violation for each in got] == ["v1", "v1", "v1", "v2"]
    assert webhook.counted["failed"] == 2
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2  # one when it begins, one when it is over
    assert said in warnings[0]
    assert "takes violations again; 1 wait" in warnings[1]


def test_a_receiver_that_hangs_holds_up_nobody_but_itself(queue: Path) -> None:
    with receiving(HANG, OK) as server, sending(server.url(), queue) as webhook:
        push(webhook, 0)
        server.got(1)
        push(webhook, *range(1, 50))
        assert len(server.requests) == 1  # it hangs still
        server.ended.set()
        server.until(lambda: len(server.requests) == 51)

    assert webhook.counted["delivered"] == 50


def test_a_receiver_that_hangs_is_asked_again_after_the_deadline(queue: Path) -> None:
    with receiving(HANG, OK) as server, sending(server.url(), queue, deadline_s=0.1) as webhook:
        push(webhook, 1)
        server.got(2)

    assert webhook.counted["delivered"] == 1


def test_an_answer_that_never_ends_is_taken_by_its_head(queue: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    with receiving(head + b"x" * (1 << 20)) as server, sending(server.url(), queue) as webhook:
        push(webhook, 1, 2)
        server.got(2)

    assert webhook.counted["delivered"] == 2


def test_nobody_goes_where_a_redirect_points(queue: Path, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(OK) as elsewhere:
        answer = REDIRECT % elsewhere.url("/x").encode()
        with receiving(answer, OK) as server, sending(server.url(), queue, secret=b"k") as webhook:
            push(webhook, 1)
            server.got(2)
        assert elsewhere.requests == []

    assert f"a redirect to {elsewhere.url('/x')}; it is not followed" in caplog.text


def test_a_restart_while_nobody_answers_loses_nothing(
    queue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with sending(url, queue) as webhook:
        push(webhook, 1, 2)
    assert "2 violations wait" in caplog.text
    with sending(url, queue) as webhook:
        push(webhook, 3)
        with receiving(OK, port=port) as server:
            got = server.got(3)
            push(webhook, 4)
            server.got(4)

    assert [each.violation for each in got] == ["v1", "v2", "v3", "v4"]


def test_one_that_was_taken_is_not_sent_after_a_restart(queue: Path) -> None:
    with receiving(OK) as server:
        for number in (1, 2):
            with sending(server.url(), queue) as webhook:
                push(webhook, number)
                server.got(number)
        assert [each.violation for each in server.requests] == ["v1", "v2"]


def test_what_finds_no_room_is_said_to_the_receiver(
    queue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(HANG, OK) as server, sending(server.url(), queue, most=2) as webhook:
        push(webhook, *range(7))
        server.got(1)
        server.ended.set()
        server.until(lambda: len(server.requests) == 3)
        push(webhook, 8)
        got = server.got(4)

    assert [each.violation for each in got] == ["v0", "v0", "v1", "v8"]
    assert [each.json["dropped_before"] for each in got] == [0, 0, 0, 5]
    assert webhook.counted["dropped"] == 5
    assert caplog.text.count("violations are dropped") == 1


def test_one_that_is_refused_for_what_it_is_does_not_hold_up_the_rest(
    queue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no = b"HTTP/1.1 422 Unprocessable Content\r\n\r\n"
    with receiving(no, no, no, OK) as server, sending(server.url(), queue) as webhook:
        push(webhook, 1, 2)
        got = server.got(4)

    assert [each.violation for each in got] == ["v1", "v1", "v1", "v2"]
    assert webhook.counted["refused"] == 1
    assert "answers 422 to v1; it is dropped" in caplog.text


def test_a_certificate_of_the_hosts_authorities_is_wanted(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = tmp_path / "cert.pem"
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
         "-keyout", certificate, "-out", tmp_path / "own.pem"),
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_bytes(certificate.read_bytes() + (tmp_path / "own.pem").read_bytes())
    with receiving(OK, certificate=certificate) as server:
        url = server.url().replace("http:", "https:")
        with sending(url, queue) as webhook:
            push(webhook, 1)
            while not webhook.counted["failed"]:
                assert webhook.waiting == 1
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
        with sending(url, queue):
            assert server.got(1)[0].violation == "v1"

    assert "certificate verify failed" in caplog.text


def test_the_log_has_no_path_of_the_url(queue: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        receiving(BROKEN, OK) as server,
        sending(server.url("/services/T0/SECRET"), queue) as webhook,
    ):
        push(webhook, 1)
        server.got(2)

    assert "SECRET" not in caplog.text
