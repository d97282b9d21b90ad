"""upgrade_net_proto_text: a net's prototxt of any age, in the current format.

upgrade_net_proto_text old_train_val.prototxt train_val.prototxt
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

from caffe import glog
from caffe.proto.binary import whole_file
from caffe.proto.caffe_pb2 import NetParameter
from caffe.proto.text import read_as_it_is, to_text
from caffe.proto.upgrade import needs_upgrade, try_upgrade_net
from caffe.tools.flags import Command, parse, run

COMMAND = Command(
    name="upgrade_net_proto_text",
    usage="OLD_PROTOTXT NEW_PROTOTXT",
    summary=(
        "Read the net's prototxt OLD_PROTOTXT, of any age (layers { type: CONVOLUTION }, input_dim, ...), and write\n"
        "it to NEW_PROTOTXT in the current format; comments are lost. The exit status is 1 where something in it\n"
        "has no place in the current format: the log says what; all else is written."
    ),
    examples=("upgrade_net_proto_text VGG_ILSVRC_16_layers_deploy.prototxt deploy.prototxt",),
    flags=(),
    takes=(2, 2),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return run(lambda: upgrade(*parse(COMMAND, argv)))


def upgrade(_: SimpleNamespace, arguments: Sequence[str]) -> int:
    """Read, upgrade and write the net; 1 where not all of it could be kept."""
    source, target = arguments
    net, complete = read_as_it_is(source, NetParameter()), True
    if needs_upgrade(net):
        net, complete = try_upgrade_net(net, source)
    else:
        glog.error("upgrade_net_proto_text.cpp:43", f"File already in latest proto format: {source}")
    if not complete:
        problem = "Encountered error(s) while upgrading prototxt; see details above."
        glog.error("upgrade_net_proto_text.cpp:39", problem)
    with whole_file(target) as file:
        file.write(to_text(net).encode())
    glog.info("upgrade_net_proto_text.cpp:49", f"Wrote upgraded NetParameter text proto to {target}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
