"""Which layers a net has in a given state: phase, level and stages against each layer's rules."""

from __future__ import annotations

from caffe import glog
from caffe.errors import NetError
from caffe.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, NetStateRule


def filter_net(param: NetParameter) -> NetParameter:
    """Return the net with the layers whose rules meet ``param.state``; they keep their rules.

    A layer with `include` rules needs one that is met, a layer with `exclude` rules none. NetError if a
    layer has both. The first broken condition of each rule is logged, as in Caffe.
    """
    filtered = NetParameter()
    filtered.CopyFrom(param)
    del filtered.layer[:]
    filtered.layer.extend(layer for layer in param.layer if _included(layer, param.state))
    return filtered


def _included(layer: LayerParameter, state: NetState) -> bool:
    if layer.include and layer.exclude:
        raise NetError(
            f"Layer '{layer.name}': Specify either include rules or exclude rules; not both. "
            f"(it has {len(layer.include)} and {len(layer.exclude)}; write the one as the other's contrary)"
        )
    if layer.include:
        return any(_met(rule, state, layer.name) for rule in layer.include)
    return not any(_met(rule, state, layer.name) for rule in layer.exclude)


def _met(rule: NetStateRule, state: NetState, layer: str) -> bool:
    broken = _broken(rule, state)
    if broken is None:
        return True
    line, condition = broken
    glog.info(f"net.cpp:{line}", f"The NetState {condition} specified by a rule in layer {layer}")
    return False


def _broken(rule: NetStateRule, state: NetState) -> tuple[int, str] | None:
    """Return the first condition of the rule that the state breaks, with Caffe's line of it."""
    if rule.HasField("phase") and state.phase != rule.phase:
        return 296, f"phase ({state.phase}) differed from the phase ({rule.phase})"
    if rule.HasField("min_level") and state.level < rule.min_level:
        return 306, f"level ({state.level}) is above the min_level ({rule.min_level})"
    if rule.HasField("max_level") and state.level > rule.max_level:
        return 316, f"level ({state.level}) is above the max_level ({rule.max_level})"
    for stage in rule.stage:
        if stage not in state.stage:
            return 332, f"did not contain stage '{stage}'"
    for stage in rule.not_stage:
        if stage in state.stage:
            return 347, f"contained a not_stage '{stage}'"
    return None
