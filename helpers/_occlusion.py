"""Sliding a patch over a picture, pass by pass: what `perturbation.occlusion` and the explorer of it have in common."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from . import _masks, _resume

ALSO = {  # what a pass can give besides the scores
    "classes": lambda outputs, *_: tf.argmax(outputs, -1, "int32"),
    "outputs": lambda outputs, *_: outputs,
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
        patch = _masks.pair("patch", [max(1, side // 7) for side in size] if patch is None else patch, size)
        stride = _masks.pair("stride", [max(1, side // 2) for side in patch] if stride is None else stride, size)
        if stride[0] > patch[0] or stride[1] > patch[1]:
            raise ValueError(
                f"stride={stride} is larger than patch={patch}: pixels between the windows would be left out."
            )
        return cls(tuple(size), patch, *(_masks.starts(*axis) for axis in zip(size, patch, stride, strict=True)))

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
    """Cover one window of a picture after the other, and yield `[scores (n,), …]` pass by pass.

    The first row of all is the picture with nothing covered. Then come the windows, row by row.

    Args:
        task: from `attribution.prepare`.
        windows: `Windows` for its pictures.
        fills: from `_masks.fills`.
        index: of the picture.
        also: keys of `ALSO`, a tuple.
        resume, batch, progress: as for `perturbation.occlusion`.
    """
    _, patch, tops, lefts = windows
    more = [ALSO[key] for key in also]
    name = ("occlusion", windows.size, patch, also)
    plan = None if resume is None else _resume.plan(task, tops, lefts, patch, resume)
    if plan is None:
        rows = np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2)
        rows = np.concatenate([[windows.size], rows]).astype("int32")  # the first one covers nothing
        function, maps = _masks.passes(task, name, _masks.window_masks(windows.size, patch), more), ()
    else:
        rows, maps = plan.rows, _resume.clean(task, plan)(task.images[index])
        function = _resume.passes(task, (*name, resume, *tops, *lefts), plan, more)
        batch = int(batch * max(plan.gain, 1))  # a row that is resumed needs so much less, in time and in memory
    options = {"batch": batch, "progress": progress, "label": "occlusion"}
    return _masks.stream(task, function, index, fills, rows, constants=maps, **options)
