"""Meaningful perturbation: a mask that is learned (Fong and Vedaldi 2017)."""

import warnings

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from .. import checks
from ..submodels import engine
from . import masking, shared


def meaningful_perturbation(
    model, images, target=None, *, fill="blur", cells=None, steps=200, learning_rate=0.1, area=1.0, smoothness=1.0,
    jitter=4, seed=0, batch=16, progress=True,
):  # fmt: skip
    """What is the smallest part whose removal takes the score away? A mask, learned by gradient descent.

    Fong and Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation" (2017), deletion game.
    The mask m, 1 where the picture stays and 0 where the fill (a blur) takes its place, minimises by Adam
    max(0, s(m)) + area · mean(1 − m) + smoothness · mean |∇m|³ with s(m) = (f(x with m) − f(fill)) / (f(x) − f(fill)),
    1 for the picture and 0 for the fill alone. The mask is coarse, and the picture is moved a little in each step, so
    that it does not become an adversarial pattern.

    Args:
        model, images, target, fill, seed, progress: as for `occlusion`; the network must have a gradient.
        cells: of the mask along each side, or (down, across); None for 28, at most one for each pixel.
        steps, learning_rate: of Adam, one gradient a step.
        area, smoothness: price of removing all, and of edges; the whole fall of the score is worth 1.
        jitter, batch: the picture is moved by up to so many pixels, around the border; pictures in one pass.

    Returns:
        `(B, H, W)` float32 between 0 and 1: 1 − m, how much of each pixel is removed. Zeros, and a warning, for a
        picture whose score is not above that of its fill.

    Raises: as `occlusion`; for more cells than pixels, numbers out of range, a score without a gradient.
    """
    task = shared.prepare(model, images, target)
    size = task.images.shape[1:3]
    cells = checks.pair([min(28, side) for side in size] if cells is None else cells, "cells", most=size)
    steps, jitter, batch = checks.whole(steps, "steps"), checks.whole(jitter, "jitter", 0), checks.whole(batch, "batch")
    prices = [checks.real(area, "area", least=0), checks.real(smoothness, "smoothness", least=0)]
    rate = checks.real(learning_rate, "learning_rate", above=0)
    weights = [tf.constant(weight, "float32") for weight in (rate, *prices)]
    fills = masking.fills(task, fill, seed)
    clean, _ = task.run(shared.gradients(task), batch=batch)  # refuses what has no gradient
    filled = engine.run(shared.scores(task), fills, task.targets, batch=batch)
    idle = np.flatnonzero(clean - filled <= 1e-6 * np.abs(clean))
    if len(idle):
        words = f"nothing to remove from pictures {idle.tolist()}: their score is not above that of their fill."
        warnings.warn(f"There is {words}", stacklevel=2)
    moves = np.random.default_rng(seed).integers(-jitter, jitter + 1, (steps, 2)).astype("int32")
    step, masks = _descent(task, size), np.ones((len(task.images), *cells), "float32")
    chunks = [slice(first, first + batch) for first in range(0, len(masks), batch)]
    with tqdm(total=steps * len(chunks), desc="meaningful perturbation", disable=not progress, leave=False) as bar:
        for chunk in chunks:
            rows = [tf.constant(values[chunk]) for values in (task.images, fills, task.targets, clean, filled)]
            state = tf.stack([masks[chunk], 0 * masks[chunk], 0 * masks[chunk]])
            for number, move in enumerate(moves):
                state = step(*rows, state, tf.constant(number + 1.0), tf.constant(move), *weights)
                bar.update()
            masks[chunk] = state[0]
    masks[idle] = 1
    return task.answer(1 - _enlarged(masks, size))


def _enlarged(masks, size):
    return tf.image.resize(masks[..., None], size)[..., 0]


def _descent(task, size):
    """Compiled: one step of Adam on masks. `state` is (masks, mean gradient, mean squared gradient)."""
    task = task.shell

    def step(pictures, fills, targets, clean, filled, state, number, move, rate, area, smoothness):
        masks, mean, square = tf.unstack(state)
        with tf.GradientTape() as tape:
            tape.watch(masks)
            kept = _enlarged(masks, size)[..., None]
            shown = tf.roll(pictures * kept + fills * (1 - kept), move, (1, 2))
            left = tf.nn.relu((task.score(task.model(shown, training=False), targets) - filled) / (clean - filled))
            edges = [tf.abs(masks[:, 1:] - masks[:, :-1]) ** 3, tf.abs(masks[:, :, 1:] - masks[:, :, :-1]) ** 3]
            rough = sum(tf.reduce_mean(edge, (1, 2)) for edge in edges)
            loss = left + area * tf.reduce_mean(1 - masks, (1, 2)) + smoothness * rough
        gradient = tape.gradient(loss, masks)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        change = mean / (1 - 0.9**number) / (tf.sqrt(square / (1 - 0.999**number)) + 1e-8)
        return tf.stack([tf.clip_by_value(masks - rate * change, 0, 1), mean, square])

    return shared.compiled(task, ("meaningful perturbation", size), step)
