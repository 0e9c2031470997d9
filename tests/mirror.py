"""The deconvolutional network the slow way, every layer mirrored by hand: what `submodels.deconvnet` must equal."""

import math

import keras
import tensorflow as tf

from helpers.submodels.graph import new_input, replay, trace

_L = keras.layers
_UNCHANGED = (_L.Dropout, _L.SpatialDropout2D, _L.GaussianNoise, _L.GaussianDropout, _L.Identity)


def deconvnet(model, layer, rule="deconv", switches=True):
    """A network that runs another one backwards: from what a layer puts out, back to pixels.

    The forward pass records, for each max-pooling window, where its maximum was (the **switch**). Then every layer is
    undone in turn, last first: unpooling puts a value back at its switch and zeros elsewhere (windows that share a
    switch add up), rectification keeps what is positive, and a transposed convolution spreads each value with the
    kernel that made it. Biases play no part. Where paths meet, what they bring back adds up.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
        layer: name of a layer with an output `(B, h, w, c)`.
        rule: what happens on the way back through y = ReLU(x), with g the signal from above: `"deconv"`: ReLU(g), as
            Zeiler and Fergus (2014, "Visualizing and Understanding Convolutional Networks") do; `"gradient"`: g where
            something came through (0 < y < `max_value`), which makes the whole network the exact gradient; `"guided"`:
            ReLU(g) where something came through (Springenberg et al. 2015).
        switches: False spreads each pooled value evenly over its window instead: what is lost without the switches.

    Returns:
        A `keras.Model` from `[image (B, H, W, C), seed (B, h, w, c)]` to pixels `(B, H, W, C)`, signed. The seed holds
        what to project: the layer's output with all but one value set to zero, say. Weights are shared with `model`.

    Raises:
        ValueError: an unknown rule or layer, one without spatial axes, or, with its name, one that cannot be undone:
            an activation that is no ReLU (sigmoid, swish), a product, a layer that mixes all positions.
    """
    if rule not in ("deconv", "gradient", "guided"):
        raise ValueError(f"There is no rule {rule!r} on the way back: it is 'deconv', 'gradient' or 'guided'.")
    graph = trace(model)
    target = graph.tensor(layer)
    if len(target.shape) != 4 or len(keras.tree.flatten(graph.inputs)) != 1:
        raise ValueError(
            f"Layer {layer!r} puts out {tuple(target.shape)}; a projection back to pixels needs (B, height, width, "
            "channels), and a network of one picture. submodels.layer_names(model, kind='spatial') lists the layers."
        )
    path = _path(graph, target)
    for call in path:
        _refuse_what_cannot_be_undone(call, rule)
    forward = replay(graph._replace(calls=path, outputs=target, tensors={layer: target}), _with_switches)
    image, seed = forward.inputs, new_input(target)
    signals = {id(keras.tree.flatten(forward.outputs)[0]): [seed]}
    for call in reversed(forward.calls):
        output, *places = keras.tree.flatten(call.outputs)
        if id(output) not in signals:
            continue
        signal = _total(signals.pop(id(output)))
        undo = _Undo(call.operation, rule, switches, name=f"{call.name.replace('/', '.').replace('#', '.')}_back")
        back = undo([signal, output, *places, *call.inputs])
        for x, part in zip(call.inputs, keras.tree.flatten(back), strict=True):
            signals.setdefault(id(x), []).append(part)
    return keras.Model([image, seed], _total(signals[id(image)]), name=f"{graph.name}_back")


def _path(graph, target):
    """The calls between the picture and `target`, in order."""
    wanted, path = {id(target)}, []
    for call in reversed(graph.calls):
        if wanted & set(map(id, keras.tree.flatten(call.outputs))):
            path.append(call)
            wanted.update(map(id, call.inputs))
    return path[::-1]


def _total(signals):
    return signals[0] if len(signals) == 1 else _L.Add()(signals)


class _Switches(_L.Layer):
    """Max-pooling that also says where in the picture of its input each maximum was."""

    def __init__(self, pool):
        super().__init__(name=pool.name)
        self.pool_size, self.strides = pool.pool_size, pool.strides
        self.padding = pool.padding.upper()

    def call(self, x):
        pooled, switches = tf.nn.max_pool_with_argmax(x, self.pool_size, self.strides, self.padding)
        return pooled, switches


def _with_switches(call):
    return _Switches(call.operation) if isinstance(call.operation, _L.MaxPooling2D) else call.operation


class _Undo(_L.Layer):
    """One layer of the network, backwards: from the signal at its output to the signals at its inputs."""

    def __init__(self, operation, rule, switches, name):
        super().__init__(name=name)
        self.operation, self.rule, self.switches = operation, rule, switches

    def compute_output_shape(self, shapes):
        inputs = shapes[3:] if isinstance(self.operation, _Switches) else shapes[2:]
        return inputs if len(inputs) > 1 else inputs[0]

    def compute_output_spec(self, tensors):
        shapes = self.compute_output_shape([x.shape for x in tensors])
        return keras.tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, tensors[0].dtype), shapes)

    def call(self, tensors):
        signal, output, *others = tensors
        signal = _rectified(self.operation, self.rule, signal, output)
        if isinstance(self.operation, _Switches) and not self.switches:
            return _unaverage(self.operation, signal, others[-1]) * math.prod(self.operation.pool_size)
        return _linear_part(self.operation)(self.operation, signal, *others)


def _rectified(operation, rule, signal, output):
    """The signal before the ReLU that the operation is or ends in."""
    ceiling = _relu_ceiling(operation)
    if ceiling is None:
        return signal
    if rule in ("deconv", "guided"):
        signal = tf.nn.relu(signal)
    if rule == "deconv":
        return signal
    return tf.where((output > 0) & (output < ceiling), signal, 0.0)


def _relu_ceiling(operation):
    """Where the ReLU that the operation is or ends in saturates; None without a ReLU; NaN for another activation."""
    if isinstance(operation, _L.ReLU):
        plain = operation.negative_slope == 0 and operation.threshold == 0
        ceiling = float("inf") if operation.max_value is None else float(operation.max_value)
        return ceiling if plain else float("nan")
    if hasattr(operation, "activation"):
        name = getattr(operation.activation, "__name__", "")
        return {"linear": None, "relu": float("inf"), "relu6": 6.0}.get(name, float("nan"))
    name = type(operation).__name__
    return {"Relu": float("inf"), "Relu6": 6.0}.get(name) if not isinstance(operation, _L.Layer) else None


# ---------------------------------------------------------------------- how the linear part of each layer is undone


def _conv(layer, signal, x):
    kernels, signals = tf.split(layer.kernel, layer.groups, -1), tf.split(signal, layer.groups, -1)
    shape = tf.concat([tf.shape(x)[:-1], [x.shape[-1] // layer.groups]], 0)
    parts = [
        tf.nn.conv2d_transpose(part, kernel, shape, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)
        for kernel, part in zip(kernels, signals, strict=True)
    ]
    return tf.concat(parts, -1)


def _depthwise(layer, signal, x, kernel=None):
    kernel = layer.kernel if kernel is None else kernel
    strides = (1, *layer.strides, 1)
    return tf.nn.depthwise_conv2d_backprop_input(
        tf.shape(x), kernel, signal, strides, layer.padding.upper(), dilations=layer.dilation_rate
    )


def _separable(layer, signal, x):
    before = tf.nn.conv2d(signal, tf.transpose(layer.pointwise_kernel, (0, 1, 3, 2)), 1, "VALID")
    return _depthwise(layer, before, x, layer.depthwise_kernel)


def _unpool(layer, signal, switches, x):
    ksize, strides = (1, *layer.pool_size, 1), (1, *layer.strides, 1)
    return tf.raw_ops.MaxPoolGradWithArgmax(
        input=x, grad=signal, argmax=switches, ksize=ksize, strides=strides, padding=layer.padding
    )


def _unaverage(layer, signal, x):
    ksize, strides = (1, *layer.pool_size, 1), (1, *layer.strides, 1)
    return tf.raw_ops.AvgPoolGrad(
        orig_input_shape=tf.shape(x), grad=signal, ksize=ksize, strides=strides, padding=layer.padding.upper()
    )


def _normalisation(layer, signal, x):
    scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
    return signal * (scale * layer.gamma if layer.scale else scale)


def _padding(layer, signal, x):
    (top, _), (left, _) = layer.padding
    return signal[:, top : top + tf.shape(x)[1], left : left + tf.shape(x)[2]]


def _concatenation(layer, signal, *inputs):
    return tf.split(signal, [x.shape[-1] for x in inputs], -1)


_UNDO = {
    _L.DepthwiseConv2D: _depthwise,
    _L.SeparableConv2D: _separable,
    _L.Conv2D: _conv,
    _Switches: _unpool,
    _L.AveragePooling2D: _unaverage,
    _L.BatchNormalization: _normalisation,
    _L.ZeroPadding2D: _padding,
    _L.Concatenate: _concatenation,
    _L.Add: lambda layer, signal, *inputs: [signal] * len(inputs),
    _L.Rescaling: lambda layer, signal, x: signal * tf.cast(layer.scale, signal.dtype),
}


def _linear_part(operation):
    """The function that undoes an operation except for its ReLU, or None."""
    if _relu_ceiling(operation) is not None and not getattr(operation, "weights", None):
        return lambda layer, signal, x: signal
    if isinstance(operation, _UNCHANGED) or (isinstance(operation, _L.Activation) and _relu_ceiling(operation) is None):
        return lambda layer, signal, x: signal
    return _UNDO.get(type(operation))


def _refuse_what_cannot_be_undone(call, rule):
    operation, kind = call.operation, type(call.operation).__name__
    ceiling = _relu_ceiling(operation)
    problem = None
    if ceiling is not None and ceiling != ceiling:  # NaN
        activation = getattr(operation, "activation", None)
        problem = f"its activation, {getattr(activation, '__name__', kind)}, is no ReLU"
    elif isinstance(operation, _L.MaxPooling2D):
        problem = "its channels come first" if operation.data_format != "channels_last" else None
    elif _linear_part(operation) is None:
        problem = f"a {kind} has no transposed counterpart here"
    elif getattr(operation, "data_format", "channels_last") != "channels_last":
        problem = "its channels come first"
    elif isinstance(operation, _L.Concatenate) and operation.axis not in (-1, 3):
        problem = "it joins something other than channels"
    elif isinstance(operation, _L.Add) and len({tuple(x.shape) for x in call.inputs}) > 1:
        problem = "it adds maps of different shapes"
    elif isinstance(operation, _L.AveragePooling2D) and max(operation.pool_size) < 1:
        problem = "it pools nothing"
    if problem:
        raise ValueError(
            f"Layer {call.name!r} ({kind}) cannot be run backwards: {problem}. Choose a layer before it, or a method "
            "that needs only gradients, such as gradients.saliency."
        )
