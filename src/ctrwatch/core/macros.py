"""
The helpers of policies that are written in CEL itself: a call of one is replaced by its text.

Pure. A function of ours costs a hop into Python, and cel-expr-python 0.1.3 keeps the
arguments of every such call for good: a kilobyte where it is all that a container may do. What can
be said in CEL is therefore said in CEL.

Paths are compared as they stand: those of an event's mounts are normalised (core/vocabulary.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ("MACROS", "expanded")

# Text that stands for itself (raw or not, in three quotes or one), comments, and names.
_TOKEN: Final = re.compile(
    r'(?P<text>[rR]?(?:"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'))|(?P<comment>//[^\n]*)|(?P<name>(?:\.\s*)?[A-Za-z_]\w*)|(?P<mark>.)",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"""(["'])([^"'\\\n]*)\1""")
_LONGEST: Final = 100_000  # characters of one call: arguments stand in it more than once
_DEEP: Final = 16  # calls in each other: a rule that ships has two


def _under(path: str, directory: str) -> str:
    below = f'({directory}).endsWith("/") ? ({directory}) : ({directory}) + "/"'
    return f'(({path}) + "/").startsWith({below})'


def _is_under(path: str, directories: str) -> str:
    return f"({directories}).exists(d__, {_under(path, 'd__')})"


def _is_above(path: str, directories: str) -> str:
    return f"({directories}).exists(d__, {_under('d__', path)})"


def _has_capability(security: str, name: str) -> str:
    names = (
        f'({name}) in ({security}).capabilities || ("CAP_" + ({name})) in ({security}).capabilities'
    )
    return f"(({security}).privileged == true || {names})"


def _mounts(security: str, shows: str) -> str:
    return f'({security}).mounts.exists(m__, m__.type == "bind" && ({shows}))'


def _mounts_host(security: str, path: str) -> str:
    return _mounts(security, _under(path, "m__.source"))


def _mounts_below(security: str, path: str) -> str:
    return _mounts(security, f"{_under(path, 'm__.source')} || {_under('m__.source', path)}")


def _is_host_path(mount: str) -> str:
    return f"({mount}).host_path"


def _glob(text: str, pattern: str) -> str | None:
    """Where the pattern is a text with stars at its ends, as nearly all are; else it is called."""
    plain = _PLAIN.fullmatch(pattern.strip())
    if plain is None:
        return None
    quote, whole = plain[1], plain[2]
    begins, ends = whole.startswith("*"), whole.endswith("*")
    middle = whole.strip("*")
    if "*" in middle or "?" in middle:
        return None
    method = {(False, True): "startsWith", (True, False): "endsWith", (True, True): "contains"}
    if (begins, ends) == (False, False):
        return f"(({text}) == {quote}{middle}{quote})"
    return f"({text}).{method[begins, ends]}({quote}{middle}{quote})"


MACROS: Final[dict[str, Callable[..., str | None]]] = {
    "glob": _glob,
    "has_capability": _has_capability,
    "is_above": _is_above,
    "is_host_path": _is_host_path,
    "is_under": _is_under,
    "mounts_below": _mounts_below,
    "mounts_host": _mounts_host,
}


def expanded(text: str, depth: int = 0) -> str:
    """
    A right expression, with the calls of macros replaced. Raises ValueError if it is too deep.

    >>> expanded('glob(container_name, "job-*") && size(labels) == 0')
    '(container_name).startsWith("job-") && size(labels) == 0'
    >>> expanded('"glob(a, b)"')
    '"glob(a, b)"'
    """
    if depth > _DEEP:
        raise ValueError(f"more than {_DEEP} calls in each other")
    out: list[str] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:  # it matches any character
            break
        at = token.end()
        macro = MACROS.get(token["name"] or "")
        call = _call(text, at) if macro is not None else None
        if macro is None or call is None:
            out.append(token[0])
            continue
        arguments, end = call
        given = [expanded(argument, depth + 1) for argument in arguments]
        made = macro(*given)
        if made is not None and len(made) > _LONGEST:
            raise ValueError("too many calls in each other")
        out.append(made if made is not None else f"{token[0]}({', '.join(given)})")
        at = end
    return "".join(out)


def _call(text: str, at: int) -> tuple[list[str], int] | None:
    """The arguments of the call whose parenthesis opens there, and where it is over."""
    opens = re.compile(r"\s*\(").match(text, at)
    if opens is None:
        return None
    arguments, begun, deep = list[str](), opens.end(), 0
    for token in _tokens(text, begun):
        match token["mark"]:
            case "(" | "[" | "{":
                deep += 1
            case ")" | "]" | "}" if deep:
                deep -= 1
            case ")":
                return [*arguments, text[begun : token.start()]], token.end()
            case "," if not deep:
                arguments.append(text[begun : token.start()])
                begun = token.end()
    return None


def _tokens(text: str, at: int) -> Iterator[re.Match[str]]:
    while at < len(text) and (token := _TOKEN.match(text, at)) is not None:
        yield token
        at = token.end()
