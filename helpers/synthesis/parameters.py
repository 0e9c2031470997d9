"""The numbers by which a picture is optimised: its pixels, or waves that are scaled as photographs are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .. import checks

SPREAD = 0.2  # standard deviation of photographs, as a share of the range of pixel values

# How the colours of photographs vary: lightness most, then blue against red, then green against both. A square root of
# the covariance of RGB over ImageNet, from Olah, Mordvintsev and Schubert, "Feature Visualization" (2017).
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], "float32")


class Parameterisation(NamedTuple):
    """The numbers by which a picture is optimised. Parameters have the shape of the pictures, `(B, H, W, C)` float32.

    Independent parameters of standard deviation 1 make pictures that vary as much as photographs do.
    """

    decode: Callable  # parameters → pictures, not clipped to the range of pixels
    encode: Callable  # pictures → the parameters that make them


def pixel(shape, limits=(0, 255)):
    """Each parameter is a pixel: its distance from the middle of the range, in standard deviations of photographs.

    shape: (height, width, channels) of a picture; limits: the lowest and the highest value of a pixel.
    """
    middle, spread = sum(limits) / 2, SPREAD * (limits[1] - limits[0])
    return Parameterisation(lambda z: middle + spread * z, lambda pictures: (pictures - middle) / spread)


def fourier(shape, limits=(0, 255), decay=0.85):
    """Each parameter is a wave over the whole picture, in a colour that varies independently of the others.

    A photograph has much of low frequencies and little of high ones. Here the waves are scaled to that, amplitude
    ∝ 1 / frequency^decay, so that a step which is equally long in all parameters changes the picture as photographs
    differ from each other: large forms first, no noise. (Olah et al. 2017 call it a decorrelated space.)

    shape, limits: as for `pixel`. Three channels are taken as RGB, others as independent.
    decay: 0 for white noise, 1 for photographs, more for smoother pictures; a little less finds fine detail sooner.
    """
    height, width, channels = shape
    pixels = pixel(shape, limits)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    amplitude = np.maximum(frequency, 1 / max(height, width)) ** -decay
    amplitude = (amplitude / np.sqrt(np.mean(amplitude**2)))[:, :, None].astype("float32")
    colours = COLOURS if channels == 3 else np.eye(channels, dtype="float32")
    colours = colours / np.sqrt(np.sum(colours**2) / channels)  # mean variance of a channel: 1
    to_colours, from_colours = colours.T, np.linalg.inv(colours).T

    return Parameterisation(
        lambda z: pixels.decode(_hartley(amplitude * z) @ to_colours),
        lambda pictures: _hartley(pixels.encode(pictures) @ from_colours) / amplitude,
    )


def _hartley(x):
    """The Hartley transform of `(B, H, W, C)` over H and W, cos + sin of Fourier's: orthonormal, its own inverse."""
    x = tf.transpose(x, (0, 3, 1, 2))
    spectrum = tf.signal.fft2d(tf.complex(x, tf.zeros_like(x)))
    waves = tf.transpose(tf.math.real(spectrum) - tf.math.imag(spectrum), (0, 2, 3, 1))
    return waves / np.sqrt(x.shape[2] * x.shape[3]).astype("float32")


def parameterisation(name, shape, limits=(0, 255)):
    """The `Parameterisation` of a name, `"pixel"` or `"fourier"`; `ValueError` for others, or limits the wrong way."""
    known = {"pixel": pixel, "fourier": fourier}
    return known[checks.choose(name, known, "parameterisation")](shape, checks.interval(limits, "limits"))
