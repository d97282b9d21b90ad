"""Tables of a run whose outputs have several values and that has several test nets; the numbers are by hand."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import caffe
from caffe.tools.records import CsvFile

NET = """
layer { name: "in" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 }
  data_filler { type: "constant" value: 1.5 } } }
layer { name: "sum" type: "Reduction" bottom: "x" top: "a" loss_weight: 2 }
layer { name: "double" type: "Power" bottom: "x" top: "p" power_param { scale: 2 } }
"""


def test_every_value_has_its_column(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.25 lr_policy: "exp" gamma: 0.5 max_iter: 4 display: 2 '
        f"test_iter: 1 test_iter: 2 test_interval: 3 snapshot_after_train: false"
    )
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.extensions = [CsvFile(str(tmp_path / "t.csv"))]
    start = time.monotonic()
    solver.solve()
    solver.close()
    took = time.monotonic() - start
    with (tmp_path / "t.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    kinds = ("train", "test", "test1")
    assert names == ["iteration", "seconds", "lr", "loss", *(f"{k}/{o}" for k in kinds for o in ("a", "p[0]", "p[1]"))]
    outputs, nothing = ["3", "3", "3"], [""] * 3
    assert [row[:1] + row[2:] for row in rows] == [
        ["0", "0.25", "6", *outputs * 3],
        ["2", "0.0625", "6", *outputs, *nothing * 2],
        ["3", "", "", *nothing, *outputs * 2],
    ]
    seconds = [float(row[1]) for row in rows]
    assert sorted(seconds) == seconds
    assert seconds[0] >= 0
    assert seconds[-1] <= took + 0.001
