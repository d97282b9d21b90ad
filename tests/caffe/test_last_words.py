"""Last words: for every mistake that BVLC Caffe was recorded dying of, ours says the same and names the culprit.

The oracle of `RECORDED` is tests/golden/logs/errors.txt: what BVLC printed. `OTHERS` are mistakes that BVLC has
no good words for; their texts name what is wrong and the cure.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

import caffe
from caffe.errors import CaffeError
from caffe.proto.binary import write_message
from caffe.tools.main import main

WORDS = (Path(__file__).parents[1] / "golden" / "logs" / "errors.txt").read_text().splitlines()
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "run" '


@dataclass
class Bench:
    """A folder to make mistakes in, which is the working directory."""

    folder: Path
    capfd: pytest.CaptureFixture[str]

    def net(self, text: str, run: Callable[[caffe.Net], object] = str, file: str = "net.prototxt") -> str:
        """Make a net of ``text`` and ``run`` it; give the error's text."""
        (self.folder / file).write_text(text)
        with pytest.raises(CaffeError) as caught:
            run(caffe.Net(file, caffe.TRAIN))
        return str(caught.value)

    def command(self, *words: str) -> str:
        """Run ``caffe WORDS``; give its last line. It must fail in one line, without a traceback."""
        status = main(list(words))
        out, err = self.capfd.readouterr()
        assert status == (2 if err.startswith("ERROR") else 1)
        assert "Traceback" not in out + err
        return err.splitlines()[-1]

    def solver(self, text: str, *words: str, file: str = "solver.prototxt") -> str:
        """Train a small net by the solver of ``text``; give the last line."""
        (self.folder / "net.prototxt").write_text(TRAINABLE)
        (self.folder / file).write_text(text)
        return self.command("train", "-solver", file, *words)


Mistake = Callable[[Bench], str]


def layer(name: str, kind: str, bottoms: str = "", more: str = "", tops: str | None = None) -> str:
    """Text of a layer; its top is named like itself unless told."""
    ends = "".join(f' bottom: "{b}"' for b in bottoms.split())
    ends += "".join(f' top: "{t}"' for t in (name if tops is None else tops).split())
    return f'layer {{ name: "{name}" type: "{kind}"{ends} {more} }}\n'


def blob(name: str, *shape: int) -> str:
    dims = " ".join(f"dim: {n}" for n in shape)
    return layer(name, "Input", more=f"input_param {{ shape {{ {dims} }} }}")


def fc(name: str, bottom: str, outputs: int = 3, more: str = "") -> str:
    return layer(name, "InnerProduct", bottom, f"{more} inner_product_param {{ num_output: {outputs} }}")


X = blob("x", 2, 3, 8, 8)
Y = blob("y", 2)
TRAINABLE = (
    layer("x", "DummyData", more="dummy_data_param { shape { dim: 2 dim: 200 } shape { dim: 2 } }", tops="x y")
    + fc("fc", "x")
    + layer("loss", "SoftmaxWithLoss", "fc y")
)


def net(*layers: str) -> Mistake:
    """A net of ``x`` (2 3 8 8) and these layers, which cannot be made."""
    return lambda bench: bench.net(X + "".join(layers))


def forward(*layers: str) -> Mistake:
    """A net that can be made and not run."""
    return lambda bench: bench.net(X + "".join(layers), lambda made: made.forward())


def file(name: str, text: str) -> Mistake:
    """A net's file of that name and content."""
    return lambda bench: bench.net(text, file=name)


def solver(more: str = "", *words: str, whole: str | None = None, name: str = "solver.prototxt") -> Mistake:
    """A solver with these settings more, or of this whole text."""
    return lambda bench: bench.solver(SOLVER + more if whole is None else whole, *words, file=name)


def command(*words: str) -> Mistake:
    return lambda bench: bench.command(*words)


def pictures(
    data: str = "", transform: str = "", sizes: tuple[tuple[int, int], ...] = ((40, 48),), listing: str | None = None
) -> Mistake:
    """An ImageData layer of pictures 0.png, 1.png, ... of these sizes, or of another list."""

    def make(bench: Bench) -> str:
        for i, size in enumerate(sizes):
            cv2.imwrite(f"{i}.png", np.full((*size, 3), 60 * i, np.uint8))
        lines = "".join(f"{i}.png {i}\n" for i in range(len(sizes)))
        Path("list.txt").write_text(lines if listing is None else listing)
        batch = "" if "batch_size:" in data else f"batch_size: {len(sizes)}"
        source = "" if "source:" in data else 'source: "list.txt"'
        more = f"image_data_param {{ {source} {batch} {data} }} transform_param {{ {transform} }} "
        return bench.net(layer("data", "ImageData", more=more, tops="data label"), run)

    def run(made: caffe.Net) -> None:
        try:
            made.forward()
        finally:
            made.close()

    return make


def mean_of(height: int, width: int) -> Mistake:
    def make(bench: Bench) -> str:
        write_message("mean.binaryproto", caffe.io.array_to_blobproto(np.zeros((1, 3, height, width), np.float32)))
        return pictures(transform='mean_file: "mean.binaryproto"')(bench)

    return make


def database(*records: bytes, backend: str = "LMDB") -> Mistake:
    """A Data layer of these records."""

    def make(bench: Bench) -> str:
        with lmdb.open("db") as made, made.begin(write=True) as transaction:
            for i, record in enumerate(records):
                transaction.put(b"%d" % i, record)
        return data_layer("db", backend)(bench)

    return make


def data_layer(source: str, backend: str = "LMDB") -> Mistake:
    more = f'data_param {{ source: "{source}" batch_size: 1 backend: {backend} }}'
    return net(layer("data", "Data", more=more, tops="data label"))


def weights(name: str, content: bytes | None = None, cut: int = 0, outputs: int = 3) -> Mistake:
    """Start a training from that file: of this content, or weights of a net of so many outputs, cut short."""

    def make(bench: Bench) -> str:
        Path("own.prototxt").write_text(blob("x", 2, 200) + fc("fc", "x", outputs))
        caffe.Net("own.prototxt", caffe.TRAIN).save(name)
        if content is not None:
            Path(name).write_bytes(content)
        elif cut:
            Path(name).write_bytes(Path(name).read_bytes()[:-cut])
        return bench.solver(SOLVER, "-weights", name)

    return make


def snapshot_of(written_by: str, resumed_by: str, suffix: str = "solverstate") -> Mistake:
    """Train with one solver, and resume with another."""

    def make(bench: Bench) -> str:
        Path("net.prototxt").write_text(TRAINABLE)
        Path("first.prototxt").write_text(SOLVER + written_by)
        assert main(["train", "-solver", "first.prototxt"]) == 0
        return bench.solver(SOLVER + resumed_by, "-snapshot", f"run_iter_2.{suffix}")

    return make


def reshaped(text: str, **shapes: tuple[int, ...]) -> Mistake:
    """A net whose inputs get other shapes once it is made."""

    def run(made: caffe.Net) -> None:
        for name, shape in shapes.items():
            made.blobs[name].reshape(*shape)
        made.forward()

    return lambda bench: bench.net(text, run)


def labelled(label: int) -> Mistake:
    def run(made: caffe.Net) -> None:
        made.blobs["y"].data[...] = label
        made.forward()

    return lambda bench: bench.net(X + Y + fc("fc", "x") + layer("loss", "SoftmaxWithLoss", "fc y"), run)


def without_gpu(bench: Bench) -> str:
    """In a process of its own, which sees no GPU."""
    Path("net.prototxt").write_text(TRAINABLE)
    Path("solver.prototxt").write_text(SOLVER)
    caffe_ = [sys.executable, "-c", "import sys; from caffe.tools.main import main; sys.exit(main())"]
    words = ["train", "-solver", "solver.prototxt", "-gpu", "0"]
    done = subprocess.run(
        [*caffe_, *words], env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def conv(more: str) -> str:
    return layer("conv", "Convolution", "x", f"convolution_param {{ {more} }}")


def pool(more: str) -> str:
    return layer("pool", "Pooling", "x", f"pooling_param {{ {more} }}")


SHARED = 'param { name: "w" }'
TWO_NETS = 'net: "net.prototxt" net: "net.prototxt"'

# name in errors.txt -> how it is made, and what else the text must name: a file, a layer, or a flag or field
RECORDED: dict[str, tuple[Mistake, str]] = {
    "accuracy-count": (net(Y, layer("acc", "Accuracy", "x y")), "'acc'"),
    "bad-filler": (
        net(layer("fc", "InnerProduct", "x", 'inner_product_param { num_output: 2 weight_filler { type: "xaviar" } }')),
        "'fc'",
    ),
    "bn-lr": (net(layer("bn", "BatchNorm", "x", "param { lr_mult: 1 }")), "'bn'"),
    "channels-group": (net(conv("num_output: 4 kernel_size: 3 group: 2")), "'conv'"),
    "concat-mismatch": (net(blob("z", 2, 3, 4, 4), layer("join", "Concat", "x z")), "'join'"),
    "crop-too-big": (pictures(transform="crop_size: 64", sizes=((32, 32),)), "0.png"),
    "duplicate-top": (net(fc("y", "x"), layer("again", "ReLU", "x", tops="y")), "'again'"),
    "eltwise-mismatch": (net(blob("z", 2, 3, 4, 4), layer("sum", "Eltwise", "x z")), "'sum'"),
    "empty-list": (pictures(listing=""), "list.txt"),
    "gpu-in-cpu": (without_gpu, "GPU"),
    "kernel-missing": (net(conv("num_output: 4")), "'conv'"),
    "lr-policy-unknown": (solver(whole='net: "net.prototxt" lr_policy: "steps" base_lr: 1'), "known policies: exp"),
    "lrn-even": (net(layer("norm", "LRN", "x", "lrn_param { local_size: 4 }")), "'norm'"),
    "mean-both": (pictures(transform='mean_file: "mean.binaryproto" mean_value: 104'), "mean.binaryproto"),
    "mean-channels": (pictures(transform="mean_value: 104 mean_value: 117"), "0.png"),
    "mean-missing": (pictures(transform='mean_file: "nomean"'), "nomean"),
    "mean-size": (mean_of(32, 48), "0.png"),
    "missing-image": (pictures(listing="images/none.jpg 0\n"), "list.txt"),
    "missing-list": (pictures('source: "nolist.txt"'), "nolist.txt"),
    "missing-lmdb": (data_layer("nolmdb"), "nolmdb"),
    "mom": (solver('type: "AdaGrad" momentum: 0.9'), "Leave momentum out"),
    "no-net": (solver(whole='base_lr: 0.1 lr_policy: "fixed"'), "train_net_param"),
    "no-resize-batch": (pictures(sizes=((40, 553), (40, 500))), "1.png"),
    "no-solver": (command("train"), "-solver solver.prototxt"),
    "no-stepsize": (
        solver(whole='net: "net.prototxt" base_lr: 1 lr_policy: "step" gamma: 0.1'),
        "'step' needs stepsize",
    ),
    "num-output-group": (net(conv("num_output: 4 kernel_size: 3 group: 3")), "'conv'"),
    "pool-kernel-zero": (net(pool("kernel_size: 0")), "'pool'"),
    "pool-pad": (net(pool("kernel_size: 2 pad: 2")), "'pool'"),
    "prefix": (solver('snapshot_prefix: "b"', name="prefix.solver"), "prefix.solver"),
    "reg": (solver('regularization_type: "L3"'), "known types: L1, L2"),
    "reshape-count": (net(layer("flat", "Reshape", "x", "reshape_param { shape { dim: 10 } }")), "'flat'"),
    "share-mismatch": (net(fc("a", "x", 2, SHARED), fc("b", "x", 3, SHARED)), "'b'"),
    "slice-uneven": (net(layer("cut", "Slice", "x", tops="a b")), "'cut'"),
    "snapshot-and-weights": (solver("", "-snapshot", "a", "-weights", "b"), "not both"),
    "solver-missing": (command("train", "-solver", "nope.prototxt"), "nope.prototxt"),
    "solver-type": (solver('type: "SGDD"'), "SGDD"),
    "state-missing": (solver("", "-snapshot", "none.solverstate"), "none.solverstate"),
    "syntax": (file("syntax.prototxt", 'name: "n" layer { name: }'), "syntax.prototxt"),
    "too-few-bottoms": (net(layer("loss", "SoftmaxWithLoss", "x")), "'loss'"),
    "two-nets": (solver(whole=TWO_NETS, name="two-nets.solver"), "two-nets.solver"),
    "unknown-bottom": (net(fc("a", "z")), "'a'"),
    "unknown-command": (command("trian"), "known actions: train"),
    "unknown-field": (file("unknown-field.prototxt", "layer { relu_parm { } }"), "unknown-field.prototxt"),
    "unknown-type": (net(layer("c", "Convolutoin", "x")), "'c'"),
    "weights-missing": (solver("", "-weights", "none.caffemodel"), "none.caffemodel"),
    "weights-shape": (weights("other.caffemodel", outputs=4), "other.caffemodel"),
    "weights-truncated": (weights("cut.caffemodel", cut=100), "cut.caffemodel"),
    "wrong-flag": (command("train", "-solvr", "x"), "did you mean -solver?"),
}

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
BOTH_RULES = "include { phase: TRAIN } exclude { phase: TEST }"
OTHERS: dict[str, tuple[Mistake, tuple[str, ...]]] = {
    "weights-html": (
        weights("w.caffemodel", b"<!DOCTYPE html><html></html>"),
        ("w.caffemodel is a web page", "download it again"),
    ),
    "weights-pointer": (weights("w.caffemodel", POINTER), ("w.caffemodel", "git", "lfs")),
    "weights-empty": (weights("w.caffemodel", b""), ("w.caffemodel is empty",)),
    "weights-as-state": (snapshot_of("", "", "caffemodel"), ("run_iter_2.caffemodel", "Failed to parse SolverState")),
    "state-of-other-type": (
        snapshot_of("", 'type: "Adam"'),
        ("Incorrect length of history blobs", "run_iter_2.solverstate"),
    ),
    "memory-of-weights": (
        net(blob("wide", 1, 200_000), fc("fc", "wide", 2**31 - 1)),
        ("'fc'", "Out of memory", "batch_size"),
    ),
    "memory-of-values": (
        forward(blob("wide", 1, 200_000), layer("t", "Tile", "wide", f"tile_param {{ axis: 0 tiles: {2**31 - 1} }}")),
        ("'t'", "Out of memory", "1717986917600000 bytes", "iter_size"),
    ),
    "in-place-fc": (
        net(layer("fc", "InnerProduct", "x", "inner_product_param { num_output: 7 }", tops="x")),
        ("'fc'", "cannot work in place: its top 'x' has the shape 2 7 (14), its bottom 2 3 8 8 (384)", "another name"),
    ),
    "batch-too-large": (pictures(data="batch_size: 2147483648"), ("'data'", "2147483648", "below 2^31")),
    "path-with-nul": (pictures(listing="a\0b.png 0\n"), ("Could not open or find file a", "list.txt")),
    "stride-beyond-int": (
        forward(pool("pool: MAX kernel_size: 3 stride: 4294967295")),
        ("'pool'", "overflow", "settings"),
    ),
    "filler-of-nan": (
        net(conv('num_output: 1 kernel_size: 3 weight_filler { type: "gaussian" std: nan }')),
        ("'conv'", "std nan", "settings"),
    ),
    "label-too-large": (labelled(7), ("'loss'", "label 7 is outside 0 to 2")),
    "label-negative": (labelled(-1), ("'loss'", "label -1 is outside 0 to 2")),
    "lmdb-record": (database(b"\xff\xff no datum"), ("db, record 0", "is no Datum")),
    "lmdb-empty": (database(), ("db: the database has no records",)),
    "leveldb": (database(b"", backend="LEVELDB"), ("db", "backend: LMDB")),
    "layer-and-layers": (file("old.prototxt", 'layer { name: "a" } layers { name: "b" }'), ("old.prototxt", "layers")),
    "include-and-exclude": (net(layer("r", "ReLU", "x", BOTH_RULES)), ("'r'", "include rules or exclude", "not both")),
    "enum-value": (
        file("pool.prototxt", X + pool("pool: MAXX kernel_size: 2")),
        ("MAXX", "pool.prototxt", "2:", '"MAX"'),
    ),
    "phase-value": (file("p.prototxt", layer("r", "ReLU", "x", "include { phase: TRIAN }")), ("TRIAN", "p.prototxt")),
    "phase-number": (
        lambda bench: bench.net(X, lambda _: caffe.Net("net.prototxt", 7)),
        ("net.prototxt: phase must be", "7"),
    ),
    "missing-quote": (
        file("q.prototxt", 'name: "n"\nlayer { name: "a }\n'),
        ("2:15: String literals cannot cross line", "q.prototxt"),
    ),
    "missing-brace": (file("b.prototxt", 'layer { name: "a"\n'), ("b.prototxt", "2:1")),
    "net-missing": (lambda bench: bench.net(X, lambda _: caffe.Net("none", caffe.TEST)), ("Could not open file none",)),
    "kernel-twice": (net(conv("num_output: 1 kernel_size: 3 kernel_h: 3")), ("'conv'", "kernel_h")),
    "pool-kernel-twice": (net(pool("kernel_size: 3 kernel_h: 3")), ("'pool'", "kernel_h and kernel_w; not both")),
    "conv-no-output": (net(conv("kernel_size: 3")), ("'conv'", "num_output")),
    "axis-range": (net(layer("s", "Softmax", "x", "softmax_param { axis: 4 }")), ("'s'", "axis 4 is out of range")),
    "bn-channels": (reshaped(X + layer("bn", "BatchNorm", "x"), x=(2, 5, 8, 8)), ("'bn'", "5 channels", "of 3")),
    "fc-size": (reshaped(X + fc("fc", "x"), x=(2, 3, 9, 9)), ("'fc'", "Input size incompatible", "(192 vs. 243)")),
    "conv-channels": (
        reshaped(X + conv("num_output: 1 kernel_size: 3"), x=(2, 4, 8, 8)),
        ("'conv'", "Input size incompatible with convolution kernel", "4 channels"),
    ),
    "share-rates": (
        net(
            fc("a", "x", more='param { name: "w" lr_mult: 1 }'),
            fc("b", "x", more='param { name: "w" lr_mult: 2 }'),
        ),
        ("'w'", "mismatched lr_mult", "'a'"),
    ),
    "python-module": (
        net(layer("py", "Python", "x", 'python_param { module: "no_such" layer: "L" }')),
        ("'py'", "no_such", "PYTHONPATH"),
    ),
    "python-class": (
        net(layer("py", "Python", "x", 'python_param { module: "json" layer: "L" }')),
        ("'py'", "has no class 'L'"),
    ),
    "propagate-down": (net(layer("r", "ReLU", "x", "propagate_down: true propagate_down: true")), ("'r'", "2 times")),
    "loss-weights": (net(layer("r", "ReLU", "x", "loss_weight: 1 loss_weight: 1")), ("'r'", "once per top blob")),
    "too-many-params": (net(fc("fc", "x", more="param { } param { } param { }")), ("Too many params", "fc")),
    "top-k": (
        net(Y, fc("fc", "x"), layer("a", "Accuracy", "fc y", "accuracy_param { top_k: 4 }")),
        ("'a'", "top_k", "4 of 3"),
    ),
    "memory-data": (
        forward(
            layer(
                "m",
                "MemoryData",
                more="memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 }",
                tops="a b",
            )
        ),
        ("'m'", "set_input_arrays"),
    ),
    "one-side": (pictures("new_height: 8"), ("list.txt", "new_width", "at the same time")),
    "list-line": (pictures(listing="0.png 0\n0.png rose\n"), ("list.txt, line 2", "rose")),
    "picture-broken": (pictures(listing="list.txt 0\n"), ("a line of list.txt", "no picture")),
    "no-batch-size": (
        net(layer("d", "ImageData", more='image_data_param { source: "l" batch_size: 0 }', tops="a b")),
        ("'d'", "batch_size"),
    ),
    "lr-policy-unset": (solver(whole='net: "net.prototxt" base_lr: 1'), ("lr_policy is not set",)),
    "no-max-iter": (solver(whole='net: "net.prototxt" base_lr: 1 lr_policy: "poly"'), ("'poly' needs max_iter",)),
    "test-interval": (solver("test_iter: 1"), ("say with test_interval",)),
    "both-types": (solver('type: "SGD" solver_type: ADAM'), ("solver.prototxt", "cannot be both specified")),
    "prefix-folder": (solver(whole=SOLVER.replace('"run"', '"net.prototxt/run"')), ("net.prototxt/run", "writable")),
    "signal-effect": (solver("", "-sigint_effect", "die"), ('"die"', "stop, snapshot", "sigint_effect")),
    "gpu-word": (solver("", "-gpu", "zero"), ("-gpu zero",)),
    "test-no-model": (command("test"), ("Need a model definition to score",)),
    "flag-no-value": (command("train", "-solver"), ("'solver' is missing its argument",)),
    "feed-size": (
        lambda bench: bench.net(X, lambda made: made.forward(x=np.zeros((5, 3, 8, 8)))),
        ("not batch sized", "'x'", "5 items"),
    ),
    "unknown-end": (
        lambda bench: bench.net(X, lambda made: made.forward(end="fc7")),
        ("no layer 'fc7'", "the layers are x"),
    ),
}


def words_of(name: str) -> list[str]:
    """What BVLC said: without the place, and without a failed check that is a bare C++ call or ``false``."""
    lines = [line.removeprefix(f"{name}: ") for line in WORDS if line.startswith(f"{name}: ")]
    said = [re.sub(r"^(F [\w.]+:\d+\] |\[libprotobuf ERROR [^\]]*\] |ERROR: )", "", line) for line in lines]
    return [re.sub(r"Check failed: (ReadProtoFrom\w+\(param_file, param\)|false) ", "", line).strip() for line in said]


def numberless(text: str) -> str:
    return re.sub(r"-?\d+(\.\d+)?", "N", " ".join(text.split()))


@pytest.fixture
def bench(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, capfd)


def test_no_recorded_mistake_is_forgotten() -> None:
    assert set(RECORDED) == {line.partition(":")[0] for line in WORDS}
    assert not set(RECORDED) & set(OTHERS)


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_words_and_the_culprit(bench: Bench, name: str) -> None:
    mistake, culprit = RECORDED[name]
    said = mistake(bench)
    assert words_of(name)
    for words in words_of(name):
        assert numberless(words) in numberless(said)
    assert culprit in said


@pytest.mark.parametrize("name", OTHERS)
def test_further_mistakes(bench: Bench, name: str) -> None:
    mistake, words = OTHERS[name]
    said = mistake(bench)
    assert [w for w in words if w not in said] == [], said
