"""The wire format against the recorded schema of BVLC Caffe 1.0, field for field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto

from caffe.proto import caffe_pb2

SCHEMA = json.loads((Path(__file__).parents[2] / "golden" / "caffe-wire-schema.json").read_text())
FILE = FileDescriptorProto()
caffe_pb2.DESCRIPTOR.CopyToProto(FILE)
MESSAGES = {message.name: message for message in FILE.message_type}


def enum(descriptor: EnumDescriptorProto) -> dict[str, int]:
    return {value.name: value.number for value in descriptor.value}


def default(field: FieldDescriptorProto) -> object:
    text = field.default_value
    if field.type in (FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_ENUM):
        return text
    if field.type == FieldDescriptorProto.TYPE_FLOAT:
        return float(f"{float(text):.7g}")
    return json.loads(text)


def as_recorded(field: FieldDescriptorProto) -> dict[str, Any]:
    """The field as the schema's JSON writes it."""
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    out = {
        "name": field.name,
        "number": field.number,
        "label": FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower(),
        "type": field.type_name.removeprefix(".caffe.") or kind,
    }
    if field.options.packed:
        out["packed"] = True
    if field.HasField("default_value"):
        out["default"] = default(field)
    return out


def test_same_messages_and_enums() -> None:
    assert set(MESSAGES) == set(SCHEMA["messages"])
    assert {e.name: enum(e) for e in FILE.enum_type} == SCHEMA["enums"]
    assert (FILE.package, FILE.syntax or "proto2") == (SCHEMA["package"], SCHEMA["syntax"])


@pytest.mark.parametrize("name", SCHEMA["messages"])
def test_message(name: str) -> None:
    recorded, ours = SCHEMA["messages"][name], MESSAGES[name]
    assert {e.name: enum(e) for e in ours.enum_type} == recorded.get("enums", {})
    assert [as_recorded(f) for f in ours.field] == recorded["fields"]


def test_every_field_is_explained() -> None:
    """A line of caffe.proto that declares a field has a comment, on it or above."""
    lines = Path(caffe_pb2.__file__).with_name("caffe.proto").read_text().splitlines()
    declared = [i for i, line in enumerate(lines) if line.strip().startswith(("optional", "repeated", "required"))]
    assert len(declared) == sum(len(m["fields"]) for m in SCHEMA["messages"].values())
    bare = [lines[i] for i in declared if "//" not in lines[i] and not lines[i - 1].strip().startswith("//")]
    assert bare == []
