"""The exercises and predictions of notebook 06, relevance propagation."""

import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import maximum_filter

from .. import models
from ..attribution import gradients, relevance, rules
from ..pictures import digits, images
from ..submodels import engine
from .kinds import Exercise, Prediction, nearest, number, numbers_in_order
from .shared import network, small, top_answers

LRP_0, Z_PLUS = {"rule": "epsilon", "epsilon": 0}, {"rule": "zplus"}


def _shares(inputs, **rule):
    """What a rule gives to the two inputs of the network of section 1."""
    dense = [keras.layers.Dense(2, "relu", use_bias=False), keras.layers.Dense(1, use_bias=False)]
    weights = [[[1.0, 2.0], [1.0, -1.0]], [[2.0], [-1.0]]]
    tiny = small((1, 1, 2), keras.layers.Flatten(), *dense, weights=weights)
    return relevance.lrp(tiny, np.array([[inputs]]), 0, **rule).ravel()


def _credit_for_the_smaller():
    """DeepLIFT of x₁ − ReLU(x₁ − x₂) at (3, 1), against zeros."""
    picture = keras.Input((1, 1, 2))
    values = keras.layers.Flatten()(picture)
    first, difference = keras.layers.Dense(1, use_bias=False), keras.layers.Dense(1, "relu", use_bias=False)
    model = keras.Model(picture, keras.layers.Subtract()([first(values), difference(values)]))
    first.set_weights([np.array([[1.0], [0.0]])])
    difference.set_weights([np.array([[1.0], [-1.0]])])
    return relevance.deep_lift(model, np.array([[[3.0, 1.0]]]), 0).ravel()


def _painted_pixels(number, digit, other):
    """How many pixels of paper must be painted until it is no `digit`: by relevance, then by the gradient."""
    reader, picture = models.load("mnist_cnn"), digits.load()[1][0][number]

    def contrast(logits):
        return logits[:, digit] - logits[:, other]

    counts, speaks = [], relevance.lrp(reader, picture, contrast, first="box")
    for lowest_first in (-speaks, gradients.saliency(reader, picture, contrast)):
        order = np.argsort(np.where(picture < 20, lowest_first, np.inf).ravel())
        films = np.repeat(picture.reshape(1, -1), 100, 0)
        for count in range(1, len(films)):
            films[count:, order[count - 1]] = 255
        counts.append(int((engine.run(reader, films.reshape(-1, 28, 28, 1)).argmax(1) != digit).argmax()))
    return counts


def _arrives_without_shares_of_biases(number):
    """Share of the score of a digit that reaches its pixels by LRP-0, if biases get nothing."""
    reader, picture = models.load("mnist_cnn"), digits.load()[1][0][number]

    def rule(layer, x, received, options):
        return rules.epsilon(layer._replace(bias=tf.zeros_like(layer.bias)), x, received, options)

    return relevance.lrp(reader, picture, rule=rule, epsilon=0).sum() / engine.run(reader, picture[None]).max()


def _share_of_what_does_not_matter():
    first, second = _shares([2.0, 1.0], **Z_PLUS)
    return nearest(first, (0, 1, 2)), f"By z⁺ x₁ gets {first:.1f} and x₂ gets {second:.1f}."


def _six_pixels_of_ink():
    reader, nine = models.load("mnist_cnn"), digits.load()[1][0][151]
    speaks = relevance.lrp(reader, nine, lambda logits: logits[:, 9] - logits[:, 8], first="box")
    near = maximum_filter(nine[..., 0], 7) > 100  # at most three pixels from ink
    paper = np.flatnonzero((nine[..., 0] < 20) & near)
    painted = nine.copy()
    painted.reshape(-1)[paper[np.argsort(-speaks.ravel()[paper])[:6]]] = 255
    before, after = (one[9] - one[8] for one in engine.run(reader, np.stack([nine, painted])))
    return int(np.digitize(after, (-1, 1))), f"The logit of 9 minus that of 8 was {before:.1f}, and is {after:.1f} now."


def _on_the_right_animal():
    """Mean share of the positive relevance there, by z⁺ in convolutions and ε in the Dense layer."""

    def rule(layer, x, received, options):
        return (rules.epsilon if len(layer.kernel.shape) == 2 else rules.zplus)(layer, x, received, options)

    found = []
    for pair in images.COMPOSITES:
        both = images.batch(images.sample(pair))
        for name, half in images.masks(pair).items():
            maps = relevance.lrp(network(), both, top_answers(name)[0][0], rule=rule)[0].sum(-1)
            found.append(np.maximum(0, maps * half).sum() / np.maximum(0, maps).sum())
    share = np.mean(found)
    return nearest(share, (0.69, 0.8, 0.92)), f"It is {share:.2f}; with z⁺ in the Dense layer too it was 0.69."


QUESTIONS = {
    "06.1": Exercise(
        "h₁ = 1 + 3, and the ReLU makes h₂ = 2 − 3 zero: only one hidden unit has anything to share.",
        "All of the score goes to h₁. What were its two contributions, and was any of them negative?",
        accept=numbers_in_order(lambda: [_shares([1.0, 3.0], **lrp) for lrp in (LRP_0, Z_PLUS)]),
        because="Where no active unit is held back by anything, there is nothing to cancel, and the rules agree.",
    ),
    "06.2": Exercise(
        "Against the baseline 0 the ReLU goes from 0 to 2, and so does what it is given. What is its slope?",
        "x₁ has two ways to the output, one direct and one through the ReLU with a minus: add their multipliers.",
        accept=numbers_in_order(_credit_for_the_smaller),
        because="The smaller one gets all the credit, though without the other the result would be 0 as well.",
    ),
    "06.3": Exercise(
        "Section 5 does it with six pixels at once; here one after the other, and look each time.",
        "np.argsort(np.where(digit < 20, order, np.inf), axis=None), with order = −relevance, then the gradient.",
        accept=numbers_in_order(lambda: _painted_pixels(1941, 7, 3)),
        because="The gradient needs fewer: it says what a change would do, the map who made the score that is there.",
    ),
    "06.4": Exercise(
        "share(changed(layer, np.array, bias=False), x, received) shares by z without the bias.",
        "lrp_by_hand(test_digits[18], 3, your_rule).sum() / answers[18, 3]",
        accept=number(lambda: _arrives_without_shares_of_biases(18)),
        because="With nobody else to keep a share, all of it arrives; but where z is near 0, fractions are huge now.",
    ),
    "06.P1": Prediction(
        "The score is 3, and it does not depend on x₁ at all. What will z⁺ give to x₁?",
        ("0: nothing comes from it", "1: a third of the score", "2: two thirds of the score"),
        _share_of_what_does_not_matter,
    ),
    "06.P2": Prediction(
        "The digit is read as a 9, barely. Six pixels of paper that speak most for the 9 are painted with ink. What is"
        " it then?",
        ("a clear 8", "a toss-up between 9 and 8", "still a 9"),
        _six_pixels_of_ink,
    ),
    "06.P3": Prediction(
        "z⁺ in all 49 convolutions, ε in the one Dense layer. Which share of the positive relevance is on the right"
        " animal, on average?",
        (
            "0.69, as by z⁺ everywhere: the depth is to blame",
            "about 0.80: both are",
            "0.92, nearly as by the composite: the one Dense layer is to blame",
        ),
        _on_the_right_animal,
    ),
}
