"""The exercises and predictions of notebook 06, relevance propagation."""

import keras
import numpy as np
from scipy.ndimage import maximum_filter

from .. import models
from ..attribution import gradients, relevance
from ..pictures import digits
from ..submodels import engine
from .kinds import Exercise, Prediction, nearest, number, numbers_in_order, word
from .shared import network, photographs, ramp, small

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
    """How many pixels of paper must be painted, those first that speak most for `digit` rather than `other`."""
    reader, picture = models.load("mnist_cnn"), digits.load()[1][0][number]
    speaks = relevance.lrp(reader, picture, lambda logits: logits[:, digit] - logits[:, other], first="box")
    order = np.argsort(-np.where(picture < 20, speaks, -np.inf).ravel())
    films = np.repeat(picture.reshape(1, -1), 100, 0)
    for count in range(1, len(films)):
        films[count:, order[count - 1]] = 255
    return int((engine.run(reader, films.reshape(-1, 28, 28, 1)).argmax(1) != digit).argmax())


def _least_relevance_left_at(layer):
    names, pictures = photographs()
    _, inside = relevance.lrp(network(), pictures, layers=[layer], batch=4)
    return names[(inside[layer].sum((1, 2, 3)) / engine.run(network(), pictures).max(1)).argmin()]


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


def _saturated():
    product = gradients.gradient_x_input(ramp(), np.full((1, 1, 1), 2, "float32")).item()
    return nearest(product, (1, 0, 2)), f"Gradient × input is {product:.1f}, because f is flat at 2."


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
        "Section 5 does it for a 4 and a 9, with six pixels at once; here one after the other, and look each time.",
        "np.argsort(-np.where(digit < 20, relevances, -np.inf).ravel()) is the order in which to paint.",
        accept=number(lambda: _painted_pixels(1299, 3, 5), relative=0),
        because="So little ink decides between these two digits, and the map knew where.",
    ),
    "06.4": Exercise(
        "Section 6 draws these sums for one photograph; `layers=` gives them for a whole batch.",
        'relevance.lrp(network, everything, layers=depths)[1]["block5c_add"].sum((1, 2, 3)), by the score.',
        accept=word(lambda: _least_relevance_left_at("block5c_add")),
        because="Of all these photographs it is the one whose animal has no class in this network.",
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
        "f rises from 0 at x = 0 to 1 at x = 1, and stays there. What does gradient × input say at x = 2?",
        ("1: what f has gained", "0: nothing", "2: the whole input"),
        _saturated,
    ),
}
