"""Fold BatchNorm into the layer before or after it. Public as `submodels.fold_batchnorm`."""

import inspect
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .graph import ids, is_whole_picture, replay, trace
from .kinds import CONVOLUTIONS, normalisation
from .memory import cached

_FOLDABLE = {*CONVOLUTIONS, keras.layers.Dense}


class FoldReport(NamedTuple):
    """What `fold_batchnorm` did."""

    folded: dict  # name of a BatchNorm layer → name of the layer that it went into
    left: dict  # name of a BatchNorm layer → why it stayed
    padding: dict  # name of a padding layer → name of the convolution that pads by itself instead


def fold_batchnorm(model, return_report=False, padding=False):
    """The same network with each BatchNorm folded into a neighbouring linear layer, wherever that is exact.

    At inference BatchNorm is y = a·x + b for each channel, with a = γ / √(σ² + ε) and b = β − a·μ (γ, β learned scale
    and shift, μ, σ² moving mean and variance, ε a small constant). A linear layer before it takes a and b into its
    kernel and bias; so does one after it, unless padding with zeros comes between the two.

    Args:
        model: a `keras.Model` that is a graph of layers.
        return_report: also return what was folded and what was not.
        padding: also do without a layer that pads with zeros, where a convolution that is folded anyway comes after it
            and pads just so with `padding="same"`. Copying the maps for it costs a tenth of a pass of MobileNetV2.

    Returns:
        A `keras.Model`; layers that took nothing in are shared with `model`, the others are new. The name of a folded
        BatchNorm stays valid as a layer name, and means the output of the layer that it went into (or, folded
        into the layer after it, the input of that). With `return_report=True`, `(model, FoldReport)`.
    """
    graph = trace(model)
    plan, report = _plan(graph)
    if padding:
        report.padding.update(_needless_padding(graph, plan))

    def replace(call):
        if call.name in report.folded or call.name in report.padding:
            return None
        same = {"padding": "same"} if call.name in report.padding.values() else {}
        return _folded_layer(call.operation, plan[call.name], **same) if call.name in plan else call.operation

    result = replay(graph, replace).model()
    return (result, report) if return_report else result


def following(model):
    """The network with BatchNorm folded, up to date with the weights of `model`, and what that has changed.

    What is not folded is shared with the model and follows it; what is folded is a copy, made again when it is stale.

    Returns:
        `(network, changed)`: a `keras.Model` (the given one, where there is nothing to fold, with float32 in place of
        whole numbers), and the set of names of layers that put out something else in it than in the given one.
    """

    def build():
        network, report = fold_batchnorm(model, return_report=True, padding=True)
        took = set(report.folded.values())
        order = [call.name for call in trace(model).calls]
        changed = took | set(report.padding)
        changed |= {name for name, into in report.folded.items() if order.index(into) > order.index(name)}
        read = _fingerprint([call.operation for call in trace(model).calls if call.name in took | set(report.folded)])
        if not changed:
            network = trace(model).model() if any(map(is_whole_picture, model.inputs)) else model
        return {"network": network, "changed": changed, "read": read, "state": read()}

    kept = cached(model, "following", build)
    state = kept["read"]()
    if state != kept["state"]:
        kept["network"].set_weights(fold_batchnorm(model, padding=True).get_weights())
        kept["state"] = state
    return kept["network"], kept["changed"]


def _fingerprint(layers):
    """A function that gives a few bytes which change with the weights of these layers, in a fraction of a pass."""
    weights = [weight.value for layer in layers for weight in layer.weights]

    @tf.function(autograph=False)
    def read():
        rows = [tf.reshape(weight, [1, -1]) for weight in weights]
        return tf.concat([tf.raw_ops.Fingerprint(data=row, method="farmhash64") for row in rows], 0)

    return lambda: read().numpy().tobytes() if weights else b""


def _plan(graph):
    """Which BatchNorm goes where: `{name of what takes it: [("after" | "before", a, b), …]}`, and the report."""
    readers, times, plan, report = {}, {}, {}, FoldReport({}, {}, {})
    maker = {id(call.outputs): call for call in graph.calls}  # an output that is folded away is made by what took it
    for call in graph.calls:
        times[id(call.operation)] = times.get(id(call.operation), 0) + 1
        for x in call.inputs:
            readers.setdefault(id(x), []).append(call)
    for x in ids(graph.outputs):
        readers.setdefault(x, []).append(None)  # the reader of the network's output sees it too
    for call in graph.calls:
        if type(call.operation) is not keras.layers.BatchNormalization:
            continue
        layer, given, after = call.operation, call.inputs[0], readers.get(id(call.outputs), [None])
        if times[id(layer)] > 1 or layer.axis not in (-1, len(given.shape) - 1) or call.kwargs.get("training"):
            report.left[call.name] = "it is called more than once, in training mode, or not over the last axis"
            continue
        into, side = maker.get(id(given)), "after"
        why_before = _why_not(into, side, times) or ("has another reader" if len(readers[id(given)]) > 1 else None)
        if why_before:
            into, side = after[0], "before"
            why_after = _why_not(into, side, times) if len(after) == 1 else "is not the only reader"
            if why_after:
                report.left[call.name] = f"what comes before it {why_before}; what comes after it {why_after}"
                continue
        else:
            maker[id(call.outputs)] = into
        plan.setdefault(into.name, []).append((side, *normalisation(layer)))
        report.folded[call.name] = into.name
    return plan, report


def _why_not(call, side, times):
    """Why a call cannot take a BatchNorm that comes `"after"` or `"before"` it; None if it can."""
    if call is None:
        return "is an input or output of the network"
    layer = call.operation
    if type(layer) not in _FOLDABLE:  # a subclass may do something else with its kernel
        return f"is a {type(layer).__name__}"
    if layer.quantization_mode is not None or getattr(layer, "lora_enabled", False):
        return "has a kernel that is put together from several"
    if times[id(layer)] > 1:
        return "is called more than once"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "has its channels first"
    if side == "after" and layer.activation is not keras.activations.linear:
        return "has an activation of its own"
    if side == "before" and getattr(layer, "padding", "valid") != "valid" and max(layer.kernel_size) > 1:
        return "pads with zeros in between"
    if side == "before" and getattr(layer, "groups", 1) > 1:
        return "has groups"
    return None


def _needless_padding(graph, plan):
    """Padding layers that a convolution of the plan can do without: `{name of the one: name of the other}`."""
    found = {}
    for call in graph.calls:
        pad = graph.maker(call.inputs[0]) if call.name in plan else None
        if pad is None or not isinstance(pad.operation, keras.layers.ZeroPadding2D):
            continue
        layer, size = call.operation, pad.inputs[0].shape[1:3]
        alone = len(graph.readers(pad.outputs)) == 1 and pad.operation.data_format == "channels_last"
        if alone and getattr(layer, "padding", None) == "valid" and None not in size:
            if pad.operation.padding == _same_padding(layer, size):
                found[pad.name] = call.name
    return found


def _same_padding(layer, size):
    """The zeros that `padding="same"` puts ((above, below), (left, right)) for a convolution of maps of this size."""

    def along(length, kernel, stride, dilation):
        reach = (kernel - 1) * dilation + 1
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        return total // 2, total - total // 2

    return tuple(map(along, size, layer.kernel_size, layer.strides, layer.dilation_rate))


_FOR_TRAINING = ("initializer", "regularizer", "constraint")


def _folded_layer(layer, steps, **changes):
    """A new layer that computes what `layer` and its BatchNorms compute together, with changes of its configuration."""
    # Kernels by where the channels go in and out: what comes in meets `first`, what goes out leaves `last`.
    weights = {w.name: np.asarray(w, "float64") for w in layer.weights}
    bias = weights.pop("bias", 0.0)
    first = next(name for name in ("depthwise_kernel", "kernel") if name in weights)
    last = next(name for name in ("pointwise_kernel", first) if name in weights)
    depthwise = isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D))
    for side, scale, shift in sorted(steps, key=lambda step: step[0] != "before"):
        if side == "before":
            bias = bias + _response(weights, first, last, depthwise, shift)
            weights[first] = weights[first] * scale[:, None]
        else:
            bias = bias * scale + shift
            if last == first and depthwise:  # outputs run over (input channel, multiplier)
                scale = scale.reshape(weights[last].shape[-2:])
            weights[last] = weights[last] * scale
    # What decides what it computes, and nothing that a reader made for training (initialisers, regularisers).
    names = [name for name in inspect.signature(type(layer).__init__).parameters if name in vars(layer)]
    options = {name: getattr(layer, name) for name in names if not name.endswith((*_FOR_TRAINING, "lora_rank"))}
    options |= {"use_bias": True, "dtype": layer.dtype_policy, **changes}
    twin = type(layer)(name=layer.name, **options)
    *window, channels, _ = weights[first].shape
    twin.build((None, *[None] * len(window), channels * getattr(layer, "groups", 1)))
    for variable in twin.weights:
        variable.assign(weights.get(variable.name, bias))
    return twin


def _response(weights, first, last, depthwise, shift):
    """What the layer, without bias, makes of a picture that has the constant value `shift[c]` in channel c."""
    spatial = tuple(range(weights[first].ndim - 2))
    if depthwise:
        response = (weights[first].sum(spatial) * shift[:, None]).reshape(-1)
        return response if last == first else response @ weights[last].reshape(len(response), -1)
    return shift @ weights[first].sum(spatial)
