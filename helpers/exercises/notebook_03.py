"""The exercises and predictions of notebook 03, occlusion and perturbation."""

import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from .. import models
from ..attribution import perturbation
from ..attribution.occlusion import Windows
from ..pictures import images
from .kinds import Exercise, Prediction, kind_of, nearest, numbers_in_order, word
from .shared import answers, network, pixels_of, small, top_answers


def _no_cat_under_a_square(photograph, patch, stride):
    """The label that is the first answer most often while a square slides over a photograph, and that is no cat."""
    picture = pixels_of(photograph)
    slid = perturbation.occlusion(network(), picture, None, patch, stride, return_classes=True, progress=False)
    counts = np.bincount(slid.classes.ravel(), minlength=1000)
    counts[281:286] = 0  # the cats of ImageNet that live in houses
    return models.decode(np.float32(counts)[None])[0][0][1]


def _one_of_two_is_enough():
    """Occlusion and Shapley values of two pixels, for a network that is content with either of them."""
    enough = small((1, 2, 1), keras.layers.GlobalMaxPooling2D())
    picture, options = np.ones((1, 2, 1), "float32"), {"target": 0, "fill": 0, "progress": False}
    covered = perturbation.occlusion(enough, picture, patch=1, stride=1, **options)
    fair = perturbation.kernel_shap(enough, picture, segments=np.array([[0, 1]]), samples=4, **options)
    return np.concatenate([covered.ravel(), fair.ravel()])


def _maps_of_a_constant():
    """The means of the occlusion map and of the RISE map of a score that is always 0.8."""
    picture = pixels_of("koala")
    options = {"target": lambda logits: 0 * logits[:, 0] + 0.8, "progress": False}
    covered = perturbation.occlusion(network(), picture, patch=112, **options)
    return [covered.mean(), perturbation.rise(network(), picture, masks=64, **options).mean()]


def _hides_the_koala(mask):
    """Whether a mask of 5 % of the pixels at most changes the first answer when they show the blur."""
    picture, given = pixels_of("koala"), np.asarray(mask)
    if given.shape != picture.shape[:2] or given.dtype != bool:
        raise TypeError(f"The answer is a mask of booleans, {picture.shape[:2]}; this is {kind_of(mask)}.")
    if given.mean() > 0.051:
        raise TypeError(f"The mask may cover 5% of the pixels; this one covers {given.mean():.1%}.")
    changed = np.where(given[..., None], gaussian_filter(picture, (10, 10, 0), mode="nearest"), picture)
    return answers(changed)[0][0] != top_answers("koala")[0][0]


def _one_square_counts():
    """The mean over the windows that cover a pixel, at two pixels, if only the last window has a drop."""
    windows = Windows.over((224, 224), 96, 32)
    drops = np.zeros((len(windows.tops), len(windows.lefts)))
    drops[-1, -1] = 1
    heatmap = windows.mean(drops)
    return [heatmap[223, 223], heatmap[160, 160]]


def _answer_to_two_animals():
    _, label, probability = top_answers("koala+panda")[0]
    sure = {"koala": 0, "giant panda": 1}.get(label, 3)
    place = 2 if sure < 3 and probability < 0.5 else sure
    return place, f"The first answer is {label}, with {probability:.0%}."


def _small_and_large_squares():
    options = {"target": lambda logits: tf.nn.softmax(logits)[:, 105], "progress": False}
    fine, coarse = (
        perturbation.occlusion(network(), pixels_of("koala"), patch=patch, stride=stride, **options)
        for patch, stride in ((24, 24), (96, 48))
    )  # side by side the small ones take a second, not three
    likeness = spearmanr(fine.round(6).ravel(), coarse.round(6).ravel()).statistic
    numbers = f"The rank correlation is {likeness:.2f} with small squares side by side (in the next cell they overlap)."
    return nearest(likeness, (0, 0.5, 0.9)), numbers


def _plain_grey():
    _, label, probability = answers(np.full((224, 224, 3), 127, "float32"))[0]
    return int(np.digitize(probability, (0.03, 0.3))), f"The first answer is {label}, with {probability:.1%}."


def _share_of_a_rise_map():
    """The koala's share of its RISE map, on the picture with a koala and a panda."""
    pixels, halves = images.composite("koala", "panda", size=112)
    small_network = models.load("efficientnet_lite0", size=112)
    heatmap = perturbation.rise(small_network, pixels.astype("float32"), 105, masks=200, progress=False)
    share = heatmap[halves["koala"]].sum() / heatmap.sum()
    return nearest(share, (0.5, 0.75, 0.95)), f"The share is {share:.2f}, with 200 masks."


def _fine_mask_moved():
    """P(koala) under a fine learned mask, and after the mask was moved by 4 pixels."""
    picture = pixels_of("koala")
    blurred = gaussian_filter(picture, (10, 10, 0), mode="nearest")
    options = {"cells": 112, "smoothness": 0, "jitter": 0, "steps": 40, "progress": False}
    mask = perturbation.meaningful_perturbation(network(), picture, 105, **options)
    kept = 1 - np.stack([mask, np.roll(mask, 4, axis=1)])[..., None]
    before, after = tf.nn.softmax(network()(picture * kept + blurred * (1 - kept)))[:, 105].numpy()
    numbers = f"P(koala) is {before:.2f} under the mask, and {after:.2f} under the moved one (after 40 steps)."
    return nearest(after, (0.05, 0.35, 0.8)), numbers


QUESTIONS = {
    "03.1": Exercise(
        "Section 1 draws the first answer at each position: return_classes=True, and then .classes.",
        "Count with np.unique(classes, return_counts=True), decode the numbers, and leave out the cats.",
        accept=word(lambda: _no_cat_under_a_square("cat", 64, 16)),
        because="A small dog, although there is none in the picture: what is left must fit some answer.",
    ),
    "03.2": Exercise(
        "Cover the first part: the second is still there. What is the score then?",
        "For Shapley write down both orders. Who enters first earns all; take the mean for each part.",
        accept=numbers_in_order(_one_of_two_is_enough, absolute=1e-4),
        because="Each part can replace the other: occlusion pays neither of them, Shapley pays both.",
    ),
    "03.3": Exercise(
        "Occlusion looks at differences of scores. Does RISE?",
        "RISE estimates the mean score when a pixel is visible: put f = 0.8 into the formula of section 3.",
        accept=numbers_in_order(_maps_of_a_constant, absolute=0.1),
        because="A RISE map is high where nothing matters, too: read its differences, not its height.",
    ),
    "03.4": Exercise(
        "A compact part will not do. Which mask of section 7 was small, and still took the koala away?",
        "Keep the strongest 5 % of that mask: np.quantile gives the value above which they are.",
        accept=_hides_the_koala,
        because="Now move your mask by 4 pixels with np.roll, and ask again: is the koala back?",
    ),
    "03.5": Exercise(
        "How many squares cover the corner pixel? And the pixel (160, 160)? Squares begin at 0, 32, 64, 96 and 128.",
        "A square that begins at s covers the pixels s to s + 95. Count along one axis, and take the square.",
        accept=numbers_in_order(_one_square_counts, absolute=0.01),
        because="One square made both values: the corner only looks more important because nothing dilutes it.",
    ),
    "03.P1": Prediction(
        "A picture holds a koala above and a panda below, and the network has one first answer. Which?",
        (
            "koala, with more than 50 %",
            "giant panda, with more than 50 %",
            "one of the two, with less than 50 %",
            "an animal that is neither of them",
        ),
        _answer_to_two_animals,
    ),
    "03.P2": Prediction(
        "One koala, covered by squares of 24 pixels, and then of 96 pixels. How alike will the two maps be? (A rank"
        " correlation of 1: the same order of the pixels; 0: unrelated.)",
        ("0 or below: other places", "about 0.5", "about 0.9: the same places"),
        _small_and_large_squares,
    ),
    "03.P3": Prediction(
        "The network looks at plain grey and nothing else. How probable is its first answer?",
        ("less than 3 %", "3 to 30 %", "more than 30 %: it always names something"),
        _plain_grey,
    ),
    "03.P4": Prediction(
        "RISE with 500 masks. Which share of the koala's map lies in the koala's half?",
        ("about 0.5, as by chance", "about 0.75", "about 0.95"),
        _share_of_a_rise_map,
    ),
    "03.P5": Prediction(
        "A mask of 112 × 112 cells is learned, and under it P(koala) is nearly 0. Then the finished mask is moved by 4"
        " of the 224 pixels. What is P(koala) then?",
        ("below 0.1: it still hides the koala", "about 0.35", "above 0.6: the koala is back"),
        _fine_mask_moved,
    ),
}
