"""Nets as text that people read: short messages on one line, comments above the layers that they explain."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

WIDTH = 80  # columns: a message stays on one line where it fits into them
_WHOLE = re.compile(r'("(?:\\.|[^"\\])*")|(: -?\d+)\.0\b')  # a string, which stays; a float without a fraction


def without_fractions(text: str) -> str:
    """Prototxt as protobuf prints it, with 1 for a float's 1.0."""
    return _WHOLE.sub(lambda found: found[1] or found[2], text)


def net_text(net: Message, header: Sequence[str], notes: Mapping[str, str]) -> str:
    """A NetParameter of a name and layers as text.

    Args:
        net: the message.
        header: lines of the comment at the top.
        notes: layer name -> the lines of the comment above the first layer of that name.

    Raises:
        KeyError: a note belongs to no layer.
    """
    layers: Any = net
    left = dict(notes)
    lines = [f"# {line}" for line in header] + [f'name: "{layers.name}"']
    for layer in layers.layer:
        lines += [f"# {line}" for line in left.pop(layer.name, "").splitlines()]
        lines += ["layer {", *_fields(layer, "  "), "}"]
    if left:
        raise KeyError(f"notes for layers that the net has not: {', '.join(left)}")
    return "\n".join(lines) + "\n"


def _fields(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():
        repeated = not isinstance(value, str | bytes | Message) and isinstance(value, Sequence)
        for item in value if repeated else (value,):
            yield from _field(field, item, indent)


def _field(field: FieldDescriptor, value: Any, indent: str) -> Iterator[str]:
    out = io.StringIO()
    text_format.PrintField(field, value, out, as_one_line=True)
    line = indent + without_fractions(out.getvalue().strip())
    if not isinstance(value, Message) or len(line) <= WIDTH:
        yield line
    else:
        yield from (f"{indent}{field.name} {{", *_fields(value, indent + "  "), f"{indent}}}")
