"""Pictures as points: what a layer puts close together."""

import numpy as np
import tensorflow as tf

from .. import checks
from . import units


def describe(model, images, layers, batch=16, progress=False):
    """One vector for each picture and layer: the mean of each channel over all positions.

    Averaging over positions keeps *what* is in the picture and drops *where* it is. Returns a dict, name → float32
    `(N, channels)`; one picture `(H, W, C)` has N = 1.

    model, images: a `keras.Model` that is a graph of layers, and `(N, H, W, C)`, or an iterable of pictures.
    layers: a name, or several, as `submodels.layer_names` lists them.
    batch, progress: as in `engine.run`.
    ValueError: an unknown layer, one with several outputs, wrong pictures or none.
    """
    return units.reduced(model, layers, images, _mean, batch, progress)


def _mean(maps):
    return tf.reduce_mean(maps, list(range(1, len(maps.shape) - 1)))


def similarity(vectors):
    """How alike pictures are to a layer: cosine between their vectors, each channel standardised over the set.

    s(i, j) = zᵢ·zⱼ / (‖zᵢ‖ ‖zⱼ‖), where z is the vector with, in each channel, the mean over all pictures taken off
    and the standard deviation divided out. Without that a few loud channels, and what all photographs have in
    common, make every pair look alike. Channels that never change are left out.

    vectors: `(N, channels)`, as from `describe`, of at least three pictures.
    Returns float32 `(N, N)`, from −1 to 1, ones on the diagonal.
    ValueError: fewer than three vectors, or no channel that tells the pictures apart.
    """
    vectors = np.asarray(vectors, "float64")
    if vectors.ndim != 2 or len(vectors) < 3:
        raise ValueError(f"vectors has shape {vectors.shape}: give (N, channels) with at least three pictures.")
    spread = vectors.std(0)
    alive = spread > 1e-6 * max(spread.max(), 1e-30)
    if not alive.any():
        raise ValueError("No channel tells these pictures apart: their vectors are all the same.")
    z = (vectors[:, alive] - vectors[:, alive].mean(0)) / spread[alive]
    z /= np.linalg.norm(z, axis=1, keepdims=True) + 1e-12
    return np.clip(z @ z.T, -1, 1).astype("float32")


def neighbours(vectors, count=1):
    """The most similar other pictures of each, most similar first: `(N, count)`; `ValueError` if count is N or more."""
    alike = similarity(vectors)
    if checks.whole(count, "count") >= len(alike):
        raise ValueError(f"count is {count}: among {len(alike)} pictures, each has 1 to {len(alike) - 1} neighbours.")
    np.fill_diagonal(alike, -np.inf)
    return np.argsort(-alike, axis=1, kind="stable")[:, :count]
