"""Solvers: the loop, one file an update rule, learning rates and snapshots. Importing it registers every rule."""

from caffe.solvers import adadelta, adagrad, adam, nesterov, rmsprop, sgd

__all__ = ["adadelta", "adagrad", "adam", "nesterov", "rmsprop", "sgd"]
