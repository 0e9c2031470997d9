"""Numbers into colours: which colours suit a map, and where its scale ends. For figures and explorers alike."""

import matplotlib
import numpy as np

from .. import checks

SEQUENTIAL, DIVERGING = "inferno", "RdBu_r"  # even in lightness, and safe for colour-blind readers


def colorize(values, cmap=SEQUENTIAL, limits=None):
    """Colours of a map: `(…)` numbers of any shape → `(…, 3)` uint8.

    cmap: name of a matplotlib colour map.
    limits: `(low, high)`, the values of the first and the last colour, to put several maps on one scale. None: lowest
        and highest value. `"symmetric"`: ± the largest magnitude, so that zero is the middle colour (for signed maps,
        with a diverging colour map such as `"RdBu_r"`).
    A map without any differences gets the first colour. `ValueError` for NaN or infinity.
    """
    low, high = limits_of(values, limits)
    shares = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return matplotlib.colormaps.get_cmap(cmap)(shares, bytes=True)[..., :3]


def signed(pixels, percentile=99.5):
    """Signed pixels `(…, C)` as uint8, zero is mid-grey; above this percentile of their magnitudes they are clipped."""
    pixels = np.asarray(pixels, np.float32)
    finite_range(pixels, "The projection")
    return np.rint(127.5 + 127.5 * np.clip(pixels / end_of_scale(pixels, percentile), -1, 1)).astype(np.uint8)


def scale(values, is_signed=None, from_zero=False):
    """The colour map and the limits that suit maps, for `colorize`: `(cmap, (low, high))`.

    values: of all maps that share the scale.
    is_signed: whether to make it symmetric, its colours diverging around zero; None: if there are values below.
    from_zero: whether a scale that is not signed starts at zero, rather than at the lowest value.
    """
    low, high = finite_range(values, "The map")
    if low < 0 if is_signed is None else is_signed:
        largest = end_of_scale(values)
        return DIVERGING, (-largest, largest)
    low = 0.0 if from_zero else low
    return SEQUENTIAL, (low, high if high > low else low + 1)  # nothing to divide by: everything is at the low end


def end_of_scale(values, percentile=100):
    """The magnitude from which on a map has its strongest colour: above 0, also where a percentile of it is 0."""
    sizes = np.abs(values)
    return float(np.percentile(sizes, percentile) or sizes.max() or 1.0)


def shares(values, axes=None):
    """Values divided by the largest magnitude over these axes, all if None. Zero stays zero."""
    largest = np.abs(values).max(axes, keepdims=True)
    return values / np.where(largest > 0, largest, 1)


def limits_of(values, limits):
    finite_range(values, "The map")
    if limits is None:
        return scale(values, is_signed=False)[1]
    if isinstance(limits, str):
        if limits != "symmetric":
            raise ValueError(f'limits={limits!r}: give (low, high), "symmetric" or None.')
        return -end_of_scale(values), end_of_scale(values)
    return checks.interval(limits, "limits")


def finite_range(values, label):
    """Lowest and highest value as floats; `label` starts the error for NaN and infinity."""
    values = np.asarray(values)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"{label} is empty or has values that are NaN or infinite: there is no scale for them.")
    return float(values.min()), float(values.max())
