"""
What ran, as a policy that approves it: for a person to review. Pure.

An image is approved by the digest that a registry serves for it; where there is none, by its own
id, the digest of its configuration; where that was not recorded either, by its name. What
strangers wrote stands in the YAML only between quotation marks, every character but ASCII's
printable ones as an escape, or in a comment, as one printable line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, get_args

from ctrwatch.core import vocabulary
from ctrwatch.core.document import LONGEST
from ctrwatch.core.text import clean
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent
from ctrwatch.model import Runtime

__all__ = ("Approved", "By", "by")

By = Literal["digests", "image_ids", "names", "without_image"]

_MOST: Final = 10_000  # entries: more than a policy's 512 KB can name, with room in memory
_NAMES: Final = 3  # of one image, in its comment
_HOSTS: Final = 3
_QUOTED: Final = re.compile(r"[^ !#-\[\]-~]")  # all but ASCII's printable ones, `"` and `\`
_SAID: Final[dict[By, str]] = {
    "digests": "Registry digests, of indexes and of manifests: the content itself.",
    "image_ids": "Images without a registry digest (built, loaded or imported on a host), by their id:\n"
    "  # the content too, but nobody can pull it by this.",
    "names": "CAUTION: neither a digest nor an id was recorded. A name can be given to any content;\n"
    "  # it counts only where again nothing better is known.",
    "without_image": "CAUTION: runtimes whose containers were made from no image: all of such are let run.",
}
_HEAD: Final = """\
apiVersion: ctrwatch/v1
kind: Policy
metadata:
  name: approved-images
  description: Only what a person approved runs
parameters:
"""
_RULES: Final = """\
rules:
  - name: image
    description: Its image is approved, by its content
    when: container_image != "" || container_image_digest != "" || image.id != ""
    require: >-
      container_image_digest in params.digests || image.id in params.image_ids
      || (container_image_digest == "" && image.id == "" && container_image in params.names)
    severity: high
    tags: [attack.T1610, attack.T1204.003, attack.T1525]
    message: "{container_image} ({container_image_digest}, id {image.id}) is not approved"
  - name: no-image
    description: A container without an image is of a runtime that may make such
    when: container_image == "" && container_image_digest == "" && image.id == ""
    require: evidence.status != "unverified" && runtime in params.without_image
    severity: high
    tags: [attack.T1610]
    message: "{container_id} ({runtime}) was made from no image"
tests:
  - name: a stranger's image
    event: {container_image: "stranger.example/image:1", container_image_digest: "sha256:stranger"}
    expect: {image: violation, no-image: not_applicable}
  - name: an image that nobody could tell
    event:
      container_image: ""
      container_image_digest: ""
      evidence: {status: partial, missing: {container_image: deadline, container_image_digest: deadline, image.id: deadline}}
    expect: {image: undecided, no-image: undecided}
"""


def by(event: ContainerEvent) -> tuple[By, str] | None:
    """What its image can be approved by, the best there is; None where that is nothing."""
    unknown = vocabulary.unknown(event)
    if event.container_image_digest and "container_image_digest" not in unknown:
        return "digests", event.container_image_digest
    if event.image.id and "image.id" not in unknown:
        return "image_ids", event.image.id
    if unknown & {"container_image", "container_image_digest", "image.id"}:
        return None
    if event.container_image:
        return "names", event.container_image
    if event.evidence.status == "unverified" or event.runtime is Runtime.UNKNOWN:
        return None
    return "without_image", event.runtime


class _Ran(NamedTuple):
    births: int
    first: str
    last: str
    names: tuple[str, ...]  # one more than is shown: then there are others
    runtimes: frozenset[str]


class Approved:
    """What ran, added up; `yaml` is the policy."""

    def __init__(self) -> None:
        self._ran: dict[tuple[By, str], _Ran] = {}
        self._hosts: dict[str, None] = {}
        self._first = self._last = ""
        self.births = self.left_out = 0

    def __len__(self) -> int:
        return len(self._ran)

    def add(self, event: ContainerEvent) -> None:
        """A birth, as it is known in the end. Raises InputError: too many to be one policy."""
        self.births += 1
        if len(self._hosts) <= _HOSTS:
            self._hosts[event.host] = None
        self._first = min(self._first or event.time, event.time)
        self._last = max(self._last, event.time)
        key = by(event)
        if key is None:
            self.left_out += 1
            return
        one = _ran(event)
        self._ran[key] = _both(self._ran[key], one) if key in self._ran else one
        if len(self._ran) > _MOST:
            raise InputError(
                f"more than {_MOST:,} images: no policy can hold them; shorten --since"
            )

    def yaml(self) -> str:
        """Raises InputError where it is longer than a policy may be."""
        parts = [*self._comment(), _HEAD]
        for kind in get_args(By):
            parts += self._listed(kind)
        text = "".join((*parts, _RULES))
        if len(text.encode()) > LONGEST:
            raise InputError(
                f"{len(self)} images are more than a policy of {LONGEST:,} bytes can hold;"
                " shorten --since"
            )
        return text

    def _comment(self) -> Iterator[str]:
        hosts = _some(self._hosts, _HOSTS, 80)
        yield f"# What ran on {hosts}, {_when(self._first)} to {_when(self._last)}:"
        yield f" {_births(self.births)}, {_counted(len(self), 'image')}. Review it:\n"
        yield "# that something ran does not say that it should. Take out each entry that nobody approves.\n"
        if self.left_out:
            yield f"# NOT in it: {_births(self.left_out)} whose image was not known, or that no runtime spoke for.\n"

    def _listed(self, kind: By) -> Iterator[str]:
        entries = {value: ran for (of, value), ran in self._ran.items() if of == kind}
        yield f"  # {_SAID[kind]}\n" if entries or kind == "digests" else ""
        yield f"  {kind}:\n" if entries else f"  {kind}: []\n"
        for value, ran in sorted(entries.items(), key=lambda each: (each[1].names, each[0])):
            runtimes = ", ".join(sorted(ran.runtimes))
            yield (
                f"    # {_some(ran.names, _NAMES, 120)}: {_births(ran.births)} by {runtimes},"
                f" first {_when(ran.first)}, last {_when(ran.last)}\n"
                f"    - {quoted(value)}\n"
            )


def _ran(event: ContainerEvent) -> _Ran:
    name = event.container_image or "(no name)"
    return _Ran(1, event.time, event.time, (name,), frozenset({event.runtime.value}))


def _both(one: _Ran, other: _Ran) -> _Ran:
    names = dict.fromkeys((*one.names, *other.names))
    return _Ran(
        one.births + other.births,
        min(one.first, other.first),
        max(one.last, other.last),
        tuple(names)[: _NAMES + 1],
        one.runtimes | other.runtimes,
    )


def quoted(text: str) -> str:
    r"""
    As a scalar of YAML in quotation marks, on one line, whatever is in it (YAML 1.1, 5.7).

    >>> quoted('a"\n- b: \\'), quoted("é\U0001f600")
    ('"a\\x22\\x0a- b: \\x5c"', '"\\xe9\\U0001f600"')
    """
    return f'"{_QUOTED.sub(lambda found: _escape(ord(found[0])), text)}"'


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _some(texts: Iterable[str], most: int, limit: int) -> str:
    every = [*texts]
    return ", ".join(clean(text, limit) for text in every[:most]) + ", …" * (len(every) > most)


def _when(time: str) -> str:
    return clean(time, 64)[:19] + "Z" if time else "-"


def _births(number: int) -> str:
    return _counted(number, "birth")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
