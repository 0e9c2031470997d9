"""The exercises and predictions of notebook 08, invariance and correspondence."""

import itertools
from functools import cache

import numpy as np
import tensorflow as tf

from .. import submodels
from ..pictures import images
from ..submodels import engine
from .kinds import Exercise, Prediction, kind_of, nearest, number
from .shared import maps_of, network

SIDE = 51  # pixels of the square that hides a part of a face


@cache
def _photograph(name):
    """A bundled photograph whose shorter side has 320 pixels, as the notebook takes it."""
    pixels = images.sample(name)
    sides = [2 * round(160 * side / min(pixels.shape[:2])) for side in pixels.shape[:2]]
    return images.resize(pixels, sides).astype("float32")


def _frame(name, right=0):
    """The middle 224 × 224 pixels of a photograph, or those a little to the right."""
    pixels = _photograph(name)
    top, left = ((side - 224) // 2 for side in pixels.shape[:2])
    return pixels[top : top + 224, left + right : left + right + 224]


@cache
def _walk(name):
    """Logits `(33, 1000)` of a photograph, from 16 pixels left to 16 pixels right."""
    return engine.run(network(), np.stack([_frame(name, right) for right in range(-16, 17)]))


def _gain_of_two_neighbours(name):
    """How many times smaller the mean step of P is if two neighbours are averaged."""
    logits = _walk(name)
    p = tf.nn.softmax(logits).numpy()[:, logits[16].argmax()]
    return np.abs(np.diff(p)).mean() / np.abs(np.diff((p[1:] + p[:-1]) / 2)).mean()


def _changes_when_rolled(row):
    """Whether the largest of every second number is 1, and 0 after a move by one place."""
    given = np.asarray(row)
    if given.shape != (16,) or not np.isin(given, (0, 1)).all():
        raise TypeError(f"The answer is a row of 16 numbers, each 0 or 1; this is {kind_of(row)}.")
    return given[::2].max() == 1 and np.roll(given, 1)[::2].max() == 0


def _moved_by_eight():
    """Koala, 8 pixels to the right: the distances at the first layer and at the last maps, 1 = another photograph."""
    pictures = np.stack([_frame("koala"), _frame("koala", 8), *(_frame(n) for n in images.samples() if n != "koala")])
    found = engine.run(submodels.activations(network(), ["stem_relu", "head_relu"]), pictures)
    ratios = []
    for maps in found.values():
        apart = np.linalg.norm((maps[1:] - maps[0]).reshape(len(maps) - 1, -1), axis=1)
        ratios.append(apart[0] / apart[1:].mean())
    first, last = ratios
    place = 0 if max(ratios) < 0.4 else 1 if first > last else 2
    return place, f"The distance is {first:.2f} at the first layer, and {last:.2f} at the last maps."


def _steps_that_change_the_answer():
    changes = np.mean([np.diff(_walk(name).argmax(axis=1)) != 0 for name in images.samples()])
    return nearest(
        np.log(changes + 1e-3), np.log([0.001, 0.01, 0.1, 0.3])
    ), f"It changes in {changes:.1%} of the steps."


def _same_place_in_all_faces():
    """Disagreement of the signs for squares at the same place of all faces, on no eye and no nose."""
    cut = [images.face(name) for name in images.faces()]
    faces = np.stack([face for face, _ in cut]).astype("float32")
    taken = np.array([place for _, marks in cut for place in marks.values()])
    rows, columns = np.mgrid[32:193:16, 32:193:16].reshape(2, -1)
    far = np.hypot(rows - taken[:, :1], columns - taken[:, 1:]).min(axis=0) > SIDE
    clean, found = maps_of(network(), "block5c_add", faces), []
    for row, column in list(zip(rows[far], columns[far], strict=True))[::4]:
        covered = faces.copy()
        covered[:, row - 25 : row + 26, column - 25 : column + 26] = faces.mean(axis=(1, 2), keepdims=True)
        signs = np.sign(maps_of(network(), "block5c_add", covered) - clean)
        found.append(np.mean([(one != two).mean() for one, two in itertools.combinations(signs, 2)]))
    share = float(np.mean(found))
    return nearest(share, (0.5, 0.44, 0.35)), f"Of the signs {share:.2f} differ, in the mean over {len(found)} places."


QUESTIONS = {
    "08.1": Exercise(
        "A map of stride 2 moves along when the picture moves by 2 pixels. And that of the next layer, of stride 2?",
        "The strides multiply: 2 · 2 · 2 · 2 · 2.",
        accept=number(lambda: 32, relative=0),
        because="7 cells for 224 pixels. All moves in between fall between the cells.",
    ),
    "08.2": Exercise(
        "Which numbers does the network never read? What does it read after the move?",
        "Put the ones at the places 0, 2, 4, …: after the move they are at 1, 3, 5, …",
        accept=_changes_when_rolled,
        because="A blur before every second number is taken would have let half of each one through (Zhang, 2019).",
    ),
    "08.3": Exercise(
        "The signs differ if one feature rises and the other falls. Which two ways are there?",
        "0.8 · 0.2 for one way; add the other way.",
        accept=number(lambda: 0.32, relative=0.01),
        because="If most features change in the same direction, chance is below 0.5: only a control tells its level.",
    ),
    "08.4": Exercise(
        "p[names.index('crocodile')] has its 33 probabilities. np.diff gives the steps.",
        "(p[1:] + p[:-1]) / 2 is the mean of two neighbours. Divide the mean absolute steps.",
        accept=number(lambda: _gain_of_two_neighbours("crocodile"), relative=0.05),
        because="Most of the jumping has a period of two pixels: it is the stride of 2 of the first layer that shows.",
    ),
    "08.P1": Prediction(
        "The koala moves by 8 pixels. How far do the features change, if 1 is the distance to another photograph?",
        (
            "little everywhere: below 0.4 at the first and at the last layer",
            "the first layer much, the last maps little",
            "the first layer little, the last maps much",
        ),
        _moved_by_eight,
    ),
    "08.P2": Prediction(
        "Of 896 moves by one pixel, how many change the first answer?",
        ("none, or nearly none", "about 1 in 100", "about 1 in 10", "about 1 in 3"),
        _steps_that_change_the_answer,
    ),
    "08.P3": Prediction(
        "Eyes and noses: about 0.43 of the signs at block5c_add differ; at random places about 0.50. And with a square"
        " that hides neither, but at the same place in all faces?",
        (
            "about 0.50, as at random places: it hides no part",
            "about 0.44, nearly as low as for eyes and noses",
            "about 0.35, lower than for eyes and noses",
        ),
        _same_place_in_all_faces,
    ),
}
