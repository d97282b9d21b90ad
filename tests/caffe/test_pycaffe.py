"""What ``import caffe`` offers: the names, that they come without waiting for PyTorch, and small helpers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import caffe

OF_PYCAFFE = """
Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver get_solver NCCL Timer init_log log
set_mode_cpu set_mode_gpu set_device set_random_seed Layer layer_type_list solver_count set_solver_count solver_rank
set_solver_rank set_multiprocess has_nccl __version__ TRAIN TEST Classifier Detector io layers params NetSpec to_proto
draw coord_map net_spec classifier detector proto pycaffe
"""
OUR_OWN = ["Blob", "CaffeError", "errors"]


def test_the_names() -> None:
    assert sorted(caffe.__all__) == sorted(OF_PYCAFFE.split() + OUR_OWN)
    for name in caffe.__all__:
        assert getattr(caffe, name) is not None
    assert set(caffe.__all__) <= set(dir(caffe))
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    assert caffe.proto.caffe_pb2.NetParameter.DESCRIPTOR.full_name == "caffe.NetParameter"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        caffe.nothing  # noqa: B018


@pytest.mark.parametrize(
    "code", ["import caffe", "import caffe; caffe.NetSpec, caffe.params, caffe.io, caffe.draw, caffe.proto, caffe.log"]
)
def test_no_wait_for_pytorch(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_layers_is_the_package_and_the_factory() -> None:
    check = (
        "from caffe import layers as L, params as P; import caffe.layers.base; "
        "assert L.Pooling(L.Input(), pool=P.Pooling.MAX).fn.type_name == 'Pooling'; "
        "assert L.base is caffe.layers.base and L is caffe.layers"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_names_that_scripts_import_from_bvlcs_own_modules(tmp_path: Path) -> None:
    from caffe._caffe import BlobVec, RawBlobVec, layer_type_list
    from caffe.pycaffe import Net
    from caffe.pycaffe import __all__ as of_pycaffe

    assert (Net, layer_type_list, caffe._caffe.log) == (caffe.Net, caffe.layer_type_list, caffe.log)
    assert all(getattr(caffe.pycaffe, name) is getattr(caffe, name) for name in of_pycaffe)
    assert isinstance([caffe.Blob()], RawBlobVec)
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "x" input_shape { dim: 2 dim: 3 } '
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 4 } }'
    )
    net = caffe.Net(str(path), caffe.TEST)
    assert type(net.params["fc"]) is caffe._caffe.BlobVec is BlobVec
    net.params["fc"].add_blob(5, 1)
    assert net.layer_dict["fc"].blobs[2].shape == (5, 1)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        caffe._caffe.nothing  # noqa: B018


def test_every_solver_goes_by_its_name() -> None:
    for kind in ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"):
        assert getattr(caffe, f"{kind}Solver").type == kind


def test_all_layer_types_are_there() -> None:
    words = (Path(__file__).parents[1] / "golden" / "logs" / "errors.txt").read_text()
    known = re.search(r"Unknown layer type: Convolutoin \(known types: (.*)\)", words)
    assert known
    assert caffe.layer_type_list() == sorted(known[1].split(", "))


def test_counts_of_solvers_and_nccl() -> None:
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    try:
        caffe.set_solver_count(4)
        caffe.set_solver_rank(3)
        caffe.set_multiprocess(True)
        assert (caffe.solver_count(), caffe.solver_rank()) == (4, 3)
    finally:
        caffe.set_solver_count(1)
        caffe.set_solver_rank(0)
    assert not caffe.has_nccl()
    for use in (caffe.NCCL.new_uid, lambda: caffe.NCCL(None, b"")):
        with pytest.raises(RuntimeError, match="NCCL is not available .*: train on several GPUs with caffe train"):
            use()


def test_logging(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.setenv("GLOG_logtostderr", "0")
    caffe.log("unheard")
    caffe.init_log()
    caffe.log("unheard")
    caffe.init_log(0, True)
    caffe.log("heard")
    caffe.init_log(1)
    caffe.log("unheard")
    (line,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ _caffe\.cpp:\d+\] heard", line)


def test_the_timer_stands_still_between() -> None:
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    timer.stop()
    first = timer.ms
    assert first > 0
    sum(range(100000))
    assert timer.ms == first
    timer.stop()
    assert timer.ms == first
    timer.start()
    sum(range(1000000))
    assert timer.ms > first


def test_backward_goes_by_what_the_blobs_hold(tmp_path: Path) -> None:
    """A layer may be run backward before it was run forward, and its top is left alone."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        'force_backward: true input: "x" input_shape { dim: 2 dim: 3 }\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" '
        'inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }'
    )
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["fc"].data[...] = 7
    net.blobs["fc"].diff[...] = gradient = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.allclose(net.backward(start="fc", end="fc")["x"], gradient @ net.params["fc"][0].data, rtol=1e-5)
    assert np.all(net.blobs["fc"].data == 7)


DEBUG = """
name: "n" debug_info: true
layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" param { name: "w" } param { lr_mult: 0 }
  inner_product_param { num_output: 2 weight_filler { type: "constant" value: -2 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "y" top: "loss" }
"""


def test_debug_info(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.prototxt").write_text(DEBUG)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" display: 2 debug_info: true '
        f'snapshot_prefix: "{tmp_path}/s"'
    )
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.net.blobs["x"].data[...] = [1, -3]  # fc = 4, 4
    monkeypatch.setenv("GLOG_minloglevel", "0")
    capfd.readouterr()
    solver.step(2)  # only the first is displayed
    lines = [line for line in capfd.readouterr().err.splitlines() if "ward]" in line]
    assert [re.sub(r"^(\w)\S+ .*?\] {5}", r"\1 ", line) for line in lines] == [
        "I [Forward] Layer in, top blob x data: 2",
        "I [Forward] Layer in, top blob y data: 0",
        "I [Forward] Layer fc, top blob fc data: 4",
        "I [Forward] Layer fc, param blob w data: 2",
        "I [Forward] Layer fc, param blob 1 data: 0",
        "I [Forward] Layer loss, top blob loss data: 16",
        "I [Backward] Layer loss, bottom blob fc diff: 4",
        "I [Backward] Layer fc, param blob 0 diff: 8",
        "E [Backward] All net params (data, diff): L1 norm = (8, 32); L2 norm = (4, 17.8885)",
    ]
    solver.step(1)
    assert capfd.readouterr().err.count("[Forward] Layer in, top blob x data: 2") == 1
