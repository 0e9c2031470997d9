"""Attribution by trying out: change a part of the picture, and look what happens to the score.

Nothing here needs a gradient (but `meaningful_perturbation`): a network is a function that can be asked. What is put
in place of pixels matters, for a grey square is something to see too: try several.
"""

import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import qmc
from tqdm.auto import tqdm

from . import _masks, _occlusion, attribution, engine
from ._segments import kernel_shap, lime

__all__ = ["Occlusion", "kernel_shap", "lime", "meaningful_perturbation", "occlusion", "rise", "sobol"]


class Occlusion(NamedTuple):
    """All that sliding a patch over pictures tells. h × w are the positions of the patch."""

    map: np.ndarray  # (B, H, W) float32: mean drop of the score over the windows that cover a pixel
    scores: np.ndarray  # (B, h, w) float32: score with the patch there (Zeiler and Fergus, figure 7d)
    classes: np.ndarray  # (B, h, w) int32: the most probable class with the patch there (figure 7e)
    tops: np.ndarray  # (h,) int: first row of the patch
    lefts: np.ndarray  # (w,) int: first column of the patch


def occlusion(
    model,
    images,
    target=None,
    patch=None,
    stride=None,
    fill="mean",
    *,
    resume="auto",
    return_classes=False,
    seed=0,
    batch=16,
    progress=True,
):
    """Which parts does the score need? Cover one after the other with a patch, and see how far the score drops.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014). With x_w the picture x with
    window w covered, a pixel's value is the mean of f(x) − f(x_w) over the windows w that cover it: positive where the
    picture speaks for the target, negative where it speaks against it.

    Args:
        model, images, target: as for `attribution.prepare`.
        patch: side of the square window in pixels, or (height, width); None for a seventh of the picture's side.
        stride: pixels from one window to the next, or (down, across), at most the patch, so that no pixel is left out;
            None for half the patch. The last window ends at the border of the picture.
        fill: what the patch shows, as for `_masks.fills`: a number, a colour, a picture, `"mean"`, `"blur"`, `"noise"`.
        resume: compute only what each window changes (Krypton, SIGMOD 2019), and resume the whole network where that
            has become nearly all. The result is the same to 1e-4. `"auto"` decides whether and where; a name says after
            which layer; None never does. Where it would not be exact, or not pay, `"auto"` does not.
        return_classes: return `Occlusion`, which also has the score and the most probable class at each position.
        seed: of the noise.
        batch: windows computed at a time, and so many more as a resumed one needs less.
        progress: show a bar for each picture.

    Returns:
        `(B, H, W)` float32, signed, in units of the score; or `Occlusion`.

    Raises:
        ValueError: what `attribution.prepare` refuses, a patch larger than the picture, a stride larger than the patch,
            an unknown fill, a layer where the network cannot be resumed, `return_classes` for a model that does not
            put out classes.
    """
    task = attribution.prepare(model, images, target)
    windows = _occlusion.Windows.over(task.images.shape[1:3], patch, stride)
    if return_classes and _has_no_classes(task.model):
        raise ValueError(f"return_classes: model {model.name!r} does not put out one row of classes for each picture.")
    fills = _masks.fills(task, fill, seed)
    options = {"also": ("classes",) * return_classes, "resume": resume, "batch": batch, "progress": progress}
    answers = [
        _masks.joined(_occlusion.sweep(task, windows, fills, index, **options)) for index in range(len(task.images))
    ]
    scores = np.stack([answer[0] for answer in answers])
    grid = (-1, len(windows.tops), len(windows.lefts))
    values = windows.mean((scores[:, :1] - scores[:, 1:]).reshape(grid))
    if not return_classes:
        return task.answer(values)
    classes = np.stack([answer[1] for answer in answers])[:, 1:].reshape(grid)
    classes = classes[0] if task.single else classes
    places = windows.tops, windows.lefts
    return Occlusion(task.answer(values), task.answer(scores[:, 1:].reshape(grid)), classes, *places)


def _has_no_classes(model):
    return len(model.outputs) != 1 or len(model.outputs[0].shape) != 2


def rise(
    model,
    images,
    target=None,
    *,
    masks=1000,
    cells=7,
    p=0.5,
    fill=0.0,
    shift=True,
    interpolate=True,
    return_error=False,
    seed=0,
    batch=16,
    progress=True,
):
    """Which pixels are visible when the score is high? Show random parts of the picture, and average.

    Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models" (2018). With random
    masks M_k, each cell of a coarse grid visible with probability p,

        map = Σ_k f(x ⊙ M_k) · M_k / (N · p)

    an estimate of the mean score when a pixel is visible. The paper's score is a probability: a function as target.

    Args:
        model, images, target: as for `attribution.prepare`.
        masks: N, how many. The error falls as 1 / √N; the paper takes 4000 to 8000.
        cells: cells along each side of the grid, or (down, across).
        p: probability that a cell is visible, above 0 and at most 1.
        fill: what stands in place of what is hidden, as for `occlusion`; 0 is the paper's x ⊙ M.
        shift: move each grid by up to one cell, so that the map has no edges of cells.
        interpolate: soft masks, bilinear between cells. Without it and without `shift` cells are hard squares.
        return_error: return `(map, error)`, with the standard error of the map at each pixel, of the same shape.
        seed: of the masks. Each picture of a batch gets the same.
        batch: masks computed at a time.
        progress: show a bar for each picture.

    Returns:
        `(B, H, W)` float32, in units of the score; or `(map, error)`.

    Raises:
        ValueError: what `attribution.prepare` refuses, no mask (or one, for the error), more cells than pixels, p out
            of range, an unknown fill.
    """
    task = attribution.prepare(model, images, target)
    size = task.images.shape[1:3]
    _masks.at_least_one(masks=masks)
    cells = _masks.pair("cells", cells, size)
    if not 0 < p <= 1:
        raise ValueError(f"p={p!r} is the probability that a cell is visible: above 0, at most 1.")
    if return_error and masks == 1:
        raise ValueError("masks=1: the error of a mean needs at least 2.")
    fills = _masks.fills(task, fill, seed)
    enlarged = _masks.cell_masks(size, cells, shift, interpolate)

    def visible(draws):
        grids = tf.reshape(tf.cast(draws[:, 2:] < p, "float32"), (-1, *cells))
        return enlarged(grids, draws[:, :2])

    def draw():
        random = np.random.default_rng(seed)
        return (random.random(2 + cells[0] * cells[1], "float32") for _ in range(masks))

    name = ("rise", size, cells, p, shift, interpolate)
    function = _masks.passes(task, name, visible, also=[lambda outputs, masks: masks])
    maps, errors = np.zeros((2, *task.images.shape[:3]))
    for index in range(len(task.images)):
        total, squares = np.zeros((2, *size))
        rows = engine.Counted(draw(), masks)
        for scores, kept in _masks.stream(
            task, function, index, fills, rows, batch=batch, progress=progress, label="RISE"
        ):
            # Not a matrix product: the threads of numpy's would go on waiting in those of the next pass.
            total += np.einsum("n,nhw->hw", scores, kept)
            squares += np.einsum("n,nhw->hw", scores**2, kept**2) if return_error else 0
        maps[index] = total / (masks * p)
        if return_error:
            variance = np.maximum(squares / masks - (total / masks) ** 2, 0) * masks / (masks - 1)
            errors[index] = np.sqrt(variance / masks) / p
    return (task.answer(maps), task.answer(errors)) if return_error else task.answer(maps)


def sobol(
    model,
    images,
    target=None,
    *,
    cells=8,
    designs=32,
    fill="mean",
    upsample=True,
    seed=0,
    batch=16,
    progress=True,
):
    """How much of the score's variation comes from each region, alone or together with others?

    Fel et al., "Look at the Variance!" (2021). Each of d cells is dimmed to a random degree in [0, 1]. The total
    Sobol index of cell i is the share of the variance of the score that is left when all other cells are held. It is
    estimated after Jansen (1999), with A and B independent quasi-random draws of N rows, and Aᵢ the draws A with
    column i from B:

        Tᵢ = Σ (f(A) − f(Aᵢ))² / (2 N · Var f)

    The indices have no sign. They add up to 1 if cells do not interact, to more if they do.

    Args:
        model, images, target: as for `attribution.prepare`.
        cells: cells along each side of the grid, or (down, across).
        designs: N, a power of 2. There are N · (d + 2) passes: 2112 for 8 × 8 cells and 32 designs.
        fill: what a cell is dimmed towards, as for `occlusion`.
        upsample: False keeps the grid of cells, `(B, h, w)`.
        seed: of the draws.
        batch: variants computed at a time.
        progress: show a bar for each picture.

    Returns:
        `(B, H, W)` float32, 0 or more, without unit; zeros where the score does not vary at all.

    Raises:
        ValueError: what `attribution.prepare` refuses, more cells than pixels, designs that are no power of 2 (at
            least 2), an unknown fill.
    """
    task = attribution.prepare(model, images, target)
    size = task.images.shape[1:3]
    cells = _masks.pair("cells", cells, size)
    _masks.at_least_one(designs=designs)
    if designs == 1 or designs & (designs - 1):
        raise ValueError(f"designs={designs}: give a power of 2, at least 2, which is what the sequence is even for.")
    fills = _masks.fills(task, fill, seed)
    enlarged = _masks.cell_masks(size, cells)

    def dimmed(draws):
        return enlarged(tf.reshape(draws, (-1, *cells)), tf.zeros((tf.shape(draws)[0], 2)))

    count = cells[0] * cells[1]
    draws = qmc.Sobol(2 * count, seed=seed).random_base2(designs.bit_length() - 1).astype("float32")
    one, two = np.split(draws, 2, axis=1)

    def draw():
        yield from one
        yield from two
        for cell in range(count):
            yield from np.where(np.arange(count) == cell, two, one)

    function = _masks.passes(task, ("sobol", size, cells), dimmed)
    indices = np.zeros((len(task.images), *cells), "float32")
    for index in range(len(task.images)):
        rows = engine.Counted(draw(), designs * (count + 2))
        (scores,) = _masks.run(task, function, index, fills, rows, batch=batch, progress=progress, label="Sobol")
        scores = scores.astype("float64").reshape(count + 2, designs)
        variance = scores[:2].var()
        if variance > (1e-6 * np.abs(scores).max()) ** 2:  # else it is rounding
            indices[index] = (((scores[2:] - scores[0]) ** 2).mean(1) / (2 * variance)).reshape(cells)
    return task.answer(attribution.upsample(indices, size) if upsample else indices)


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
        model, images, target: as for `attribution.prepare`. The network must have a gradient.
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
        ValueError: what `attribution.prepare` refuses, no step, more cells than pixels, an unknown fill, a learning
            rate that is not above 0, a negative weight or jitter.
    """
    task = attribution.prepare(model, images, target)
    size = task.images.shape[1:3]
    cells = _masks.pair("cells", [min(28, side) for side in size] if cells is None else cells, size)
    _masks.at_least_one(steps=steps, batch=batch)
    if not learning_rate > 0 or not min(area, smoothness, jitter) >= 0:
        raise ValueError(
            f"learning_rate={learning_rate!r} must be above 0; area={area!r}, smoothness={smoothness!r} and "
            f"jitter={jitter!r} 0 or more."
        )
    fills = _masks.fills(task, fill, seed)
    clean, filled = (
        engine.run(attribution.scores(task), pictures, task.targets, batch=batch) for pictures in (task.images, fills)
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

    return attribution.compiled(task, ("meaningful perturbation", size), step)
