"""Pictures of which parts are taken away: what stands in place of them, which parts, and the passes over them all."""

import math

import numpy as np
import tensorflow as tf

from .. import checks
from ..submodels import engine
from . import shared

BLUR = 10 / 224  # standard deviation of the blur as a share of the longer side: 10 pixels of 224 (Fong and Vedaldi)


def fills(task, fill, seed=0):
    """What stands in place of a pixel that is taken away, as pictures `(B, H, W, C)` float32.

    `fill` is what `shared.baseline` takes, with its errors, or a word: `"mean"` (the picture's own mean colour),
    `"blur"` (the picture out of focus), `"noise"` (white noise with the mean and the spread of the picture's colours,
    within its range; `seed` is that of the noise, which is the same for each picture).
    """
    if not isinstance(fill, str):
        return shared.baseline(task, fill, "fill", ", or 'mean', 'blur', 'noise'")
    checks.choose(fill, ("mean", "blur", "noise"), "fill", "Or give a number, a colour, or a picture.")
    pictures = task.images
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        sigma = BLUR * max(pictures.shape[1:3])
        return gaussian_filter(pictures, (0, sigma, sigma, 0), mode="nearest")
    mean, spread, lowest, highest = (of(pictures, (1, 2), keepdims=True) for of in (np.mean, np.std, np.min, np.max))
    if fill == "mean":
        return np.broadcast_to(mean, pictures.shape)
    noise = np.random.default_rng(seed).standard_normal(pictures.shape[1:], "float32")
    return np.clip(mean + noise * spread, lowest, highest)


def starts(length, patch, stride):
    """First pixels of the windows along one axis. The last window ends at the border, however the stride falls."""
    return np.unique([*range(0, length - patch, stride), length - patch])


def window_masks(size, patch):
    """A function of tensors that makes masks `(n, H, W)` out of the first row and column of windows, `(n, 2)` int."""

    def masks(corners):
        places = [tf.range(size[axis]) - corners[:, axis, None] for axis in (0, 1)]  # seen from the window's corner
        down, across = [(place >= 0) & (place < side) for place, side in zip(places, patch, strict=True)]
        return tf.cast(~(down[:, :, None] & across[:, None]), "float32")

    return masks


def cell_masks(size, cells, shift=False, interpolate=False):
    """A function of tensors that makes masks `(n, H, W)` out of small grids `(n, h · w)` and shifts `(n, 2)` in 0..1.

    Petsiuk et al. (2018): the grid is enlarged to one cell more than the picture has along each axis, and the picture
    is cut out of it at a random place, up to one cell from the corner. Without `shift` the cells tile the picture.
    """
    sides = [math.ceil(length / count) for length, count in zip(size, cells, strict=True)]

    def weights(axis, shifts):  # (n, pixels, cells): how much of each cell is in a row, or column, of pixels
        count, side = cells[axis], sides[axis]
        pixel = tf.range(size[axis], dtype="float32")[None] + tf.floor(shifts[:, axis, None] * (side if shift else 0))
        place = (pixel + 0.5) * (count / ((count + shift) * side))
        cell = tf.range(count, dtype="float32")
        if not interpolate:
            return tf.cast(tf.floor(place)[..., None] == cell, "float32")
        place = tf.clip_by_value(place - 0.5, 0, count - 1)
        return tf.maximum(1 - tf.abs(place[..., None] - cell), 0)

    def masks(grids, shifts=None):
        shifts = tf.zeros((tf.shape(grids)[0], 2)) if shifts is None else shifts
        return weights(0, shifts) @ tf.reshape(grids, (-1, *cells)) @ tf.linalg.matrix_transpose(weights(1, shifts))

    return masks


def passes(task, name, masks, also=()):
    """Compiled `(picture, fill, target, constants, rows) → [scores (n,), …]`: one pass over n changed pictures.

    `masks(*constants, rows)` makes masks `(n, H, W)`: 1 keeps a pixel, 0 puts the fill in its place. `also` are
    functions `(outputs, masks)` of what else is wanted of the pass; `name` is as for `shared.compiled`.
    """
    task = task.shell

    def forward(picture, fill, target, constants, rows):
        kept = masks(*constants, rows)
        outputs = task.model(fill + kept[..., None] * (picture - fill), training=False)
        return [task.score(outputs, tf.repeat(target, tf.shape(kept)[0])), *(more(outputs, kept) for more in also)]

    return shared.compiled(task, name, forward)


def stream(task, function, index, fills, rows, *, constants=(), batch, progress, label):
    """Run a function from `passes` for one picture over many rows, and yield its answers pass by pass."""
    picture, fill, target = (tf.constant(values[index]) for values in (task.images, fills, task.targets))
    constants = [tf.convert_to_tensor(values) for values in constants]
    if len(task.images) > 1:
        label = f"{label}, picture {index + 1} of {len(task.images)}"

    def changed(columns):
        return function(picture, fill, target, constants, columns)

    return engine.stream(changed, rows, batch=batch, progress=progress, label=label)


def joined(passes):
    """All answers of `stream`, concatenated."""
    return [np.concatenate(parts) for parts in zip(*passes, strict=True)]


def run(*arguments, **options):
    """What `stream` yields, joined."""
    return joined(stream(*arguments, **options))
