"""The bundled part of MNIST: handwritten digits (LeCun, Cortes and Burges)."""

import numpy as np

from .. import data


def load():
    """`(train_images, train_labels), (test_images, test_labels)`: the first 10,000 and the first 2,000 of MNIST.

    Images: (N, 28, 28, 1) float32, 0 (paper) … 255 (ink). Labels: (N,) int64, the digit.
    """
    with np.load(data.path("mnist.npz"), allow_pickle=False) as stored:
        return tuple(
            (stored[f"{part}_images"][..., None].astype("float32"), stored[f"{part}_labels"].astype("int64"))
            for part in ("train", "test")
        )
