"""The ``caffe`` command: which action, and what all actions share. Each action's work is a file of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

from caffe.errors import CaffeError
from caffe.tools.flags import Command, Flag, HelpAsked, help_text, parse, run

FLAGS = {
    flag.name: flag
    for flag in (
        Flag("gpu", str, "", 'GPU to run on: its number, or "all". Without it the CPU, unless the solver says GPU.'),
        Flag("solver", str, "", "The solver's prototxt."),
        Flag("model", str, "", "The net's prototxt."),
        Flag("phase", str, "", "TRAIN or TEST; the phase of a net that is not trained."),
        Flag("level", int, 0, "The net's level, for layers with include { min_level } and the like."),
        Flag("stage", str, "", "The net's stages, a comma list, for layers with include { stage }."),
        Flag("snapshot", str, "", "A .solverstate to resume training from (exactly, with its .runstate beside it)."),
        Flag("weights", str, "", "A .caffemodel to start from (train: a comma list). Excludes -snapshot."),
        Flag("iterations", int, 50, "How many batches to run."),
        Flag("sigint_effect", str, "stop", "What SIGINT does while training: stop, snapshot or none."),
        Flag("sighup_effect", str, "snapshot", "What SIGHUP does while training: stop, snapshot or none."),
    )
}


def _command(name: str, usage: str, summary: str, flags: str, *examples: str) -> Command:
    return Command(f"caffe {name}", usage, summary, examples, tuple(FLAGS[f] for f in flags.split()))


ACTIONS = {
    "train": _command(
        "train",
        "-solver SOLVER [-weights MODEL | -snapshot STATE] [FLAGS]",
        "Train or fine-tune a net. The log goes to standard error; snapshots go where the solver says.",
        "solver weights snapshot gpu level stage sigint_effect sighup_effect",
        "caffe train -solver solver.prototxt -weights pretrained-weights.caffemodel -gpu 0",
        "caffe train -solver solver.prototxt -snapshot caffenet_iter_10000.solverstate",
        "caffe train -solver solver.prototxt 2>&1 | tee training.log",
    ),
    "test": _command(
        "test",
        "-model NET -weights MODEL [-iterations N] [FLAGS]",
        "Run a net over N batches of its data and print the mean of every output.",
        "model weights iterations gpu level stage",
        "caffe test -model test.prototxt -weights caffenet_iter_30000.caffemodel -iterations 143 -gpu 0",
    ),
}

OVERVIEW = Command(
    "caffe",
    "ACTION [FLAGS]",
    "Caffe: train and test networks described in prototxt files.\n\nActions:\n"
    + "\n".join(f"    {name:<8} {action.summary}" for name, action in ACTIONS.items())
    + "\n\n`caffe ACTION --help` tells the flags of an action.",
    tuple(example for action in ACTIONS.values() for example in action.examples[:1]),
    (),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    # before PyTorch is loaded: threads that wait must not spin on a core that another process needs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: list[str]) -> int:
    try:
        options, words = parse(Command("caffe", "", "", (), tuple(FLAGS.values())), argv)
    except HelpAsked:
        named = next((word for word in argv if word in ACTIONS), None)
        raise HelpAsked(help_text(ACTIONS[named] if named else OVERVIEW)) from None
    if len(words) != 1:
        print(help_text(OVERVIEW), file=sys.stderr)
        return 2
    if words[0] not in ACTIONS:
        raise CaffeError(f"Unknown action: {words[0]} (known actions: {', '.join(ACTIONS)})")
    action: Callable[[SimpleNamespace], int] = import_module(f"caffe.tools.{words[0]}").work
    return action(options)
