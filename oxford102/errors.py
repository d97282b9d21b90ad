"""The toolkit's one exception, how others become it, and the one place that turns it into an exit status."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ToolError(RuntimeError):
    """Something the user can mend; the message names the file, what was expected, what came and the cure."""


@contextmanager
def told(what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into a ToolError about `what`, in one line.

    What names its file already passes as it is: a ToolError, or an error of the system.
    """
    try:
        yield
    except (ToolError, OSError):
        raise
    except kinds as error:
        raise ToolError(f"{what}: {' '.join(str(error).split())}") from error


def exit_status(command: str, work: Callable[[], None]) -> int:
    """Run a command's `work`: 0 when it ends well, 1 after an error (told in one message), 130 on Ctrl-C."""
    if "OMP_WAIT_POLICY" not in os.environ:  # before PyTorch is loaded: its threads wait as the caffe command's
        os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000"} | os.environ)
    try:
        work()
    except ToolError as error:
        message = str(error)
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        message += "; make room, or name another place" if error.errno == errno.ENOSPC else ""
    except Exception as error:
        message = " ".join(str(error).split())
        # numpy, OpenCV and PyTorch, each in its own words
        if not isinstance(error, MemoryError) and not re.search(
            "out of memory|nsufficient memory|tried to allocate", message
        ):
            raise
        message = f"not enough memory: {message}; take smaller pictures, or fewer at a time"
    except KeyboardInterrupt:
        sys.unraisablehook = lambda _: None  # objects that were half made complain when they are let go
        print(f"\n{command}: stopped; run it again to go on", file=sys.stderr)
        return 130
    else:
        return 0
    print(f"{command}: error: {message}", file=sys.stderr)
    return 1
