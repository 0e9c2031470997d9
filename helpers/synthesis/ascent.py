"""The way up: the compiled score and gradient of an objective, and the two ways to follow a gradient."""

import contextlib
import copy

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from .. import submodels
from ..features.units import one_output, pixel_gradient
from ..submodels import engine
from ..submodels.graph import trace
from .objectives import LOGITS
from .transforms import shifted, windows


class Ascent:
    """The compiled score and gradient of an objective. Pictures are numpy `(H, W, C)`, of any size.

    layers: names of layers, `objectives.LOGITS` for the logits. Nothing is computed beyond them.
    score: as that of an `Objective`, with `numbers` behind the outputs: tensors that may be others later, see `at`.
    """

    def __init__(self, model, layers, score, numbers=()):
        self.model, self.layers, self.numbers = model, layers, numbers
        self.network = network = up_to(model, layers)
        picture = tf.TensorSpec((1, None, None, network.inputs[0].shape[-1]))
        signature = [picture, *map(tf.TensorSpec.from_tensor, numbers)]

        def scored(window, *numbers):
            outputs = network(window, training=False)
            return score({layer: tf.cast(output, tf.float32) for layer, output in outputs.items()}, *numbers)

        def uphill(window, *numbers):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(window)
                value = scored(window, *numbers)
            return pixel_gradient(tape, value, window, layers)[0]

        # Without AutoGraph, whose traceback would wrap what an objective refuses in words.
        self._score, self._gradient = (
            tf.function(function, input_signature=signature, autograph=False) for function in (scored, uphill)
        )

    def at(self, *numbers):
        """The same with other numbers, without compiling again."""
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
            raise ValueError(f"The objective gives {scores[0].shape} for one picture, and not one score each, (B,).")
        return float(np.mean(scores))

    def step(self, picture, length, shift, tile=None):
        """One step uphill within 0..255, by `length` in the mean over the pixels, computed on the shifted picture."""
        moved, total, count = shifted(picture, shift), np.zeros_like(picture), np.zeros_like(picture)
        for window in windows(picture, tile):
            total[window] += self._gradient(moved[None, *window], *self.numbers).numpy()
            count[window] += 1
        gradient = shifted(total / count, np.negative(shift))
        size = np.abs(gradient).mean()
        return np.clip(picture + length / size * gradient, 0, 255) if size > 0 else picture


def output(model, layer):
    """The one symbolic output of a layer; for `LOGITS` that of the network without the softmax at its end."""
    if layer != LOGITS:
        return one_output(model, layer)
    outputs = keras.tree.flatten(trace(submodels.logits(model)).outputs)
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        shapes = [tuple(x.shape) for x in outputs]
        raise ValueError(f"{model.name!r} puts out {shapes}: it has no logits, so no class to ask for. Give a layer.")
    return outputs[0]


def up_to(model, layers, size=(None, None)):
    """The part of a network up to these layers, for float pictures of this size or any: to a dict, layer → output."""
    channels = engine.picture_shape(model)[-1]
    network = submodels.logits(model) if LOGITS in layers else model
    tensors = {layer: output(model if layer == LOGITS else network, layer) for layer in layers}
    part = keras.Model(keras.tree.flatten(trace(network).inputs)[0], tensors)
    picture = keras.Input((*size, channels))
    return submodels.flatten(keras.Model(picture, part(picture), name=model.name))


def descend(loss_and_gradient, given, start, steps, tell):
    """The best parameters that L-BFGS finds with so many gradients, and the loss of the best ones after each.

    loss_and_gradient: function of parameters, a tensor of the shape of the array `start`, and of what is `given`.
    steps: gradients, at most; `tell` is called with the number of those that are done.
    """
    losses, best = [], None

    def evaluate(flat):
        nonlocal best
        if len(losses) == steps:
            raise StopIteration  # SciPy's own limit is looked at only between line searches
        z = flat.reshape(start.shape).astype("float32")
        loss, gradient = loss_and_gradient(tf.constant(z), *given)
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
