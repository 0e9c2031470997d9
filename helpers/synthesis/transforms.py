"""What is done to a picture before the network sees it, so that its grid of strides leaves no trace."""

import itertools
import math

import numpy as np


def jitter(random, most, tile=None):
    """How far to shift a picture, down and across, drawn from a numpy generator: up to `most` pixels, or a tile."""
    return random.integers(-most, most + 1, 2) if tile is None or not most else random.integers(0, tile, 2)


def shifted(picture, shift):
    """The picture moved down and across; what leaves it on one side comes in on the other."""
    return np.roll(picture, shift, axis=(0, 1))


def windows(picture, tile):
    """Slices of windows with sides of at most `tile`: as few as cover the picture, evenly spread."""
    starts = []
    for length in picture.shape[:2]:
        side = min(tile or length, length)
        first = np.linspace(0, length - side, math.ceil(length / side)).astype(int)
        starts.append([slice(start, start + side) for start in first])
    return itertools.product(*starts)
