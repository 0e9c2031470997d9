"""The exercises and predictions of notebook 02, deconvolution, dream, reconstruction."""

from functools import cache

import keras
import numpy as np

from .. import models, submodels
from ..features import deconv
from ..pictures import images
from ..submodels import engine
from ..synthesis import inversion
from .kinds import Exercise, Prediction, nearest, number, numbers_in_order
from .shared import maps_of, pixels_of, small


@cache
def _vgg():
    return models.load("vgg19", size="any")


def _unpooled():
    pool = small((2, 2, 1), keras.layers.MaxPooling2D(2, name="pool"))
    window = np.array([0, 3, 1, 2], "float32").reshape(1, 2, 2, 1)
    return engine.run(submodels.deconvnet(pool, "pool"), window, pool(window).numpy())


def _through_relu(rule):
    relu = small((1, 3, 1), keras.layers.ReLU(name="relu"))
    forward, signal = (np.array(v, "float32").reshape(1, 1, 3, 1) for v in ([-5, 3, 1], [2, -1, 4]))
    return engine.run(submodels.deconvnet(relu, "relu", rule), forward, signal)


def _likeness_of_two_channels(photograph, layer, rule):
    """The correlation of the projections of the two strongest channels, at the place of the strongest activation."""
    vgg, picture = _vgg(), pixels_of(photograph)
    maps = maps_of(vgg, layer, picture[None])[0]
    row, column, _ = np.unravel_index(maps.argmax(), maps.shape)
    seeds = np.zeros((2, *maps.shape), "float32")
    for seed, channel in zip(seeds, np.argsort(-maps[row, column])[:2], strict=True):
        seed[row, column, channel] = maps[row, column, channel]
    pair = engine.run(submodels.deconvnet(vgg, layer, rule), np.stack([picture, picture]), seeds)
    return np.corrcoef(pair.reshape(2, -1))[0, 1]


def _is_zoom(frames):
    """Whether each frame is the enlarged middle of the one before, and the last excites VGG19 more than a panda."""
    try:
        film = np.stack([np.asarray(frame, "float32") for frame in frames])
    except (TypeError, ValueError):
        raise TypeError("The answer is a list of pictures of one size, (128, 128, 3).") from None
    if film.shape[1:] != (128, 128, 3) or len(film) < 6:
        raise TypeError(f"The answer is a list of at least six pictures (128, 128, 3); this is {film.shape}.")
    for before, after in zip(film[:-1], film[1:], strict=True):
        middle = images.resize(before[6:122, 6:122], 128)
        if not np.abs(middle - after).mean() < 0.9 * np.abs(before - after).mean():
            return False
    panda = images.batch(images.sample("panda"), size=128)
    maps = maps_of(_vgg(), "block4_conv2", np.stack([panda[0], film[-1]]))
    before, after = (maps**2).mean((1, 2, 3))
    return bool(after > 2 * before)


def _nine_projections():
    pictures = images.batch(*map(images.sample, images.samples()), size=160)
    found = deconv.top_projections(_vgg(), "block1_conv2", 19, pictures, batch=4)
    inside = [box.min() >= 0 and box.max() <= 160 for box in found.patches.boxes]  # not cut off by the border
    likeness = np.corrcoef(found.projections[inside].reshape(sum(inside), -1)).min()
    place = 2 - int(np.digitize(likeness, (0.8, 0.999)))
    return place, f"For the {sum(inside)} that lie inside their photograph, the least correlation is {likeness:.2f}."


def _another_feature():
    likeness = _likeness_of_two_channels("koala", "block5_conv1", "guided")
    return nearest(likeness, (0, 0.5, 1)), f"The correlation is {likeness:.2f}."


def _picture_of_an_answer():
    network, koala = models.load("efficientnet_lite0", size=112), images.batch(images.sample("koala"), size=112)[0]
    found = inversion.invert(network, koala, "logits", steps=80, progress=False)
    spread, before = found.picture.std(), koala.std()
    place = nearest(spread, (before, before / 2, 0))
    return place, f"Its pixels spread by {spread:.0f} grey levels around their mean, the photograph's by {before:.0f}."


QUESTIONS = {
    "02.1": Exercise(
        "The switch of this window points at the place of its largest value.",
        "The pooled value goes back to that place; the other three get nothing.",
        accept=numbers_in_order(_unpooled),
        because="The switch remembered the place.",
    ),
    "02.2": Exercise(
        "Deconv looks at the sign of the signal, the gradient at that of the forward value, guided at both.",
        "Deconv: max(0, signal). Gradient: the signal where the forward value is above zero, else 0. Then guided.",
        accept=numbers_in_order(lambda: [_through_relu(rule) for rule in ("deconv", "gradient", "guided")]),
        because="Deconv and gradient disagree at the first two places; guided passes only what both pass.",
    ),
    "02.3": Exercise(
        "Section 1 does it for the koala, in the cell that prints the correlation of two channels' projections.",
        'Take the jaguar, its own strongest place and channels, and rule="guided" for both projections.',
        accept=number(lambda: _likeness_of_two_channels("jaguar", "block5_conv1", "guided"), absolute=0.02),
        because="Two features, one picture: it is painted by the photograph.",
    ),
    "02.4": Exercise(
        "Each frame must start from the middle of the one before: picture[6:122, 6:122], enlarged to 128 again.",
        "And it must be dreamt far enough: a few steps of block4_conv2 for each frame.",
        accept=_is_zoom,
        because="The smaller the step of the zoom, the smoother the film.",
    ),
    "02.P1": Prediction(
        "Nine patches of nine photographs, which excite one channel of `block1_conv2` most, are sent back to the"
        " pixels. No pooling lies between this layer and the pixels. How far will the nine projections differ?",
        (
            "not at all: one picture nine times, correlation 1",
            "in details: correlations from 0.8 to 1",
            "by far: nine pictures, as different as the patches",
        ),
        _nine_projections,
    ),
    "02.P2": Prediction(
        "The two strongest channels at one place of `block5_conv1` are sent back by guided backpropagation. How alike"
        " will the two pictures be? (Correlation 1: the same but for brightness and contrast; 0: nothing in common.)",
        ("near 0: two features, two pictures", "about 0.5", "near 1: one picture twice"),
        _another_feature,
    ),
    "02.P3": Prediction(
        "The answer of EfficientNet-Lite0 is made from 1000 logits. A search starts from faint noise around grey, and"
        " ends with a picture that has the logits of the koala. What will that picture look like?",
        (
            "a koala, as in the photograph",
            "a pale koala, half as strong",
            "nearly plain grey",
        ),
        _picture_of_an_answer,
    ),
}
