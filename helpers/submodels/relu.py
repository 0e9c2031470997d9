"""Networks that run backwards by another rule: guided backpropagation, and the deconvolutional network."""

import functools

import keras
import tensorflow as tf

from .graph import replay, trace, with_activation
from .taps import _is_activation, _relu_of, activation_name


class _RuledReLU(keras.layers.Layer):
    """A ReLU whose backward pass follows another rule. The forward pass is that of the ReLU it stands for."""

    def __init__(self, relu, rule, name):
        super().__init__(name=name)
        self.relu, self.rule = relu, rule

    def call(self, x):
        return _ruled(self.relu, self.rule, x)


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
        `activation=`, as a bare operation, with `max_value` or `negative_slope`; other activations keep their own.

    Raises:
        ValueError: an unknown rule, or a network without any ReLU, with the activations that it does have.
    """
    if rule not in ("guided", "deconv"):
        raise ValueError(f"There is no ReLU rule {rule!r}: it is 'guided' or 'deconv'.")
    graph = trace(model)
    if not any(_relu_of(call.operation) for call in graph.calls):
        found = sorted(
            {activation_name(call.operation) for call in graph.calls if hasattr(call.operation, "activation")}
        )
        raise ValueError(
            f"Model {model.name!r} has no ReLU, so the {rule!r} rule would change nothing. Its activations: "
            f"{', '.join(name for name in found if name != 'linear') or 'none'}. Use a method that needs no ReLU, such "
            "as gradients.saliency or gradients.integrated_gradients, or a network with ReLUs."
        )
    twins = {}

    def ruled(operation):
        relu = _relu_of(operation)
        if relu is None:
            return operation
        if _is_activation(operation):
            return _RuledReLU(relu, rule, operation.name)
        return with_activation(operation, functools.partial(_ruled, relu, rule))

    def replace(call):
        key = id(call.operation)
        if key not in twins:
            twins[key] = ruled(call.operation)
        return twins[key]

    return replay(graph, replace).model()
