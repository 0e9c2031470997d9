"""XRAI: the regions of a picture, ranked by the attribution that lies in them (Kapishnikov et al. 2019)."""

import numpy as np

from .. import environment
from ..pictures import images as pictures
from . import shared
from .integrated import integrated_gradients

SIDE = 224  # the size at which the settings below mean what they mean in the paper's own code
SCALES, SIGMA, SMALLEST, MARGIN, GAIN = (50, 100, 150, 250, 500, 1200), 0.8, 150, 5, 50


def xrai(model, images, target=None, *, baseline=None, segments=None, batch=16, progress=True, **options):
    """Which regions of the picture matter: segments, ranked by the density of attribution that each adds.

    Kapishnikov et al., "XRAI: Better Attributions Through Regions" (2019): integrated gradients from a black and from
    a white baseline; overlapping segments of six sizes (Felzenszwalb and Huttenlocher 2004); then, again and again, the
    segment whose pixels not yet covered have the largest mean attribution (the largest of a pixel's channels).

    Args:
        model, images, target, batch, progress: as `saliency`.
        baseline: as `integrated_gradients`; None: the darkest and the brightest value of each picture.
        segments: None, or bool masks `(N, H, W)` to use for every picture; they may overlap.
        **options: for `integrated_gradients`, such as `steps`.

    Returns:
        `(B, H, W)` float32, or `(H, W)`: the mean attribution of the region that each pixel came in with, in units of
        the score per pixel.

    Raises:
        ValueError: as `integrated_gradients`; masks of another shape; no OpenCV (for segments of its own).
    """
    task = shared.prepare(model, images, target)
    if baseline is None:
        ends = (end(task.images, axis=(1, 2, 3), keepdims=True) for end in (np.min, np.max))
        baseline = [np.broadcast_to(end, task.images.shape) for end in ends]
    if segments is not None:
        segments, size = np.asarray(segments), task.images.shape[1:3]
        if segments.dtype != bool or segments.shape[1:] != size or not len(segments):
            given = f"segments has shape {segments.shape} and type {segments.dtype}"
            raise ValueError(f"{given}: give bool masks (N, {size[0]}, {size[1]}).")
    options |= {"baseline": baseline, "batch": batch, "progress": progress}
    found = integrated_gradients(model, task.images, task.targets if task.key is None else target, **options)
    masks = map(overlapping_segments, task.images) if segments is None else [segments] * len(found)
    return task.answer([ranked(one.max(axis=-1), own) for one, own in zip(found, masks, strict=True)])


def overlapping_segments(picture):
    """Overlapping segments of a picture on any scale, in several sizes and each with a margin: bool `(N, H, W)`."""
    from skimage.segmentation import felzenszwalb

    cv2 = environment.library("cv2", "gradients.xrai finds its regions with it")
    size = picture.shape[:2]
    low, high = picture.min(), picture.max()
    plain = (picture - low) / max(high - low, 1e-12) * 2 - 1
    plain = pictures.resize(plain, SIDE).reshape(SIDE, SIDE, -1)
    radius = round(MARGIN * min(size) / SIDE)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    masks = []
    for scale in SCALES:
        labels = felzenszwalb(plain.astype("float64"), scale=scale, sigma=SIGMA, min_size=SMALLEST)
        labels = pictures.resize(labels.astype("float32"), size, method="nearest").astype(int)
        masks += [cv2.dilate((labels == label).astype("uint8"), disk).astype(bool) for label in np.unique(labels)]
    return np.stack(masks)


def ranked(attribution, masks):
    """The map `(H, W)` of the paper: segments join in the order of the mean attribution that their new pixels bring.

    One of the masks, bool `(N, H, W)`, that brings fewer new pixels than a small share of the picture is left out;
    pixels that no segment brought have their own mean.
    """
    values, masks = attribution.reshape(-1).astype("float64"), masks.reshape(len(masks), -1)
    least = max(1, round(GAIN * values.size / SIDE**2))
    result, covered = np.zeros_like(values), np.zeros(values.shape, bool)
    sums, counts = np.array([values[mask].sum() for mask in masks]), masks.sum(axis=1)
    while (counts >= least).any():
        best = np.argmax(np.where(counts >= least, sums / np.maximum(counts, 1), -np.inf))
        new = np.flatnonzero(masks[best] & ~covered)
        result[new] = values[new].mean()
        covered[new] = True
        sums -= masks[:, new] @ values[new]  # each pixel is taken off once, however many segments there are
        counts -= masks[:, new].sum(axis=1)
    if not covered.all():
        result[~covered] = values[~covered].mean()
    return result.reshape(attribution.shape)
