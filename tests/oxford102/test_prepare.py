from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from oxford102.catalog import TORCHVISION, Asset, Convertible, Weights
from oxford102.download import Ways
from oxford102.errors import ToolError
from oxford102.prepare import Job, prepare, prepare_weights

if TYPE_CHECKING:
    from conftest import Flowers, Server

COUNTS = "train 3 · valid 3 · test 6"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def job(flowers: Flowers, data: Path, **changes: object) -> Job:
    return replace(Job(flowers.write(), data, str(flowers.folder)), **changes)


def lines(path: Path) -> list[tuple[str, int]]:
    pairs = (line.rsplit(" ", 1) for line in path.read_text().splitlines())
    return [(name, int(label)) for name, label in pairs]


def stamps(folder: Path) -> dict[str, int]:
    """When each file was written; the note of what is done and the lock are no data."""
    others = (".prepared.json", ".prepare.lock")
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.name not in others}


def asset(name: str, content: bytes, *urls: str) -> Asset:
    return Asset(name, urls, len(content), hashlib.sha256(content).hexdigest())


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_everything_is_made(flowers: Flowers, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(job(flowers, data))
    assert capsys.readouterr().out.splitlines()[-1] == COUNTS
    for name, variable in (("train", "trnid"), ("valid", "valid"), ("test", "tstid")):
        listed = lines(data / f"{name}.txt")
        expected = {
            (str(data / "jpg" / f"image_{number:05d}.jpg"), flowers.labels[number - 1] - 1)
            for number in flowers.splits[variable]
        }
        assert len(listed) == len(expected)
        assert set(listed) == expected
    assert (data / "labels.txt").read_text() == "rose\ntulip\nlily\n"
    assert len(list((data / "jpg").iterdir())) == 12
    squeezed = [cv2.resize(flowers.pixels[number - 1], (256, 256)) for number in flowers.splits["trnid"]]
    mean = np.mean(squeezed, 0, np.float64).transpose(2, 0, 1)
    np.testing.assert_allclose(np.load(data / "mean.npy"), mean, rtol=1e-6)
    assert (data / "mean.binaryproto").stat().st_size == 786_446
    assert not list(data.glob("*.part"))


def test_the_lists_name_whole_paths(flowers: Flowers, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    prepare(job(flowers, Path("data")))
    assert all(Path(name).is_absolute() and Path(name).exists() for name, _ in lines(data / "test.txt"))


def test_a_second_run_does_nothing(flowers: Flowers, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(job(flowers, data))
    before = stamps(data)
    capsys.readouterr()
    prepare(job(flowers, data))
    assert stamps(data) == before
    *already, last = capsys.readouterr().out.splitlines()
    assert last == COUNTS
    assert {line.rsplit(": ", 1)[1] for line in already} == {"already there"}
    for name in ("jpg", "mean.npy", "train.txt", "valid.txt", "test.txt", "labels.txt"):
        assert f"{data / name}: already there" in already


@pytest.mark.parametrize("name", ["train.txt", "test.txt", "labels.txt"])
def test_a_lost_list_alone_is_written_again(flowers: Flowers, data: Path, name: str) -> None:
    prepare(job(flowers, data))
    before, content = stamps(data), (data / name).read_text()
    (data / name).unlink()
    prepare(job(flowers, data))
    assert (data / name).read_text() == content
    after = stamps(data)
    assert {path for path in after if after[path] != before[path]} - {str(data)} == {str(data / name)}


@pytest.mark.parametrize("name", ["mean.npy", "mean.binaryproto", "jpg/image_00007.jpg"])
def test_a_lost_output_is_made_again(flowers: Flowers, data: Path, name: str) -> None:
    prepare(job(flowers, data))
    content = (data / name).read_bytes()
    (data / name).unlink()
    prepare(job(flowers, data))
    assert (data / name).read_bytes() == content


def test_a_run_that_failed_half_way_is_not_finished(flowers: Flowers, data: Path) -> None:
    good = flowers.members["jpg/image_00011.jpg"]
    flowers.members["jpg/image_00011.jpg"] = b"no picture"
    for _ in range(2):  # the same error again: nothing remembers the pictures as checked
        with pytest.raises(ToolError, match=r"jpg/image_00011.jpg is not a picture that OpenCV can read"):
            prepare(job(flowers, data))
        assert not (data / "train.txt").exists()
        assert not (data / "mean.npy").exists()
    flowers.members["jpg/image_00011.jpg"] = good
    prepare(job(flowers, data))
    assert (data / "jpg" / "image_00011.jpg").read_bytes() == good


def test_another_archive_is_unpacked_and_checked_anew(flowers: Flowers, data: Path) -> None:
    prepare(job(flowers, data))
    before = np.load(data / "mean.npy")
    number = flowers.splits["trnid"][0]
    flowers.pixels[number - 1] = 255
    content = flowers.members[f"jpg/image_{number:05d}.jpg"] = flowers._png(number - 1)
    prepare(job(flowers, data))
    assert (data / "jpg" / f"image_{number:05d}.jpg").read_bytes() == content
    assert (np.load(data / "mean.npy") > before).mean() > 0.9


def test_pictures_of_somebody_else_stay(flowers: Flowers, data: Path) -> None:
    (data / "jpg").mkdir(parents=True)
    (data / "jpg" / "holiday.jpg").write_text("mine")
    with pytest.raises(ToolError, match="jpg is in the way, not made by this command; move it or choose another"):
        prepare(job(flowers, data))
    assert (data / "jpg" / "holiday.jpg").read_text() == "mine"


def test_a_source_without_the_files(flowers: Flowers, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError) as error:
        prepare(job(flowers, data, source=str(tmp_path / "none")))
    path = tmp_path / "none" / "102flowers.tgz"
    wanted = "--source names a folder or URL that holds 102flowers.tgz"
    assert str(error.value) == f"{path} does not exist; {wanted}"


def test_a_wrong_hash_needs_unverified(flowers: Flowers, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = job(flowers, data)
    wrong = replace(right, dataset=replace(right.dataset, archive=asset("102flowers.tgz", b"another")))
    with pytest.raises(ToolError, match=r"102flowers.tgz has [\d,]+ bytes, expected 7; put the right one in its"):
        prepare(wrong)
    assert not (data / "jpg").exists()
    prepare(replace(wrong, ways=Ways(unverified=True)))
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == COUNTS
    assert err.startswith(f"warning: {flowers.folder}/102flowers.tgz has ")
    assert err.endswith("expected 7; taken unverified\n")


def test_wrong_mat_files_stop_before_unpacking(flowers: Flowers, data: Path) -> None:
    flowers.labels[3] = 4
    with pytest.raises(ToolError, match=r"imagelabels.mat: picture 4 has label 4, expected 1 to 3"):
        prepare(job(flowers, data))
    flowers.labels[3] = 1
    flowers.splits["valid"][0] = flowers.splits["trnid"][0]
    with pytest.raises(ToolError, match=r"setid.mat: picture 4 is in train and in valid"):
        prepare(job(flowers, data))
    assert not (data / "jpg").exists()


def test_a_file_where_the_folder_should_be(flowers: Flowers, data: Path) -> None:
    data.write_text("")
    with pytest.raises(ToolError, match="data is a file, expected a folder for the data; choose another --data"):
        prepare(job(flowers, data))


def test_the_files_are_fetched_from_a_url(flowers: Flowers, data: Path, server: Server) -> None:
    right = job(flowers, data, source=server.url + "/mirror/")
    names = ("102flowers.tgz", "imagelabels.mat", "setid.mat")
    for name in names:
        server.put(f"/mirror/{name}", (flowers.folder / name).read_bytes())
    prepare(right)
    assert sorted(server.asked) == [f"/mirror/{name}" for name in names]
    assert all((data / name).read_bytes() == (flowers.folder / name).read_bytes() for name in names)
    prepare(right)
    assert len(server.asked) == 3


def test_the_files_are_fetched_from_the_catalogue(flowers: Flowers, data: Path, server: Server) -> None:
    row = flowers.write()
    for asset_ in (row.archive, row.labels, row.splits):
        server.put(f"/{asset_.name}", (flowers.folder / asset_.name).read_bytes())
    archive = replace(row.archive, urls=(server.url + "/gone", server.url + "/102flowers.tgz"))
    labels, splits = (replace(a, urls=(f"{server.url}/{a.name}",)) for a in (row.labels, row.splits))
    prepare(Job(replace(row, archive=archive, labels=labels, splits=splits), data))
    assert sorted(server.asked) == ["/102flowers.tgz", "/gone", "/imagelabels.mat", "/setid.mat"]
    assert server.asked.index("/gone") < server.asked.index("/102flowers.tgz")
    assert (data / "train.txt").exists()


def test_a_drawn_set_is_drawn_once(flowers: Flowers, data: Path) -> None:
    drawn = []

    def draw(folder: Path) -> None:
        drawn.append(folder)
        flowers.folder = folder
        flowers.write()

    row = replace(flowers.write(), draw=draw)
    row = replace(row, **{name: Asset(getattr(row, name).name) for name in ("archive", "labels", "splits")})
    prepare(Job(row, data))
    prepare(Job(row, data))
    assert drawn == [data / "source.part"]
    assert sorted(path.name for path in (data / "source").iterdir()) == [
        "102flowers.tgz",
        "imagelabels.mat",
        "setid.mat",
    ]
    assert len(lines(data / "train.txt")) == 3


def test_weights_and_their_mean(flowers: Flowers, data: Path, server: Server, tmp_path: Path) -> None:
    mean = np.random.default_rng(8).normal(120, 9, (3, 256, 256))
    weights = Weights(
        "TinyNet",
        asset("tiny.caffemodel", b"weights", server.put("/w", b"weights")),
        (104, 117, 123),
        asset("imagenet_mean.npy", npy(mean), server.put("/m", npy(mean))),
    )
    wanted = job(flowers, data, weights=[weights], models=tmp_path / "models")
    for _ in range(2):
        prepare(wanted)
    assert sorted(server.asked) == ["/m", "/w"]
    assert (tmp_path / "models" / "TinyNet" / "pretrained-weights.caffemodel").read_bytes() == b"weights"
    proto = (data / "imagenet_mean.binaryproto").read_bytes()
    assert len(proto) == 786_446
    np.testing.assert_array_equal(np.frombuffer(proto[-786_432:], "<f4"), mean.astype("<f4").ravel())


def test_weights_alone(flowers: Flowers, data: Path, server: Server, tmp_path: Path) -> None:
    rows = [
        Weights("One", asset("one.cm", b"one", server.put("/1", b"one")), (1, 2, 3)),
        Weights("Two", asset("two.cm", b"two", server.url + "/2"), (1, 2, 3)),
    ]
    wanted = job(flowers, data, weights=rows, models=tmp_path / "models")
    with pytest.raises(ToolError, match=r"(?s)1 file is missing:\n  two\.cm .*404 Not Found"):
        prepare_weights(wanted)
    server.put("/2", b"two")
    prepare_weights(wanted)
    for name, content in (("One", b"one"), ("Two", b"two")):
        assert (tmp_path / "models" / name / "pretrained-weights.caffemodel").read_bytes() == content
    assert list(data.iterdir()) == []
    assert sorted(server.asked) == ["/1", "/2", "/2"]


def test_data_are_ready_where_weights_fail(
    flowers: Flowers, data: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        Weights("One", asset("one.cm", b"one", server.url + "/1"), (1, 2, 3), asset("m.npy", b"m", server.url + "/m")),
        Weights("Two", asset("two.cm", b"two", server.put("/2", b"two")), (1, 2, 3)),
    ]
    models = tmp_path / "models"
    with pytest.raises(ToolError) as error:
        prepare(job(flowers, data, weights=rows, models=models))
    message = str(error.value).splitlines()
    assert message[0] == f"the data in {data} are ready ({COUNTS}), the pretrained weights are not:"
    text = "\n".join(message)
    assert "2 files are missing:" in message
    for name, path, place in (
        ("one.cm", "1", models / "One" / "pretrained-weights.caffemodel"),
        ("m.npy", "m", data / "m.npy"),
    ):
        assert f"  {name} (" in text
        assert f"    {server.url}/{path}: 404 Not Found" in message
        assert f"    its place: {place}" in message
    assert message[-1] == "To go without weights, give --no-models."
    assert (models / "Two" / "pretrained-weights.caffemodel").read_bytes() == b"two"
    assert (data / "train.txt").exists()
    assert COUNTS not in capsys.readouterr().out.splitlines()


def test_torchvision_helps_where_weights_are_gone(
    flowers: Flowers, data: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    row = Weights("ResNet50", asset("r.cm", b"r", server.url + "/r"), (1, 2, 3), stand_in="resnet50")
    with pytest.raises(ToolError) as error:
        prepare(job(flowers, Path("data"), weights=[row]))
    assert str(error.value).splitlines()[-4:] == [
        "Instead of r.cm, torchvision's weights can be converted:",
        "  python bootstrap.py --torchvision resnet50",
        "  python scripts/convert_torchvision.py data/resnet50-0676ba61.pth "
        "-o models/ResNet50-v1.5/pretrained-weights.caffemodel",
        "To go without weights, give --no-models.",
    ]


def test_torchvisions_files_come_with_their_command(
    flowers: Flowers, data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data.parent)
    row = Convertible("Net", asset("net.pth", b"net"))
    monkeypatch.setitem(TORCHVISION, "net", row)
    cache.mkdir()
    (cache / "net.pth").write_bytes(b"net")
    prepare(job(flowers, Path("data"), torchvision=["net", "net"]))
    assert (data / "net.pth").read_bytes() == b"net"
    command = "python scripts/convert_torchvision.py data/net.pth -o models/Net/pretrained-weights.caffemodel"
    assert f"data/net.pth: to convert it: {command}" in capsys.readouterr().out.splitlines()


def test_a_disk_without_room_stops_before_anything_is_asked(flowers: Flowers, data: Path, server: Server) -> None:
    row = flowers.write()
    archive = replace(row.archive, size=10**17, urls=(server.url + "/102flowers.tgz",))
    with pytest.raises(ToolError, match=r"102flowers.tgz 100,000,000,000 MB, unpacked pictures 100,000,000,000 MB"):
        prepare(Job(replace(row, archive=archive), data))
    assert server.asked == []


def test_two_at_once_take_turns(flowers: Flowers, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = job(flowers, data)
    with ThreadPoolExecutor(2) as pool:
        for turn in [pool.submit(prepare, wanted) for _ in range(2)]:
            turn.result()
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(f"{data}/jpg: 12 pictures unpacked and checked") == 1
    assert lines.count(f"{data}/jpg: already there") == 1
    assert lines.count(COUNTS) == 2


def test_a_mean_that_is_none(flowers: Flowers, data: Path, server: Server, tmp_path: Path) -> None:
    weights = Weights(
        "One", asset("w", b"w", server.put("/w", b"w")), (1, 2, 3), asset("m.npy", b"m", server.put("/m", b"m"))
    )
    with pytest.raises(ToolError, match=r"m.npy is not a .npy file \(.*delete it and run the command again"):
        prepare(job(flowers, data, weights=[weights], models=tmp_path / "models"))


def test_databases_follow_their_lists(flowers: Flowers, data: Path, convert_imageset: Path) -> None:
    prepare(job(flowers, data, lmdb=True))
    before = stamps(data)
    prepare(job(flowers, data, lmdb=True))
    assert stamps(data) == before
    for name in ("train", "valid", "test"):
        assert (data / f"{name}_lmdb" / "data.mdb").stat().st_size > 0
    flowers.labels[flowers.splits["valid"][0] - 1] ^= 3  # 1 and 2 change places
    prepare(job(flowers, data, lmdb=True))
    after = stamps(data)
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert "valid_lmdb" in changed
    assert "train_lmdb" not in changed


def test_a_note_in_the_data_folder_tells_what_is_done(flowers: Flowers, data: Path) -> None:
    prepare(job(flowers, data))
    digest = hashlib.sha256((flowers.folder / "102flowers.tgz").read_bytes()).hexdigest()
    note = json.loads((data / ".prepared.json").read_text())
    assert note["jpg"] == digest
    assert note["mean.npy"].startswith(digest)
