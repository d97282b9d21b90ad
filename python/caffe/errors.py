"""Every error a user can cause, as one tree.

    CaffeError (a RuntimeError, as pycaffe raised)
    ├── FormatError     a prototxt, caffemodel, solverstate or log that cannot be read as what it should be
    ├── NetError        layers that do not fit together: names, phases, blobs, shared parameters
    ├── LayerError      one layer: its parameters, the shapes of its bottoms, the values it met
    │   └── OutOfMemoryError
    ├── WeightsError    weights that do not fit the net they are copied to
    ├── SolverError     a solver file that contradicts itself or the run it is asked to do
    ├── DataError       a list, a database, a picture or a mean file
    │   └── PictureError    what is no picture: an OSError too, as it was in pycaffe
    ├── WriteError      a file that cannot be written: no space, no permission, no folder
    └── DeviceError     a device that is not there or not named rightly

A message names the file or layer, what was expected, what came and the cure, and holds the text of
BVLC Caffe's own check, so that an old error message still finds its cure in a search engine.
Commands print it as one ``F`` log line and exit 1; a traceback is for bugs.
"""

from __future__ import annotations


class CaffeError(RuntimeError):
    """Base of all errors that the user can mend."""


def short_of_memory(problem: BaseException) -> str:
    """What numpy, PyTorch or OpenCV say where no memory was left; empty where the error is another one."""
    text = " ".join(str(problem).split())
    ours = isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError"
    if not (ours or "you tried to allocate" in text or "Insufficient memory" in text):
        return ""
    return f"Out of memory: {text.rpartition('Allocator: ')[2] or 'none is left'}"


class FormatError(CaffeError):
    """A file's content cannot be read as what it should be."""


class NetError(CaffeError):
    """Layers do not fit together into a net."""


class LayerError(CaffeError):
    """One layer cannot do what its parameters or bottoms ask for."""

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(f"Layer '{layer}': {message}")
        self.layer = layer


class OutOfMemoryError(LayerError):
    """There is not enough memory for what a layer is to hold; ``problem`` says how much it was."""

    def __init__(self, layer: str, problem: BaseException) -> None:
        super().__init__(
            layer,
            f"{short_of_memory(problem)}. Lower batch_size (in training with iter_size as many times higher, which "
            "gives the same gradients) or the pictures' size, or compute in -precision bf16",
        )


def failed(layer: str, problem: Exception) -> LayerError:
    """The error of a layer in which another one came up that is not Caffe's: memory ended, or a number is beyond it."""
    if short_of_memory(problem):
        return OutOfMemoryError(layer, problem)
    what = " ".join(str(problem).split()) or type(problem).__name__
    return LayerError(layer, f"{what}: it cannot do what its settings, or the shapes of its bottoms, ask for")


class WeightsError(CaffeError):
    """Weights do not fit the net they are copied to."""


class SolverError(CaffeError):
    """A solver's settings contradict each other or the run."""


class DataError(CaffeError):
    """A list, database, picture or mean file cannot be used."""


class PictureError(DataError, OSError):
    """What should be a picture is none."""


class WriteError(CaffeError):
    """A file cannot be written; what was there before is as it was."""


class DeviceError(CaffeError):
    """The device asked for is not there."""
