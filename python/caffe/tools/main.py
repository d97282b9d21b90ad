"""The ``caffe`` command: which action, and what all actions share. Each action's work is a file of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

from caffe.errors import CaffeError
from caffe.threads import wait_briefly
from caffe.tools.flags import Command, Flag, asked_to_complete, help_text, parse, run

EFFECTS = ("stop", "snapshot", "none")

FLAGS = {
    flag.name: flag
    for flag in (
        Flag(
            "gpu",
            str,
            "",
            'GPU to run on: its number; train: a comma list, or "all". Without it the CPU, unless the solver says GPU.',
        ),
        Flag(
            "precision",
            str,
            "tf32",
            "How convolutions and inner products multiply: tf32 is fp32 on a CPU; bf16 pays on GPUs and on CPUs that "
            "multiply in it (AMX, AVX512_BF16), fp16 on GPUs.",
            ("fp32", "tf32", "bf16", "fp16"),
        ),
        Flag("solver", str, "", "The solver's prototxt."),
        Flag("model", str, "", "The net's prototxt."),
        Flag("phase", str, "", "TRAIN or TEST; the phase of a net that is not trained.", ("TRAIN", "TEST")),
        Flag("level", int, 0, "The net's level, for layers with include { min_level } and the like."),
        Flag("stage", str, "", "The net's stages, a comma list, for layers with include { stage }."),
        Flag("snapshot", str, "", "A .solverstate to resume training from (exactly, with its .runstate beside it)."),
        Flag("weights", str, "", "A .caffemodel to start from (train: a comma list). Excludes -snapshot."),
        Flag("iterations", int, 50, "How many batches to run."),
        Flag("sigint_effect", str, "stop", "What SIGINT does while training: stop, snapshot or none.", EFFECTS),
        Flag("sighup_effect", str, "snapshot", "What SIGHUP does while training: stop, snapshot or none.", EFFECTS),
        Flag("check", bool, False, "Train nothing: check nets, weights and every record, and list all problems."),
        Flag("resume", bool, False, "Go on from the newest whole snapshot of the solver's prefix, if there is one."),
        Flag("keep", int, 0, "Keep only so many snapshots of the solver's prefix, the newest; 0 keeps all."),
        Flag("csv", str, "", "Write rates, losses and outputs into this table too."),
        Flag("tensorboard", str, "", "Write them as TensorBoard events into this folder too."),
    )
}


def _command(name: str, usage: str, summary: str, flags: str, *examples: str) -> Command:
    return Command(f"caffe {name}", usage, summary, examples, tuple(FLAGS[f] for f in flags.split()))


ACTIONS = {
    "train": _command(
        "train",
        "-solver SOLVER [-weights MODEL | -snapshot STATE] [FLAGS]",
        "Train or fine-tune a net. The log goes to standard error; snapshots go where the solver says.\n\n"
        "Ctrl-C (or SIGTERM) ends the run after a snapshot, a second one at once; SIGHUP makes a snapshot. The exit\n"
        "status is 0 when done, 1 after an error, 2 for a flag that cannot be read, 130 after an interrupt. A loss\n"
        "that is no number stops the run and names the layer where it began.",
        "solver weights snapshot resume keep check csv tensorboard gpu precision level stage "
        "sigint_effect sighup_effect",
        "caffe train -solver solver.prototxt -weights pretrained-weights.caffemodel -gpu 0",
        "caffe train -solver solver.prototxt -snapshot caffenet_iter_10000.solverstate",
        "caffe train -solver solver.prototxt 2>&1 | tee training.log",
        "caffe train -solver solver.prototxt -weights pretrained-weights.caffemodel -check",
        "caffe train -solver solver.prototxt -weights pretrained-weights.caffemodel -resume -keep 3 -csv training.csv",
    ),
    "test": _command(
        "test",
        "-model NET -weights MODEL [-iterations N] [FLAGS]",
        "Run a net over N batches of its data and print the mean of every output.",
        "model weights iterations gpu precision level stage",
        "caffe test -model test.prototxt -weights caffenet_iter_30000.caffemodel -iterations 143 -gpu 0",
    ),
    "time": _command(
        "time",
        "-model NET [-weights MODEL] [-iterations N] [-phase TRAIN | TEST] [FLAGS]",
        "Time each layer of a net, forward and backward; tell its size, cost and share of the machine's peak.\n\n"
        "Caffe's report goes to standard error, the table to standard output. FLOPs are those of the forward\n"
        "pass: a multiplication with an addition is two, any function one. Bytes are bottoms, tops and parameters\n"
        "as float32. The peak is that of a large float32 matrix product, measured at the end of the run; a share\n"
        "above 100 % is one of a convolution that needs fewer operations, or less precise ones.",
        "model weights iterations phase gpu precision level stage",
        "caffe time -model train_val.prototxt -iterations 10",
        "caffe time -model deploy.prototxt -phase TEST -gpu 0 2> time.log",
    ),
    "device_query": _command(
        "device_query",
        "[-gpu N | all]",
        "Tell what there is to compute on: the GPUs, and the processor and its memory.",
        "gpu",
        "caffe device_query",
        "caffe device_query -gpu 0",
    ),
}

OVERVIEW = Command(
    "caffe",
    "ACTION [FLAGS]",
    "Caffe: train and test networks described in prototxt files.\n\nActions:\n"
    + "\n".join(f"    {name:<12} {action.summary.splitlines()[0]}" for name, action in ACTIONS.items())
    + "\n\n`caffe ACTION --help` tells the flags of an action.",
    tuple(example for action in ACTIONS.values() for example in action.examples[:1]),
    (),
    actions=tuple(ACTIONS),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    wait_briefly()
    return run(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: list[str]) -> int:
    asked = asked_to_complete()
    named = next((word for word in (asked[0] if asked else argv) if word in ACTIONS), "")
    command = ACTIONS[named] if named else OVERVIEW
    # as in Caffe, an action takes the flags of the others too
    options, words = parse(replace(command, also=tuple(FLAGS.values())), argv)
    if len(words) != 1:
        print(help_text(OVERVIEW), file=sys.stderr)
        return 2
    if words[0] not in ACTIONS:
        raise CaffeError(f"Unknown action: {words[0]} (known actions: {', '.join(ACTIONS)})")
    action: Callable[[SimpleNamespace], int] = import_module(f"caffe.tools.{words[0]}").work
    return action(options)
