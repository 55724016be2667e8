"""
A YAML document with its lines, for messages that say where. Pure.

Strangers write policies too: no aliases (which grow without bound), no key twice, a bound
on size and depth. PyYAML's safe loader makes the nodes; tags of Python's own are refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final, NoReturn, Self

import yaml

from ctrwatch.errors import InputError

__all__ = ("LONGEST", "Part", "documents")

LONGEST: Final = 512 << 10  # bytes: a hundred times the longest that ships; read in 2 s
_DEPTH: Final = 32  # of lists and mappings in each other: an event has 4
_SCALARS: Final = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:null": type(None),
}
_CALLED: Final = {str: "a text", bool: "true or false", int: "a number", dict: "a mapping"}


def documents(text: bytes, file: str) -> list[Part]:
    """The documents of a YAML file. Raises InputError, with file and line."""
    if len(text) > LONGEST:
        raise InputError(f"{file}: {len(text):,} bytes; a policy has at most {LONGEST:,}")
    try:
        nodes = [*yaml.compose_all(text.decode(), yaml.SafeLoader)]
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: no UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise InputError(f"{file}: more than {_DEPTH} lists and mappings in each other") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: no YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file}: no YAML: {' '.join(str(error).split())}") from None
    seen: set[int] = set()
    return [_made(node, file, "", 0, seen) for node in nodes if node is not None]


def _made(node: yaml.Node, file: str, path: str, depth: int, seen: set[int]) -> Part:
    line = node.start_mark.line + 1
    where = f"{file}:{line}"
    if id(node) in seen:
        raise InputError(f"{where}: an alias (*name): write it out")
    seen.add(id(node))
    if depth > _DEPTH:
        raise InputError(f"{where}: more than {_DEPTH} lists and mappings in each other")
    if isinstance(node, yaml.SequenceNode):
        items = [
            _made(each, file, f"{path}[{number}]", depth + 1, seen)
            for number, each in enumerate(node.value)
        ]
        return Part(items, file, line, path)
    if isinstance(node, yaml.MappingNode):
        return Part(_mapping(node, file, path, depth, seen), file, line, path)
    if node.tag not in _SCALARS:
        if node.tag == "tag:yaml.org,2002:timestamp":
            return Part(node.value, file, line, path)
        raise InputError(f"{where}: {node.tag} is not used here; put the text in quotes")
    if _SCALARS[node.tag] is not str:
        try:
            value = yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, OverflowError) as error:
            raise InputError(f"{where}: {error}") from None
        return Part(value, file, line, path)
    block = getattr(node, "style", None) in ("|", ">")
    return Part(node.value, file, line + block, path)


def _mapping(
    node: yaml.MappingNode, file: str, path: str, depth: int, seen: set[int]
) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for key, value in node.value:
        where = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            raise InputError(f"{where}: a key is a text")
        if key.value in found:
            raise InputError(f'{where}: "{key.value}" stands here twice')
        inner = f"{path}.{key.value}" if path else key.value
        found[key.value] = _made(value, file, inner, depth + 1, seen)
    return found


class Part:
    """A value of the document, and where it stands."""

    def __init__(self, value: Any, file: str, line: int, path: str) -> None:
        self.value, self.line = value, line
        self._file, self._path = file, path

    def refuse(self, what: str, line: int = 0) -> NoReturn:
        """*line*: in the value, from 1; 0 is the value itself."""
        at = self.line + max(0, line - 1)
        raise InputError(f"{self._file}:{at}: {self._path or 'the document'}: {what}")

    def mapping(self, *known: str) -> dict[str, Self]:
        """As a mapping of *known* keys; without any, of any keys."""
        if not isinstance(self.value, dict):
            self.refuse(f"a mapping is wanted here, not {self.said}")
        for key, part in self.value.items():
            if known and key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                part.refuse(f"unknown; {hint}")
        found: dict[str, Self] = self.value
        return found

    def items(self) -> Iterator[Self]:
        if not isinstance(self.value, list):
            self.refuse(f"a list is wanted here, not {self.said}")
        return iter(self.value)

    def text(self, longest: int = 10_000) -> str:
        if not isinstance(self.value, str):
            self.refuse(f"a text is wanted here, not {self.said}; put it in quotes")
        if len(self.value) > longest:
            self.refuse(f"{len(self.value):,} characters; at most {longest:,} are allowed")
        return self.value

    def choice(self, *known: str) -> str:
        text = self.text()
        if text not in known:
            near = difflib.get_close_matches(text, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(known)}"
            self.refuse(f'"{text}": {hint}')
        return text

    def plain(self) -> Any:
        """Without the lines."""
        if isinstance(self.value, dict):
            return {key: part.plain() for key, part in self.value.items()}
        if isinstance(self.value, list):
            return [part.plain() for part in self.value]
        return self.value

    @property
    def said(self) -> str:
        """What kind of value it is."""
        if self.value is None:
            return "nothing"
        return _CALLED.get(type(self.value), "a list" if isinstance(self.value, list) else "that")
