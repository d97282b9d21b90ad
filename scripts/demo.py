"""The whole main job on a small set of drawn flowers: `make demo`, or `python scripts/demo.py`.

Makes the data set, fine-tunes a small net from shipped weights, fine-tunes it with its convolutions held,
trains it from scratch, tests all three, predicts two pictures, draws the curves. Every step is a command that
you can type yourself; it is printed before it runs. No network is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oxford102.databases import find_tool
from oxford102.errors import ToolError, exit_status
from oxford102.files import write_whole
from oxford102.log_parser import read_log

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "Demo"
DATA = ROOT / "data" / "demo"
TEST_BATCHES = 9  # of 40 pictures: test.prototxt
SIZE, RESIZE, MEAN = "64", "72", "77,92,98"  # as the nets are trained: crop_size, new_height, mean_value


Words = list[str | Path]


@dataclass(frozen=True)
class Training:
    """One of the three trainings to compare; ``solver`` is a file of models/Demo."""

    name: str
    title: str
    solver: str
    weights: bool


@dataclass(frozen=True)
class Result:
    """What came of a training: accuracies in 0..1, the time it took, its files."""

    title: str
    valid: float
    test: float
    seconds: float
    log: Path
    weights: Path


TRAININGS = (
    Training("finetuned", "fine-tuned, the whole net", "solver.prototxt", weights=True),
    Training("frozen", "fine-tuned, convolutions frozen", "solver_frozen.prototxt", weights=True),
    Training("scratch", "trained from scratch", "solver_scratch.prototxt", weights=False),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the demo: 0, 1 after an error, 2 for usage, 130 after Ctrl-C."""
    raw = argparse.RawDescriptionHelpFormatter
    cli = argparse.ArgumentParser("demo.py", description=__doc__, formatter_class=raw)
    cli.add_argument("--seed", type=int, default=1, help="of the three trainings (1)")
    cli.add_argument("--output", type=Path, default=ROOT / "demo", metavar="DIR", help="where results go (demo)")
    args = cli.parse_args(argv)
    return exit_status("demo.py", lambda: demo(args.output.resolve(), args.seed))


def demo(output: Path, seed: int) -> None:
    """Run all steps, their logs and results in ``output``; raises ToolError where one fails."""
    start = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    print("== the data set: 24 invented flowers, drawn here")
    run([sys.executable, ROOT / "bootstrap.py", "--demo"])
    results = [train_and_test(training, output, seed) for training in TRAININGS]
    print("\n== two predictions, and the curves")
    predictions = predict(results[0].weights, output)
    curves = output / "curves.png"
    labels = [training.name for training in TRAININGS]
    plot: Words = [sys.executable, ROOT / "scripts" / "plot_curves.py", *(result.log for result in results)]
    run([*plot, "--labels", *labels, "-o", curves])
    print(f"\n{table(results)}\n\nAll of it took {time.monotonic() - start:.0f} s. What it made:")
    for path in (DATA, *(path for result in results for path in (result.log, result.weights)), *predictions, curves):
        print(f"  {shown(path)}")


def train_and_test(training: Training, output: Path, seed: int) -> Result:
    """Train with the solver's file and test the weights that come out."""
    print(f"\n== {training.title}")
    log, tested = output / f"{training.name}.log", output / f"{training.name}-test.log"
    prefix = output / "snapshots" / training.name
    text = (MODEL / training.solver).read_text()
    text = with_setting(text, "snapshot_prefix", f'"{os.path.relpath(prefix, MODEL)}"')
    text = with_setting(text, "random_seed", str(seed))
    solver = output / training.solver
    write_whole(solver, text.encode())
    start: Words = ["-weights", MODEL / "pretrained-weights.caffemodel"] if training.weights else []
    seconds = run([find_tool("caffe"), "train", "-solver", solver, *start], MODEL, log)
    weights = prefix.with_name(f"{training.name}_iter_{setting(text, 'max_iter')}.caffemodel")
    flags: Words = ["-model", MODEL / "test.prototxt", "-weights", weights, "-iterations", str(TEST_BATCHES)]
    run([find_tool("caffe"), "test", *flags], MODEL, tested)
    valid, test = read_log(log).tests()[-1].outputs["accuracy"], tested_accuracy(tested)
    print(f"validation {valid:.1%}, test {test:.1%}, {seconds:.1f} s")
    return Result(training.title, valid, test, seconds, log, weights)


def predict(weights: Path, output: Path) -> list[Path]:
    """Name the flowers of the first two test pictures; the drawings that tell them."""
    drawings = []
    for number, line in enumerate((DATA / "test.txt").read_text().splitlines()[:2], 1):
        picture, drawing = Path(line.rsplit(" ", 1)[0]), output / f"prediction-{number}.png"
        net: Words = [MODEL / "deploy.prototxt", weights, MEAN, SIZE, "--resize", RESIZE]
        names: Words = ["--labels", DATA / "labels.txt", "--output", drawing]
        run([sys.executable, ROOT / "predict.py", picture, *net, *names])
        drawings.append(drawing)
    return drawings


def run(command: Sequence[str | Path], folder: Path = ROOT, log: Path | None = None) -> float:
    """Print a command as one would type it, run it in a folder, and return the seconds it took.

    Its standard error goes to the log, where there is one. Raises ToolError where it does not exit with 0.
    """
    line = typed(command, folder, log)
    print(f"$ {line}", flush=True)
    start = time.monotonic()
    with open(log or os.devnull, "wb") as stream:  # noqa: PTH123  (os.devnull is no file of ours)
        done = subprocess.run(command, cwd=folder, stderr=stream if log else None)
    if done.returncode:
        last = f"; its last line:\n{last_line(log)}" if log else ""
        raise ToolError(f"this command failed with exit status {done.returncode}: {line}{last}")
    return time.monotonic() - start


def typed(command: Sequence[str | Path], folder: Path, log: Path | None = None) -> str:
    """The command as one would type it at the repository's root."""
    program = Path(command[0]).name if str(command[0]) != sys.executable else "python"
    words = [os.path.relpath(word, folder) if isinstance(word, Path) else word for word in command[1:]]
    line = shlex.join([program, *words])
    if log:
        line += f" 2> {shlex.quote(os.path.relpath(log, folder))}"
    return line if folder == ROOT else f"(cd {shlex.quote(shown(folder))} && {line})"


def setting(text: str, name: str) -> str:
    """The value of a solver's setting, as written."""
    found = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    if not found:
        raise ToolError(f"a solver of {MODEL} has no line '{name}: …'; take back the file as it was shipped")
    return found[1]


def with_setting(text: str, name: str, value: str) -> str:
    """The solver's text with another value of a setting."""
    setting(text, name)
    return re.sub(rf"^{name}: .*$", lambda _: f"{name}: {value}", text, flags=re.MULTILINE)


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(it wrote nothing)"


def tested_accuracy(log: Path) -> float:
    """The mean accuracy that `caffe test` wrote at its end."""
    found = re.findall(r"\] accuracy = (\S+)$", log.read_text(), re.MULTILINE)
    if not found:
        raise ToolError(f"{log}: no line 'accuracy = …' in it; test.prototxt must end with an Accuracy layer")
    return float(found[-1])


def table(results: Sequence[Result]) -> str:
    """The results as aligned columns."""
    lines = [f"{'':<32} {'validation':>10} {'test':>8} {'seconds':>8}"]
    lines += [f"{r.title:<32} {r.valid:>10.1%} {r.test:>8.1%} {r.seconds:>8.1f}" for r in results]
    return "\n".join(lines)


def shown(path: Path) -> str:
    """A path as seen from the repository's root, or whole where it lies elsewhere."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
