"""Layers that read arrays from HDF5 files and write them there: HDF5Data, HDF5Output."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from caffe import glog, rng
from caffe.data.hdf5_rows import HDF5Rows, RowBatch
from caffe.data.prefetch import Prefetcher
from caffe.errors import WriteError
from caffe.layers.base import Layer, ReadingLayer, Shape
from caffe.layers.registry import register
from caffe.proto.hdf5 import writing


@register("HDF5Data")
class HDF5Data(ReadingLayer[RowBatch]):
    """Rows of HDF5 files; each top is the dataset of its own name.

    ``source`` lists the files, one a line. With ``shuffle`` the files and the rows in each come in a new
    order each time round. A batch may take rows from several files.

    Shapes:
        top[i]: [batch_size, ...], the dataset's own other axes, at least none.
    """

    tops = (1, None)

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.hdf5_data_param
        if self.param.HasField("transform_param"):
            raise self.error(
                f"Check failed: !this->layer_param_.has_transform_param() {self.type} does not transform data. "
                "Transform it before it is written to the file, or with Scale and Bias layers"
            )
        if not p.batch_size:
            raise self.error("hdf5_data_param.batch_size must be set and positive")
        glog.info("hdf5_data_layer.cpp:81", f"Loading list of HDF5 filenames from: {p.source}")
        try:
            files = Path(p.source).read_text(errors="surrogateescape").split()
        except OSError as problem:
            raise self.error(f"Failed to open source file: {p.source}: {problem}") from problem
        glog.info("hdf5_data_layer.cpp:95", f"Number of HDF5 files: {len(files)}")
        if not files:
            raise self.error(
                f"Check failed: num_files_ >= 1 (0 vs. 1) Must have at least 1 HDF5 filename listed in {p.source}"
            )
        generator = np.random.default_rng(rng.next_seed())
        rows = HDF5Rows(files, list(self.param.top), p.batch_size, p.shuffle, generator, self.shares)
        self._shapes: list[Shape] = [(p.batch_size, *shape) for shape in rows.shapes]
        self._prefetcher = Prefetcher(rows, self.param.data_param.prefetch)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return self._shapes

    def stage(self) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(array).to(self.device) for array in self._prefetcher.next().arrays)

    def compute(self, *staged: torch.Tensor) -> list[torch.Tensor]:
        self._shapes = [tuple(tensor.shape) for tensor in staged]
        return list(staged)


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its two bottoms to ``file_name``: datasets ``data`` and ``label``, a batch's rows after the other's.

    Both have four axes, the last of length 1 where the bottom has fewer. (BVLC Caffe fails at the second batch.)
    The file appears, whole, when the net is closed or let go of.

    Shapes:
        bottoms: [n, ...] of up to four axes; all but n must stay the same.
    """

    bottoms = (2, 2)
    tops = (0, 0)
    differentiable = (False,)
    waits = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        self._target = self.param.hdf5_output_param.file_name
        if not self._target:
            raise self.error("hdf5_output_param.file_name must be given")
        opened = ExitStack()
        try:
            self._file = opened.enter_context(writing(self._target))
        except WriteError as problem:
            raise self.error(f"Check failed: file_id_ >= 0 Failed to open HDF5 file: {problem}") from problem
        self._finish = weakref.finalize(self, opened.close)  # also where nobody closes the net

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        data, label = bottoms
        if max(len(data), len(label)) > 4:
            raise self.error(f"Cannot use legacy accessors on Blobs with > 4 axes: {list(data)}, {list(label)}")
        if data[:1] != label[:1]:
            raise self.error(
                "Check failed: data_blob_.num() == label_blob_.num() data blob and label blob must have the same "
                f"batch size; their shapes are {list(data)} and {list(label)}"
            )
        return []

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        if not self._finish.alive:
            raise self.error(f"{self._target} is closed already")
        glog.info("hdf5_output_layer.cpp:33", f"Saving HDF5 file {self._target}")
        for name, values in zip(("data", "label"), bottoms, strict=True):
            rows = values.detach().cpu().numpy()
            self._append(name, rows.reshape(rows.shape + (1,) * (4 - rows.ndim)))
        glog.info("hdf5_output_layer.cpp:38", f"Successfully saved {len(rows)} rows")
        return []

    def _append(self, name: str, rows: np.ndarray) -> None:
        if name not in self._file:
            self._file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]))
            return
        dataset = self._file[name]
        if dataset.shape[1:] != rows.shape[1:]:
            raise self.error(f"rows of {name} had the shape {dataset.shape[1:]}, now they have {rows.shape[1:]}")
        dataset.resize(len(dataset) + len(rows), axis=0)
        dataset[-len(rows) :] = rows

    def close(self) -> None:
        self._finish()
