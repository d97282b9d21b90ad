"""Caffe's commands, one file each."""
