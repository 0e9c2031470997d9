"""The exercises and predictions of notebook 04, gradients."""

from functools import cache

import numpy as np

from ..attribution import gradients
from ..pictures import images
from ..submodels import engine
from .kinds import Exercise, Prediction, nearest, number, numbers_in_order
from .shared import koala, network, pixels_of, ramp


def _saturated():
    """Gradient, gradient × input and integrated gradients of 1 − max(0, 1 − x) at 2, from the baseline 0."""
    model, two = ramp(), np.full((1, 1, 1), 2, "float32")
    found = [gradients.saliency(model, two), gradients.gradient_x_input(model, two)]
    return [one.item() for one in found + [gradients.integrated_gradients(model, two, progress=False)]]


def _koala_instead_of_panda():
    scores = network()(images.batch(images.sample("koala"), images.sample("panda")), training=False)[:, 105].numpy()
    return float(scores[0] - scores[1])


def _mass_on_dark_pixels(photograph, baselines, dark):
    picture = pixels_of(photograph)
    options = {"baseline": baselines, "tolerance": 0.03, "batch": 4, "progress": False}
    mass = np.abs(gradients.integrated_gradients(network(), picture, **options)).sum(-1)
    return mass[picture.max(-1) < dark].sum() / mass.sum()


def _koala_rather_than_panda():
    """What the half with the koala adds to the logit of the koala less that of the panda."""
    options = {"tolerance": 0.03, "batch": 4, "progress": False}
    options |= {"target": lambda outputs: outputs[:, 105] - outputs[:, 388]}
    found = gradients.integrated_gradients(network(), pixels_of("koala+panda"), **options)
    return found[images.masks("koala+panda")["koala"]].sum()


@cache
def _gradient_of_the_koala():
    return gradients.saliency(network(), *koala())


def _one_grey_level():
    (picture, label), gradient = koala(), _gradient_of_the_koala()
    before, after = engine.run(network(), np.stack([picture, picture + np.sign(gradient)]))[:, label]
    promised = np.abs(gradient).sum()
    place = nearest((after - before) / promised, (1, 1 / 3, -1 / 3))
    return place, f"The gradient promises {promised:+.1f}, and {after - before:+.1f} comes."


def _gradient_of_a_noisy_copy():
    (picture, label), gradient = koala(), _gradient_of_the_koala()
    noise = 2 * np.random.default_rng(0).standard_normal(picture.shape, "float32")
    other = gradients.saliency(network(), picture + noise, label)
    likeness = np.corrcoef(gradient.ravel(), other.ravel())[0, 1]
    return nearest(likeness, (0.5, 0.9, 0.99)), f"The correlation is {likeness:.2f}."


def _first_tenth_of_the_way():
    picture, label = koala()
    black, dark, whole = engine.run(network(), np.stack([0 * picture, 0.1 * picture, picture]))[:, label]
    share = (dark - black) / (whole - black)
    return nearest(share, (0.1, 0.5, 0.9)), f"{share:.0%} of the change comes in the first tenth."


QUESTIONS = {
    "04.1": Exercise(
        "At x = 2 the function is flat. What does the gradient say there? And what on the way from 0?",
        "The attributions of integrated gradients must add up to f(2) − f(0), and there is only one input.",
        accept=numbers_in_order(_saturated),
        because="Where a network is saturated, the gradient sees nothing of what made the score; the way there does.",
    ),
    "04.2": Exercise(
        "The sum does not depend on the way: it is a difference of two scores of the same class.",
        "Both photographs are in `photographs`, and their scores in `logits`, rows 0 and 3.",
        accept=number(_koala_instead_of_panda, absolute=0.05),
        because="A baseline is the question 'instead of what?': here instead of the panda, whose own score counts too.",
    ),
    "04.3": Exercise(
        "Section 5 prints these shares for single baselines, in the cell that compares six of them.",
        "The attribution is averaged first and its magnitude taken then; by_baseline holds both parts.",
        accept=number(lambda: _mass_on_dark_pixels("panda", [0.0, 255.0], 60), relative=0, absolute=0.015),
        because="Each baseline is blind to its own colour; two that differ cover for each other.",
    ),
    "04.4": Exercise(
        "Give target=lambda outputs: outputs[:, 105] - outputs[:, 388] to integrated_gradients.",
        'Sum the signed attribution over images.masks("koala+panda")["koala"].',
        accept=number(_koala_rather_than_panda, absolute=0.5),
        because="Integrated gradients are linear in f: it is what this half adds to the koala, less what to the panda.",
    ),
    "04.P1": Prediction(
        "Every pixel of the koala moves by one grey level of 255, in the direction that its gradient names. How much"
        " of the rise that the gradients promise will come?",
        ("nearly all of it: a grey level is small", "about a third", "none: the score falls"),
        _one_grey_level,
    ),
    "04.P2": Prediction(
        "Noise of two grey levels, which nobody sees and which hardly changes the score. How alike will the gradients"
        " of the two pictures be?",
        ("correlation 0.5", "0.9", "0.99"),
        _gradient_of_a_noisy_copy,
    ),
    "04.P3": Prediction(
        "The koala comes out of black on a straight way. In the first tenth the picture is still nearly black. How"
        " much of the whole change of the score comes there?",
        ("about a tenth", "about half", "about nine tenths"),
        _first_tenth_of_the_way,
    ),
}
