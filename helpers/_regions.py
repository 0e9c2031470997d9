"""Segments of a picture and their order, for `gradients.xrai`."""

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from . import images

SIDE = 224  # the size at which the settings below mean what they mean in the paper's own code
SCALES, SIGMA, SMALLEST, MARGIN, GAIN = (50, 100, 150, 250, 500, 1200), 0.8, 150, 5, 50


def segments(picture):
    """Overlapping segments of several sizes, each with a margin for the edges: bool `(N, H, W)`.

    Args:
        picture: `(H, W, C)` float32, on any scale.
    """
    size = picture.shape[:2]
    low, high = picture.min(), picture.max()
    plain = (picture - low) / max(high - low, 1e-12) * 2 - 1
    plain = images.resize(plain, SIDE).reshape(SIDE, SIDE, -1)
    radius = round(MARGIN * min(size) / SIDE)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    masks = []
    for scale in SCALES:
        labels = felzenszwalb(plain.astype("float64"), scale=scale, sigma=SIGMA, min_size=SMALLEST)
        labels = images.resize(labels.astype("float32"), size, method="nearest").astype(int)
        masks += [cv2.dilate((labels == label).astype("uint8"), disk).astype(bool) for label in np.unique(labels)]
    return np.stack(masks)


def checked(masks, size):
    """The reader's masks as bool `(N, H, W)`."""
    masks = np.asarray(masks)
    if masks.dtype != bool or masks.ndim != 3 or masks.shape[1:] != size or not len(masks):
        raise ValueError(
            f"segments has shape {masks.shape} and type {masks.dtype}: give bool masks (N, {size[0]}, {size[1]})."
        )
    return masks


def ranked(attribution, masks):
    """The map of the paper: segments join in the order of the mean attribution that their new pixels bring.

    Args:
        attribution: `(H, W)`.
        masks: bool `(N, H, W)`; one that brings fewer new pixels than a small share of the picture is left out.

    Returns:
        `(H, W)` float64. Pixels that no segment brought have their own mean.
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
