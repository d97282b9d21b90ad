"""Folders of classes and tables, with what people leave lying in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from oxford102.errors import ToolError
from oxford102.picture_sources import find


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_at_any_depth_and_through_links(tmp_path: Path) -> None:
    top = tmp_path / "flowers"
    touch(top, "rote Rose/b.JPG", "rote Rose/deep/er/a.png", "Tülpe/1.webp", "Tülpe/Thumbs.db", "Tülpe/.x.jpg", "c.jpg")
    touch(top, ".git/x.jpg", "README", "Tülpe/notes.txt")
    touch(tmp_path / "elsewhere", "2.jpg")
    (top / "lily").symlink_to(tmp_path / "elsewhere")
    (top / "lily" / "loop").symlink_to(tmp_path / "elsewhere")
    found = find(top)
    assert [(picture.name, picture.label) for picture in found.pictures] == [
        ("Tülpe/1.webp", "Tülpe"),
        ("lily/2.jpg", "lily"),
        ("rote Rose/b.JPG", "rote Rose"),
        ("rote Rose/deep/er/a.png", "rote Rose"),
    ]
    assert all(picture.path == top / picture.name for picture in found.pictures)
    assert [(f.picture.name, f.problem) for f in found.findings] == [("c.jpg", "no class")]
    assert found.others == {".db": 1, "README": 1, ".txt": 1}


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "f/rose/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert find(Path("f/../f")).pictures[0].path == tmp_path / "f/rose/a.jpg"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg"], "holds no folders; expected one per class, or give a CSV of path,label"),
        (["train/rose/a.jpg", "Val/rose/b.jpg"], "holds Val, train: splits, not classes"),
    ],
)
def test_folders_that_have_no_classes(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ToolError, match=message):
        find(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        'jpg/a 1.jpg,rose\njpg/b.jpg,"lily, white"\n',
        '\ufeffpath,label\r\njpg/a 1.jpg,rose\r\n\r\njpg/b.jpg,"lily, white"\r\n',
        'Label,note,FileName\nrose,,jpg/a 1.jpg\n"lily, white",x,jpg/b.jpg\n',
    ],
)
def test_tables(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    pictures = find(tmp_path / "t.csv").pictures
    assert [(picture.name, picture.label) for picture in pictures] == [
        ("jpg/a 1.jpg", "rose"),
        ("jpg/b.jpg", "lily, white"),
    ]
    assert pictures[0].path == tmp_path / "jpg/a 1.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected lines path,label"),
        ("a.jpg,0\nb.jpg\n", "row 2: expected path,label, got 'b.jpg'"),
        ("a.jpg;0\n", "row 1: expected path,label, got 'a.jpg;0'"),
        ("a.jpg, \n", "row 1: expected path,label"),
        ("path,class\na.jpg,0\n", "the header 'path,class' has no column 'label'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ToolError, match=message):
        find(tmp_path / "t.csv")


def test_other_sources(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="absent does not exist; give a folder"):
        find(tmp_path / "absent")
    touch(tmp_path, "t.txt")
    with pytest.raises(ToolError, match=r"t\.txt is no folder, and no \.csv file"):
        find(tmp_path / "t.txt")
