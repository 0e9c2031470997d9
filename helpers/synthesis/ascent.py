"""The way up: the compiled score and gradient of an objective, and the two ways to follow a gradient."""

import contextlib
import copy

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from .. import submodels
from ..features.units import pixel_gradient, probe
from ..submodels import engine
from ..submodels.graph import trace
from .objectives import LOGITS
from .transforms import shifted, windows


class Ascent:
    """The compiled score and gradient of an objective. Pictures are numpy `(H, W, C)`, of any size.

    Args:
        model: a `keras.Model` that is a graph of layers.
        layers: names of layers, `objectives.LOGITS` for the logits. Nothing is computed beyond them.
        score: as that of an `Objective`, with `numbers` behind the outputs.
        numbers: tensors that the score is given besides: with others (`at`), nothing is compiled again.
    """

    def __init__(self, model, layers, score, numbers=()):
        if LOGITS in layers:
            model, last = logits(model)
        own = {layer: last if layer == LOGITS else layer for layer in layers}
        self.model, self.layers, self.numbers = model, tuple(own.values()), numbers
        self.network = network = up_to(model, self.layers)
        picture = tf.TensorSpec((1, None, None, network.inputs[0].shape[-1]))
        signature = [picture, *map(tf.TensorSpec.from_tensor, numbers)]

        def scored(window, *numbers):
            outputs = network(window, training=False)
            return score({layer: tf.cast(outputs[name], tf.float32) for layer, name in own.items()}, *numbers)

        def uphill(window, *numbers):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(window)
                value = scored(window, *numbers)
            return pixel_gradient(tape, value, window, self.layers)[0]

        # Without AutoGraph, whose traceback would wrap what an objective refuses in words.
        self._score, self._gradient = (
            tf.function(function, input_signature=signature, autograph=False) for function in (scored, uphill)
        )

    def at(self, *numbers):
        """The same with other numbers."""
        other = copy.copy(self)
        other.numbers = numbers
        return other

    def measure(self, picture, tile=None):
        """The score: the mean over the windows."""
        try:
            scores = [self._score(picture[None, *window], *self.numbers) for window in windows(picture, tile)]
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"A picture of {picture.shape[0]} × {picture.shape[1]} pixels does not go through {self.model.name!r} "
                f"up to {self.layers}: a layer on the way wants one size, as a dense one behind Flatten does. Take an "
                "earlier layer, or octaves=1 and a picture of the network's own size."
            ) from error
        if scores[0].shape != (1,):
            raise ValueError(
                f"The objective gives {tuple(scores[0].shape)} for one picture. It is to give one score for each "
                "picture, (B,): take the mean over all axes but the first."
            )
        return float(np.mean(scores))

    def step(self, picture, length, shift, tile=None):
        """One step uphill within 0..255, by `length` in the mean over the pixels, computed on the shifted picture."""
        moved = shifted(picture, shift)
        total, count = np.zeros_like(picture), np.zeros_like(picture)
        for window in windows(picture, tile):
            total[window] += self._gradient(moved[None, *window], *self.numbers).numpy()
            count[window] += 1
        gradient = shifted(total / count, np.negative(shift))
        size = np.abs(gradient).mean()
        return np.clip(picture + length / size * gradient, 0, 255) if size > 0 else picture


def up_to(model, layers, size=(None, None)):
    """The part of a network up to these layers, for float pictures of this size or any: to a dict, layer → output."""
    engine.picture_shape(model)  # there must be one picture
    part = probe(model, layers)
    picture = keras.Input((*size, part.inputs[0].shape[-1]))
    return submodels.flatten(keras.Model(picture, part(picture), name=model.name))


def logits(model):
    """The network without its softmax, and the name of the layer that puts out the logits (B, classes)."""
    graph = trace(submodels.logits(model))
    outputs = keras.tree.flatten(graph.outputs)
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise ValueError(
            f"Model {model.name!r} puts out {[tuple(x.shape) for x in outputs]}: it has no logits (B, classes), so no "
            "class to ask for. Give a layer, or a network that ends in logits."
        )
    return graph.model(), next(call.name for call in graph.calls if call.outputs is outputs[0])


def descend(loss_and_gradient, start, steps, tell):
    """The best parameters that L-BFGS finds with so many gradients, and the loss of the best ones after each.

    Args:
        loss_and_gradient: function of parameters, a tensor of the shape of `start`.
        start: the first parameters, an array.
        steps: gradients, at most.
        tell: called with the number of gradients done.

    Returns:
        `(parameters, losses)`: float32, of the shape of `start`, and `(steps,)`.
    """
    losses, best = [], None

    def evaluate(flat):
        nonlocal best
        if len(losses) == steps:
            raise StopIteration  # SciPy's own limit is looked at only between line searches
        z = flat.reshape(start.shape).astype("float32")
        loss, gradient = loss_and_gradient(tf.constant(z))
        if best is None or loss < min(losses):
            best = z
        losses.append(float(loss))
        tell(1)
        return losses[-1], np.asarray(gradient, "float64").ravel()

    with contextlib.suppress(StopIteration):
        limits = {"maxiter": steps, "maxfun": steps + 1, "ftol": 0, "gtol": 0}
        minimize(evaluate, start.ravel(), jac=True, method="L-BFGS-B", options=limits)
    tell(steps - len(losses))
    losses += [min(losses)] * (steps - len(losses))  # nothing better was found
    return best, np.minimum.accumulate(np.array(losses, "float32"))
