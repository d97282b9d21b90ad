"""The command as a user calls it: its status, and what it says."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, str(ROOT / "bootstrap.py")]


def run(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OXFORD102_CACHE": str(cwd / "cache")}
    return subprocess.run([*COMMAND, *args], cwd=cwd, capture_output=True, text=True, env=environment)


def error_of(cwd: Path, *args: str) -> str:
    """The message of a command that must fail with status 1."""
    done = run(cwd, *args)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("bootstrap.py: error: ")
    assert "Traceback" not in done.stderr
    return done.stderr.removeprefix("bootstrap.py: error: ").rstrip("\n")


def test_help_has_examples(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for word in (
        "python bootstrap.py --demo",
        "--source",
        "--unverified",
        "--models",
        "--no-models",
        "--no-data",
        "--lmdb",
        "--mirror",
        "--offline",
        "--torchvision",
        "--list",
    ):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--models", "AlexNet"], "invalid choice: 'AlexNet'"),
        (["--models", "CaffeNet", "--no-models"], "not allowed with argument"),
        (["--demo", "--source", "x"], "not allowed with argument"),
        (["--demo", "--no-data"], "not allowed with argument"),
        (["--mirror", "ftp://x"], "'ftp://x' is not a URL: expected http://… or https://…"),
        (["--torchvision", "resnet18"], "invalid choice: 'resnet18'"),
        (["--dta", "x"], "unrecognized arguments: --dta x"),
    ],
)
def test_usage_errors(tmp_path: Path, args: list[str], message: str) -> None:
    done = run(tmp_path, *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    assert error_of(tmp_path, "--source", "none") == (
        "none/102flowers.tgz does not exist; --source names a folder or URL that holds 102flowers.tgz"
    )


def test_the_list_of_all_files(tmp_path: Path) -> None:
    done = run(tmp_path, "--list")
    assert done.returncode == 0
    for word in ("102flowers.tgz: ", "licence: MIT", "553,432,081 bytes, sha256 a6196bc4", "resnet50-11ad3fa6.pth: "):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_offline_names_all_that_is_missing_at_once(tmp_path: Path) -> None:
    message = error_of(tmp_path, "--offline", "--no-models", "--torchvision", "resnet50-v2")
    lines = message.splitlines()
    assert lines[0] == "4 files are missing:"
    places = [line.removeprefix("    its place: ") for line in lines if "its place: " in line]
    assert places == [
        *(f"{tmp_path}/data/{name}" for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
        f"{tmp_path}/data/resnet50-11ad3fa6.pth",
    ]


def test_weights_alone(tmp_path: Path) -> None:
    message = error_of(tmp_path, "--no-data", "--offline", "--models", "CaffeNet")
    assert "CaffeNet/pretrained-weights.caffemodel" in message
    assert "102flowers.tgz" not in message
    assert not (tmp_path / "data" / "train.txt").exists()
    assert error_of(tmp_path, "--no-data", "--lmdb") == "--lmdb is made of the data: leave out --no-data"


def test_a_source_with_another_archive(tmp_path: Path) -> None:
    for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat"):
        (tmp_path / name).write_bytes(b"another")
    message = error_of(tmp_path, "--source", ".", "--no-models")
    assert message == (
        "102flowers.tgz has 7 bytes, expected 344,862,509; put the right one in its place, "
        "or take this one with --unverified"
    )


def test_files_that_are_no_matlab_files(tmp_path: Path) -> None:
    for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat"):
        (tmp_path / name).write_bytes(b"another")
    done = run(tmp_path, "--source", ".", "--unverified", "--no-models")
    assert done.returncode == 1
    *warnings, error = done.stderr.splitlines()
    assert len(warnings) == 3
    assert all(line.startswith("warning: ") and line.endswith("; taken unverified") for line in warnings)
    assert error.startswith("bootstrap.py: error: imagelabels.mat is not a MATLAB file (")


def test_a_url_where_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = run(tmp_path, "--source", url, "--no-models")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = done.stderr.partition("bootstrap.py: error: ")[2].splitlines()
    assert message[0] == "3 files are missing:"
    facts = "344,862,509 bytes, sha256 2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246"
    assert message[1] == f"  102flowers.tgz ({facts})"
    assert message[2].startswith(f"    {url}/102flowers.tgz: ")
    assert "refused" in message[2]
    assert message[3] == f"    its place: {tmp_path}/data/102flowers.tgz"
    assert message[-2].startswith("Put each file at its place by hand and run the command again")


def test_data_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    assert error_of(tmp_path, "--data", "mine") == (
        "mine is a file, expected a folder for the data; choose another --data"
    )


def test_a_place_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    assert error_of(tmp_path, "--data", "mine/data") == "mine/data: Not a directory"


def test_ctrl_c(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [*COMMAND, "--source", url, "--no-models"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as command:
            asking, _ = silent.accept()  # it asks, and is never answered
            with asking:
                command.send_signal(signal.SIGINT)
                _, message = command.communicate()
    assert command.returncode == 130
    assert message == "\nbootstrap.py: stopped; run it again to go on\n"


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """The demo's data folder with its source already there; grey pictures save the time to draw flowers."""
    source = tmp_path / "data" / "demo" / "source"
    source.mkdir(parents=True)
    content = cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    with tarfile.open(source / "102flowers.tgz", "w:gz") as tar:
        for number in range(1, 721):
            member = tarfile.TarInfo(f"jpg/image_{number:05d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    numbers = np.arange(1, 721)
    savemat(source / "imagelabels.mat", {"labels": (numbers - 1) // 30 + 1})
    place = (numbers - 1) % 30
    rows = {"trnid": place < 10, "valid": (place >= 10) & (place < 15), "tstid": place >= 15}
    savemat(source / "setid.mat", {name: numbers[row] for name, row in rows.items()})
    return source.parent


def test_the_demo(tmp_path: Path, drawn: Path) -> None:
    done = run(tmp_path, "--demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "train 240 · valid 120 · test 360"
    assert len(list((drawn / "jpg").iterdir())) == 720
    for name, count in (("train", 240), ("valid", 120), ("test", 360), ("labels", 24)):
        assert len((drawn / f"{name}.txt").read_text().splitlines()) == count
    assert (np.load(drawn / "mean.npy") == 90).all()
    again = run(tmp_path, "--demo")
    assert again.returncode == 0
    assert all(line.endswith(": already there") for line in again.stdout.splitlines()[:-1])
