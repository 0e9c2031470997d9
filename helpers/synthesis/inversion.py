"""What a layer still knows about a picture: look for a picture that it cannot tell from the one it saw."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from .. import checks
from ..features.units import one_output, pixel_gradient
from ..pictures.reading import refuse_shares
from ..submodels import engine
from ..submodels.graph import trace
from .ascent import descend, up_to
from .objectives import alpha_norm, total_variation
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
    model, image, layer, channel=None, *, parameterisation="fourier", starts=1, steps=200, tv=0.3, alpha=0.001,
    limits=(0, 255), seed=0, progress=True,
):  # fmt: skip
    """Reconstruct a picture from what one layer says about it: an `Inversion`.

    Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015): with Φ the layer and
    Φ₀ = Φ(image), look for the picture x with the lowest

        ‖Φ(x) − Φ₀‖² / ‖Φ₀‖²  +  tv · total variation(x)  +  alpha · α-norm(x)

    The first term is 1 for a picture without features, and the other two do not depend on the size of the picture: so
    one setting serves all layers. The search starts from noise and sees the photograph only through Φ₀. Other than in
    the paper the parameters are waves, scaled as photographs are (`parameters.fourier`), and the search is L-BFGS.

    model: a `keras.Model` that is a graph of layers with one input, a picture.
    image: `(H, W, C)`, raw, as the model takes it.
    layer: name of any layer, with or without spatial axes. Nothing after it is computed. Deep in a network match before
        a ReLU rather than after it: a unit that is off, and ought to be on, has no gradient behind it.
    channel: match this channel (index on the last axis) alone; None for all.
    parameterisation: `"fourier"`, or `"pixel"` for the paper's own.
    starts: how many times to start, each time from other noise. Where the results differ, the layer does not care.
    steps: gradients for each start, at most. Fewer are taken if none gets further.
    tv, alpha: weights of `objectives.total_variation` (more is smoother) and `alpha_norm` (more is greyer).
    limits: the lowest and the highest pixel of the model's input.
    seed: of the noise. progress: show a bar.
    ValueError: an unknown layer, channel or parameterisation, not one picture of the model's size within the limits, no
        step or start, a negative weight, or a layer that says nothing about the picture.
    """
    steps, starts = checks.whole(steps, "steps"), checks.whole(starts, "starts")
    weights = [tf.constant(checks.real(weight, name, 0), tf.float32) for name, weight in (("tv", tv), ("alpha", alpha))]
    layer = trace(model).named(layer)
    limits = checks.interval(limits, "limits")
    image = _checked_image(model, image, limits)
    decode, features, loss_and_gradient = _functions(model, layer, channel, parameterisation, image.shape, limits)
    wanted = _checked_features(features(image), layer, channel)
    noises = np.random.default_rng(seed).normal(0, START, (starts, *image.shape))
    with tqdm(total=starts * steps, desc=f"invert {layer}", disable=not progress, leave=False) as bar:
        ways = [descend(loss_and_gradient, (wanted, *weights), noise, steps, bar.update) for noise in noises]
    pictures = [np.clip(decode(tf.constant(best)), *limits) for best, _ in ways]
    errors = [tf.norm(features(picture) - wanted) / tf.norm(wanted) for picture in pictures]
    return Inversion(np.concatenate(pictures), np.stack([losses for _, losses in ways]), np.array(errors, "float32"))


def _functions(model, layer, channel, parameterisation, shape, limits):
    """Three functions: parameters → picture, picture → features, parameters → loss and its gradient."""
    decode = named_parameterisation(parameterisation, shape[1:], limits).decode
    count = one_output(model, layer).shape[-1]
    numbers = [] if channel is None else [tf.constant(checks.channel(channel, layer, count))]
    key = ("inversion", layer, channel is None, parameterisation, shape, limits)  # all channels share what is compiled
    compiled = engine.cached(model, key, lambda: _build(model, layer, decode, shape, limits, numbers))
    return decode, *(lambda *inputs, function=function: function(*inputs, *numbers) for function in compiled)


def _build(model, layer, decode, shape, limits, numbers):
    """Two compiled functions: pictures → features, and parameters → loss and its gradient."""
    body, channels = up_to(model, [layer], shape[1:3]), [tf.TensorSpec.from_tensor(number) for number in numbers]

    def features(pictures, *channel):
        maps = tf.cast(body(pictures, training=False)[layer], tf.float32)
        return maps[..., channel[0]] if channel else maps

    def loss_and_gradient(z, wanted, tv, alpha, *channel):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(z)
            pictures = decode(z)
            shown = tf.clip_by_value(pictures, *limits)  # what is matched is what will be returned
            error = tf.reduce_sum((features(shown, *channel) - wanted) ** 2) / tf.reduce_sum(wanted**2)
            loss = error + tv * total_variation(pictures, limits)[0] + alpha * alpha_norm(pictures, limits)[0]
        pixel_gradient(tape, error, z, layer)  # the penalties alone would always have one
        return loss, tape.gradient(loss, z)

    picture, free, number = tf.TensorSpec(shape), tf.TensorSpec(None), tf.TensorSpec(())
    signatures = {features: [picture], loss_and_gradient: [picture, free, number, number]}
    return [tf.function(f, input_signature=[*own, *channels], autograph=False) for f, own in signatures.items()]


def _checked_image(model, image, limits):
    """The picture as a batch of one."""
    batch, _ = engine.as_batch(model, image)
    checks.single(batch, len(batch) == 1, "invert")
    if limits[1] > 1:
        refuse_shares(batch, "If the model takes 0 to 1, give limits=(0, 1).")
    if batch.min() < limits[0] or batch.max() > limits[1]:
        low, high = f"{batch.min():.4g}", f"{batch.max():.4g}"
        raise ValueError(f"Pixels from {low} to {high} lie outside limits={tuple(limits)}: give those of the model.")
    return batch


def _checked_features(wanted, layer, channel):
    where = f"Layer {layer!r}" if channel is None else f"Channel {channel} of layer {layer!r}"
    if not np.isfinite(wanted).all():
        raise ValueError(f"{where} has NaN or infinite values for this picture: look at the weights of the model.")
    if not np.any(wanted):
        raise ValueError(f"{where} is zero everywhere for this picture: choose another channel, layer or picture.")
    return wanted
