"""Solvers: the loop, one file an update rule, learning rates and snapshots."""

from caffe.solvers import sgd

__all__ = ["sgd"]
