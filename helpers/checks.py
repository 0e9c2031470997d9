"""One way to refuse: what a reader may have typed is checked here, and the message says what there is instead."""

import difflib


def choose(name, names, what, how=""):
    """Return `name` if it is one of `names`, or raise a `ValueError` that lists the nearest ones."""
    if name in names:
        return name
    nearest = difflib.get_close_matches(str(name), names, n=4, cutoff=0.4) or list(names)[:4]
    raise ValueError(f"There is no {what} {name!r}. Nearest: {', '.join(map(repr, nearest))}. {how}".rstrip())
