"""Numbers into colours."""

import matplotlib
import numpy as np


def colorize(values, cmap="inferno", limits=None):
    """Colours of a map: `(…)` numbers → `(…, 3)` uint8.

    Args:
        values: any shape.
        cmap: name of a matplotlib colour map.
        limits: `(low, high)`, the values of the first and the last colour, to put several maps on one scale.
            None: lowest and highest value. `"symmetric"`: ± the largest magnitude, so that zero is the middle colour
            (for signed maps, with a diverging colour map such as `"RdBu_r"`).

    A map without any differences gets the first colour. `ValueError` for NaN or infinity.
    """
    low, high = limits_of(values, limits)
    shares = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    return matplotlib.colormaps.get_cmap(cmap)(shares, bytes=True)[..., :3]


def signed(pixels, percentile=99.5):
    """Signed pixels `(…, C)`, a projection or a gradient, as uint8 of the same shape: zero is mid-grey.

    percentile: of the magnitudes, that is drawn in full; stronger ones are clipped, so that one pixel does not make
        all others grey.
    """
    pixels = np.asarray(pixels, np.float32)
    finite_range(pixels, "The projection")
    largest = np.percentile(np.abs(pixels), percentile) or np.abs(pixels).max() or 1.0
    return np.rint(127.5 + 127.5 * np.clip(pixels / largest, -1, 1)).astype(np.uint8)


def limits_of(values, limits):
    low, high = finite_range(values, "The map")
    if limits is None:
        return low, high if high > low else low + 1  # nothing to divide by: everything is at the low end
    if isinstance(limits, str):
        if limits != "symmetric":
            raise ValueError(f'limits={limits!r}: give (low, high), "symmetric" or None.')
        largest = max(abs(low), abs(high)) or 1.0
        return -largest, largest
    if not limits[0] < limits[1]:
        raise ValueError(f"limits={limits!r}: the low end must be below the high end.")
    return limits


def finite_range(values, label):
    """Lowest and highest value as floats; `label` starts the error for NaN and infinity."""
    values = np.asarray(values)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"{label} is empty or has values that are NaN or infinite: there is no scale for them.")
    return float(values.min()), float(values.max())
