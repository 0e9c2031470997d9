"""Occlusion: slide a patch over the picture, and see how far the score falls (Zeiler and Fergus 2014)."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .. import checks
from . import incremental, masking, shared
from .targets import only

ALSO = {  # what a pass can give besides the scores
    "classes": lambda outputs, *_: tf.argmax(only(outputs), -1, "int32"),
    "outputs": lambda outputs, *_: only(outputs),
}


class Windows(NamedTuple):
    """The h × w positions of a patch on pictures of a size."""

    size: tuple  # (height, width) of the pictures
    patch: tuple  # (height, width)
    tops: np.ndarray  # (h,) int: first row of the patch
    lefts: np.ndarray  # (w,) int: first column

    @classmethod
    def over(cls, size, patch=None, stride=None):
        """Args and errors are those of `perturbation.occlusion`."""
        patch = checks.pair([max(1, side // 7) for side in size] if patch is None else patch, "patch", most=size)
        stride = checks.pair([max(1, side // 2) for side in patch] if stride is None else stride, "stride", most=size)
        if stride[0] > patch[0] or stride[1] > patch[1]:
            raise ValueError(
                f"stride={stride} is larger than patch={patch}: pixels between the windows would be left out."
            )
        return cls(tuple(size), patch, *(masking.starts(*axis) for axis in zip(size, patch, stride, strict=True)))

    def mean(self, values):
        """`(…, H, W)`: for each pixel the mean of `values`, `(…, h, w)`, over the windows that cover it.

        A window whose value is NaN is left out, and a pixel of which nothing is known gets NaN.
        """
        known = ~np.isnan(values)
        # Which windows cover a pixel is decided along each axis by itself.
        rows, columns = (
            ((np.arange(length)[:, None] >= first) & (np.arange(length)[:, None] < first + side)).astype("float64")
            for length, first, side in zip(self.size, (self.tops, self.lefts), self.patch, strict=True)
        )
        with np.errstate(invalid="ignore"):  # 0 / 0
            return (rows @ np.where(known, values, 0) @ columns.T) / (rows @ known @ columns.T)


def sweep(task, windows, fills, index, *, also=(), resume="auto", batch=16, progress=False):
    """Cover one window of picture `index` after the other, and yield `[scores (n,), …]` pass by pass.

    The first row of all is the picture with nothing covered. Then come the windows, row by row. `windows` are
    `Windows` for the pictures, `fills` those of `masking.fills`, `also` a tuple of keys of `ALSO`.
    """
    size, patch, tops, lefts = windows
    name, more = ("occlusion", size, patch, also), [ALSO[key] for key in also]
    plan = None if resume is None else incremental.plan(task, tops, lefts, patch, resume)
    if plan is None:
        rows = np.array([size, *itertools.product(tops, lefts)], "int32")  # the first one covers nothing
        function, maps = masking.passes(task, name, masking.window_masks(size, patch), more), ()
    else:
        rows, maps = plan.rows, incremental.clean(task, plan)(task.images[index])
        function = incremental.passes(task, (*name, plan.key), plan, more)
        batch = int(batch * max(plan.gain, 1))  # a row that is resumed needs so much less, in time and in memory
    options = {"batch": batch, "progress": progress, "label": "occlusion"}
    return masking.stream(task, function, index, fills, rows, constants=maps, **options)


class Occlusion(NamedTuple):
    """All that sliding a patch over pictures tells. h × w are the positions of the patch."""

    map: np.ndarray  # (B, H, W) float32: mean drop of the score over the windows that cover a pixel
    scores: np.ndarray  # (B, h, w) float32: score with the patch there (Zeiler and Fergus, figure 7d)
    classes: np.ndarray  # (B, h, w) int32: the most probable class with the patch there (figure 7e)
    tops: np.ndarray  # (h,) int: first row of the patch
    lefts: np.ndarray  # (w,) int: first column of the patch


def occlusion(
    model, images, target=None, patch=None, stride=None, fill="mean", *, resume="auto", return_classes=False, seed=0,
    batch=16, progress=True,
):  # fmt: skip
    """Which parts does the score need? Cover one after the other with a patch, and see how far the score drops.

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014). With x_w the picture x with
    window w covered, a pixel's value is the mean of f(x) − f(x_w) over the windows w that cover it: positive where the
    picture speaks for the target, negative where it speaks against it.

    Args:
        model, images, target: as for `shared.prepare`.
        patch: side of the square window in pixels, or (height, width); None for a seventh of the picture's side.
        stride: pixels from one window to the next, or (down, across), at most the patch, so that no pixel is left out;
            None for half the patch. The last window ends at the border of the picture.
        fill: what the patch shows: a number, a colour, a picture, one for each, `"mean"` (colour), `"blur"`, `"noise"`.
        resume: compute only what each window changes (Krypton, SIGMOD 2019), and resume the whole network where that
            has become nearly all; the same to 1e-4. `"auto"` does so where it is exact and pays, a name says after
            which layer, None never does.
        return_classes: return `Occlusion`, which also has the score and the most probable class at each position.
        seed, progress: of the noise; show a bar for each picture.
        batch: windows computed at a time, and so many more as a resumed one needs less.

    Returns:
        `(B, H, W)` float32, signed, in units of the score; or `Occlusion`.

    Raises:
        ValueError: what `shared.prepare` refuses, a patch larger than the picture, a stride larger than the patch, an
            unknown fill, a layer where it cannot be resumed, `return_classes` of what does not put out classes.
    """
    task = shared.prepare(model, images, target)
    windows = Windows.over(task.images.shape[1:3], patch, stride)
    if return_classes and [len(output.shape) for output in task.model.outputs] != [2]:
        raise ValueError(f"return_classes: model {model.name!r} does not put out one row of classes for each picture.")
    fills = masking.fills(task, fill, seed)
    options = {"also": ("classes",) * return_classes, "resume": resume, "batch": batch, "progress": progress}
    answers = [masking.joined(sweep(task, windows, fills, index, **options)) for index in range(len(task.images))]
    scores = np.stack([answer[0] for answer in answers])
    grid = (-1, len(windows.tops), len(windows.lefts))
    values = windows.mean((scores[:, :1] - scores[:, 1:]).reshape(grid))
    if not return_classes:
        return task.answer(values)
    classes = np.stack([answer[1] for answer in answers])[:, 1:].reshape(grid)
    classes = classes[0] if task.single else classes
    found = task.answer(values), task.answer(scores[:, 1:].reshape(grid)), classes
    return Occlusion(*found, windows.tops, windows.lefts)
