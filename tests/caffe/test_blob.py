"""Blobs: live views, lazily made memory, legacy shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import caffe


def test_a_view_shows_what_comes_later() -> None:
    blob = caffe.Blob((2, 3))
    view = blob.data
    assert view.dtype == np.float32
    assert not view.any()
    blob.set_data(torch.arange(6.0).view(2, 3))
    np.testing.assert_array_equal(view, [[0, 1, 2], [3, 4, 5]])
    view[0, 0] = 9
    assert blob.data_tensor()[0, 0] == 9


def test_memory_that_nobody_looked_at_is_adopted_without_a_copy() -> None:
    blob, values = caffe.Blob((4,)), torch.ones(4)
    blob.set_data(values)
    assert blob.data_tensor() is values


def test_gradients_add_up_and_clear() -> None:
    blob = caffe.Blob((2,))
    assert not blob.has_diff
    blob.add_diff(torch.tensor([1.0, 2.0]))
    blob.add_diff(torch.tensor([1.0, 2.0]))
    np.testing.assert_array_equal(blob.diff, [2, 4])
    view = blob.diff
    blob.clear_diff()
    np.testing.assert_array_equal(view, [0, 0])


def test_reshape_keeps_the_memory_while_it_is_large_enough() -> None:
    blob = caffe.Blob((2, 3))
    blob.set_data(torch.arange(6.0).view(2, 3))
    before = blob.data
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, [[0, 1], [2, 3], [4, 5]])
    assert blob.diff.shape == (3, 2)
    blob.reshape(1, 4)
    np.testing.assert_array_equal(blob.data, [[0, 1, 2, 3]])
    blob.set_data(torch.full((1, 4), 7.0))
    np.testing.assert_array_equal(before, [[7, 7, 7], [7, 4, 5]])
    blob.data[0, 0] = 9
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, [[9, 7], [7, 7], [4, 5]])
    blob.reshape(7)
    assert not blob.data.any()


def test_no_axis_is_below_zero_long() -> None:
    blob = caffe.Blob((2, 3))
    blob.reshape(0, 3)
    assert blob.count == 0
    with pytest.raises(caffe.CaffeError, match=r"shape\[i\] >= 0: a blob cannot have the shape \[2, -1\]"):
        blob.reshape(2, -1)


def test_a_smaller_shape_does_not_grow_into_what_another_tensor_left() -> None:
    blob = caffe.Blob((6,))
    blob.set_data(torch.arange(6.0))
    blob.reshape(2)
    blob.set_data(torch.arange(8.0)[:2])  # the beginning of somebody else's memory
    blob.reshape(6)
    assert not blob.data.any()


def test_the_shape_of_an_array_is_the_callers_own() -> None:
    blob = caffe.Blob((2, 3))
    blob.data.shape = (6,)
    blob.diff.shape = (6,)
    assert blob.data.shape == blob.diff.shape == blob.shape == (2, 3)


def test_legacy_accessors() -> None:
    blob = caffe.Blob((5, 4))
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (5, 4, 1, 1, 20)
    with pytest.raises(caffe.CaffeError, match="Cannot use legacy accessors on Blobs with > 4 axes"):
        _ = caffe.Blob((1, 1, 1, 1, 1)).num


def test_a_memory_format_of_its_own_does_not_show() -> None:
    values = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    blob = caffe.Blob((1, 2, 3, 4))
    blob.set_data(values)
    assert blob.data.flags.c_contiguous
    np.testing.assert_array_equal(blob.data.ravel(), np.arange(24))


def test_a_blob_seen_in_another_shape_shares_values_and_gradients() -> None:
    owner = caffe.Blob((2, 3))
    other = owner.seen_as((6,))
    other.data[...] = np.arange(6)
    other.add_diff(torch.ones(6))
    np.testing.assert_array_equal(owner.data, [[0, 1, 2], [3, 4, 5]])
    assert owner.diff.sum() == 6


def test_memory_of_a_device_stays_where_it_is() -> None:
    blob = caffe.Blob((2, 3), torch.device("cuda"))  # tells host and device apart, wherever the tensors are
    values = torch.arange(6.0).view(3, 2).t()  # no memory order that numpy would show
    blob.set_data(values)
    view = blob.data
    np.testing.assert_array_equal(view, values)
    view[1, 2] = 50
    assert values[1, 2] == 5
    assert blob.data_tensor() is values
    assert values[1, 2] == 50
    values[0, 0] = 7
    assert view[0, 0] == 0
    assert np.shares_memory(blob.data, view)
    assert view[0, 0] == 7
    blob.set_data(torch.full((2, 3), 8.0))
    assert np.shares_memory(blob.data, view)
    assert (view == 8).all()


def test_a_number_that_fills_a_device_may_be_written_over() -> None:
    """The gradient of a sum is one number in many places."""
    blob = caffe.Blob((2, 3), torch.device("cuda"))
    blob.set_diff(torch.ones(()).expand(2, 3))
    blob.diff[0, 1] = 5
    np.testing.assert_array_equal(blob.diff_tensor(), [[1, 5, 1], [1, 1, 1]])


def test_what_shares_memory_on_a_device_does_not_write_old_values_to_it() -> None:
    """A Split's tops are its bottom's memory, a Slice's are parts of it; here they are looked at, then reshaped."""
    device = torch.device("cuda")
    bottom, top, part = (caffe.Blob(shape, device) for shape in ((2, 3), (2, 3), (1, 3)))
    bottom.set_data(torch.arange(6.0).view(2, 3))
    top.set_data(bottom.data_tensor())
    part.set_data(bottom.data_tensor()[1:])
    assert top.data.sum() + part.data.sum() == 15 + 12
    part.data[...] = 7
    np.testing.assert_array_equal(part.data_tensor(), [[7, 7, 7]])
    np.testing.assert_array_equal(bottom.data, [[0, 1, 2], [3, 4, 5]])
    bottom.reshape(1, 3)
    bottom.data[...] = 9
    np.testing.assert_array_equal(bottom.data_tensor(), [[9, 9, 9]])
    top.reshape(1, 3)
    np.testing.assert_array_equal(top.data, [[0, 1, 2]])
    np.testing.assert_array_equal(bottom.data_tensor(), [[9, 9, 9]])
