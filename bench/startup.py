"""How long the commands take before their work begins.

    python bench/startup.py

``caffe --help`` takes turns with an interpreter that does nothing. ``caffe time`` of CaffeNet as it trains is
watched from the moment when PyTorch is imported until its benchmark begins, less the one iteration that it runs to warm
up; that takes turns with a process that imports PyTorch and nothing else. Printed are medians.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from nets import training_net
from timing import medians, or_help

BATCH = 50
WATCH = """
import sys, time
import torch
start = time.perf_counter()
from caffe import glog
lines = []
glog.write_to_terminal = lambda line: lines.append((line, time.perf_counter() - start))
from caffe.tools.main import main
main(["time", "-model", sys.argv[1], "-iterations", "3"])
begins = next(seconds for line, seconds in lines if "Benchmark begins" in line)
iteration = next(line for line, _ in lines if "Average Forward-Backward" in line)
print(begins - float(iteration.split()[-2]) / 1000)
"""


def python(*arguments: str) -> str:
    """What a new interpreter prints."""
    environment = {**os.environ, "GLOG_minloglevel": "0"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def started(*arguments: str) -> Callable[[], object]:
    """What starts such an interpreter."""
    return lambda: python(*arguments)


def main() -> int:
    """Print the times."""
    command = "import sys; from caffe.tools.main import main; sys.exit(main(['--help']))"
    told, bare = medians([started("-c", command), started("-c", "pass")], 9)
    print(f"caffe --help: {told:.2f} s, {told / bare:.1f} times the start of an interpreter")
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.prototxt"
        net.write_text(str(training_net("CaffeNet", BATCH)))
        seconds: list[float] = []

        def watched() -> None:
            seconds.append(float(python("-c", WATCH, str(net)).splitlines()[-1]))

        _, torch, bare = medians([watched, started("-c", "import torch"), started("-c", "pass")], 5)
    ready = median(seconds)
    print(f"caffe time of CaffeNet, {BATCH} pictures a batch: begins {ready:.2f} s after PyTorch is imported,")
    print(f"  {ready / (torch - bare):.1f} times as long as importing PyTorch")
    return 0


if __name__ == "__main__":
    or_help(__doc__)
    sys.exit(main())
