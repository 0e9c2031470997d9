"""The exercises and predictions of notebook 05, class activation maps."""

import keras
import numpy as np
import tensorflow as tf

from .. import submodels
from ..attribution import cam
from ..pictures import images
from ..submodels import engine
from .kinds import Exercise, Prediction, kind_of, nearest, number
from .shared import koala, network, pixels_of, small


def _on_the_panda(target):
    """The share of the Grad-CAM map of a score that falls on the panda, below the koala."""
    found = cam.grad_cam(network(), pixels_of("koala+panda"), target)
    return found[images.masks("koala+panda")["panda"]].sum() / found.sum()


def _counts_red(weights):
    """The linear head of section 5 with these weights (4, 4) of the red pixels, and its picture, (4, 4, 1)."""
    red = np.zeros((4, 4, 1), "float32")
    red[:2, :2], red[2:, 2:] = 1, 2
    layers = [keras.layers.Activation("linear", name="red"), keras.layers.Flatten(), keras.layers.Dense(1)]
    return small((4, 4, 1), *layers, weights=[weights.reshape(16, 1), np.zeros(1)]), red


def _hides_from_grad_cam(weights):
    """Whether a linear head with these weights of the red pixels scores above zero, and Grad-CAM shows nothing."""
    try:
        given = np.asarray(weights, "float32")
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape != (4, 4):
        raise TypeError(f"The answer is an array of weights, (4, 4); this is {kind_of(weights)}.")
    tiny, red = _counts_red(given)
    return float(tiny(red[None])[0, 0]) > 0 and cam.grad_cam(tiny, red, 0, layer="red", upsample=False).max() == 0


def _sum_of_hires_cam(layer):
    """The sum of the signed map for the koala, as a share of its logit without the bias."""
    picture, label = koala()
    logit = network()(picture[None]).numpy()[0, label] - network().get_layer("logits").bias.numpy()[label]
    return cam.hires_cam(network(), picture, label, layer=layer, upsample=False).sum() / logit


def _dependence_on_its_own_square():
    picture, label = koala()
    covered = np.repeat(picture[None], 50, axis=0)  # the last one stays as it is
    for place, (row, column) in enumerate(np.ndindex(7, 7)):
        covered[place, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = picture.mean((0, 1))
    maps = engine.run(submodels.activations(network(), "head_relu"), covered)["head_relu"]
    maps = (maps @ network().get_layer("logits").kernel.numpy()[:, label]).reshape(50, 49)
    strongest = maps[-1].argmax()
    changes = np.abs(maps[:-1, strongest] - maps[-1, strongest])
    share = changes[strongest] / changes.sum()
    return nearest(share, (0.1, 0.5, 0.9)), f"{share:.0%} of its dependence lies in its own square."


def _red_that_does_not_count():
    counted = np.zeros((4, 4))
    counted[:2, :2] = 1
    tiny, red = _counts_red(counted)
    found = cam.grad_cam(tiny, red, 0, layer="red", upsample=False)
    corners = {"upper left": found[0, 0], "lower right": found[3, 3], "upper right": found[0, 3]}
    values = ", ".join(f"{name} {value:.2f}" for name, value in corners.items())
    return int(np.argmax(list(corners.values()))), f"The map says: {values}."


def _lead_of(changed):
    """What is left of the lead over the malinois as a share, and a sentence that says so."""
    dogs = np.stack([pixels_of("german_shepherd"), changed])
    before, after = (one[235] - one[225] for one in network()(dogs, training=False).numpy())
    return after / before, f"Its lead over the malinois was {before:.1f}, and is {after:.1f} now."


def _fawn_back():
    dog = pixels_of("german_shepherd")
    saddle = np.zeros((224, 224), bool)
    saddle[60:135, 30:175] = dog[60:135, 30:175].mean(-1) < 60
    share, said = _lead_of(np.clip(dog + saddle[..., None] * np.float32([110, 70, 35]), 0, 255))
    return nearest(share, (1, 0.5, 0)), said


def _head_hidden():
    dog = pixels_of("german_shepherd")
    blurred = images.resize(images.resize(dog, 14), 224)
    dog[5:92, 182:] = blurred[5:92, 182:]
    share, said = _lead_of(dog)
    return nearest(share, (0, 0.5, 1)), said


QUESTIONS = {
    "05.1": Exercise(
        "Section 3 has own_share and the masks; the target is a function that gives minus the logit of class 105.",
        "target=lambda z: -z[:, 105], and mask['panda'] for the half.",
        accept=number(lambda: _on_the_panda(lambda z: -z[:, 105]), absolute=0.01),
        because="The panda speaks against the koala; against the panda, at this layer, no place speaks at all.",
    ),
    "05.2": Exercise(
        "Grad-CAM weighs the channel by the mean of all sixteen weights, also of those where nothing is red.",
        "Positive where the picture is red, and so negative elsewhere that the mean is not above zero.",
        accept=_hides_from_grad_cam,
        because="A mean below zero turns the whole map off, although the score is made of red alone.",
    ),
    "05.3": Exercise(
        "Only the target changes against section 3; the share is that of mask['panda'].",
        "A function of the logits, tf.nn.softmax(z)[:, 388], as the target of cam.grad_cam.",
        accept=number(lambda: _on_the_panda(lambda z: tf.nn.softmax(z)[:, 388]), absolute=0.01),
        because="A probability also rises when other logits fall, so their maps are taken off, as in Finer-CAM.",
    ),
    "05.4": Exercise(
        "Section 5 compares sum and logit − bias on the last layer; give hires_cam another layer.",
        'The sum of cam.hires_cam(…, layer="block6d_add", upsample=False), divided by logit − bias.',
        accept=number(lambda: _sum_of_hires_cam("block6d_add"), relative=0.03),
        because="ReLUs alone would keep the law: twice the input, twice the output. What the biases add is missing.",
    ),
    "05.P1": Prediction(
        "The strongest place of the map lies over a square of 32 × 32 pixels. Which share of its dependence on the"
        " picture lies in this square?",
        ("about a tenth", "about half", "nearly all"),
        _dependence_on_its_own_square,
    ),
    "05.P2": Prediction(
        "The class corner counts the red of the upper left quarter, and nothing else. Where will Grad-CAM for it be"
        " strongest?",
        ("upper left: the red that counts", "lower right: more red, which does not count", "upper right: the blue"),
        _red_that_does_not_count,
    ),
    "05.P3": Prediction(
        "We dye the black back of the German shepherd fawn; head, legs and tail stay. How much of its lead over the"
        " malinois will be left?",
        ("nearly all: a dog is known by its head", "about half", "next to nothing"),
        _fawn_back,
    ),
    "05.P4": Prediction(
        "We blur the head of the German shepherd, where Grad-CAM is strongest. How much of its lead over the malinois"
        " will be left?",
        ("next to nothing: a dog is known by its head", "about half", "nearly all"),
        _head_hidden,
    ),
}
