"""Meaningful perturbation: a mask that is learned (Fong and Vedaldi 2017)."""

import warnings

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from ..submodels import engine
from . import masking, shared


def meaningful_perturbation(
    model,
    images,
    target=None,
    *,
    fill="blur",
    cells=None,
    steps=200,
    learning_rate=0.1,
    area=1.0,
    smoothness=1.0,
    jitter=4,
    seed=0,
    batch=16,
    progress=True,
):
    """What is the smallest part whose removal takes the score away? A mask, learned by gradient descent.

    Fong and Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation" (2017), deletion game.
    The mask m, 1 where the picture stays and 0 where the fill (a blur) takes its place, minimises by Adam

        max(0, s(m))  +  area · mean(1 − m)  +  smoothness · mean |∇m|³

    with s(m) = (f(x with m) − f(fill)) / (f(x) − f(fill)): 1 for the picture, 0 for the fill alone, whatever the units
    of the score; to go below the fill earns nothing. The mask is coarse, and the picture is moved by a few pixels in
    each step, so that the mask does not become an adversarial pattern.

    Args:
        model, images, target: as for `shared.prepare`. The network must have a gradient.
        fill: what a removed pixel shows, as for `occlusion`.
        cells: of the mask along each side, or (down, across); None for 28, at most one for each pixel.
        steps: of Adam, one gradient each.
        learning_rate: of Adam.
        area: price of removing all, where the whole fall of the score is worth 1.
        smoothness: price of edges in the mask.
        jitter: the picture is moved by up to so many pixels, around the border.
        seed: of the moves, which are the same for each picture.
        batch: pictures in one pass.
        progress: show a bar.

    Returns:
        `(B, H, W)` float32 between 0 and 1: 1 − m, how much of each pixel is removed. Zeros for a picture whose score
        is not above that of its fill: there is nothing to remove, and a warning says so.

    Raises:
        ValueError: what `shared.prepare` refuses, no step, more cells than pixels, an unknown fill, a learning
            rate that is not above 0, a negative weight or jitter.
    """
    task = shared.prepare(model, images, target)
    size = task.images.shape[1:3]
    cells = masking.pair("cells", [min(28, side) for side in size] if cells is None else cells, size)
    masking.at_least_one(steps=steps, batch=batch)
    if not learning_rate > 0 or not min(area, smoothness, jitter) >= 0:
        raise ValueError(
            f"learning_rate={learning_rate!r} must be above 0; area={area!r}, smoothness={smoothness!r} and "
            f"jitter={jitter!r} 0 or more."
        )
    fills = masking.fills(task, fill, seed)
    clean, filled = (
        engine.run(shared.scores(task), pictures, task.targets, batch=batch) for pictures in (task.images, fills)
    )
    idle = np.flatnonzero(clean - filled <= 1e-6 * np.abs(clean))
    if len(idle):
        warnings.warn(
            f"There is nothing to remove from pictures {idle.tolist()}: their score is not above that of their fill.",
            stacklevel=2,
        )
    moves = np.random.default_rng(seed).integers(-int(jitter), int(jitter) + 1, (steps, 2)).astype("int32")
    step = _descent(task, size)
    weights = [tf.constant(weight, "float32") for weight in (learning_rate, area, smoothness)]
    masks = np.ones((len(task.images), *cells), "float32")
    chunks = [slice(first, first + batch) for first in range(0, len(masks), batch)]
    with tqdm(total=steps * len(chunks), desc="meaningful perturbation", disable=not progress, leave=False) as bar:
        for chunk in chunks:
            given = [tf.constant(values[chunk]) for values in (task.images, fills, task.targets, clean, filled)]
            state = tf.stack([masks[chunk], 0 * masks[chunk], 0 * masks[chunk]])
            for number, move in enumerate(moves):
                state = step(*given, state, tf.constant(number + 1.0), tf.constant(move), *weights)
                bar.update()
            masks[chunk] = state[0]
    masks[idle] = 1
    return task.answer(1 - _enlarged(masks, size))


def _enlarged(masks, size):
    return tf.image.resize(masks[..., None], size)[..., 0]


def _descent(task, size):
    """Compiled: one step of Adam on masks. `state` is (masks, mean gradient, mean squared gradient)."""
    task = task.shell

    def loss(masks, pictures, fills, targets, clean, filled, move, area, smoothness):
        kept = _enlarged(masks, size)[..., None]
        shown = tf.roll(pictures * kept + fills * (1 - kept), move, (1, 2))
        left = tf.nn.relu((task.score(task.model(shown, training=False), targets) - filled) / (clean - filled))
        edges = [tf.abs(masks[:, 1:] - masks[:, :-1]) ** 3, tf.abs(masks[:, :, 1:] - masks[:, :, :-1]) ** 3]
        rough = sum(tf.reduce_mean(edge, (1, 2)) for edge in edges)
        return left + area * tf.reduce_mean(1 - masks, (1, 2)) + smoothness * rough

    def step(pictures, fills, targets, clean, filled, state, number, move, rate, area, smoothness):
        masks, mean, square = tf.unstack(state)
        with tf.GradientTape() as tape:
            tape.watch(masks)
            value = loss(masks, pictures, fills, targets, clean, filled, move, area, smoothness)
        gradient = tape.gradient(value, masks)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        change = mean / (1 - 0.9**number) / (tf.sqrt(square / (1 - 0.999**number)) + 1e-8)
        return tf.stack([tf.clip_by_value(masks - rate * change, 0, 1), mean, square])

    return shared.compiled(task, ("meaningful perturbation", size), step)
