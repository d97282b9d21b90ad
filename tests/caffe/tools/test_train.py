"""What `caffe train` has beyond BVLC's: checking, resuming, pruning, stopping at nan, tables, a status line."""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe import glog
from caffe.proto.binary import read_state, read_weights
from caffe.tools.main import main

CAFFE = [sys.executable, "-c", "import sys; from caffe.tools.main import main; sys.exit(main())"]
SOLVER = 'net: "net.prototxt" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 display: 1 snapshot_prefix: "s/run" '
TESTED = SOLVER + "random_seed: 3 test_iter: 2 test_interval: 4 snapshot: 2 "


@pytest.fixture
def train(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Give ``train(solver, *words)``: write the solver file, run ``caffe train``; give status and what it printed."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GLOG_minloglevel", "0")

    def run(solver: str, *words: str) -> tuple[int, str]:
        Path("solver.prototxt").write_text(solver)
        status = main(["train", "-solver", "solver.prototxt", *words])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return status, out + err

    return run


def iterations(folder: Path, suffix: str = "solverstate") -> list[int]:
    return sorted(int(path.name.split("_iter_")[1].split(".")[0]) for path in (folder / "s").glob(f"*.{suffix}"))


def blobs_of(path: str) -> list[np.ndarray]:
    return [blob.data.copy() for layer in read_weights(path) for blob in layer.blobs]


def test_resume_starts_goes_on_and_passes_over_what_is_broken(train, folder: Path) -> None:
    status, log = train(TESTED + "max_iter: 6", "-resume")
    assert status == 0
    assert "No snapshot of s/run to resume from" in log
    whole = blobs_of("s/run_iter_6.caffemodel")
    Path("s/run_iter_6.caffemodel").write_bytes(b"\x0a\xff")
    Path("s/run_iter_4.solverstate").unlink()
    Path("s/other_iter_9.solverstate").write_bytes(b"")
    status, log = train(TESTED + "max_iter: 6", "-resume")
    assert status == 0
    assert re.search(r"^W.*Passing over the snapshot s/run_iter_6.solverstate: .*run_iter_6.caffemodel", log, re.M)
    assert "Resuming from s/run_iter_2.solverstate" in log
    for one, other in zip(whole, blobs_of("s/run_iter_6.caffemodel"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_resume_of_hdf5_snapshots(train, folder: Path) -> None:
    hdf5 = TESTED + "snapshot_format: HDF5 "
    assert train(hdf5 + "max_iter: 4")[0] == 0
    Path("s/run_iter_4.caffemodel.h5").write_bytes(Path("s/run_iter_4.caffemodel.h5").read_bytes()[:900])
    status, log = train(hdf5 + "max_iter: 6", "-resume", "-keep", "1")
    assert status == 0
    assert "Resuming from s/run_iter_2.solverstate.h5" in log
    assert sorted(path.name for path in Path("s").iterdir()) == [
        "run_iter_6.caffemodel.h5",
        "run_iter_6.runstate",
        "run_iter_6.solverstate.h5",
    ]


def test_keep_prunes_its_own_prefix_alone(train, folder: Path) -> None:
    Path("s").mkdir()
    for stranger in ("s/run_iter_1.txt", "s/runner_iter_1.solverstate", "s/run_iter_x.caffemodel"):
        Path(stranger).touch()
    assert train(TESTED + "max_iter: 9", "-keep", "2")[0] == 0
    assert [n for n in iterations(folder) if n > 1] == [8, 9]
    assert len(list(Path("s").iterdir())) == 3 + 2 * 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-resume", "-snapshot", "x.solverstate"), "give -snapshot or -resume, not both"),
        (("-keep", "-1"), "-keep -1: it is a number of snapshots"),
        (("-csv", "net.prototxt"), "-csv net.prototxt is there already: name another, or remove it"),
    ],
)
def test_flags_that_contradict(train, words: tuple[str, ...], text: str) -> None:
    status, log = train(TESTED + "max_iter: 2", *words)
    assert status == 1
    assert text in log.splitlines()[-1]


def test_the_table_has_what_the_log_has(train, folder: Path) -> None:
    """Also over a stop and a resumption, whose rows it takes again."""
    log = train(TESTED + "max_iter: 6", "-csv", "t.csv")[1]
    log += train(TESTED + "max_iter: 9", "-csv", "t.csv", "-snapshot", "s/run_iter_6.solverstate")[1]
    with Path("t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["iteration", "seconds", "lr", "loss", "train/loss", "test/loss"]
    assert [int(row["iteration"]) for row in rows] == list(range(9))
    logged = re.findall(r"Iteration (\d+) \(.*loss = (\S+)", log)
    table = [(row["iteration"], f"{float(row['loss']):g}") for row in rows]
    assert table == logged
    tests = re.findall(r"Iteration (\d+), Testing.*\n.*Test net output #0: loss = (\S+)", log)
    assert [(r["iteration"], f"{float(r['test/loss']):g}") for r in rows if r["test/loss"]] == tests
    status, text = train(TESTED.replace("net.prototxt", "net2.prototxt") + "max_iter: 9", "-csv", "t.csv", "-resume")
    assert status == 1
    Path("net2.prototxt").write_text(Path("net.prototxt").read_text().replace('top: "loss"', 'top: "cost"'))
    status, text = train(TESTED.replace("net.prototxt", "net2.prototxt") + "max_iter: 12", "-csv", "t.csv", "-resume")
    assert status == 1
    assert "-csv t.csv is a table of another run" in text.splitlines()[-1]


def test_the_same_command_again_after_a_kill_before_the_first_snapshot(train, folder: Path) -> None:
    words = ("-resume", "-csv", "t.csv")
    assert train(TESTED + "max_iter: 3", *words)[0] == 0
    for path in Path("s").iterdir():
        path.unlink()
    Path("t.csv").write_text(Path("t.csv").read_text() + "2,0.1")  # a row cut short
    assert train(TESTED + "max_iter: 3", *words)[0] == 0
    with Path("t.csv").open(newline="") as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_tensorboard_gets_the_numbers(train, folder: Path) -> None:
    """The oracle reads the event file by its published layout: length, checksum, message, checksum."""
    events = pytest.importorskip("tensorboardX.proto.event_pb2")
    log = train(TESTED + "max_iter: 5", "-tensorboard", "board")[1]
    (file,) = Path("board").iterdir()
    content, found = file.read_bytes(), []
    while content:
        (length,) = struct.unpack_from("<Q", content)
        event = events.Event.FromString(content[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + length :]
    for tag, pattern in (
        ("loss", r"Iteration (\d+) \(.*loss = (\S+)"),
        ("test/loss", r"Iteration (\d+), Testing.*\n.*Test net output #0: loss = (\S+)"),
    ):
        numbers = [(str(step), f"{value:g}") for step, name, value in found if name == tag]
        assert numbers == re.findall(pattern, log)
        assert len(numbers) >= 2


def test_nan_stops_and_names_the_layer(train, folder: Path) -> None:
    status, log = train(TESTED.replace("1e-6", "1e38") + "max_iter: 50")
    last = log.splitlines()[-1]
    assert status == 1
    assert re.search(r"loss = (nan|inf)", last)
    assert "in the parameters of layer 'fc' (InnerProduct): param 0 is no longer finite" in last
    assert "Lower base_lr (1e+38" in last
    assert re.search(r"newest whole snapshot is s/run_iter_\d+.solverstate|There is no snapshot yet", last)


def test_no_snapshot_of_weights_that_are_no_numbers(train, folder: Path) -> None:
    """The loss is one still where the update after it spoils the weights; what was saved before stays."""
    assert train(TESTED + "max_iter: 2")[0] == 0
    wild = TESTED.replace("1e-6", "1e38").replace("snapshot: 2", "snapshot: 1")
    status, log = train(wild + "max_iter: 4", "-resume", "-keep", "1")
    assert status == 1
    assert "Iteration 3: no snapshot is written of parameters that are no numbers. It began in the para" in log
    assert log.splitlines()[-1].endswith("The newest whole snapshot is s/run_iter_2.solverstate.")
    assert iterations(folder) == iterations(folder, "caffemodel") == [2]


def test_nan_in_the_data_is_told_from_nan_in_a_layer(train, folder: Path) -> None:
    net = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(net.replace("crop_size: 12", "crop_size: 12 scale: inf"))
    status, log = train(TESTED + "max_iter: 5")
    assert status == 1
    assert "It began in the data: blob 'x' of layer 'd' (ImageData)" in log.splitlines()[-1]
    net = net.replace('bottom: "x" top: "fc"', 'bottom: "e" top: "fc"')
    exp = 'layer { name: "e" type: "Exp" bottom: "x" top: "e" }\n'
    Path("net.prototxt").write_text(net.replace('layer { name: "fc"', exp + 'layer { name: "fc"'))
    status, log = train(TESTED + "max_iter: 5")
    assert status == 1
    assert "It began in the values of layer 'e' (Exp), blob 'e', whose parameters and bottoms are finite" in log
    assert "There is no snapshot yet." in log.splitlines()[-1]


def test_check_trains_nothing_and_says_so(train, folder: Path) -> None:
    status, text = train(TESTED + "max_iter: 6", "-check")
    assert status == 0
    assert "train net, layer 'd': 6 pictures, 2 classes, 3 to 3 a class" in text
    assert re.search(r"one iteration: loss \d", text)
    assert re.search(r"expected time: about \d+:\d\d:\d\d for 6 iterations", text)
    assert re.search(r"memory: \d\.\d\d GiB of ", text)
    assert "no problems" in text
    assert not list(Path("s").iterdir())


def test_check_lists_all_problems_at_once(train, folder: Path) -> None:
    lines = Path("list.txt").read_text().splitlines()
    lines[1] = lines[1][:-1] + "2"
    lines[2] = lines[2].replace("2.png", "none.png")
    Path("list.txt").write_text("\n".join(lines))
    (folder / "4.png").write_bytes(b"no picture")
    cv2.imwrite("5.png", np.zeros((9, 16, 3), np.uint8))
    net = Path("net.prototxt").read_text() + 'layer { name: "odd" type: "Odd" bottom: "fc" top: "odd" }'
    Path("net.prototxt").write_text(net)
    status, text = train(TESTED + "max_iter: 6 ", "-weights", "nowhere.caffemodel", "-check")
    problems = [line for line in text.splitlines() if line.startswith("E")]
    assert status == 1
    for words in (
        r"train net, layer 'd': .*1.png: label 2 is outside 0 to 1",
        r"train net, layer 'd': .*none.png",
        r"train net, layer 'd': .*4.png",
        r"train net, layer 'd': .*img_height >= crop_size \(9 vs. 12\).*5.png",
        r"train net, layer 'odd': .*Unknown layer type: Odd",
        r"weights: .*File not found: nowhere.caffemodel",
    ):
        assert sum(bool(re.search(words, line)) for line in problems) == 1, words
    assert len(problems) == 6
    assert "6 problems, see above" in text.splitlines()[-1]


def test_check_compares_every_layer_of_the_weights(train, folder: Path) -> None:
    assert train(TESTED + "max_iter: 2")[0] == 0
    net = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(net.replace("num_output: 2", "num_output: 3"))
    weights = ("-weights", "s/run_iter_2.caffemodel")
    status, text = train(TESTED + "max_iter: 6", *weights, "-check")
    assert status == 1
    assert "Cannot copy param 0 weights from layer 'fc'; shape mismatch" in text
    Path("net.prototxt").write_text(net.replace('name: "fc"', 'name: "fc_new"'))
    status, text = train(TESTED + "max_iter: 6", *weights, "-check")
    assert status == 0
    assert "0 layers land, ignored: fc, left at their fillers: fc_new" in text


@pytest.mark.parametrize(("last", "failures"), [(13, 2), (12, 2)])
def test_a_full_disk_while_snapshotting(folder: Path, last: int, failures: int) -> None:
    """A limit on the size of files stands for the disk's: the run says so, goes on, and keeps what it had."""
    (folder / "solver.prototxt").write_text(TESTED + "max_iter: 8 snapshot_after_train: false")
    subprocess.run([*CAFFE, "train", "-solver", "solver.prototxt"], cwd=folder, capture_output=True, check=True)
    before = {path.name: path.read_bytes() for path in (folder / "s").iterdir()}
    (folder / "solver.prototxt").write_text(TESTED + f"max_iter: {last}")
    full = subprocess.run(
        [*CAFFE, "train", "-solver", "solver.prototxt", "-resume"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "GLOG_minloglevel": "0"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert {path.name: path.read_bytes() for path in (folder / "s").iterdir()} == before
    said = [line for line in full.stderr.splitlines() if line.startswith("E")]
    assert len(said) == failures
    assert "No snapshot of iteration 10, training goes on: Cannot write s/run_iter_10.caffemodel" in said[0]
    assert "File too large; make room" in said[0]
    assert "Iteration 11 (" in full.stderr
    # the last snapshot is what the run was for
    assert full.returncode == 1
    assert f"Cannot write s/run_iter_{last}.caffemodel" in full.stderr.splitlines()[-1]


def test_twenty_kills_leave_whole_snapshots_and_a_run_that_resumes(folder: Path) -> None:
    (folder / "solver.prototxt").write_text(SOLVER + "max_iter: 1000000 snapshot: 1 ")
    chance, reached = random.Random(0), 0
    for _ in range(20):
        process = subprocess.Popen(
            [*CAFFE, "train", "-solver", "solver.prototxt", "-resume", "-keep", "2"],
            cwd=folder,
            env={**os.environ, "GLOG_minloglevel": "0", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "Snapshotting" in line:
                break
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        newest = max(iterations(folder), default=0)  # on a busy machine the first kill may come before the first state
        assert newest >= reached  # nothing that was there is lost
        reached = newest
        for path in (folder / "s").glob("*.solverstate"):
            assert read_weights(read_state(str(path))[1].replace("s/", f"{folder}/s/"))
            assert path.with_suffix(".runstate").exists()
    assert reached > 0
    assert len(list((folder / "s").glob(".*.tmp"))) <= 1  # each run removes what a killed one left


def test_a_status_line_on_a_terminal(folder: Path) -> None:
    """It is drawn between the log's lines, which stay whole."""
    (folder / "solver.prototxt").write_text(TESTED + "max_iter: 30")
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 25, 150, 0, 0))
    process = subprocess.Popen(
        [*CAFFE, "train", "-solver", "solver.prototxt"],
        cwd=folder,
        stderr=writer,
        env={**os.environ, "GLOG_minloglevel": "0"},
    )
    os.close(writer)
    text = b""
    try:
        while piece := os.read(reader, 65536):
            text += piece
    except OSError:  # the terminal is gone when the process has ended
        pass
    os.close(reader)
    assert process.wait() == 0
    shown = text.decode()
    assert re.search(
        r"Iteration \d+/30 \|.*\|.* images/s  ETA \d\d:\d\d  loss \d[\d.e-]*  best loss \d\S* at \d+", shown
    )
    plain = re.split(r"[\r\n]+", shown)
    for i in range(30):
        assert sum(bool(re.match(rf"I\d{{4}} .* Iteration {i} \(", line)) for line in plain) == 1


def test_log_files_as_glog_writes_them(train, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("logs").mkdir()
    files: dict = {}
    monkeypatch.setattr(glog, "_files", files)
    monkeypatch.setenv("GLOG_log_dir", "")
    status, log = train(TESTED + "max_iter: 2", "-log_dir", "logs")
    assert status == 0
    links = {path.name.rsplit(".", 1)[1]: path for path in Path("logs").iterdir() if path.is_symlink()}
    assert set(links) == {"INFO"}
    name = links["INFO"].readlink().name
    assert re.fullmatch(rf".+\..+\..+\.log\.INFO\.\d{{8}}-\d{{6}}\.{os.getpid()}", name)
    text = links["INFO"].read_text()
    assert text.startswith("Log file created at: ")
    assert text.endswith(log)
    status, log = train("", "-log_dir", "logs", "-noalsologtostderr")
    assert status == 1
    assert len(log.splitlines()) == 1
    assert log.startswith("F")
    for file in files.values():
        file.close()
