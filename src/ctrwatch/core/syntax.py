"""
What a checked CEL expression reads: cel/expr/checked.proto and syntax.proto, as far as needed.

Pure. The evaluator gives its syntax tree as bytes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

__all__ = ("Call", "calls", "paths")

_MESSAGE, _STRING, _OPTIONAL, _REPEATED = 11, 9, 1, 3  # FieldDescriptorProto.Type, .Label

# Message: its fields, as (name, number, type or message, repeated).
_PROTO: Final[dict[str, tuple[tuple[str, int, str, bool], ...]]] = {
    "CheckedExpr": (("expr", 4, "Expr", False),),
    "Expr": (
        ("const", 3, "Constant", False),
        ("ident", 4, "Ident", False),
        ("select", 5, "Select", False),
        ("call", 6, "Call", False),
        ("list", 7, "List", False),
        ("struct", 8, "Struct", False),
        ("comprehension", 9, "Comprehension", False),
    ),
    "Constant": (("string", 6, "", False),),
    "Ident": (("name", 1, "", False),),
    "Select": (("operand", 1, "Expr", False), ("field", 2, "", False)),
    "Call": (
        ("target", 1, "Expr", False),
        ("function", 2, "", False),
        ("args", 3, "Expr", True),
    ),
    "List": (("elements", 1, "Expr", True),),
    "Struct": (("entries", 2, "Entry", True),),
    "Entry": (("map_key", 3, "Expr", False), ("value", 4, "Expr", False)),
    "Comprehension": (
        ("iter_range", 2, "Expr", False),
        ("accu_init", 4, "Expr", False),
        ("loop_condition", 5, "Expr", False),
        ("loop_step", 6, "Expr", False),
        ("result", 7, "Expr", False),
    ),
}


class Call(NamedTuple):
    function: str
    texts: tuple[str | None, ...]  # its arguments, where they are texts as they stand


def paths(serialized: bytes) -> frozenset[str]:
    """The names that it reads, dotted as far as they are: `image.tag`, `event`."""
    return frozenset(_paths(_tree(serialized)))


def calls(serialized: bytes) -> list[Call]:
    return [
        Call(expr.call.function, tuple(_text(argument) for argument in expr.call.args))
        for expr in _all(_tree(serialized))
        if expr.HasField("call")
    ]


def _tree(serialized: bytes) -> Any:
    return _CHECKED.FromString(any_pb2.Any.FromString(serialized).value).expr


def _paths(expr: Any) -> Iterator[str]:
    if (name := _dotted(expr)) is not None:
        yield name
        return
    for part in _parts(expr):
        yield from _paths(part)


def _dotted(expr: Any) -> str | None:
    if expr.HasField("ident"):
        return str(expr.ident.name)
    if expr.HasField("select") and (outer := _dotted(expr.select.operand)) is not None:
        return f"{outer}.{expr.select.field}"
    return None


def _all(expr: Any) -> Iterator[Any]:
    yield expr
    for part in _parts(expr):
        yield from _all(part)


def _parts(expr: Any) -> Iterator[Any]:
    """The expressions right below it."""
    if expr.HasField("select"):
        yield expr.select.operand
    elif expr.HasField("call"):
        if expr.call.HasField("target"):
            yield expr.call.target
        yield from expr.call.args
    elif expr.HasField("list"):
        yield from expr.list.elements
    elif expr.HasField("struct"):
        for entry in expr.struct.entries:
            yield from (entry.map_key, entry.value)
    elif expr.HasField("comprehension"):
        loop = expr.comprehension
        yield from (loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step)
        yield loop.result


def _text(expr: Any) -> str | None:
    return expr.const.string if expr.HasField("const") and expr.const.HasField("string") else None


def _checked() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="ctrwatch/syntax.proto", package="ctrwatch.syntax", syntax="proto3"
    )
    for name, fields in _PROTO.items():
        message = file.message_type.add(name=name)
        if name in ("Expr", "Constant"):
            message.oneof_decl.add(name="kind")
        for field, number, of, repeated in fields:
            made = message.field.add(name=field, number=number)
            made.label = _REPEATED if repeated else _OPTIONAL  # type: ignore[assignment]
            made.type = _MESSAGE if of else _STRING  # type: ignore[assignment]
            if of:
                made.type_name = f".ctrwatch.syntax.{of}"
            if message.oneof_decl:
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("ctrwatch.syntax.CheckedExpr")
    )


_CHECKED: Final = _checked()
