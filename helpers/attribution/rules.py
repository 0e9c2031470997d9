"""How each kind of layer hands relevance from its output to its inputs. Used by `relevance`.

Almost every rule is one sentence: what reached a unit is shared among its inputs in proportion to what each of them
contributed to z = Σ contributions. The rules, a table of small functions, differ in what they count as a contribution;
`share` does the rest.
"""

import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ..submodels import kinds
from ..submodels.graph import Call
from . import shared

_L = keras.layers

# By class name, because Keras has many of these both as layers and as operations.
_ROUTES = {"Concatenate", "Stack", "Flatten", "Reshape", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem"}
_ROUTES |= {"Flip", "ReverseChannels", "ZeroPadding2D", "Cropping2D", "CenterCrop", "Cast"}
_WINNERS = {"MaxPooling2D", "GlobalMaxPooling2D", "Max"}
_ELEMENTWISE = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Rescaling", "Normalization"}
_AVERAGES = {"AveragePooling2D", "GlobalAveragePooling2D", "Average", "Mean", "Sum"}
_DIPS = {"silu", "gelu", "mish", "hard_silu"}  # fall before they rise: more is not always more
_LINEAR = {*kinds.CONVOLUTIONS, _L.Dense, _L.BatchNormalization}
_SUMS = _AVERAGES | _ELEMENTWISE | {"CustomScaleLayer", "Resizing", "UpSampling2D"}


class Step(NamedTuple):
    """One call, as relevance and differences pass through it."""

    call: Call
    kind: str  # "linear" (with a kernel), "sum" (linear without one), "idle", "route", "winner", "activation" …
    on_pixels: bool  # nothing with a kernel lies between the picture and this
    nonnegative: bool  # the inputs are, whatever the picture
    rectified: bool  # a ReLU follows, or the operation ends in one

    @property
    def activation(self):
        """The `kinds.Function` that the operation is or ends in; None where it has none, or an unknown one."""
        return kinds.activation(self.call) if self.kind in ("linear", "activation") else None

    def run(self, *inputs):
        """What the call makes of other tensors in the places of its symbolic ones, at inference, in float32."""
        return tf.cast(self.call.apply(inputs), "float32")


def plan(graph):
    """The calls of a graph as `Step`s, in order. The kind of what nothing is known about is `"unknown"`."""
    pixels = set(map(id, keras.tree.flatten(graph.inputs)))  # of pictures, or of pictures merely preprocessed
    nonnegative, steps = set(), []
    for call in graph.calls:
        inputs = set(map(id, call.inputs))
        kind, on_pixels = _kind(call), inputs <= pixels
        if on_pixels and _is_preprocessing(call, kind):
            kind = "preprocess"
        if on_pixels and kind != "linear":
            pixels.add(id(call.outputs))
        relu = _is_relu(call)
        if relu or inputs <= nonnegative and _keeps_sign(call, kind):
            nonnegative.add(id(call.outputs))
        rectified = relu or all(reader and _is_relu(reader) for reader in graph.readers(call.outputs) or [None])
        steps.append(Step(call, kind, on_pixels, inputs <= nonnegative, rectified))
    return steps


def _is_relu(call):
    """Whether an operation is, or ends in, a ReLU that leaves nothing negative."""
    function = kinds.activation(call)
    return function is not None and function.slope == 0


def _keeps_sign(call, kind):
    has_constant = not isinstance(call.operation, _L.Layer) and len(call.inputs) < len(call.args)
    sums = type(call.operation).__name__ in _AVERAGES | {"Add"}
    return kind in ("idle", "route", "winner") or sums and not has_constant


def _kind(call):
    operation, name = call.operation, type(call.operation).__name__
    if not keras.backend.is_keras_tensor(call.outputs):
        return "unknown"
    if type(operation) in _LINEAR:
        if type(operation) is _L.BatchNormalization:
            return "linear" if operation.axis in (-1, 3) else "unknown"
        channels_last = getattr(operation, "data_format", "channels_last") == "channels_last"
        return "linear" if kinds.activation(call) and channels_last else "unknown"
    if kinds.is_idle(call):
        return "idle"
    if type(operation).__module__.split(".")[0] in ("keras", __name__.split(".")[0]):  # else anybody's names
        if name in ("Multiply", "Divide", "TrueDivide") and len(call.inputs) > 1:
            return "product" if name == "Multiply" and len(call.inputs) == 2 else "unknown"
        for kind, names in (("route", _ROUTES), ("winner", _WINNERS), ("sum", _SUMS)):
            if name in names and not (name.endswith("Divide") and call.args[0] is not call.inputs[0]):
                return kind
    function = kinds.activation(call) if kinds.is_function(call) else None
    return "unknown" if function is None else "sum" if function.is_affine else "activation"


def _is_preprocessing(call, kind):
    """Whether each value is scaled and shifted by itself."""
    sums = kind == "sum" and (type(call.operation).__name__ in _ELEMENTWISE or kinds.activation(call) is not None)
    single = len(call.inputs) == 1 and call.inputs[0].shape == call.outputs.shape
    return single and (sums or kind == "linear" and type(call.operation) is _L.BatchNormalization)


class Linear(NamedTuple):
    """A layer as z = apply(x, kernel) + bias, its activation left out."""

    kernel: Any
    bias: Any
    apply: Any

    def __call__(self, x):
        return self.apply(x, self.kernel) + self.bias


def linear(layer):
    """The linear part of a layer of kind `"linear"`."""
    if type(layer) is _L.BatchNormalization:  # each value times a number, plus a number
        scale = tf.math.rsqrt(tf.cast(layer.moving_variance, "float32") + layer.epsilon)
        scale = scale * tf.cast(layer.gamma, "float32") if layer.scale else scale
        shift = -scale * tf.cast(layer.moving_mean, "float32")
        return Linear(scale, shift + tf.cast(layer.beta, "float32") if layer.center else shift, tf.multiply)
    if type(layer) is _L.SeparableConv2D:  # two convolutions with nothing in between are one, with this kernel
        depthwise, pointwise = (tf.cast(part, "float32") for part in (layer.depthwise_kernel, layer.pointwise_kernel))
        kernel = tf.einsum("hwim,imo->hwio", depthwise, tf.reshape(pointwise, (*depthwise.shape[2:], -1)))
    else:
        kernel = tf.cast(layer.kernel, "float32")
    bias = tf.cast(layer.bias, "float32") if layer.use_bias else tf.constant(0.0)
    return Linear(kernel, bias, functools.partial(_applied, layer))


def _applied(layer, x, kernel):
    """What a layer makes of its input with another kernel, and without its bias."""
    if type(layer) is _L.Dense:
        return tf.tensordot(x, kernel, 1)
    options = {"padding": layer.padding.upper(), "dilations": layer.dilation_rate}
    if type(layer) is _L.DepthwiseConv2D:
        return tf.nn.depthwise_conv2d(x, kernel, (1, *layer.strides, 1), **options)
    groups = x.shape[-1] // kernel.shape[-2]  # one by one, which every TensorFlow can differentiate
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(part, own, layer.strides, **options) for part, own in parts], -1)


def pull(function, inputs, signal):
    """`signal`, one number for each output of a function, brought back to its inputs by the chain rule.

    It may be a function of the outputs. None is 1, for a score, of which at least one of the inputs has to know.
    """
    inputs = list(inputs)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    found = tape.gradient(outputs, inputs, output_gradients=signal(outputs) if callable(signal) else signal)
    known = [slope is not None for slope in found]
    if not (any(known) if signal is None else all(known)):
        raise shared.without_gradient("an output, or by what a layer was given")
    return [tf.zeros_like(x) if slope is None else slope for x, slope in zip(inputs, found, strict=True)]


class Options(NamedTuple):
    """What a rule may ask for, besides the layer, what it was given, and the relevance of what it put out."""

    epsilon: Any  # numbers of the reader, scalar tensors
    gamma: Any
    alpha: Any
    beta: Any
    nonnegative: bool = False  # what the layer was given is never below zero, whatever the picture
    rectified: bool = False  # units below zero have no relevance to share, for a ReLU follows
    bounds: tuple = ()  # of the first layer: the smallest and the largest possible value of each input


def share(function, inputs, relevance, epsilon=0.0):
    """Relevance of z = function(inputs), linear in them, shared in proportion to what each contributed to z.

    R_i = x_i · Σ_k ∂z_k/∂x_i · R_k / (z_k + ε·sign z_k). Nothing is handed on where z is 0. A constant that the
    function adds (a bias) has its part in z, and keeps it.
    """

    def ratio(z):
        return tf.math.divide_no_nan(relevance, z + epsilon * tf.where(z < 0, -1.0, 1.0))

    return [x * slope for x, slope in zip(inputs, pull(function, inputs, ratio), strict=True)]


def epsilon(layer, x, relevance, options):
    """Contributions x_j w_jk as they are; ε keeps what nearly cancels from growing."""
    return share(layer, [x], relevance, options.epsilon)[0]


def zplus(layer, x, relevance, options):
    """Positive contributions only."""
    return _by_sign(layer, x, [relevance], _signs(layer.kernel), _signs(layer.bias), options)


def alpha_beta(layer, x, relevance, options):
    """α times positive contributions, minus β times negative ones."""
    relevances = [options.alpha * relevance, -options.beta * relevance]
    return _by_sign(layer, x, relevances, _signs(layer.kernel), _signs(layer.bias), options)


def gamma(layer, x, relevance, options):
    """Contributions of the unit's own sign count 1 + γ times."""
    kernels, biases = ([own + options.gamma * part for part in _signs(own)] for own in (layer.kernel, layer.bias))
    if options.rectified:
        return _by_sign(layer, x, [relevance], kernels, biases, options)
    relevances = [tf.where(chosen, relevance, 0.0) for z in [layer(x)] for chosen in (z > 0, z < 0)]
    return _by_sign(layer, x, relevances, kernels, biases, options)


def composite(layer, x, relevance, options):
    """Epsilon for dense layers, gamma for convolutions."""
    return (epsilon if len(layer.kernel.shape) == 2 else gamma)(layer, x, relevance, options)


def flat(layer, x, relevance, options):
    """For pixels, which are no activations: everything that a unit sees gets the same share."""
    return share(lambda x: layer.apply(x, tf.ones_like(layer.kernel)), [tf.ones_like(x)], relevance)[0]


def w2(layer, x, relevance, options):
    """For pixels: shares in proportion to w²."""
    return share(lambda x: layer.apply(x, tf.square(layer.kernel)), [tf.ones_like(x)], relevance)[0]


def box(layer, x, relevance, options):
    """For pixels between l and h: contributions x w − l w⁺ − h w⁻."""
    up, down = _signs(layer.kernel)

    def z(x, low, high):
        return layer.apply(x, layer.kernel) + layer.apply(low, up) + layer.apply(high, down)

    low, high = tf.minimum(*options.bounds), tf.maximum(*options.bounds)  # preprocessing may have turned them round
    return tf.add_n(share(z, [x, -low, -high], relevance))


RULES = {"composite": composite, "epsilon": epsilon, "zplus": zplus, "gamma": gamma, "alpha_beta": alpha_beta}
FIRST = {"flat": flat, "w2": w2, "box": box}


def _signs(x):
    return tf.nn.relu(x), -tf.nn.relu(-x)


def _by_sign(layer, x, relevances, kernels, biases, options):
    """One relevance shared by z = x⁺ · one kernel + x⁻ · the other + bias, and if there is another, the other way."""
    parts, found = [x] if options.nonnegative else list(_signs(x)), []
    for relevance, order, bias in zip(relevances, (kernels, kernels[::-1]), biases, strict=False):

        def z(*parts, order=order, bias=bias):
            return tf.add_n([layer.apply(*pair) for pair in zip(parts, order, strict=False)]) + bias

        found.append(tf.add_n(share(z, parts, relevance)))
    return tf.add_n(found)


def redistribute(step, inputs, relevance, rule, first, options):
    """Relevance of the output of a call, handed on to its inputs, a list of tensors as `inputs` (the forward pass).

    `rule` and `first` are functions, as in `RULES` and `FIRST`; `first` may be None.
    """
    if step.kind in ("idle", "activation", "preprocess"):
        return [relevance]
    if step.kind in ("route", "winner"):
        return pull(step.run, inputs, relevance)
    if step.kind == "sum":
        return share(step.run, inputs, relevance, options.epsilon)
    options = options._replace(nonnegative=step.nonnegative, rectified=step.rectified)
    rule = first if step.on_pixels and first else rule
    return [rule(linear(step.call.operation), inputs[0], relevance, options)]


def refuse_without_rule(step):
    """Refuse a step that relevance cannot pass, with its name and the reason."""
    function = step.activation
    if step.kind == "product":
        problem = "it multiplies two tensors, and neither of them is a sum of contributions"
    elif step.kind == "unknown":
        problem = "there is no rule for it"
    elif function and not (function.keeps_sign and function.is_elementwise and function.name not in _DIPS):
        problem = f"its activation, {function.name}, does not keep the sign of what it gets"
    else:
        return
    instead = "relevance.deep_lift, or " if _has_multiplier(step) else ""
    raise ValueError(_words(step, f"cannot hand relevance on: {problem}. Use {instead}"))


def refuse_without_multiplier(step):
    """Refuse a step that differences cannot pass, with its name and the reason."""
    if not _has_multiplier(step):
        raise ValueError(_words(step, "is neither linear nor works on each value alone, so it has no multiplier. Use "))


def _has_multiplier(step):
    return step.kind != "unknown" and (not step.activation or step.activation.is_elementwise)


def _words(step, problem):
    layer = f"Layer {step.call.name!r} ({type(step.call.operation).__name__})"
    return f"{layer} {problem}a method that needs only gradients, such as gradients.integrated_gradients."


def multiply_back(step, inputs, output, multiplier):
    """The multipliers `(B, …)` at the inputs of a call, from that at its output.

    `inputs` and `output` are those of the forward pass, the pictures first, then as many baselines, `(2B, …)`.
    """
    here, there = zip(*[tf.split(x, 2) for x in inputs], strict=True)
    if step.kind == "idle":
        return [multiplier]
    if step.kind == "activation":
        return [multiplier * _slope(step, step.run, inputs[0])]
    if step.kind == "winner":
        return [_of_winners(step, inputs[0], output, multiplier)]
    if step.kind == "product":  # exact for a product: its gradient half-way
        return pull(step.run, [(x + y) / 2 for x, y in zip(here, there, strict=True)], multiplier)
    if step.kind == "linear":
        layer, function = linear(step.call.operation), step.activation
        if function and not function.is_affine:
            applied = step.call.operation.activation
            multiplier *= _slope(step, lambda z: tf.cast(applied(z), "float32"), layer(inputs[0]))
        return pull(layer, here, multiplier)
    return pull(step.run, here, multiplier)


def _slope(step, function, z):
    """(y − ȳ) / (z − z̄); where the two points are too close to divide, the derivative between them."""
    (y, y_there), (z, z_there) = tf.split(function(z), 2), tf.split(z, 2)
    # Where a line bends, only the difference is exact; along a curve, rounding would drown the small ones.
    close = tf.abs(z - z_there) <= (0.0 if step.activation.is_rectifier else 1e-3)
    [derivative] = pull(function, [(z + z_there) / 2], tf.ones_like(y))
    return tf.where(close, derivative, tf.math.divide_no_nan(y - y_there, z - z_there))


def _of_winners(step, x, y, multiplier):
    """A maximum that rose did so at its place in the picture, one that fell at its place in the baseline."""
    (x_here, x_there), (y_here, y_there) = tf.split(x, 2), tf.split(y, 2)
    moved = multiplier * (y_here - y_there)
    rises, falls = tf.where(y_here > y_there, moved, 0.0), tf.where(y_here < y_there, moved, 0.0)
    [places] = pull(step.run, [x], tf.concat([rises, falls], 0))
    return tf.math.divide_no_nan(tf.add_n(tf.split(places, 2)), x_here - x_there)
