"""The exercises and predictions of notebook 07, the explorers."""

import numpy as np

from .. import models
from ..attribution import gradients
from ..submodels import engine
from .kinds import Exercise, Prediction, nearest, number, word
from .shared import maps_of, network, photographs, pixels_of

KOALA, LEMUR = 105, 383


def _chance(pictures):
    """The probability of "koala" for each picture."""
    return models.probabilities(engine.run(network(), pictures), "softmax")[:, KOALA]


def _of_most_contrast_in_the_panda():
    return maps_of(network(), "block2b_expand_relu", pixels_of("panda")[None])[0].std((0, 1)).argmax()


def _covered(top, left, side, shade):
    picture = pixels_of("koala").copy()
    picture[top : top + side, left : left + side] = shade
    return picture


def _second_of_channel_11():
    names, pictures = photographs()
    order = np.argsort(-maps_of(network(), "block5c_add", pictures)[..., 11].max((1, 2)))
    return next(names[index] for index in order if names[index] != "koala")


def _which_shade():
    corners, lowest = range(0, 177, 48), {}  # side by side: the answer is wanted at once
    for name, shade in {"black": 0, "grey": 127, "white": 255}.items():
        lowest[name] = _chance(np.stack([_covered(top, left, 48, shade) for top in corners for left in corners])).min()
    words = ", ".join(f"{name} {value:.2f}" for name, value in lowest.items())
    return int(np.argmin(list(lowest.values()))), f"The lowest probabilities, patches side by side: {words}."


def _same_for_a_lemur():
    koala = pixels_of("koala")
    maps = [gradients.guided_backprop(network(), koala, label).ravel() for label in (KOALA, LEMUR)]
    alike = np.corrcoef(*maps)[0, 1]
    return nearest(alike, (1, 0.5, 0)), f"The correlation of the two maps is {alike:.2f}."


def _on_the_other_half():
    answers = maps_of(network(), "head_relu", photographs()[1]).mean((1, 2))
    coin, shares = np.random.default_rng(0), []
    for _ in range(200):
        group, half = coin.permutation(28) < 14, coin.permutation(28) < 14
        best = _pairs(answers[half], group[half]).argmax()
        shares.append(_pairs(answers[~half][:, [best]], group[~half])[0])
    return nearest(np.mean(shares), (0.95, 0.75, 0.5)), f"It is right in {np.mean(shares):.2f} of the pairs."


def _pairs(values, group):
    inside, outside = values[group][:, None], values[~group][None]
    return ((inside > outside) + 0.5 * (inside == outside)).mean((0, 1))


QUESTIONS = {
    "07.1": Exercise(
        "Choose the picture and the layer; the buttons under the number lead to the channels of most contrast.",
        "The first of these buttons; the line under them says rank 1.",
        accept=number(_of_most_contrast_in_the_panda, relative=0),
        because="Contrast is the standard deviation over the map: how differently the channel answers to places.",
    ),
    "07.2": Exercise(
        "It shows: black. Patch: 32 × 32 pixels. 96 px from the left, 48 px from the top.",
        "The second number beside koala, above the bars, as a share of 1: 50 % is 0.5.",
        accept=number(lambda: _chance(_covered(48, 96, 32, 0)[None])[0], absolute=0.02),
        because="The same patch in grey takes next to nothing away.",
    ),
    "07.3": Exercise(
        "Choose the layer block5c_add, then channel 11, and press the button. The names stand above the patches.",
        "The patches come from the strongest to the weakest; take the first name that is not koala.",
        accept=word(_second_of_channel_11),
        because="It answers to others, too; and one koala among 28 photographs cannot show that it is for koalas.",
    ),
    "07.P1": Prediction(
        "A patch of 48 × 48 pixels moves over the koala. Which one will bring the probability of “koala” down most?",
        ("a black one", "a grey one", "a white one"),
        _which_shade,
    ),
    "07.P2": Prediction(
        "Guided backpropagation for “koala”, and for a lemur, which is not in the picture. How alike are the two maps?",
        ("the same pattern", "somewhat alike", "not alike at all"),
        _same_for_a_lemur,
    ),
    "07.P3": Prediction(
        "The best of 1,280 channels tells two random groups apart in nearly all pairs of photographs that we searched."
        " In which share of pairs will it be right on the other photographs?",
        ("nearly all", "three quarters", "half: chance"),
        _on_the_other_half,
    ),
}
