"""FullGrad: a score split into what the pixels and what the biases of all layers give (Srinivas and Fleuret 2019)."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..submodels.graph import trace
from ..submodels.kinds import is_idle
from ..submodels.memory import cached
from . import shared

_L = keras.layers
_LEAKY = (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)
_HOMOGENEOUS = {_L.MaxPooling2D, _L.AveragePooling2D, _L.GlobalAveragePooling2D, _L.GlobalMaxPooling2D}
_HOMOGENEOUS |= {_L.Add, _L.Subtract, _L.Average, _L.Maximum, _L.Minimum, _L.Concatenate}
_HOMOGENEOUS |= {_L.Flatten, _L.Reshape, _L.Permute, _L.ZeroPadding2D, _L.Cropping2D, _L.UpSampling2D, _L.Resizing}
ROUNDING = {"bfloat16": 0.2, "float16": 0.02}  # how far off a sum may be for no other reason; in float32 a thousandth
_WITH_BIAS = {_L.Conv2D, _L.DepthwiseConv2D, _L.SeparableConv2D, _L.Conv2DTranspose, _L.Dense}


def _homogeneous(call):
    """Whether twice the input is known to give twice the output: then there is no bias, said or unsaid."""
    operation = call.operation
    if type(operation) is _L.ReLU:
        return operation.max_value is None and operation.threshold == 0
    if type(operation) is _L.Activation:
        return operation.activation in _LEAKY
    return type(operation) in _HOMOGENEOUS or is_idle(call)


class FullGradients(NamedTuple):
    """A score as a sum: `score[i] == inputs[i].sum() + sum(term[i].sum() for term in biases.values())`."""

    score: np.ndarray  # (B,)
    inputs: np.ndarray  # (B, H, W, C): gradient × pixel
    biases: dict  # name of a layer → (B, …) of the shape of its output: gradient × bias there


def full_gradients(model, images, target=None, *, batch=16, progress=False):
    """The score as an exact sum of what each pixel gives and what each bias gives.

    Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization" (2019):
    f(x) = Σ x · ∂f/∂x + Σ over layers Σ b · ∂f/∂y, with y the layer's output. The bias of a layer y(x) is what is left
    without its linear part, b = y(x) − (∂y/∂x) x. So a convolution has the bias of its weights; a ReLU has none; ReLU6
    has 6 where it is saturated; preprocessing has its shift; and any other function, such as swish, what its tangent
    leaves at zero.

    Args:
        model, images, target, batch, progress: as `gradients.saliency`.

    Returns:
        `FullGradients`, without the batch axis for one picture. Layers are those of the network with BatchNorm folded;
        those that cannot have a bias are not listed. If `target` is a function, what it adds is listed as `"target"`.

    Raises:
        ValueError: as `gradients.saliency`; a network with layers whose gradient is not that of what they compute.
    """
    task, found = _run(terms_of, "full_gradients", model, images, target, batch, progress)
    score, *terms = found
    rows = [x.reshape(len(x), -1) for x in keras.tree.flatten(terms)]
    total, size = (sum(of(x).sum(axis=1, dtype="float64") for x in rows) for of in (np.asarray, np.abs))
    types = {getattr(layer, "compute_dtype", None) for layer in task.model.layers}
    rounding = max(ROUNDING.get(kind, 1e-3) for kind in types)
    if (np.abs(total - score) > rounding * np.maximum(size, np.abs(score))).any():
        raise ValueError(
            f"The terms add up to {total}, and the scores of model {model.name!r} are {score}: some of its layers "
            "hide what they do from the gradient (stop_gradient, or a gradient of their own)."
        )
    return FullGradients(*keras.tree.map_structure(task.answer, found))


def fullgrad(model, images, target=None, *, batch=16, progress=False):
    """Where in the picture the score comes from, counting what the biases of all layers contribute.

    Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization" (2019): each term of
    `full_gradients` that has spatial axes is taken by magnitude, stretched to 0 … 1, summed over its channels, brought
    to the size of the picture, and all are added.

    Args, raises: as `saliency`, and a layer whose linear part TensorFlow cannot compute.

    Returns:
        `(B, H, W)` float32, or `(H, W)`, never negative: for looking. It does not sum up to the score.
    """
    task, found = _run(map_of, "fullgrad", model, images, target, batch, progress)
    return task.answer(found)


def _run(function_of, name, model, images, target, batch, progress):
    """The task, and what the function of a task gives for its pictures."""
    task = shared.prepare(model, images, target, resolve=False)
    function = shared.compiled(task, name, function_of(task))
    return task, task.run(function, batch=batch, progress=progress, label="gradients")


def terms_of(task):
    """A function `(pictures, targets) → (scores, input terms, {layer: bias terms})` of tensors."""
    task, graph = task.shell, trace(task.model)
    made = [(call, keras.tree.flatten(call.outputs)) for call in graph.calls]
    taps = cached(task.model, "all outputs", lambda: graph.model([[tensors for _, tensors in made], graph.outputs]))

    def terms(x, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values, outputs = taps(x, training=False)
            score = task.score(outputs, targets)
        flows, by_output, by_pixel = tape.gradient(score, [values, outputs, x])
        if by_pixel is None:
            raise shared.without_gradient("the pictures")
        table = {id(tensor): x for tensor in keras.tree.flatten(graph.inputs)}
        biases = {}
        for (call, tensors), own, flow in zip(made, values, flows, strict=True):
            remainders = _remainders(call, table)
            table.update(zip(map(id, tensors), own, strict=True))
            for index, (remainder, gradient) in enumerate(zip(remainders, flow, strict=False)):
                # Nothing flows to padding with −∞, and nothing times infinity is nothing here.
                term = tf.zeros_like(own[index]) if gradient is None else tf.math.multiply_no_nan(remainder, gradient)
                biases[call.name if index == 0 else f"{call.name}:{index}"] = tf.cast(term, "float32")
        if task.key is not None:
            linear = zip(keras.tree.flatten(by_output), keras.tree.flatten(outputs), strict=True)
            known = [tf.cast(g * y, "float32") for g, y in linear if g is not None]
            biases["target"] = score - sum(tf.reduce_sum(part, range(1, len(part.shape))) for part in known)
        return score, x * by_pixel, biases

    return terms


def _remainders(call, table):
    """What is left of each output of a call without its linear part; nothing if there cannot be anything."""
    operation = call.operation
    if _homogeneous(call):
        return []
    plain = getattr(operation, "activation", None) is keras.activations.linear
    channels_last = getattr(operation, "data_format", "channels_last") == "channels_last"
    if type(operation) in _WITH_BIAS and plain and channels_last:
        return [tf.cast(operation.bias, operation.compute_dtype)] if operation.use_bias else []
    inputs = list({id(x): table[id(x)] for x in call.inputs}.values())
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        try:
            with tf.autodiff.ForwardAccumulator(inputs, inputs) as tangent:
                outputs = keras.tree.flatten(call.apply([table[id(x)] for x in call.inputs]))
            linear = [tangent.jvp(y) for y in outputs]
        except (TypeError, NotImplementedError, LookupError):  # a loop, an operation without a derivative
            linear = None
    if linear is None or None in linear and any(x is not None for x in tape.gradient(outputs, inputs)):
        raise ValueError(
            f"Layer {call.name!r} ({type(operation).__name__}): TensorFlow cannot compute its linear part, so what its "
            "bias contributes is unknown. Use a method that needs gradients only, such as gradients.saliency."
        )
    return [y if part is None else y - part for y, part in zip(outputs, linear, strict=True)]


def map_of(task):
    """A function `(pictures, targets) → (B, H, W)` of tensors: the map of the paper."""
    terms = terms_of(task)

    def stretched(term, size):  # magnitudes, to 0 … 1 over the whole layer, summed over channels
        term = tf.abs(term)
        low, high = (end(term, axis=(1, 2, 3), keepdims=True) for end in (tf.reduce_min, tf.reduce_max))
        total = tf.reduce_sum(tf.math.divide_no_nan(term - low, high - low), axis=-1, keepdims=True)
        return tf.image.resize(total, size)[..., 0]

    def drawn(x, targets):
        _, pixels, biases = terms(x, targets)
        spatial = [pixels] + [term for term in biases.values() if len(term.shape) == 4]
        return tf.add_n([stretched(term, tf.shape(x)[1:3]) for term in spatial])

    return drawn
