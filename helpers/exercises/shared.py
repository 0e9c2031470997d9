"""The network and the photographs that several exercises ask about."""

from functools import cache

import keras
import numpy as np

from .. import models, submodels
from ..pictures import images
from ..submodels import engine


@cache
def network():
    return models.load("efficientnet_lite0")


def pixels_of(photograph):
    """A bundled photograph as the networks take it, (224, 224, 3) float32, 0..255."""
    return images.batch(images.sample(photograph))[0]


def answers(picture):
    """The five answers of EfficientNet-Lite0 for a picture (224, 224, 3): `(class index, label, probability)` each."""
    return models.decode(network()(picture[None], training=False))[0]


@cache
def top_answers(photograph):
    """The five answers for a bundled photograph."""
    return answers(pixels_of(photograph))


@cache
def koala():
    """The photograph of a koala, and the number of its class."""
    return pixels_of("koala"), top_answers("koala")[0][0]


@cache
def photographs():
    """The 28 bundled photographs, their names, and the pictures."""
    names = images.samples()
    return names, images.batch(*map(images.sample, names))


def maps_of(model, layer, pictures):
    """The maps `(N, h, w, c)` of a layer for pictures `(N, H, W, C)`."""
    return engine.run(submodels.activations(model, layer), pictures)[layer]


def small(shape, *layers, weights=()):
    """A network of a few layers for inputs of this shape."""
    model = keras.Sequential([keras.Input(shape), *layers])
    model.set_weights([np.array(each) for each in weights])
    return model


def ramp():
    """A saturated network of one pixel: 1 − max(0, 1 − x)."""
    pixel = keras.Input((1, 1, 1))
    return keras.Model(pixel, 1 - keras.ops.relu(1 - keras.ops.reshape(pixel, (-1, 1))))
