"""The text format of Caffe's files: prototxt to message, message to the text that Caffe logs.

Protobuf's own parser does the work. What it says and does otherwise than the C++ parser of Caffe's day is
bridged here: the words and places of errors, required fields, and escapes that C++ does not know.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, MutableSequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe.errors import FormatError
from caffe.proto.binary import cannot_open
from caffe.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe.proto.upgrade import upgrade_net, upgrade_solver

M = TypeVar("M", bound=Message)

TAB = 8
"""Columns to a tab, as C++ counts them."""

_TOKEN = re.compile(r"""#.*|"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[A-Za-z_][\w+-]*|[\d.+-][\w.+-]*|\S""")
_ESCAPES = "abfnrtv?\\'\"01234567xXuU"
"""What may follow a backslash in a string."""


_WORDS = (
    ("missing ending quote", "String literals cannot cross line boundaries: "),
    ("Expected string", "Expected string, got: "),
    ("Expected identifier", "Expected identifier, got: "),
    ("parse integer|out of range", "Expected integer, got: "),
    ("parse float|octal float", "Expected double, got: "),
)
"""What Python's protobuf says -> what C++ says, before the token."""

_ESCAPED = {ord(raw): "\\" + code for raw, code in zip("\n\r\t\"'\\", "nrt\"'\\", strict=True)}


class _Token(NamedTuple):
    text: str
    line: int
    column: int


def read_net(path: str) -> NetParameter:
    """Read a net's prototxt of any age; FormatError if the file is missing or wrong."""
    return upgrade_net(read_as_it_is(path, NetParameter()), path)


def read_solver(path: str) -> SolverParameter:
    """Read a solver's prototxt of any age; FormatError if the file is missing or wrong."""
    return upgrade_solver(read_as_it_is(path, SolverParameter()), path)


def read_as_it_is(path: str, message: M) -> M:
    """Parse the prototxt into `message`, without upgrades; FormatError if the file is missing or wrong."""
    return parse(_read(path), message, path)


def parse(text: str, message: M, source: str) -> M:
    """Parse prototxt into `message` and return it; `source` is the file that a FormatError names."""
    if "\0" in text:
        raise _format_error("It is a binary file, not a prototxt; is it a .caffemodel?", message, source)
    try:
        _check_escapes(text, message, source)
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _explain(error, text, message, source) from None
    missing = message.FindInitializationErrors()  # type: ignore[attr-defined]
    if missing:
        raise _format_error(f"Message missing required fields: {', '.join(missing)}", message, source)
    return message


def to_text(message: Message) -> str:
    """Return the message as C++ prints it (DebugString): what Caffe logs and writes to prototxt files."""
    return "".join(_lines(message, ""))


def _read(path: str) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise cannot_open(path, error) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # C++ takes any byte in a comment or string


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():
        for item in value if isinstance(value, MutableSequence) else [value]:
            if isinstance(item, Message):
                yield f"{indent}{field.name} {{\n"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}\n"
            else:
                yield f"{indent}{field.name}: {_scalar(field, item)}\n"


def _scalar(field: FieldDescriptor, value: object) -> str:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _float(value, field.type == FieldDescriptor.TYPE_DOUBLE)
    if isinstance(value, str | bytes):
        return f'"{_escape(value.encode() if isinstance(value, str) else value)}"'
    return str(value)


def _escape(raw: bytes) -> str:
    return "".join(_ESCAPED.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in raw)


def _float(value: float, double: bool) -> str:
    """Print with 6 digits (15 for a double), or where those read back as another number with 9 (17)."""
    short, exact = (15, 17) if double else (6, 9)
    text = f"{value:.{short}g}"
    same = float(text) == value if double else np.float32(text) == np.float32(value)
    return text if same else f"{value:.{exact}g}"


def _tokens(text: str) -> Iterator[_Token]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        for match in _TOKEN.finditer(line):
            if not match[0].startswith("#"):
                yield _Token(match[0], number, match.start() + 1)
    yield _Token("", len(lines), len(lines[-1]) + 1)


def _check_escapes(text: str, message: Message, source: str) -> None:
    """Refuse what follows a backslash in a string and is no escape, as in a Windows path."""
    if "\\" not in text:
        return
    for token in _tokens(text):
        for escape in re.finditer(r"\\(.)", token.text) if token.text[:1] in ("'", '"') else ():
            if escape[1] not in _ESCAPES:
                place = _place(token._replace(column=token.column + escape.start() + 1), text)
                cure = "Write a backslash as \\\\, or / in a path"
                what = f"{place}: Invalid escape sequence in string literal. {cure}"
                raise _format_error(what, message, source)


def _explain(error: text_format.ParseError, text: str, message: Message, source: str) -> FormatError:
    """Return the error in the words of C++, at the token where C++ sees it, with a hint if there is one."""
    tokens = list(_tokens(text))
    here = (error.GetLine() or 1, error.GetColumn() or 1)
    at = next((i for i, token in enumerate(tokens) if token[1:] >= here), len(tokens) - 1)
    at, what = _diagnose(str(error), tokens, at, message)
    return _format_error(f"{_place(tokens[at], text)}: {what}", message, source)


def _diagnose(raw: str, tokens: list[_Token], at: int, message: Message) -> tuple[int, str]:
    """Turn protobuf's words about the token `at` into the token and the words that C++ has for it."""
    found = tokens[at].text
    field = _field_before(tokens, at)
    types = message.DESCRIPTOR.file.pool
    if match := re.search(r'"([\w.]+)" has no field named "(\w+)"', raw):
        known = types.FindMessageTypeByName(match[1]).fields_by_name
        return at + 1, f"Message type {match[0]}.{_near(match[2], known)}{_layer_around(tokens, at)}"
    if match := re.search(r'should not have multiple "(\w+)" fields', raw):
        return field + 1, f'Non-repeated field "{match[1]}" is specified multiple times.'
    if re.search(r' : Expected "[}>]"', raw):
        return len(tokens) - 1, "Expected identifier, got:  (the text ends before the closing })"
    if match := re.search(r'Expected "(.)"\.$', raw):
        return at, f'Expected "{match[1]}", found "{found}".'
    if match := re.search(r'Enum type "([\w.]+)"', raw):
        if not re.match(r"\w|-", found):
            return at, f"Expected integer or identifier, got: {found}"
        known = types.FindEnumTypeByName(match[1]).values_by_name
        name = tokens[field].text
        return at + 1, f'Unknown enumeration value of "{found}" for field "{name}".{_near(found, known)}'
    if found.isdigit() and re.search('out of range|"true"', raw):
        return at, f"Integer out of range ({found})"
    if '"true"' in raw:
        return at + 1, f'Invalid value for boolean field "{tokens[field].text}". Value: "{found}".'
    for pattern, words in _WORDS:
        if re.search(pattern, raw):
            return at, words + found
    return at, raw.rpartition(": ")[2]


def _field_before(tokens: list[_Token], at: int) -> int:
    """Return the index of the name of the field whose value stands at `at`."""
    while at > 0 and tokens[at].text not in (":", "{", "<"):
        at -= 1
    return at - 2 if at > 1 and tokens[at - 1].text == ":" else max(at - 1, 0)


def _near(name: str, known: Iterable[str]) -> str:
    """Return a hint: the known name that is most like `name`, or all of them.

    Parameters of other Caffes' layers, named like those of BVLC's with more before or behind (roi_pooling_param), get
    no wrong advice.
    """
    ending = "_param" if name.endswith("_param") else ""
    stems = {each.removesuffix(ending): each for each in known if each.endswith(ending)}
    own = name.removesuffix(ending)
    nearest = difflib.get_close_matches(own, stems, n=1, cutoff=0.7)
    if nearest and not (ending and nearest[0] in own):
        return f' Did you mean "{stems[nearest[0]]}"?'
    if ending:
        return " It is of another Caffe than BVLC's: take it out, or write a layer that needs it as a Python layer."
    return f" Known: {', '.join(sorted(stems.values()))}."


def _layer_around(tokens: list[_Token], at: int) -> str:
    """Return " This is layer 'NAME' (TYPE)." for a token within a layer of a net, as far as those are told."""
    depth, start, told = 0, 0, dict[str, str]()
    for i, token in enumerate(tokens):
        if token.text in ("{", "<"):
            start, told = (i, {}) if depth == 0 else (start, told)
            depth += 1
        elif token.text in ("}", ">"):
            depth -= 1
            if depth == 0 and i > at:
                break
        elif depth == 1 and token.text in ("name", "type") and tokens[i + 1].text == ":":
            told[token.text] = tokens[i + 2].text.strip("\"'")
    if start >= at or tokens[start - (2 if tokens[start - 1].text == ":" else 1)].text not in ("layer", "layers"):
        return ""
    words = [f"'{told['name']}'"] if "name" in told else []
    words += [f"({told['type']})"] if "type" in told else []
    return f" This is layer {' '.join(words)}." if words else ""


def _place(token: _Token, text: str) -> str:
    """Return "line:column" as C++ counts: bytes, with tabs to multiples of eight."""
    column = 0
    for character in text.split("\n")[token.line - 1][: token.column - 1]:
        column += TAB - column % TAB if character == "\t" else len(character.encode())
    return f"{token.line}:{column + 1}"


def _format_error(what: str, message: Message, source: str) -> FormatError:
    kind = message.DESCRIPTOR
    stop = "" if what.endswith((".", "?")) else "."
    return FormatError(
        f"Error parsing text-format {kind.full_name}: {what}{stop} Failed to parse {kind.name} file: {source}"
    )
