"""Layers that read arrays from HDF5 files and write them there: HDF5Data, HDF5Output."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from caffe import glog, rng
from caffe.errors import DataError
from caffe.layers.base import Layer, Shape
from caffe.layers.registry import register


@register("HDF5Data")
class HDF5Data(Layer):
    """Rows of HDF5 files; each top is the dataset of its own name.

    ``source`` lists the files, one a line. With ``shuffle`` the files and the rows in each come in a new
    order each time round. A batch may take rows from several files.

    Shapes:
        top[i]: [batch_size, ...], the dataset's own other axes, at least none.
    """

    bottoms = (0, 0)
    tops = (1, None)
    is_data = True

    def setup(self, bottoms: Sequence[Shape]) -> None:
        p = self.param.hdf5_data_param
        if self.param.HasField("transform_param"):
            raise self.error(
                f"Check failed: !this->layer_param_.has_transform_param() {self.type} does not transform data. "
                "Transform it before it is written to the file, or with Scale and Bias layers"
            )
        if not p.batch_size:
            raise self.error("hdf5_data_param.batch_size must be set and positive")
        glog.info("hdf5_data_layer.cpp:76", f"Loading list of HDF5 filenames from: {p.source}")
        try:
            self._files = Path(p.source).read_text().split()
        except OSError as problem:
            raise self.error(f"Failed to open source file: {p.source}: {problem}") from problem
        glog.info("hdf5_data_layer.cpp:90", f"Number of HDF5 files: {len(self._files)}")
        if not self._files:
            raise self.error(
                f"Check failed: num_files_ >= 1 (0 vs. 1) Must have at least 1 HDF5 filename listed in {p.source}"
            )
        self._generator = np.random.default_rng(rng.next_seed())
        self._round = self._generator.bit_generator.state  # as this time round the list began
        self._taken = 0  # rows of it
        self._pieces = self._read_on()
        self._rest: list[np.ndarray] = next(self._pieces)

    def reshape(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(self.param.hdf5_data_param.batch_size, *array.shape[1:]) for array in self._rest]

    def forward(self, *bottoms: torch.Tensor) -> list[torch.Tensor]:
        missing, parts = self.param.hdf5_data_param.batch_size, []
        while missing:
            if not len(self._rest[0]):
                self._rest = next(self._pieces)
            parts.append([array[:missing] for array in self._rest])
            self._rest = [array[missing:] for array in self._rest]
            missing -= len(parts[-1][0])
            self._taken += len(parts[-1][0])
        try:
            tops = [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
        except ValueError as problem:
            raise DataError(
                f"Layer '{self.name}': the files of {self.param.hdf5_data_param.source} hold rows of different "
                f"shapes: {problem}"
            ) from problem
        return [torch.from_numpy(top).to(self.device) for top in tops]

    def state(self) -> dict[str, Any]:
        """Reading position, in plain values."""
        return {"round": self._round, "taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on reading from where `state` was taken."""
        self._generator.bit_generator.state = state["round"]
        self._pieces = self._read_on()
        self._rest, skip = next(self._pieces), state["taken"]
        while skip > len(self._rest[0]):
            skip -= len(self._rest[0])
            self._rest = next(self._pieces)
        self._rest = [array[skip:] for array in self._rest]
        self._taken = state["taken"]

    def _order(self, count: int) -> np.ndarray:
        return self._generator.permutation(count) if self.param.hdf5_data_param.shuffle else np.arange(count)

    def _read_on(self) -> Iterator[list[np.ndarray]]:
        """All rows of one file after the other, in their order, for ever; a lone file is read only once."""
        arrays: list[np.ndarray] = []
        while True:
            self._round, self._taken = self._generator.bit_generator.state, 0
            for number in self._order(len(self._files)):
                if not arrays or len(self._files) > 1:
                    arrays = self._read(self._files[number])
                rows = self._order(len(arrays[0]))
                yield [array[rows] for array in arrays]

    def _read(self, path: str) -> list[np.ndarray]:
        try:
            with h5py.File(path, "r") as file:
                arrays = [self._dataset(file, path, name) for name in self.param.top]
        except OSError as problem:
            raise DataError(f"Layer '{self.name}': Failed opening HDF5 file: {path}: {problem}") from problem
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise DataError(
                f"Layer '{self.name}': {path}: Check failed: hdf_blobs_[i]->shape(0) == num: the datasets of all tops "
                f"must have the same number of rows, at least one; {', '.join(self.param.top)} have {lengths}"
            )
        return arrays

    def _dataset(self, file: h5py.File, path: str, name: str) -> np.ndarray:
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(
                f"Layer '{self.name}': {path}: Failed to find HDF5 dataset {name}; the tops must be named like the "
                f"datasets: {', '.join(file)}"
            )
        if dataset.dtype.kind not in "fiu":
            raise DataError(f"Layer '{self.name}': {path}: {name}: Unsupported datatype class: {dataset.dtype}")
        if not dataset.ndim:
            raise DataError(f"Layer '{self.name}': {path}: {name}: Input must have at least 1 axis.")
        return np.asarray(dataset[()], np.float32)


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

    def setup(self, bottoms: Sequence[Shape]) -> None:
        name = self.param.hdf5_output_param.file_name
        if not name:
            raise self.error("hdf5_output_param.file_name must be given")
        self._target = Path(name)
        temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}.tmp")
        try:
            self._file = h5py.File(temporary, "w")
        except OSError as problem:
            raise self.error(f"Check failed: file_id_ >= 0 Failed to open HDF5 file{name}: {problem}") from problem
        # also where nobody closes the net
        self._finish = weakref.finalize(self, _finish, self._file, temporary, self._target)

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
        glog.info("hdf5_output_layer.cpp:31", f"Saving HDF5 file {self._target}")
        for name, values in zip(("data", "label"), bottoms, strict=True):
            rows = values.detach().cpu().numpy()
            self._append(name, rows.reshape(rows.shape + (1,) * (4 - rows.ndim)))
        glog.info("hdf5_output_layer.cpp:36", f"Successfully saved {len(rows)} rows")
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


def _finish(file: h5py.File, temporary: Path, target: Path) -> None:
    file.close()
    temporary.replace(target)
