"""
Violations by HTTP: signed, one at a time, in order, until each is taken.

A thread of its own, with an event loop of its own: names that don't resolve, a handshake, a disk
that is slow hold up no event. What is pushed is stored in the backlog first, and removed when a
2xx came back: at least once, whatever ends ctrwatch. Redirects are not followed, for the
signature is for whom the user named; of an answer only the head is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from importlib.metadata import version
from random import SystemRandom
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import h11
import msgspec

from ctrwatch.core.alerting import Alert, Answer, Format, alert, answered, body, signature
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent, Violation
from ctrwatch.outputs.backlog import Backlog, Waiting

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ("PAUSES_S", "Receiver", "Webhook", "exchanged", "receiver")

log = logging.getLogger(__name__)

# Between tries, the last one from then on: an hour without network costs a dozen tries, and who
# comes back is heard of within five minutes.
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 300.0)
_DEADLINE_S: Final = 10.0  # for one try, all in all: Slack's own answers take half a second
_HEAD_BYTES: Final = 16 << 10  # of an answer: its status and its headers; its body is not read
_CHUNK: Final = 16 << 10
# In memory, before they are stored: a few, unless the disk hangs.
_PUSHED_BYTES: Final = 8 << 20
_TRIES: Final = 3  # of a message that is refused for what it is: 400, 413, 415, 422
_STORE_AGAIN_S: Final = 1.0  # on a disk that is full
_GRACE_S: Final = 5.0  # at the end, for what is being sent


class Receiver(NamedTuple):
    host: str
    port: int
    target: str
    tls: bool

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def receiver(url: str) -> Receiver:
    """
    Raises InputError; what it says has no path in it, for a chat's URL is a secret.

    >>> receiver("https://hooks.example.com/services/T0/B0/x?y=1")
    Receiver(host='hooks.example.com', port=443, target='/services/T0/B0/x?y=1', tls=True)
    """
    way = "give http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InputError(f"--webhook: not a URL; {way}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--webhook: not a URL; {way}")
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "--webhook: no user or password in the URL; what is sent is signed instead"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not all(33 <= ord(character) <= 126 for character in target + parts.hostname):
        raise InputError("--webhook: only printable ASCII in a URL; percent-encode the rest")
    secure = parts.scheme == "https"
    return Receiver(parts.hostname, port or (443 if secure else 80), target, secure)


def _authorities() -> SSLContext:
    """The host's own, or SSL_CERT_FILE's: the receiver must have a certificate of one of them."""
    import ssl  # 5 MB that nobody pays for who has no https

    return ssl.create_default_context()


class Webhook:
    """
    `push` and `close` are for one thread. *secret*: of the signature; None: nothing is signed.

    `counted`: delivered; failed, tries that were not taken; dropped, violations without room;
    refused, violations that the receiver never took.
    """

    def __init__(
        self,
        to: Receiver,
        backlog: Backlog,
        *,
        secret: bytes | None = None,
        format_: Format = "json",
        pauses_s: Sequence[float] = PAUSES_S,
        deadline_s: float = _DEADLINE_S,
    ) -> None:
        self._to, self._backlog, self._secret, self._format = to, backlog, secret, format_
        self._pauses_s, self._deadline_s = pauses_s, deadline_s
        self._tls = _authorities() if to.tls else None
        self._pushed: deque[tuple[str, bytes]] = deque()
        self._pushed_bytes = 0
        self._missed = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = False
        self._woken = asyncio.Event()  # something was pushed, or it is to end
        self._stored = asyncio.Event()  # something waits to be sent
        self._failures = 0  # in a row
        self._refusals = 0  # of the first that waits
        self.counted: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def push(self, violation: Violation, event: ContainerEvent) -> None:
        """Never waits for a disk or a network."""
        said = msgspec.json.encode(alert(violation, event))
        with self._lock:
            if self._pushed_bytes + len(said) > _PUSHED_BYTES:
                self._missed += 1
                return
            self._pushed.append((violation.id, said))
            self._pushed_bytes += len(said)
            self._wake()

    def close(self) -> None:
        """Store what was pushed, and send what can be sent at once; the rest waits on the disk."""
        with self._lock:
            self._ending = True
            self._wake()
        self._thread.join(_GRACE_S)
        if waiting := self.waiting:
            log.warning("webhook: %d violations wait; they are sent after the next start", waiting)

    @property
    def waiting(self) -> int:
        return len(self._backlog) + len(self._pushed)

    def _wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._woken.set)

    # --- its thread -----------------------------------------------------------------------

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)  # this thread's: only events are in a hurry
        with self._backlog:
            asyncio.run(self._run())

    async def _run(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
        self._woken.set()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send())
            while not await self._store():
                pass
            self._stored.set()
            await asyncio.wait((sending,), timeout=_GRACE_S / 2)
            sending.cancel()

    async def _store(self) -> bool:
        """Put on the disk what was pushed; True: that was all."""
        await self._woken.wait()
        self._woken.clear()
        while self._pushed:
            try:
                self._store_first()
            except sqlite3.Error as error:
                log.error("webhook: the queue can't be written: %s", error)  # noqa: TRY400
                if self._ending:
                    return True
                await asyncio.sleep(_STORE_AGAIN_S)
        return self._ending

    def _store_first(self) -> None:
        """It stays in memory until it is on the disk."""
        with self._lock:
            missed, self._missed = self._missed, 0
            violation_id, said = self._pushed[0]
        self._backlog.missed(missed)
        dropped = self._backlog.dropped
        if not self._backlog.add(violation_id, said) and dropped == missed:
            log.error("webhook: %d wait already; violations are dropped", len(self._backlog))
        with self._lock:
            self._pushed.popleft()
            self._pushed_bytes -= len(said)
        self.counted["dropped"] = self._backlog.dropped
        self._stored.set()

    async def _send(self) -> None:
        while True:
            first = self._first()
            if first is None:
                if self._ending:
                    return
                self._stored.clear()
                await self._stored.wait()
            elif await self._deliver(first):
                self._done(first)
            else:
                if self._ending:
                    return
                await self._pause()

    def _first(self) -> Waiting | None:
        try:
            return self._backlog.first()
        except sqlite3.Error as error:
            log.error("webhook: the queue can't be read: %s", error)  # noqa: TRY400
            return None

    def _done(self, waiting: Waiting) -> None:
        try:
            self._backlog.remove(waiting)
        except sqlite3.Error as error:
            # It is sent again: who gets it drops it by its id.
            log.error("webhook: the queue can't be written: %s", error)  # noqa: TRY400

    async def _pause(self) -> None:
        """Longer each time, and not all hosts of a fleet at once; the end ends it."""
        pause_s = self._pauses_s[min(self._failures, len(self._pauses_s)) - 1]
        pause_s *= SystemRandom().uniform(0.8, 1.2)
        until_s = time.monotonic() + pause_s
        while not self._ending and (left_s := until_s - time.monotonic()) > 0:
            self._stored.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stored.wait(), left_s)

    async def _deliver(self, waiting: Waiting) -> bool:
        """True: it need not be sent again."""
        try:
            said = msgspec.json.decode(waiting.alert, type=Alert)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error("webhook: %s can't be read from the queue; it is dropped", waiting.id)  # noqa: TRY400
            self.counted["refused"] += 1
            return True
        said = msgspec.structs.replace(said, dropped_before=waiting.dropped)
        answer, why = await self._try(waiting.id, body(said, self._format))
        if answer == "taken":
            self._succeeded()
            return True
        self.counted["failed"] += 1
        self._failures += 1
        if self._failures == 1:
            log.warning("webhook: %s %s; it is tried again", self._to.authority, why)
        self._refusals += answer == "never"
        if self._refusals < _TRIES:
            return False
        log.error("webhook: %s %s to %s; it is dropped", self._to.authority, why, waiting.id)
        self.counted["refused"] += 1
        self._failures = self._refusals = 0
        return True

    def _succeeded(self) -> None:
        self.counted["delivered"] += 1
        if self._failures:
            log.warning(
                "webhook: %s takes violations again; %d wait", self._to.authority, self.waiting - 1
            )
        self._failures = self._refusals = 0

    # --- one request ----------------------------------------------------------------------

    async def _try(self, violation_id: str, content: bytes) -> tuple[Answer, str]:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._post(violation_id, content)
        except TimeoutError:
            return "later", f"does not answer within {self._deadline_s:g} s"
        except h11.RemoteProtocolError as error:
            return "later", f"does not speak HTTP: {error}"
        except (
            OSError,
            UnicodeError,
        ) as error:  # no such name is an OSError; one too long the other
            return "later", f"can't be reached: {getattr(error, 'strerror', None) or error}"

    async def _post(self, violation_id: str, content: bytes) -> tuple[Answer, str]:
        reader, writer = await asyncio.open_connection(
            self._to.host, self._to.port, ssl=self._tls, limit=_CHUNK
        )
        try:
            return await exchanged(reader, writer, self._request(violation_id, content), content)
        finally:
            writer.transport.abort()

    def _request(self, violation_id: str, content: bytes) -> h11.Request:
        headers = [
            ("Host", self._to.authority),
            ("User-Agent", f"ctrwatch/{version('ctrwatch')}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(content))),
            ("Connection", "close"),
            ("X-Ctrwatch-Id", violation_id),
        ]
        if self._secret is not None:
            now_s = int(time.time())
            headers += [
                ("X-Ctrwatch-Timestamp", str(now_s)),
                ("X-Ctrwatch-Signature", signature(self._secret, now_s, content)),
            ]
        return h11.Request(method="POST", target=self._to.target, headers=headers)


async def exchanged(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, content: bytes
) -> tuple[Answer, str]:
    """What is answered, by its head. Raises h11.RemoteProtocolError for what is no HTTP, OSError."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
    for event in (request, h11.Data(data=content), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                if not (data := await reader.read(_CHUNK)):
                    return "later", "closes before it answers"
                connection.receive_data(data)
            case h11.Response(status_code=status, headers=headers):
                return answered(status, dict(headers))
            case _:  # informational responses
                pass
