"""Caffe's files as messages: `caffe_pb2` is generated from `caffe.proto`, the rest reads and writes them."""

from caffe.proto import caffe_pb2

__all__ = ["caffe_pb2"]
