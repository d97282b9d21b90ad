from __future__ import annotations

import errno
import gzip
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from oxford102.archive import is_complete, unpack_pictures
from oxford102.errors import ToolError

if TYPE_CHECKING:
    from conftest import Flowers


@pytest.fixture
def jpg(tmp_path: Path) -> Path:
    """Where the pictures go; an older picture lies there."""
    folder = tmp_path / "data" / "jpg"
    folder.mkdir(parents=True)
    (folder / "old.jpg").write_text("old")
    return folder


def archive_of(flowers: Flowers) -> Path:
    flowers.write()
    return flowers.folder / "102flowers.tgz"


def assert_untouched(jpg: Path) -> None:
    assert [path.name for path in jpg.parent.iterdir()] == ["jpg"]
    assert [path.name for path in jpg.iterdir()] == ["old.jpg"]


def test_pictures_replace_the_folder_as_a_whole(flowers: Flowers, jpg: Path) -> None:
    unpack_pictures(archive_of(flowers), jpg, 12)
    assert {f"jpg/{path.name}": path.read_bytes() for path in jpg.iterdir()} == flowers.members
    assert [path.name for path in jpg.parent.iterdir()] == ["jpg"]
    assert is_complete(jpg, 12)


def test_what_a_killed_run_left_does_not_count(flowers: Flowers, jpg: Path) -> None:
    left = jpg.with_name("jpg.part") / "jpg"
    left.mkdir(parents=True)
    (left / "image_00099.jpg").write_text("left")
    unpack_pictures(archive_of(flowers), jpg, 12)
    assert is_complete(jpg, 12)


def test_complete_means_all_and_only(flowers: Flowers, jpg: Path) -> None:
    unpack_pictures(archive_of(flowers), jpg, 12)
    assert not is_complete(jpg, 13)
    assert not is_complete(jpg, 11)
    assert not is_complete(jpg.with_name("none"), 12)
    (jpg / "image_00007.jpg").unlink()
    assert not is_complete(jpg, 12)


@pytest.mark.parametrize("name", ["../evil.jpg", "jpg/../../evil.jpg", "/tmp/evil.jpg"])
def test_a_member_outside_the_folder(flowers: Flowers, jpg: Path, name: str) -> None:
    flowers.members[name] = b"evil"
    with pytest.raises(ToolError) as error:
        unpack_pictures(archive_of(flowers), jpg, 12)
    assert str(error.value) == (
        f"{flowers.folder}/102flowers.tgz: '{name}' would land outside its folder; get the official archive"
    )
    assert_untouched(jpg)
    assert not (jpg.parent.parent / "evil.jpg").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file(flowers: Flowers, jpg: Path, kind: bytes) -> None:
    archive = archive_of(flowers)
    member = tarfile.TarInfo("jpg")
    member.type, member.linkname = kind, "/etc"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(member)
    with pytest.raises(ToolError, match=r"102flowers.tgz: 'jpg' is a link or a device; get the official archive"):
        unpack_pictures(archive, jpg, 12)
    assert_untouched(jpg)


def test_an_archive_that_unpacks_to_a_hundredfold(flowers: Flowers, jpg: Path) -> None:
    flowers.members["jpg/image_00001.jpg"] = bytes(30_000_000)
    archive = archive_of(flowers)
    assert archive.stat().st_size < 300_000
    with pytest.raises(ToolError, match=r"102flowers.tgz unpacks to far more than it should; get the official archive"):
        unpack_pictures(archive, jpg, 12)
    assert_untouched(jpg)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_gigabyte_is_not_read_into_memory(flowers: Flowers, jpg: Path, kind: bytes) -> None:
    archive = archive_of(flowers)
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, 1 << 30
    with gzip.open(archive, "wb", 1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(4_000_000))
    with pytest.raises(ToolError, match="unpacks to far more than it should"):
        unpack_pictures(archive, jpg, 12)
    assert_untouched(jpg)


@pytest.mark.parametrize("seed", range(3))
def test_headers_with_wrong_bytes_end_in_one_error(flowers: Flowers, jpg: Path, seed: int) -> None:
    archive, random = archive_of(flowers), np.random.default_rng(seed)
    content = gzip.decompress(archive.read_bytes())
    for _ in range(40):
        spoiled = bytearray(content)
        for place in random.integers(0, 512, 3):  # in the first header, whose sum is then mended
            spoiled[place] = random.integers(256)
        spoiled[148:156] = b"%06o\0 " % (sum(spoiled[:148]) + 256 + sum(spoiled[156:512]))
        archive.write_bytes(gzip.compress(bytes(spoiled), 1))
        try:
            unpack_pictures(archive, jpg, 12)
        except ToolError:
            assert [path.name for path in jpg.parent.iterdir()] == ["jpg"]
        else:
            assert is_complete(jpg, 12)


def test_a_disk_that_is_full(flowers: Flowers, jpg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = archive_of(flowers)
    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(ToolError, match=r"jpg.part: No space left on device, while unpacking 102flowers.tgz"):
        unpack_pictures(archive, jpg, 12)
    assert_untouched(jpg)


@pytest.mark.parametrize("keep", [0, 1, 40, -2000, -9, -1])
def test_a_cut_archive(flowers: Flowers, jpg: Path, keep: int) -> None:
    archive = archive_of(flowers)
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ToolError, match=r"102flowers.tgz is damaged or cut short \(.*\); delete it and get it again"):
        unpack_pictures(archive, jpg, 12)
    assert_untouched(jpg)


def test_a_flipped_bit(flowers: Flowers, jpg: Path) -> None:
    archive = archive_of(flowers)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 4
    archive.write_bytes(content)
    with pytest.raises(ToolError, match="is damaged or cut short"):
        unpack_pictures(archive, jpg, 12)
    assert_untouched(jpg)


def test_no_archive_at_all(tmp_path: Path, jpg: Path) -> None:
    (tmp_path / "102flowers.tgz").write_text("<html>" * 999)
    with pytest.raises(ToolError, match="is damaged or cut short"):
        unpack_pictures(tmp_path / "102flowers.tgz", jpg, 12)
    assert_untouched(jpg)


def test_a_missing_picture(flowers: Flowers, jpg: Path) -> None:
    del flowers.members["jpg/image_00005.jpg"]
    with pytest.raises(ToolError, match=r"holds 11 of 12 pictures and 0 other files: jpg/image_00005.jpg is missing"):
        unpack_pictures(archive_of(flowers), jpg, 12)
    assert_untouched(jpg)


def test_a_strange_file(flowers: Flowers, jpg: Path) -> None:
    flowers.members["jpg/image_00013.jpg"] = b"more"
    with pytest.raises(ToolError, match=r"12 of 12 pictures and 1 other files: jpg/image_00013.jpg does not belong"):
        unpack_pictures(archive_of(flowers), jpg, 12)
    assert_untouched(jpg)


def test_another_layout(flowers: Flowers, jpg: Path) -> None:
    flowers.members = {name.replace("jpg/", "pictures/"): content for name, content in flowers.members.items()}
    with pytest.raises(ToolError, match="holds 0 of 12 pictures"):
        unpack_pictures(archive_of(flowers), jpg, 12)
    assert_untouched(jpg)


def test_folders_in_the_archive_are_fine(flowers: Flowers, jpg: Path) -> None:
    archive = archive_of(flowers)
    with tarfile.open(archive, "w:gz") as tar:
        folder = tarfile.TarInfo("./jpg")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, content in flowers.members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    unpack_pictures(archive, jpg, 12)
    assert is_complete(jpg, 12)
