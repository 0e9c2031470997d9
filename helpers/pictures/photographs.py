"""The bundled photographs, and two of them in one picture. Public in `images`."""

import numpy as np

from .. import checks, data
from .reading import crop, load, photographs

COMPOSITES = ("koala+panda", "sheep+german_shepherd", "bison+chicken", "scarlet_macaw+lemur", "crocodile+polar_bear")


def samples():
    """Names of the bundled photographs. Two joined by a plus sign are a composite: see `COMPOSITES` and `masks`."""
    return sorted(photographs())


def sample(name, size=None):
    """A bundled photograph, or a composite such as `"koala+panda"`, as `load` gives it; `ValueError` for others."""
    if "+" in str(name):
        image, _ = composite(*_pair(name))
        return image if size is None else crop(image, size)
    checks.choose(name, photographs(), "photograph", "images.samples() lists all.")
    return load(data.path(f"photos/{photographs()[name]}"), size)


def composite(first, second, size=224):
    """Two known objects in one picture: the first above, the second below.

    Each half is the centred part of a bundled photograph; most are wide, so halves one above the other lose least.
    With the masks it asks a heatmap "where is the panda?" and knows the answer: the grid pointing game of Böhle,
    Fritz and Schiele, "Convolutional Dynamic Alignment Networks for Interpretable Classifications" (2021).

    first, second: names of two different bundled photographs; size: a side or `(height, width)`.
    Returns `(H, W, 3)` uint8, and a dict: name → bool `(H, W)`, true where that object's half is.
    """
    if first == second:
        raise ValueError(f"A composite has two different objects; both are {first!r}.")
    height, width = checks.pair(size, "size")
    if height < 2:
        raise ValueError(f"size={size!r}: a composite has two halves, so at least two rows.")
    middle = height // 2
    image = np.concatenate([sample(first, (middle, width)), sample(second, (height - middle, width))])
    upper = np.zeros((height, width), bool)
    upper[:middle] = True
    return image, {first: upper, second: ~upper}


def masks(name, size=224):
    """Where each object of a composite of this size is: `masks("koala+panda")["koala"]` is bool `(H, W)`."""
    return composite(*_pair(name), size=size)[1]


def _pair(name):
    pair = str(name).split("+")
    if len(pair) != 2:
        raise ValueError(f"{name!r} is not a composite: join two photographs by a plus sign, as in {COMPOSITES[0]!r}.")
    return pair
