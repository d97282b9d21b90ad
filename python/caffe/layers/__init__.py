"""Caffe's layer catalogue, a file a family. Importing the package registers every type."""

from caffe.layers import activation, common, data, loss, normalization, utility, vision

__all__ = ["activation", "common", "data", "loss", "normalization", "utility", "vision"]
