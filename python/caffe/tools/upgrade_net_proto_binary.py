"""upgrade_net_proto_binary: trained weights of any age, in the current format.

upgrade_net_proto_binary VGG_ILSVRC_16_layers.caffemodel vgg16.caffemodel
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

from caffe import glog
from caffe.proto.binary import upgrade_weights
from caffe.tools.flags import Command, parse, run

COMMAND = Command(
    name="upgrade_net_proto_binary",
    usage="OLD_CAFFEMODEL NEW_CAFFEMODEL",
    summary=(
        "Read the weights OLD_CAFFEMODEL, of any age, and write them to NEW_CAFFEMODEL in the current format. The\n"
        "numbers stay the same bytes. The exit status is 1 where something in the file has no place in the current\n"
        "format: the log says what; all else is written."
    ),
    examples=("upgrade_net_proto_binary VGG_ILSVRC_16_layers.caffemodel vgg16.caffemodel",),
    flags=(),
    takes=(2, 2),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return run(lambda: upgrade(*parse(COMMAND, argv)))


def upgrade(_: SimpleNamespace, arguments: Sequence[str]) -> int:
    """Read, upgrade and write the weights; 1 where not all of the file could be kept."""
    source, target = arguments
    needed, complete = upgrade_weights(source, target)
    if not needed:
        glog.error("upgrade_net_proto_binary.cpp:43", f"File already in latest proto format: {source}")
    if not complete:
        problem = "Encountered error(s) while upgrading prototxt; see details above."
        glog.error("upgrade_net_proto_binary.cpp:39", problem)
    glog.info("upgrade_net_proto_binary.cpp:48", f"Wrote upgraded NetParameter binary proto to {target}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
