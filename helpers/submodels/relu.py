"""Networks that run backwards by another rule: guided backpropagation, and the deconvolutional network."""

import functools

import keras
import tensorflow as tf

from .. import checks
from .engine import picture_shape
from .graph import new_input, replay, trace, twin
from .kinds import KNOWN, activation, hidden_rectifiers, is_function, recognised
from .memory import remembered
from .taps import spatial

RULES = ("guided", "deconv")


class _RuledReLU(keras.layers.Layer):
    """A ReLU whose backward pass follows another rule."""

    def __init__(self, relu, rule, name):
        super().__init__(name=name)
        self.relu, self.rule = relu, rule

    def call(self, *given, **named):  # as the ReLU was called: by place or by keyword
        return _ruled(self.relu, self.rule, keras.tree.flatten((given, named))[0])


def _ruled(relu, rule, x):
    @tf.custom_gradient
    def rectify(x):
        def backward(upstream):
            if rule == "guided":  # the ReLU's own gradient first: it is zero below 0 and above max_value
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = relu(x)
                upstream = tape.gradient(y, x, output_gradients=upstream)
            return tf.nn.relu(upstream)

        return relu(x), backward

    return rectify(x)


def relu_rule(model, rule):
    """The same network with another backward pass through every ReLU.

    With g the gradient that arrives from above at y = ReLU(x), the gradient that goes on below is
    `"deconv"`: ReLU(g), whatever x was (Zeiler and Fergus 2014); `"guided"`: ReLU(g · dy/dx), so only where the
    forward pass let something through as well (Springenberg et al. 2015). The forward pass does not change.

    Args:
        model: a `keras.Model` that is a graph of layers.
        rule: `"deconv"` or `"guided"`.

    Returns:
        A `keras.Model` with the weights and the layer names of `model`. Every ReLU follows the rule: as a layer, as
        `activation=`, as an operation, with a ceiling or a slope, by whatever name; other activations keep their own.

    Raises:
        ValueError: an unknown rule; a network without any ReLU, with the activations that it does have; layers inside
            of which there are ReLUs that cannot be reached, with their names.
    """
    checks.choose(rule, RULES, "ReLU rule")
    graph = trace(model)
    graph = graph.up_to(graph.outputs)  # a ReLU that no output comes from is none
    ruled = {}  # id of an operation → its replacement: a layer that is called twice gets one twin
    for call in graph.calls:
        ruled.setdefault(id(call.operation), _operation(call, rule))
    hidden = [call.name for call in graph.calls if ruled[id(call.operation)] is None]
    if hidden:
        raise ValueError(
            f"There are ReLUs inside of {', '.join(map(repr, hidden))}, where the {rule!r} rule cannot reach them, and "
            "with the others alone the result would be wrong. Make them layers of their own, keras.layers.ReLU, or "
            "use a method that needs no rule, such as gradients.saliency or gradients.integrated_gradients."
        )
    if all(ruled[id(call.operation)] is call.operation for call in graph.calls):
        found = {function.name for call in graph.calls if (function := activation(call)) and not function.is_affine}
        raise ValueError(
            f"Model {model.name!r} has no ReLU, so the {rule!r} rule would change nothing. Its activations: "
            f"{', '.join(sorted(found)) or 'none'}. Use a method that needs no ReLU, such "
            "as gradients.saliency or gradients.integrated_gradients, or a network with ReLUs."
        )
    return remembered(model, ("relu_rule", rule), lambda: replay(graph, lambda call: ruled[id(call.operation)]).model())


def _operation(call, rule):
    """The operation of a call under a rule, or its own where there is no ReLU; None where there is one out of reach."""
    operation, function = call.operation, activation(call)
    if function and function.is_rectifier:
        if is_function(call):
            return _RuledReLU(function.function, rule, operation.name)
        return twin(operation, activation=functools.partial(_ruled, function.function, rule))
    if function and function.name in KNOWN or not hidden_rectifiers(call):
        return operation
    own = recognised(operation.activation) if callable(vars(operation).get("activation")) else None
    if own and own.is_rectifier:  # a reader's own layer, which may well have no other ReLU than that
        if not hidden_rectifiers(call, twin(operation, activation=tf.identity)):
            return twin(operation, activation=functools.partial(_ruled, operation.activation, rule))
    return None


class _Back(keras.layers.Layer):
    """A signal at the end of a network, brought back to its picture: the vector–Jacobian product."""

    def __init__(self, network, name):
        super().__init__(name=name, dtype="float32")
        self.network = network

    def compute_output_spec(self, tensors):
        return keras.KerasTensor(tensors[0].shape, "float32")

    def call(self, tensors):
        image, seed = tensors
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(image)
            maps = self.network(image, training=False)
        pixels = tape.gradient(maps, image, output_gradients=tf.cast(seed, maps.dtype))
        if pixels is None:
            raise ValueError(f"Nothing leads back from {self.network.name!r} to the picture: there is no gradient.")
        return tf.cast(pixels, "float32")


def _even_pooling(pool):
    """Max-pooling that on the way back spreads each value evenly over its window, as far as that is in the map."""
    if type(pool) not in (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D):
        return pool
    kind = getattr(keras.layers, type(pool).__name__.replace("Max", "Average"))
    mean = kind(pool.pool_size, pool.strides, pool.padding, pool.data_format)
    return keras.layers.Lambda(lambda x: mean(x) + tf.stop_gradient(pool(x) - mean(x)), name=pool.name)


def deconvnet(model, layer, rule="deconv", switches=True):
    """A network that runs another one backwards: from what a layer puts out, back to pixels.

    Every layer is undone in turn, last first: a transposed convolution spreads each value with the kernel that made it,
    rectification keeps what is positive, and unpooling puts a value back where the maximum of its window was (the
    **switch**). Biases play no part; where paths meet, what they bring back adds up. All of that is what the
    gradient does, but for the ReLUs, which follow `relu_rule`: the deconvolutional network is the vector–Jacobian
    product of the network under that rule.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)`.
        layer: name of a layer with an output `(B, h, w, c)`.
        rule: what happens on the way back through y = ReLU(x), with g the signal from above: `"deconv"`: ReLU(g), as
            Zeiler and Fergus (2014, "Visualizing and Understanding Convolutional Networks") do; `"gradient"`: g where
            something came through (0 < y < `max_value`), which makes the whole network the exact gradient; `"guided"`:
            ReLU(g) where something came through (Springenberg et al. 2015).
        switches: False spreads each pooled value evenly over its window instead: what is lost without the switches.

    Returns:
        A `keras.Model` from `[image (B, H, W, C), seed (B, h, w, c)]` to pixels `(B, H, W, C)` float32, signed. The
        seed holds what to project: the layer's output with all but one value set to zero, say.

    Raises:
        ValueError: an unknown rule or layer, one without spatial axes; for the two rules with the name of an
            activation that is no ReLU (sigmoid, swish), or of a product, which have no counterpart on the way back.
    """
    checks.choose(rule, (*RULES, "gradient"), "rule")
    picture_shape(model)  # there must be one picture
    layer = spatial(model, layer)

    def build():
        graph = trace(model)
        graph = graph._replace(inputs=keras.tree.flatten(graph.inputs)[0]).up_to(graph.tensor(layer))
        if not switches:
            graph = replay(graph, lambda call: _even_pooling(call.operation))
        network = graph.model()
        if rule != "gradient":
            for call in graph.calls:
                _refuse_what_cannot_be_undone(call)
            if any(activation(call) and activation(call).is_rectifier for call in graph.calls):
                network = relu_rule(network, rule)
        image, seed = new_input(graph.inputs), new_input(graph.outputs, "float32")
        return keras.Model([image, seed], _Back(network, "back")([image, seed]), name=f"{model.name}_back")

    return remembered(model, ("deconvnet", layer, rule, switches), build)


def _refuse_what_cannot_be_undone(call):
    function, kind = activation(call), type(call.operation).__name__
    if function and not (function.is_rectifier or function.is_affine):
        problem = f"its activation, {function.name}, is no ReLU"
    elif kind == "Multiply" and len(call.inputs) > 1:
        problem = "a product of two tensors has no transposed counterpart"
    else:
        return
    raise ValueError(
        f"Layer {call.name!r} ({kind}) cannot be run backwards: {problem}. Choose a layer before it, rule='gradient', "
        "or a method that needs only gradients, such as gradients.saliency."
    )
