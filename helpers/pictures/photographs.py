"""The bundled photographs, two of them in one picture, and the faces in them. Public in `images`."""

import csv
import functools

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


def faces():
    """Names of the photographs with a face from the front, whose eyes and nose are marked: see `face`."""
    return sorted(_marks())


def face(name, size=224):
    """A face cut out of a bundled photograph, and where its eyes and its nose are.

    The face is a square around the marks, 3.5 times as wide as the eyes are apart (or as the photograph has room). The
    marks were set by hand (`data/faces.csv`, drawn by `data/show_faces.py`).

    Returns:
        `(size, size, 3)` uint8, and a dict: "eye on the left", "eye on the right", "nose" → `(row, column)`.
    """
    marks = _marks()[checks.choose(name, faces(), "face", "images.faces() lists all.")]
    photograph, places = sample(name), np.array(list(marks.values()))
    side = min(round(3.5 * np.hypot(*(places[0] - places[1]))), *photograph.shape[:2])
    first = np.clip(np.rint(places.mean(axis=0) - side / 2), 0, np.array(photograph.shape[:2]) - side).astype(int)
    cut = photograph[first[0] : first[0] + side, first[1] : first[1] + side]
    return crop(cut, size), dict(zip(marks, (places - first) * (size / side), strict=True))


@functools.cache
def _marks():
    """Name of a photograph → part of the face → `(row, column)` in the file's own pixels."""
    with data.path("faces.csv").open(encoding="utf-8", newline="") as stream:
        marks = {}
        for row in csv.DictReader(stream):
            marks.setdefault(row["photograph"], {})[row["part"]] = int(row["y"]), int(row["x"])
    return marks


def _pair(name):
    pair = str(name).split("+")
    if len(pair) != 2:
        raise ValueError(f"{name!r} is not a composite: join two photographs by a plus sign, as in {COMPOSITES[0]!r}.")
    return pair
