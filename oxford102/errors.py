"""The toolkit's one exception, and the one place that turns it into an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class ToolError(RuntimeError):
    """Something the user can mend; the message names the file, what was expected, what came and the cure."""


def _wait_briefly() -> None:
    """Let PyTorch's threads, which are to be loaded yet, spin for a moment before they sleep, as the caffe command."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")


def exit_status(command: str, work: Callable[[], None]) -> int:
    """Run a command's `work`: 0 when it ends well, 1 after an error (told in one message), 130 on Ctrl-C."""
    _wait_briefly()
    try:
        work()
    except ToolError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except KeyboardInterrupt:
        sys.unraisablehook = lambda _: None  # objects that were half made complain when they are let go
        print(f"\n{command}: stopped; run it again to go on", file=sys.stderr)
        return 130
    else:
        return 0
    print(f"{command}: error: {message}", file=sys.stderr)
    return 1
