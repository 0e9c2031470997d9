"""What a picture is to get more of, in functions that add up: `channel("conv4", 7) - 0.5 * layer("conv1")`.

And what keeps it natural: `total_variation` and `alpha_norm`, functions of the pictures themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from .. import checks

LOGITS = "(logits)"  # as the name of a layer: what the network puts out, before a softmax or sigmoid


@dataclass(frozen=True)
class Objective:
    """A score of what layers put out. Sums, differences, and multiples by a number are objectives too."""

    layers: tuple  # the names of the layers that the score reads
    score: Callable  # a dict, layer name → its output (B, …) float32, to (B,) scores; written with TensorFlow

    def __add__(self, other):
        layers = tuple(dict.fromkeys(self.layers + other.layers))
        return Objective(layers, lambda outputs: self.score(outputs) + other.score(outputs))

    def __mul__(self, number):
        return Objective(self.layers, lambda outputs: number * self.score(outputs))

    __rmul__ = __mul__

    def __neg__(self):
        return -1.0 * self

    def __sub__(self, other):
        return self + -other


def layer(name):
    """The mean of a layer's squared outputs, as in the original DeepDream."""
    return Objective((name,), lambda outputs: _mean(tf.square(outputs[name])))


def channel(layer, number):
    """The mean output of one channel of a layer."""

    def score(outputs):
        if not tf.is_tensor(number):  # one that is given as a tensor was checked by whoever made it
            checks.channel(number, layer, outputs[layer].shape[-1])
        return _mean(outputs[layer][..., number])

    return Objective((layer,), score)


def class_logit(number):
    """The logit of one class."""
    return channel(LOGITS, number)


def alike(layer, guide):
    """The features of a layer at each place, times those of a guide `(n, c)` that fit them best: their mean."""

    def choose(row):
        return tf.argmax(tf.matmul(row, guide, transpose_b=True), axis=-1)

    def score(outputs):
        shape = tf.shape(outputs[layer])
        rows = tf.reshape(outputs[layer], (-1, shape[2], shape[3]))
        # The choice has no gradient. Made row by row, it never holds all pairs of positions at once.
        best = tf.map_fn(choose, rows, fn_output_signature=tf.int64)
        return tf.reduce_mean(tf.reshape(rows * tf.gather(guide, best), (shape[0], -1)), axis=-1)

    return Objective((layer,), score)


def _mean(values):
    """(B,): the mean over all other axes."""
    return tf.reduce_mean(values, axis=tf.range(1, tf.rank(values)))


def total_variation(pictures, limits=(0, 255), beta=2):
    """How much neighbouring pixels differ: mean of (across² + down²)^(beta / 2), differences as shares of the range.

    Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015), equation 4.

    pictures: `(B, H, W, C)` float32; limits: the lowest and the highest value of a pixel.
    beta: exponent, above 0. With 1 a sharp edge costs as much as a soft one, with 2 it costs more.
    Returns `(B,)` float32: 0 for a picture without structure; a mean, so that it does not depend on the size.
    """
    shares = pictures / (limits[1] - limits[0])
    across = shares[:, :-1, 1:] - shares[:, :-1, :-1]
    down = shares[:, 1:, :-1] - shares[:, :-1, :-1]
    squares = across**2 + down**2
    if beta != 2:
        squares = (squares + 1e-10) ** (beta / 2)  # else the slope is infinite where neighbours are equal
    return tf.reduce_mean(squares, axis=(1, 2, 3))


def alpha_norm(pictures, limits=(0, 255), alpha=6):
    """How far pixels are from the middle of their range: mean of |distance|^alpha, 1 at the ends of the range.

    Mahendran and Vedaldi (2015): a high exponent leaves pixels free within the range and holds them back beyond it.
    Arguments as for `total_variation`. `(B,)` float32: 0 for a grey picture, 1 for one of black and white.
    """
    middle, half = sum(limits) / 2, (limits[1] - limits[0]) / 2
    return tf.reduce_mean(tf.abs((pictures - middle) / half) ** alpha, axis=(1, 2, 3))
