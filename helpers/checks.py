"""One way to refuse: what a reader may have typed is checked here, and the message says what there is instead.

Nothing here knows a network or a picture; every function returns what it was given, in its plain form, or raises a
`ValueError` that names it.
"""

import difflib
from numbers import Integral, Real


def nearest(name, names, count=4):
    """The names that look most like `name`, or else the first ones, in quotes and with commas."""
    names = list(map(str, names))
    found = difflib.get_close_matches(str(name), names, n=count, cutoff=0.4) or names[:count]
    return ", ".join(map(repr, found)) or "none"


def choose(name, names, what, how=""):
    """`name`, one of `names`. `what` says in the message what kind of thing it is, `how` how to go on."""
    if isinstance(name, str) and name in names:
        return name
    raise ValueError(f"There is no {what} {name!r}. Nearest: {nearest(name, names)}. {how}".rstrip())


def whole(value, name, least=1, how=""):
    """A whole number from `least` upwards, as an int. 200.0 is none: what is computed from it could be 199.99…"""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number, at least {least}{how}.")
    return int(value)


def real(value, name, least=None, above=None, most=None):
    """A finite number within limits, as a float: at least `least`, above `above`, at most `most`."""
    limits = [f"at least {least}"] * (least is not None) + [f"above {above}"] * (above is not None)
    limits += [f"at most {most}"] * (most is not None)
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    inside = abs(number) < float("inf") and (least is None or number >= least) and (above is None or number > above)
    if not inside or (most is not None and number > most):
        raise ValueError(f"{name}={value!r}: give a number{', '.join(['', *limits]).removesuffix(', ')}.")
    return number


def pair(value, name, least=1, most=None):
    """(height, width) from one whole number or two, from `least` to `most`, the (height, width) of the picture."""
    try:
        height, width = (value, value) if isinstance(value, Integral) else value
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r}: give one whole number, or two: (height, width).") from None
    found = whole(height, name, least), whole(width, name, least)
    if most is not None and (found[0] > most[0] or found[1] > most[1]):
        raise ValueError(f"{name}={value!r} is larger than the picture, {most[0]} × {most[1]} pixels.")
    return found


def interval(value, name):
    """(low, high), two finite numbers, the first below the second, as floats."""
    try:
        low, high = (real(end, name) for end in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={value!r}: give two numbers, (low, high).") from None
    if not low < high:
        raise ValueError(f"{name}={value!r}: the low end must be below the high end.")
    return low, high


def single(batch, is_single, what):
    """The picture `(H, W, C)` of a batch, if it was given as one (`is_single`): `what` takes no more."""
    if not is_single:
        raise ValueError(f"One picture (H, W, C) goes into {what}, not a batch of {len(batch)}: give one at a time.")
    return batch[0]


def plain(text):
    """A text without what does not matter in an answer: capitals, underscores, more than one space."""
    return " ".join(text.casefold().replace("_", " ").split())


def channel(value, layer, count):
    """One of the `count` channels of a layer, as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= value < count:
        raise ValueError(f"Layer {layer!r} has channels 0 to {count - 1}, and {value!r} is not one of them.")
    return int(value)


def place(position, layer, shape):
    """`(row, column)` on the map of `shape`, (height, width), of a layer, as ints."""
    try:
        row, column = (whole(int(index) if index == int(index) else index, "position", 0) for index in position)
    except (TypeError, ValueError):
        raise ValueError(f"position={position!r}: give (row, column) on the map of layer {layer!r}.") from None
    if row >= shape[0] or column >= shape[1]:
        raise ValueError(f"Layer {layer!r} has {shape[0]} × {shape[1]} positions, and {position} is not one of them.")
    return row, column
