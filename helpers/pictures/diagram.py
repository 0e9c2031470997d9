"""A small network as a drawing: units as circles, and what goes along each connection as a line."""

import matplotlib

from .colour import DIVERGING
from .figure import STYLE, figure

WIDTH = 9  # inches, as in `plots`


@matplotlib.rc_context(STYLE)
def flows(places, panels, title=None, width=WIDTH):
    """The same small network several times, each time with other numbers: red lines for what is above zero, blue below.

    Args:
        places: dict: name of a unit → (column, row), the lowest row is 0.
        panels: dict: title of a panel → (values, flows), where `values` is a dict: unit → the number in its circle, and
            `flows` a dict: (unit, unit) → the number along the line between them, which is as thick as it is large.
    """
    columns, rows = (max(place[axis] for place in places.values()) for axis in (0, 1))
    side = width / len(panels)
    drawing = figure(width, side * (rows + 0.8) / (columns + 0.6), title)
    axes = drawing.subplots(1, len(panels), squeeze=False)[0]
    largest = max((abs(flow) for _, along in panels.values() for flow in along.values()), default=0) or 1
    against, in_favour = (matplotlib.colormaps[DIVERGING](end) for end in (0.1, 0.9))
    middle = {"ha": "center", "va": "center"}
    for axis, (name, (values, along)) in zip(axes, panels.items(), strict=True):
        for (start, end), flow in along.items():
            colour = "0.8" if flow == 0 else in_favour if flow > 0 else against
            xs, ys = zip(places[start], places[end], strict=True)
            axis.plot(xs, ys, color=colour, linewidth=1 + 7 * abs(flow) / largest, zorder=1)
            spot = [(2 * first + last) / 3 for first, last in (xs, ys)]  # nearer to its start: lines cross half-way
            axis.text(*spot, f"{flow:+.1f}", bbox={"fc": "w", "ec": "none", "pad": 1}, **middle)
        for unit, place in places.items():
            axis.scatter(*place, s=220 * side, color="white", edgecolor="black", zorder=2)
            axis.text(*place, f"{unit}\n{values[unit]:.1f}", zorder=3, **middle)
        axis.set(title=name, xlim=(-0.3, columns + 0.3), ylim=(-0.4, rows + 0.4))
        axis.axis("off")
    return drawing
