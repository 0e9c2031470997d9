"""The network and the photographs that several exercises ask about."""

from functools import cache

import keras

from .. import models
from ..pictures import images


@cache
def network():
    return models.load("efficientnet_lite0")


def pixels_of(photograph):
    """A bundled photograph as the networks take it, (224, 224, 3) float32, 0..255."""
    return images.batch(images.sample(photograph))[0]


@cache
def top_answers(photograph):
    """The five answers of EfficientNet-Lite0 for a bundled photograph: `(class index, label, probability)` each."""
    return models.decode(network()(pixels_of(photograph)[None], training=False))[0]


@cache
def photographs():
    """The 28 bundled photographs, their names, and the pictures."""
    names = images.samples()
    return names, images.batch(*map(images.sample, names))


def ramp():
    """A saturated network of one pixel: 1 − max(0, 1 − x)."""
    pixel = keras.Input((1, 1, 1))
    return keras.Model(pixel, 1 - keras.ops.relu(1 - keras.ops.reshape(pixel, (-1, 1))))
