"""How each kind of layer hands relevance from its output to its inputs. Used by `relevance`.

Almost every rule is one sentence: what reached a unit is shared among its inputs in proportion to what each of them
contributed to z = Σ contributions. The rules differ in what they count as a contribution; `share` does the rest.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ..submodels.graph import Call
from ..submodels.taps import activation_name

_L = keras.layers

# By class name, because Keras has many of these both as layers and as bare operations.
_ROUTES = {
    "Identity", "Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise", "Concatenate",
    "Flatten", "Reshape", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem", "Flip", "ReverseChannels",
    "ZeroPadding2D", "Cropping2D", "CenterCrop",
}  # fmt: skip
_WINNERS = {"MaxPooling2D", "GlobalMaxPooling2D", "Max"}
_ELEMENTWISE = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Rescaling", "Normalization"}
_AVERAGES = {"AveragePooling2D", "GlobalAveragePooling2D", "Average", "Mean", "Sum"}
_SUMS = _AVERAGES | _ELEMENTWISE | {"CustomScaleLayer", "Resizing", "UpSampling2D"}
_ACTIVATIONS = {"Activation", "ReLU", "LeakyReLU", "ELU"}
_MIXES = {"softmax", "log_softmax", "logsoftmax", "sparsemax", "sparse_plus", "glu"}  # of each value with the others
_BROKEN_LINES = {"relu", "relu6", "leaky_relu", "leakyrelu"}
_KEEP_SIGN = _BROKEN_LINES | {"linear", "tanh", "elu", "selu", "celu"}
_OPERATIONS = _KEEP_SIGN | {"sigmoid", "silu", "gelu", "softplus", "softsign", "hardsigmoid", "hardsilu", "mish"}


class Step(NamedTuple):
    """One call, as relevance and differences pass through it."""

    call: Call
    kind: str  # "linear" (with a kernel), "sum" (linear without one), "route", "winner", "activation", "product" …
    on_pixels: bool  # nothing with a kernel lies between the picture and this
    nonnegative: bool  # the inputs are, whatever the picture
    rectified: bool  # a ReLU follows, or the operation ends in one

    @property
    def activation(self):
        """Name of the function that the operation is or ends in; None where it has none."""
        return activation_name(self.call.operation) if self.kind in ("linear", "activation") else None


def plan(graph):
    """The calls of a graph as `Step`s, in order. The kind of what nothing is known about is `"unknown"`."""
    readers = {id(x): [None] for x in keras.tree.flatten(graph.outputs)}
    for call in graph.calls:
        for x in call.inputs:
            readers.setdefault(id(x), []).append(call.operation)
    pixels = set(map(id, keras.tree.flatten(graph.inputs)))  # of pictures, or of pictures merely preprocessed
    nonnegative, steps = set(), []
    for call in graph.calls:
        inputs = set(map(id, call.inputs))
        kind, on_pixels = _kind(call), inputs <= pixels
        if on_pixels and _is_preprocessing(call):
            kind = "preprocess"
        if on_pixels and kind != "linear":
            pixels.add(id(call.outputs))
        relu = _is_relu(call.operation)
        if relu or inputs <= nonnegative and _keeps_sign(call, kind):
            nonnegative.add(id(call.outputs))
        rectified = relu or all(map(_is_relu, readers.get(id(call.outputs), [None])))
        steps.append(Step(call, kind, on_pixels, inputs <= nonnegative, rectified))
    return steps


def _is_relu(operation):
    """Whether an operation is, or ends in, a ReLU that leaves nothing negative."""
    bent = getattr(operation, "negative_slope", 0) or getattr(operation, "threshold", 0)
    return operation is not None and activation_name(operation) in ("relu", "relu6") and not bent


def _keeps_sign(call, kind):
    has_constant = not isinstance(call.operation, _L.Layer) and len(call.inputs) < len(call.args)
    sums = type(call.operation).__name__ in _AVERAGES | {"Add"}
    return kind in ("route", "winner") or sums and not has_constant


def _kind(call):
    operation, name = call.operation, type(call.operation).__name__
    ours = type(operation).__module__.split(".")[0] in ("keras", __name__.split(".")[0])
    if not ours or not keras.backend.is_keras_tensor(call.outputs) or call.kwargs.get("training"):
        return "unknown"
    if type(operation) in _LINEAR:
        return "linear" if _channels_last(operation) else "unknown"
    if name in _ACTIVATIONS or (not isinstance(operation, _L.Layer) and activation_name(operation) in _OPERATIONS):
        return "activation"
    if name in ("Multiply", "Divide", "TrueDivide") and not _has_one_factor(call):
        return "product" if name == "Multiply" and len(call.inputs) == 2 else "unknown"
    for kind, names in (("route", _ROUTES), ("winner", _WINNERS), ("sum", _SUMS)):
        if name in names:
            return kind
    return "unknown"


def _channels_last(layer):
    if isinstance(layer, _L.BatchNormalization):
        return layer.axis in (-1, 3)
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _has_one_factor(call):
    """Whether a product or quotient is one of a tensor and a constant, the tensor on top."""
    return len(call.inputs) == 1 and (type(call.operation).__name__ == "Multiply" or call.args[0] is call.inputs[0])


def _is_preprocessing(call):
    elementwise = type(call.operation).__name__ in _ELEMENTWISE | {"BatchNormalization"} and len(call.inputs) == 1
    return elementwise and _kind(call) != "unknown" and call.inputs[0].shape == call.outputs.shape


# ------------------------------------------------------------------------------------------------- the linear layers


class Linear(NamedTuple):
    """A layer as z = apply(x, kernel) + bias, its activation left out."""

    kernel: Any
    bias: Any
    apply: Any

    def __call__(self, x):
        return self.apply(x, self.kernel) + self.bias


def linear(layer):
    """The linear part of a layer of kind `"linear"`."""
    return _LINEAR[type(layer)](layer)


def _bias(layer):
    return tf.convert_to_tensor(layer.bias) if layer.use_bias else tf.constant(0.0)


def _dense(layer):
    return Linear(tf.convert_to_tensor(layer.kernel), _bias(layer), lambda x, kernel: tf.tensordot(x, kernel, 1))


def _conv(layer, kernel=None):
    def apply(x, kernel):  # group by group, which every TensorFlow can differentiate
        groups = x.shape[-1] // kernel.shape[-2]
        parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
        padding, dilations = layer.padding.upper(), layer.dilation_rate
        return tf.concat(
            [tf.nn.conv2d(part, own, layer.strides, padding, "NHWC", dilations) for part, own in parts], -1
        )

    return Linear(tf.convert_to_tensor(layer.kernel) if kernel is None else kernel, _bias(layer), apply)


def _depthwise(layer):
    def apply(x, kernel):
        strides, padding = (1, *layer.strides, 1), layer.padding.upper()
        return tf.nn.depthwise_conv2d(x, kernel, strides, padding, dilations=layer.dilation_rate)

    return Linear(tf.convert_to_tensor(layer.kernel), _bias(layer), apply)


def _separable(layer):
    """Two convolutions with nothing between them are one, and its kernel is what a rule has to see."""
    depthwise, pointwise = map(tf.convert_to_tensor, (layer.depthwise_kernel, layer.pointwise_kernel))
    pointwise = tf.reshape(pointwise, (*depthwise.shape[2:], -1))
    return _conv(layer, tf.einsum("hwim,imo->hwio", depthwise, pointwise))


def _normalisation(layer):
    """BatchNorm: each value times a number, plus a number."""
    scale = tf.math.rsqrt(tf.convert_to_tensor(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale *= layer.gamma
    shift = -scale * layer.moving_mean
    if layer.center:
        shift += layer.beta
    return Linear(scale, shift, tf.multiply)


_LINEAR = {
    _L.Dense: _dense,
    _L.Conv2D: _conv,
    _L.DepthwiseConv2D: _depthwise,
    _L.SeparableConv2D: _separable,
    _L.BatchNormalization: _normalisation,
}


def rerun(call, *inputs):
    """The operation of a call, applied to other tensors in the places of its symbolic ones."""
    tensors = iter(inputs)
    args, kwargs = keras.tree.map_structure(
        lambda value: next(tensors) if keras.backend.is_keras_tensor(value) else value, (call.args, call.kwargs)
    )
    return call.operation(*args, **kwargs)


def pull(function, inputs, signal):
    """`signal`, one number for each output of a function, brought back to its inputs by the chain rule."""
    inputs = list(inputs)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return tape.gradient(outputs, inputs, output_gradients=signal, unconnected_gradients="zero")


# ------------------------------------------------------------------------------------------------------- the rules


class Rules(NamedTuple):
    """What the reader chose."""

    rule: str
    first: str | None
    epsilon: float
    gamma: float
    alpha: float
    beta: float


RULES = ("composite", "epsilon", "zplus", "gamma", "alpha_beta")
FIRST = ("flat", "w2", "box")


def share(function, inputs, relevance, epsilon=0.0):
    """Relevance of z = function(inputs), linear in them, shared in proportion to what each contributed to z.

    R_i = x_i · Σ_k ∂z_k/∂x_i · R_k / (z_k + ε·sign z_k). Nothing is handed on where z is 0. A constant that the
    function adds (a bias) has its part in z, and keeps it.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        z = function(*inputs)
    ratio = tf.math.divide_no_nan(relevance, z + epsilon * tf.where(z < 0, -1.0, 1.0))
    slopes = tape.gradient(z, inputs, output_gradients=ratio, unconnected_gradients="zero")
    return [x * slope for x, slope in zip(inputs, slopes, strict=True)]


def redistribute(step, inputs, relevance, rules, bounds=None):
    """Relevance of the output of a call, handed on to its inputs.

    Args:
        step: from `plan`.
        inputs: list of tensors, what the call was given in the forward pass.
        relevance: tensor of the shape of what it put out.
        rules: the `Rules`.
        bounds: for `first="box"` in a first layer: the smallest and largest possible value of each input.

    Returns:
        List of tensors, one for each input.
    """
    if step.kind in ("activation", "preprocess"):
        return [relevance]
    if step.kind in ("route", "winner"):
        return pull(lambda *x: rerun(step.call, *x), inputs, relevance)
    if step.kind == "sum":
        return share(lambda *x: rerun(step.call, *x), inputs, relevance, rules.epsilon)
    layer, [x] = linear(step.call.operation), inputs
    if step.on_pixels and rules.first:
        return [_first(layer, x, relevance, rules.first, bounds)]
    rule = rules.rule
    if rule == "composite":
        rule = "epsilon" if isinstance(step.call.operation, _L.Dense) else "gamma"
    if rule == "epsilon":
        return share(layer, inputs, relevance, rules.epsilon)
    return [_signed(step, layer, x, relevance, rule, rules)]


def _first(layer, x, relevance, rule, bounds):
    """Rules for pixels, which are no activations: a black pixel is not one that has nothing to say."""
    if rule == "box":
        up, down = tf.nn.relu(layer.kernel), -tf.nn.relu(-layer.kernel)

        def z(x, low, high):
            return layer.apply(x, layer.kernel) + layer.apply(low, up) + layer.apply(high, down)

        low, high = tf.minimum(*bounds), tf.maximum(*bounds)  # preprocessing may have turned them round
        return tf.add_n(share(z, [x, -low, -high], relevance))
    kernel = tf.square(layer.kernel) if rule == "w2" else tf.ones_like(layer.kernel)
    return share(lambda x: layer.apply(x, kernel), [tf.ones_like(x)], relevance)[0]


def _signed(step, layer, x, relevance, rule, rules):
    """Rules that treat contributions by their sign: x⁺w⁺ and x⁻w⁻ are positive, x⁺w⁻ and x⁻w⁺ negative."""
    up, down = tf.nn.relu(layer.kernel), -tf.nn.relu(-layer.kernel)
    bias_up, bias_down = tf.nn.relu(layer.bias), -tf.nn.relu(-layer.bias)
    parts = [x] if step.nonnegative else [tf.nn.relu(x), -tf.nn.relu(-x)]

    def total(kernels, bias):
        return lambda *parts: tf.add_n([layer.apply(*pair) for pair in zip(parts, kernels, strict=False)]) + bias

    def shared(function, relevance):
        return tf.add_n(share(function, parts, relevance))

    if rule == "gamma":
        up, down, bias_up, bias_down = (rules.gamma * part for part in (up, down, bias_up, bias_down))
        excited = total([layer.kernel + up, layer.kernel + down], layer.bias + bias_up)
        if step.rectified:  # units below zero have no relevance to share
            return shared(excited, relevance)
        z, inhibited = layer(x), total([layer.kernel + down, layer.kernel + up], layer.bias + bias_down)
        return shared(excited, tf.where(z > 0, relevance, 0.0)) + shared(inhibited, tf.where(z < 0, relevance, 0.0))
    excitation, inhibition = total([up, down], bias_up), total([down, up], bias_down)
    if rule == "zplus" or rules.beta == 0:
        return shared(excitation, relevance)
    return shared(excitation, rules.alpha * relevance) - shared(inhibition, rules.beta * relevance)


def refuse_without_rule(step):
    """Raise a `ValueError` for a step that relevance cannot pass, with its name and the reason."""
    problem = None
    if step.kind == "product":
        problem = "it multiplies two tensors, and neither of them is a sum of contributions"
    elif step.kind == "unknown":
        problem = "there is no rule for it"
    elif step.activation not in (*_KEEP_SIGN, None):
        problem = f"its activation, {step.activation}, does not keep the sign of what it gets"
    if problem:
        instead = "relevance.deep_lift, or " if _has_multiplier(step) else ""
        _refuse(step, f"cannot hand relevance on: {problem}", instead)


def refuse_without_multiplier(step):
    """Raise a `ValueError` for a step that differences cannot pass, with its name and the reason."""
    if not _has_multiplier(step):
        _refuse(step, "is neither linear nor works on each value alone, so it has no multiplier", "")


def _has_multiplier(step):
    return step.kind != "unknown" and step.activation not in _MIXES


def _refuse(step, problem, instead):
    kind = type(step.call.operation).__name__
    raise ValueError(
        f"Layer {step.call.name!r} ({kind}) {problem}. Use {instead}a method that needs only gradients, such as "
        "gradients.integrated_gradients."
    )


# --------------------------------------------------------------------------------------------- multipliers of DeepLIFT


def multiply_back(step, inputs, output, multiplier):
    """The multipliers at the inputs of a call, from that at its output.

    Args:
        step: from `plan`.
        inputs, output: in the forward pass, the pictures first, then the same number of baselines, `(2B, …)`.
        multiplier: `(B, …)`.

    Returns:
        List of tensors `(B, …)`, one for each input.
    """
    call, operation = step.call, step.call.operation
    here, there = zip(*[tf.split(x, 2) for x in inputs], strict=True)
    if step.kind == "activation":
        return [multiplier * _slope(step, lambda z: rerun(call, z), inputs[0], output)]
    if step.kind == "winner":
        return [_of_winners(call, inputs[0], output, multiplier)]
    if step.kind == "product":  # exact for a product: its gradient half-way
        return pull(lambda *x: rerun(call, *x), [(x + y) / 2 for x, y in zip(here, there, strict=True)], multiplier)
    if step.kind == "linear":
        layer = linear(operation)
        if step.activation not in ("linear", None):
            multiplier *= _slope(step, operation.activation, layer(inputs[0]), output)
        return pull(layer, here, multiplier)
    return pull(lambda *x: rerun(call, *x), here, multiplier)


def _slope(step, function, z, y):
    """(y − ȳ) / (z − z̄); where the two points are too close to divide, the derivative between them."""
    (z, z_there), (y, y_there) = tf.split(z, 2), tf.split(y, 2)
    # Where a line bends, only the difference is exact; along a curve, rounding would drown the small ones.
    close = tf.abs(z - z_there) <= (0.0 if step.activation in _BROKEN_LINES else 1e-3)
    [derivative] = pull(function, [(z + z_there) / 2], tf.ones_like(y))
    return tf.where(close, derivative, tf.math.divide_no_nan(y - y_there, z - z_there))


def _of_winners(call, x, y, multiplier):
    """A maximum that rose did so at its place in the picture, one that fell at its place in the baseline."""
    (x_here, x_there), (y_here, y_there) = tf.split(x, 2), tf.split(y, 2)
    moved = multiplier * (y_here - y_there)
    rises, falls = tf.where(y_here > y_there, moved, 0.0), tf.where(y_here < y_there, moved, 0.0)
    [places] = pull(lambda x: rerun(call, x), [x], tf.concat([rises, falls], 0))
    return tf.math.divide_no_nan(tf.add_n(tf.split(places, 2)), x_here - x_there)
