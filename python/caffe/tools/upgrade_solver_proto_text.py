"""upgrade_solver_proto_text: a solver's prototxt of any age, in the current format.

upgrade_solver_proto_text old_solver.prototxt solver.prototxt
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

from caffe import glog
from caffe.proto.binary import whole_file
from caffe.proto.caffe_pb2 import SolverParameter
from caffe.proto.text import read_as_it_is, to_text
from caffe.proto.upgrade import needs_solver_type, upgrade_solver_type
from caffe.tools.flags import Command, parse, run

COMMAND = Command(
    name="upgrade_solver_proto_text",
    usage="OLD_PROTOTXT NEW_PROTOTXT",
    summary=(
        'Read the solver\'s prototxt OLD_PROTOTXT and write it to NEW_PROTOTXT with type: "Adam" for\n'
        "solver_type: ADAM and the like; comments are lost."
    ),
    examples=("upgrade_solver_proto_text old_solver.prototxt solver.prototxt",),
    flags=(),
    takes=(2, 2),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return run(lambda: upgrade(*parse(COMMAND, argv)))


def upgrade(_: SimpleNamespace, arguments: Sequence[str]) -> int:
    """Read, upgrade and write the solver."""
    source, target = arguments
    solver = read_as_it_is(source, SolverParameter())
    if needs_solver_type(solver):
        upgrade_solver_type(solver, source)
    else:
        glog.error("upgrade_solver_proto_text.cpp:43", f"File already in latest proto format: {source}")
    with whole_file(target) as file:
        file.write(to_text(solver).encode())
    glog.info("upgrade_solver_proto_text.cpp:49", f"Wrote upgraded SolverParameter text proto to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
