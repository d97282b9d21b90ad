"""The loop: what a run logs, keeps and goes on from; the oracle is BVLC's own log and arithmetic by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from words import words_net

import caffe
from caffe.proto.binary import read_state
from caffe.solvers.solver import Action

Job = Callable[..., Path]


@pytest.fixture
def job(tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The recorded tiny net on five drawn pictures, in a folder of its own; gives the solver file."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    lines = (golden / "logs" / "list.txt").read_text().splitlines()
    for line in lines:
        name, label = line.rsplit(" ", 1)
        picture = rng.integers(0, 80, (40, 48, 3)) + 80 * int(label)
        cv2.imwrite(str(Path(name).with_suffix(".png")), picture.astype(np.uint8))
    (tmp_path / "list.txt").write_text("\n".join(lines).replace(".jpg", ".png") + "\n")

    def make(net: Callable[[str], str] = str, solver: Callable[[str], str] = str) -> Path:
        (tmp_path / "net.prototxt").write_text(net((golden / "logs" / "net.prototxt").read_text()))
        path = tmp_path / "solver.prototxt"
        path.write_text(solver((golden / "logs" / "solver.prototxt").read_text()))
        return path

    return make


def messages(log: str) -> list[str]:
    """Log lines without time and thread, numbers that chance or the clock decide replaced."""
    text = re.sub(r"^([IWEF])\d{4} [\d:.]+ +\d+ ", r"\1 ", log, flags=re.MULTILINE)
    text = re.sub(r"\(-?[\d.e+-]+ iter/s, [\d.e+-]+s/5 iters\)", "(RATE)", text)
    text = re.sub(r"(loss|accuracy) = -?[\d.e+-]+", r"\1 = X", text)
    text = re.sub(r"Loss: [\d.e+-]+", "Loss: X", text)
    text = re.sub(r"\* 1 = [\d.e+-]+ loss", "* 1 = X loss", text)
    return [line for line in text.splitlines() if "Waiting for data" not in line]


def test_a_run_logs_what_bvlc_logged(job: Job, golden: Path, capfd, monkeypatch) -> None:
    from caffe.tools.main import main

    monkeypatch.setenv("GLOG_minloglevel", "0")
    for name in ("train", "resume", "test"):
        job()
        command = {
            "train": ["train", "-solver", "solver.prototxt"],
            "resume": ["train", "-solver", "solver.prototxt", "-snapshot", "tiny_iter_10.solverstate"],
            "test": ["test", "-model", "net.prototxt", "-weights", "tiny_iter_20.caffemodel", "-iterations", "3"],
        }[name]
        assert main(command) == 0
        got, expected = capfd.readouterr().err, (golden / "logs" / f"{name}.log").read_text()
        assert messages(got) == messages(expected), name


def test_the_same_seed_is_the_same_run(job: Job) -> None:
    def run() -> dict[str, np.ndarray]:
        solver = caffe.get_solver(str(job()))
        solver.step(12)
        solver.close()
        return {f"{n}{i}": b.data.copy() for n, bs in solver.net.params.items() for i, b in enumerate(bs)}

    first, second = run(), run()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_test_nets_see_the_weights_in_training(job: Job) -> None:
    solver = caffe.get_solver(str(job()))
    solver.step(3)
    assert np.shares_memory(solver.test_nets[0].params["fc"][0].data, solver.net.params["fc"][0].data)
    assert not np.shares_memory(solver.test_nets[0].params["fc"][0].diff, solver.net.params["fc"][0].diff)
    solver.close()


def test_nets_that_share_weights_learn_together(job: Job) -> None:
    first, second = (caffe.get_solver(str(job())) for _ in range(2))
    held, before = second.net.params["fc"][0], first.net.params["fc"][0].data.copy()
    second.net.share_with(first.net)
    second.step(3)
    for net in (first.net, second.net, second.test_nets[0]):
        assert (net.params["fc"][0].data != before).any()
        np.testing.assert_array_equal(net.params["fc"][0].data, held.data)
    for solver in (first, second):
        solver.close()


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_iterations_by_hand_are_iterations(job: Job, kind: str) -> None:
    settings = lambda text: text.replace("stepsize: 10", f'stepsize: 2 type: "{kind}"')  # noqa: E731
    stepped, by_hand = (caffe.get_solver(str(job(solver=settings))) for _ in range(2))
    stepped.step(5)
    for _ in range(5):
        by_hand.net.clear_param_diffs()
        by_hand.net.forward()
        by_hand.net.backward()
        by_hand.apply_update()
    assert (by_hand.iter, by_hand.lr) == (5, stepped.lr)
    np.testing.assert_allclose(by_hand.net.params["fc"][0].data, stepped.net.params["fc"][0].data, rtol=1e-6)
    for solver in (stepped, by_hand):
        solver.close()


def test_a_snapshot_holds_weights_history_and_place(job: Job) -> None:
    solver = caffe.get_solver(str(job()))
    solver.step(10)
    weights = {n: [b.data.copy() for b in bs] for n, bs in solver.net.params.items()}
    history = [h.clone() for h in solver.history]
    solver.close()
    other = caffe.get_solver(str(job()))
    other.restore("tiny_iter_10.solverstate")
    assert other.iter == 10
    for name, blobs in weights.items():
        for mine, theirs in zip(blobs, other.net.params[name], strict=True):
            np.testing.assert_array_equal(mine, theirs.data)
    for mine, theirs in zip(history, other.history, strict=True):
        assert torch.equal(mine, theirs)
    other.close()


@pytest.mark.parametrize("stop", [1, 7, 10])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_stopped_and_resumed_run_equals_the_one_that_never_stopped(job: Job, kind: str, stop: int) -> None:
    """To the bit, with shuffling, random crops, mirroring and dropout."""
    dropout = 'layer { name: "drop" type: "Dropout" bottom: "pool1" top: "pool1" }\nlayer { name: "fc"'
    drop = lambda text: text.replace('layer { name: "fc"', dropout)  # noqa: E731
    retype = lambda text: text + f' type: "{kind}" test_interval: 4 '  # noqa: E731
    settings = lambda text: retype(text.replace("test_interval: 10", "").replace("snapshot: 10", ""))  # noqa: E731
    whole = caffe.get_solver(str(job(net=drop, solver=settings)))
    whole.step(16)
    whole.close()
    first = caffe.get_solver(str(job(net=drop, solver=settings)))
    first.step(stop)
    first.snapshot()
    first.close()
    caffe.set_random_seed(12345)  # whatever another process would start with
    second = caffe.get_solver(str(job(net=drop, solver=lambda s: settings(s).replace("random_seed: 7", ""))))
    second.restore(f"tiny_iter_{stop}.solverstate")
    second.step(16 - stop)
    second.close()
    for name, blobs in whole.net.params.items():
        for mine, theirs in zip(blobs, second.net.params[name], strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)
    for mine, theirs in zip(whole.history, second.history, strict=True):
        assert torch.equal(mine, theirs)


def test_a_run_that_stops_in_a_test_does_it_anew(job: Job) -> None:
    """To the bit: what the test had read and drawn by then is there again."""
    drawn = (
        'layer { name: "noise" type: "DummyData" top: "noise" include { phase: TEST } '
        'dummy_data_param { shape { dim: 1 } data_filler { type: "gaussian" } } }\n'
    )
    make = lambda: caffe.get_solver(  # noqa: E731
        str(
            job(
                lambda net: net + drawn,
                lambda text: text.replace("snapshot: 10", "").replace("test_iter: 1", "test_iter: 3"),
            )
        )
    )
    whole = make()
    whole.step(14)
    first = make()
    polls = iter([Action.NONE, Action.SNAPSHOT])
    first.step(10)
    first.poll_testing = lambda: next(polls, Action.NONE)
    first.step(1)
    second = make()
    second.restore("tiny_iter_10.solverstate")
    second.step(4)
    for name, blobs in whole.net.params.items():
        for mine, theirs in zip(blobs, second.net.params[name], strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)
    np.testing.assert_array_equal(whole.test_nets[0].blobs["noise"].data, second.test_nets[0].blobs["noise"].data)
    for solver in (whole, first, second):
        solver.close()


def test_data_layers_of_one_name_go_on_each_where_it_was(job: Job) -> None:
    more = (
        'layer { name: "data" type: "ImageData" top: "x" top: "y" transform_param { crop_size: 9 mirror: true } '
        'image_data_param { source: "list.txt" batch_size: 2 shuffle: true } }\n'
    )
    solver, other = (caffe.get_solver(str(job(lambda net: net + more))) for _ in range(2))
    solver.step(2)
    solver.snapshot()
    solver.step(1)
    other.restore("tiny_iter_2.solverstate")
    other.step(1)
    for name in ("data", "x", "y"):
        np.testing.assert_array_equal(solver.net.blobs[name].data, other.net.blobs[name].data)
    for each in (solver, other):
        each.close()


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_what_a_batch_carries_to_the_next_is_kept(kind: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(words_net(tmp_path, kind))
    rules = (
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.5 lr_policy: "fixed" momentum: 0.9 random_seed: 1 '
        f'test_iter: 1 test_interval: 2 snapshot_prefix: "{tmp_path}/words"'
    )
    (tmp_path / "solver.prototxt").write_text(rules)
    whole, first, second = (caffe.get_solver(str(tmp_path / "solver.prototxt")) for _ in range(3))
    whole.step(6)
    first.step(3)
    first.snapshot()
    second.restore(f"{tmp_path}/words_iter_3.solverstate")
    second.step(3)
    for mine, theirs in ((whole.net, second.net), (whole.test_nets[0], second.test_nets[0])):
        for name in ("state", "loss"):
            np.testing.assert_array_equal(mine.blobs[name].data, theirs.blobs[name].data)
    for solver in (whole, first, second):
        solver.close()


def test_without_the_run_state_it_resumes_as_caffe_does_and_says_so(job: Job, capfd, monkeypatch) -> None:
    solver = caffe.get_solver(str(job()))
    solver.snapshot()
    solver.close()
    Path("tiny_iter_0.runstate").unlink()
    monkeypatch.setenv("GLOG_minloglevel", "0")
    again = caffe.get_solver(str(job()))
    again.restore("tiny_iter_0.solverstate")
    again.close()
    assert re.search(r"^W.*There is no tiny_iter_0.runstate beside the snapshot", capfd.readouterr().err, re.MULTILINE)


def test_a_broken_run_state_names_itself_and_the_cure(job: Job) -> None:
    solver = caffe.get_solver(str(job()))
    solver.snapshot()
    Path("tiny_iter_0.runstate").write_text("{")
    with pytest.raises(caffe.CaffeError, match="tiny_iter_0.runstate: not a run state.*remove the file"):
        solver.restore("tiny_iter_0.solverstate")
    solver.close()


def test_a_state_that_bvlc_wrote_resumes(job: Job, golden: Path) -> None:
    rename = lambda text: text.replace('"fc"', '"fc_new"')  # noqa: E731  (the recorded run was the fine-tuned one)
    solver = caffe.get_solver(str(job(net=rename)))
    for suffix in ("caffemodel", "solverstate"):
        name = f"tiny_iter_10.{suffix}"
        Path(name).write_bytes((golden / "files" / name).read_bytes())
    solver.restore("tiny_iter_10.solverstate")
    assert solver.iter == 10
    assert all(h.abs().sum() > 0 for h in solver.history)
    solver.step(1)
    solver.close()


def test_the_folder_of_snapshots_is_made(job: Job, tmp_path: Path) -> None:
    solver = caffe.get_solver(str(job(solver=lambda s: s.replace('"tiny"', '"deep/down/tiny"'))))
    solver.snapshot()
    solver.close()
    files = sorted(p.name for p in (tmp_path / "deep" / "down").iterdir())
    assert files == ["tiny_iter_0.caffemodel", "tiny_iter_0.runstate", "tiny_iter_0.solverstate"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s.replace('net: "net.prototxt"', ""),
            r"num_train_nets >= 1 \(0 vs. 1\) SolverParameter must specify",
        ),
        (lambda s: s + ' train_net: "net.prototxt"', "must not contain more than one of"),
        (lambda s: s.replace('"step"', '"steps"'), "Unknown learning rate policy: steps"),
        (
            lambda s: s.replace("test_iter: 1", 'test_iter: 1 test_net: "a" test_net: "b"'),
            "test_iter must be specified",
        ),
        (lambda s: s.replace("test_interval: 10", ""), r"test_interval\(\) > 0 \(0 vs. 0\)"),
        (lambda s: s + ' regularization_type: "L3"', "Unknown regularization type: L3 .known types: L1, L2"),
        (lambda s: s + ' type: "SGDD"', r"Unknown solver type: SGDD \(known types: "),
        (lambda s: s + " average_loss: 0", "average_loss should be non-negative"),
        (lambda s: s + " iter_size: 0", "iter_size is a number of batches and at least 1, it is 0"),
        (lambda s: s.replace('"net.prototxt"', '"nope.prototxt"'), "File not found: nope.prototxt"),
        (lambda s: s + ' weights: "none.caffemodel"', "Couldn't open none.caffemodel"),
        (lambda s: s.replace('"tiny"', '"/proc/nowhere/tiny"'), "Cannot write to snapshot prefix '/proc/nowhere/tiny'"),
        (lambda s: s + " momentum: 0.9", 'Non-repeated field "momentum" is specified multiple times'),
    ],
)
def test_mistakes_in_a_solver_file(job: Job, change: Callable[[str], str], words: str) -> None:
    with pytest.raises(caffe.CaffeError, match=words):
        caffe.get_solver(str(job(solver=change)))


def test_a_prefix_is_looked_at_where_snapshots_are_made(job: Job) -> None:
    elsewhere = lambda s: s.replace('"tiny"', '"/proc/nowhere/tiny"').replace("snapshot: 10", "")  # noqa: E731
    solver = caffe.get_solver(str(job(solver=elsewhere)))
    solver.step(1)
    with pytest.raises(caffe.CaffeError, match="Cannot write to snapshot prefix '/proc/nowhere/tiny'"):
        solver.solve()  # which would end with one
    solver.close()


def test_a_folder_as_prefix_need_not_be_there(job: Job) -> None:
    solver = caffe.get_solver(str(job(solver=lambda s: s.replace('"tiny"', '"some/folder/"'))))
    solver.step(10)
    solver.close()
    assert Path("some/folder/solver_iter_10.solverstate").exists()


def test_snapshots_that_could_not_be_written_are_refused_at_the_start(job: Job) -> None:
    twice = 'layer { name: "fc" type: "ReLU" bottom: "fc" top: "fc" }\nlayer { name: "loss"'
    with pytest.raises(caffe.CaffeError, match="2 layers are named 'fc'.*snapshot_format: BINARYPROTO"):
        caffe.get_solver(
            str(
                job(
                    net=lambda s: s.replace('layer { name: "loss"', twice),
                    solver=lambda s: s + " snapshot_format: HDF5",
                )
            )
        )


@pytest.mark.parametrize("count", [0, -1])
def test_no_test_batches(job: Job, count: int) -> None:
    solver = caffe.get_solver(str(job(solver=lambda s: s.replace("test_iter: 1", f"test_iter: {count}"))))
    solver.step(11)
    assert solver.iter == 11
    solver.close()


def test_drops_are_logged_and_go_on_where_they_were(job: Job, capfd, monkeypatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    drops = lambda values: lambda s: s.replace('"step"', f'"multistep" {values}').replace("stepsize: 10", "")  # noqa: E731
    solver = caffe.get_solver(str(job(solver=drops("stepvalue: 2 stepvalue: 4"))))
    solver.step(3)
    solver.snapshot()
    solver.close()
    assert re.findall(r"\] (MultiStep .*)", capfd.readouterr().err) == ["MultiStep Status: Iteration 2, step = 1"]
    again = caffe.get_solver(str(job(solver=drops("stepvalue: 100 stepvalue: 5"))))
    again.restore("tiny_iter_3.solverstate")
    assert again.lr == pytest.approx(1e-4)
    again.step(3)
    assert again.lr == pytest.approx(1e-5)
    assert re.findall(r"\] (MultiStep .*)", capfd.readouterr().err) == ["MultiStep Status: Iteration 5, step = 2"]
    again.close()


def test_a_state_s_step_is_that_of_the_last_iteration(job: Job, golden: Path) -> None:
    solver = caffe.get_solver(str(job()))
    solver.step(10)
    solver.close()
    written, recorded = (
        read_state(str(f)) for f in ("tiny_iter_10.solverstate", golden / "files/tiny_iter_10.solverstate")
    )
    assert written[:3] == recorded[:3]


def test_the_rate_of_iterations_outlives_a_step(job: Job, capfd, monkeypatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "0")
    solver = caffe.get_solver(str(job(solver=lambda s: s.replace("display: 5", "display: 2"))))
    for _ in range(5):
        solver.step(1)
    solver.close()
    shown = re.findall(r"Iteration (\d) \((\S+) iter/s, \S+/2 iters\), loss", capfd.readouterr().err)
    assert [int(iteration) for iteration, _ in shown] == [0, 2, 4]
    assert all(float(rate) > 0 for _, rate in shown[1:])


def test_a_state_of_another_net(job: Job) -> None:
    solver = caffe.get_solver(str(job()))
    solver.snapshot()
    solver.close()
    bigger = caffe.get_solver(
        str(job(net=lambda s: s.replace('"fc"', '"fd"').replace("num_output: 3", "num_output: 4")))
    )
    with pytest.raises(caffe.CaffeError, match="tiny_iter_0.solverstate: history blob 2 has shape"):
        bigger.restore("tiny_iter_0.solverstate")
    bigger.close()


def test_an_old_net_inside_the_solver_file_is_upgraded(tmp_path: Path) -> None:
    layers = """layers { name: "d" type: DUMMY_DATA top: "x"
            dummy_data_param { num: 2 channels: 3 height: 1 width: 1 } }
        layers { name: "fc" type: INNER_PRODUCT bottom: "x" top: "fc" inner_product_param { num_output: 2 } }"""
    rest = f'base_lr: 1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "{tmp_path}/run"'
    (tmp_path / "solver.prototxt").write_text(f"train_net_param {{ {layers} }} {rest}")
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    assert list(solver.net.layer_dict) == ["d", "fc"]
    assert solver.net.params["fc"][0].shape == (2, 3)
