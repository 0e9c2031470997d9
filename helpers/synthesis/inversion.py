"""What a layer still knows about a picture: look for a picture that it cannot tell from the one it saw."""

import contextlib
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize
from tqdm.auto import tqdm

from .. import submodels
from ..submodels import engine
from ..submodels.graph import trace
from .parameters import alpha_norm, total_variation
from .parameters import parameterisation as named_parameterisation

START = 0.05  # standard deviation of the first parameters, where photographs have 1: nearly grey, different each time


class Inversion(NamedTuple):
    """Pictures that a layer takes for the one that it was shown, one for each start."""

    pictures: np.ndarray  # (starts, H, W, C) float32, in the units and within the limits of the model's input
    losses: np.ndarray  # (starts, steps) float32: loss of the best picture after each gradient
    errors: np.ndarray  # (starts,) float32: ‖Φ(picture) − Φ₀‖ / ‖Φ₀‖; 0 is perfect, a picture without features has 1

    @property
    def picture(self):
        """The picture `(H, W, C)` of the start that ended with the lowest loss."""
        return self.pictures[self.losses[:, -1].argmin()]


def invert(
    model,
    image,
    layer,
    channel=None,
    *,
    parameterisation="fourier",
    starts=1,
    steps=200,
    tv=0.3,
    alpha=0.001,
    limits=(0, 255),
    seed=0,
    progress=True,
):
    """Reconstruct a picture from what one layer says about it.

    Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015): with Φ the layer and
    Φ₀ = Φ(image), look for the picture x with the lowest

        ‖Φ(x) − Φ₀‖² / ‖Φ₀‖²  +  tv · total variation(x)  +  alpha · α-norm(x)

    The first term is 1 for a picture without features, whatever the layer, and the other two do not depend on the
    size of the picture: so one setting serves all layers. The search starts from noise and sees the photograph only
    through Φ₀. Two things differ from the paper: the parameters are waves rather than pixels, scaled as
    photographs are (`parameters.fourier`), and the search is L-BFGS, which needs far fewer gradients than descent.

    Args:
        model: a `keras.Model` that is a graph of layers with one input, a picture.
        image: `(H, W, C)`, raw, as the model takes it.
        layer: name of any layer, with or without spatial axes. Nothing after it is computed. Deep in a network match
            before a ReLU rather than after it: a unit that is off, and ought to be on, has no gradient behind it.
        channel: match this channel (index on the last axis) alone; None for all.
        parameterisation: `"fourier"`, or `"pixel"` for the paper's own.
        starts: how many times to start, each time from other noise. Where the results differ, the layer does not care.
        steps: gradients for each start, at most. Fewer are taken if none gets further.
        tv: weight of `parameters.total_variation`: more is smoother.
        alpha: weight of `parameters.alpha_norm`: more is greyer, and holds pixels within their range.
        limits: the lowest and the highest pixel of the model's input.
        seed: of the noise.
        progress: show a bar.

    Returns:
        `Inversion`.

    Raises:
        ValueError: an unknown layer, channel or parameterisation, not one picture of the model's size within the
            limits, no step or start, a negative weight, or a layer that says nothing about the picture.
    """
    image = _checked_image(model, image, limits)
    if steps < 1 or starts < 1:
        raise ValueError(f"steps={steps} and starts={starts}: at least one of each is needed.")
    if tv < 0 or alpha < 0:
        raise ValueError(f"tv={tv} and alpha={alpha} are weights of penalties: they are 0 or more.")
    _check_layer(model, layer, channel)
    parameters = named_parameterisation(parameterisation, image.shape[1:], tuple(limits))
    key = ("inversion", layer, channel, parameterisation, image.shape[1:], tuple(limits))
    features, loss_and_gradient = engine.cached(
        model, key, lambda: _build(model, layer, channel, parameters, image.shape, limits)
    )
    wanted = features(image)
    _check_features(wanted, layer, channel)
    found = []
    with tqdm(total=starts * steps, desc=f"invert {layer}", disable=not progress, leave=False) as bar:
        for noise in np.random.default_rng(seed).normal(0, START, (starts, *image.shape)):
            found.append(_search(lambda z: loss_and_gradient(z, wanted, tv, alpha), noise, steps, bar))
    pictures = np.concatenate([np.clip(parameters.decode(tf.constant(best)), *limits) for best, _ in found])
    errors = [tf.norm(features(picture[None]) - wanted) / tf.norm(wanted) for picture in pictures]
    return Inversion(pictures, np.stack([losses for _, losses in found]), np.array(errors, "float32"))


def _build(model, layer, channel, parameters, shape, limits):
    """Two compiled functions: pictures → features, and parameters → loss and its gradient."""
    body = submodels.activations(model, layer)
    picture = tf.TensorSpec(shape, tf.float32)
    number = tf.TensorSpec((), tf.float32)

    @tf.function(input_signature=[picture])
    def features(pictures):
        maps = body(pictures, training=False)[layer]
        return maps if channel is None else maps[..., channel]

    @tf.function(input_signature=[picture, tf.TensorSpec(None, tf.float32), number, number])
    def loss_and_gradient(z, wanted, tv, alpha):
        with tf.GradientTape() as tape:
            tape.watch(z)
            pictures = parameters.decode(z)
            shown = tf.clip_by_value(pictures, *limits)  # what is matched is what will be returned
            error = tf.reduce_sum((features(shown) - wanted) ** 2) / tf.reduce_sum(wanted**2)
            smooth = total_variation(pictures, limits)[0]
            bounded = alpha_norm(pictures, limits)[0]
            loss = error + tv * smooth + alpha * bounded
        return loss, tape.gradient(loss, z)

    return features, loss_and_gradient


def _search(loss_and_gradient, start, steps, bar):
    """The best parameters that L-BFGS finds with so many gradients, and the loss of the best ones after each."""
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
        bar.update()
        return losses[-1], np.asarray(gradient, "float64").ravel()

    with contextlib.suppress(StopIteration):
        limits = {"maxiter": steps, "maxfun": steps + 1, "ftol": 0, "gtol": 0}
        minimize(evaluate, start.ravel(), jac=True, method="L-BFGS-B", options=limits)
    bar.update(steps - len(losses))
    losses += [min(losses)] * (steps - len(losses))  # nothing better was found
    return best, np.minimum.accumulate(np.array(losses, "float32"))


def _checked_image(model, image, limits):
    """The picture as a batch of one."""
    trace(model)  # first, since it says best what is wrong with a model that is no graph
    batch, _ = engine.as_batch(model, image)
    if len(batch) != 1:
        raise ValueError(f"{len(batch)} pictures are given: invert takes one, (H, W, C). Call it once for each.")
    if batch.min() < limits[0] or batch.max() > limits[1]:
        raise ValueError(
            f"The pixels go from {batch.min():.4g} to {batch.max():.4g}, outside limits={tuple(limits)}: give the "
            "range that the model's input has, for instance limits=(-1, 1)."
        )
    return batch


def _check_layer(model, layer, channel):
    tensor = trace(model).tensor(layer)
    if not keras.backend.is_keras_tensor(tensor):
        raise ValueError(f"Layer {layer!r} of {model.name!r} has several outputs; name a layer that has one.")
    channels = tensor.shape[-1] or 0
    if channel is not None and (isinstance(channel, bool | float) or channel not in range(channels)):
        raise ValueError(f"channel={channel!r}: layer {layer!r} has {channels} channels, 0 to {channels - 1}.")


def _check_features(wanted, layer, channel):
    where = f"Layer {layer!r}" if channel is None else f"Channel {channel} of layer {layer!r}"
    if not np.isfinite(wanted).all():
        raise ValueError(f"{where} has NaN or infinite values for this picture: look at the weights of the model.")
    if not np.any(wanted):
        raise ValueError(
            f"{where} is zero everywhere for this picture, so there is nothing to match: choose another channel or "
            "picture (submodels.activations(model, layer) shows which channels fire)."
        )
