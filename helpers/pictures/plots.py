"""Arrays in, figure out: photographs, maps, filters and curves, drawn with matplotlib. It knows no network.

Every function returns a figure. As the last line of a cell it shows itself once; `display(…)` shows it anywhere else,
and `.savefig(file)` writes it. Nothing is kept in pyplot, so no figure stays open. For figures of your own in the same
style: `plt.rcParams.update(plots.STYLE)`.

Maps: values below zero make the scale symmetric, with colours that diverge around zero; otherwise it goes from the
lowest value to the highest. The colour maps are even in lightness and safe for colour-blind readers. `title` is what
the figure shows; long titles are broken into lines. `width` is the largest width in inches.
"""

import itertools
import math

import matplotlib
import matplotlib.patheffects
import matplotlib.ticker
import numpy as np
from matplotlib.patches import Rectangle

from . import images as pictures
from .colour import DIVERGING, SEQUENTIAL, scale, shares  # noqa: F401 (SEQUENTIAL: for readers)
from .diagram import flows  # noqa: F401 (for readers)
from .figure import COLOURS, STYLE, figure, wrapped

WIDTH = 9  # inches, at 100 dots each: what a notebook page shows without scaling
HEIGHT = 6.5  # inches of a mosaic
OUTLINE = [matplotlib.patheffects.withStroke(linewidth=2, foreground="black")]
_styled = matplotlib.rc_context(STYLE)


def _loaded(image):
    """A map as float32 `(H, W)`, a photograph as `images.load` gives it."""
    is_map = np.ndim(image) == 2 or np.ndim(image) == 3 and np.shape(image)[-1] == 1
    return np.reshape(image, np.shape(image)[:2]).astype(np.float32) if is_map else pictures.load(image)


def _checked_labels(labels, count, what):
    labels = [""] * count if labels is None else list(labels)
    if len(labels) != count:
        raise ValueError(f"{len(labels)} {what} for {count}: give as many, or None.")
    return labels


@_styled
def grid(images, titles=None, columns=None, rows=None, shared=False, cmap=None, title=None, width=WIDTH):
    """Photographs and maps side by side, each under its own title.

    images: photographs as `images.load` takes them, and maps `(H, W)`, of any sizes.
    titles, rows: a title for each, or for each column; a name for each row, on the left.
    columns: in a row; None: up to six.
    shared: True: all maps on one scale, with a colour bar, to compare them. False: each on its own, to see each.
    cmap: None chooses by the values, see the head of this file.
    """
    images = [_loaded(image) for image in images]
    if not images:
        raise ValueError("There is nothing to draw: images is empty.")
    columns = columns or math.ceil(len(images) / math.ceil(len(images) / 6))
    count = math.ceil(len(images) / columns)
    titles = list(titles or [])
    if titles and len(titles) not in (columns, len(images)):
        raise ValueError(f"{len(titles)} titles for {len(images)} pictures in {columns} columns: give one for each.")
    maps = [image for image in images if image.ndim == 2]
    common = scale(np.concatenate([values.ravel() for values in maps])) if shared and maps else None
    margin = 0.7 * bool(common) + 0.25 * bool(rows)
    side = min((width - margin) / columns, 3.2)
    titles = [wrapped(text, side) for text in titles] + [""] * (len(images) - len(titles))

    heights, lines = [], 0  # of the pictures alone: the layout takes the room for titles away from that
    for start in range(0, len(images), columns):
        lines += max(text.count("\n") + bool(text) for text in titles[start : start + columns])
        tallest = max(image.shape[0] / image.shape[1] for image in images[start : start + columns])
        heights.append(side * min(tallest, 1.5))
    drawing = figure(side * columns + margin, sum(heights) + 0.16 * lines + 0.06 * count, title)
    axes = drawing.subplots(count, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axis in axes.flat:
        _bare(axis)
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        drawn = _draw(axis, image, common, cmap)
        axis.set_title(text, pad=3)
        axis.set_anchor("N")
        if image.ndim == 2 and common:
            shown = drawn
    for axis, name in zip(axes[:, 0], _checked_labels(rows, count, "row names"), strict=True):
        axis.set_ylabel(name)
    if common:
        drawing.colorbar(shown, ax=axes, shrink=0.8, aspect=30)
    return drawing


def _bare(axis):
    """No frame and no ticks, as for a photograph; labels stay."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _draw(axis, image, common=None, cmap=None):
    if image.ndim == 3:
        return axis.imshow(image)
    suited, (low, high) = common or scale(image)
    return axis.imshow(image, cmap=cmap or suited, vmin=low, vmax=high)


@_styled
def sheet(
    tiles, columns=None, labels=None, heads=None, rows=None, shared=True, bar=None, cmap=None, title=None, width=WIDTH
):
    """Many small pictures or maps of one shape as a single mosaic, which draws several times faster than a grid.

    tiles: `(N, h, w)` or `(N, h, w, 3)`. Colours are uint8, or floats 0..255.
    columns: in a row; None: nearly a square.
    labels, heads, rows: a short text for the corner of each tile, and names of the columns and of the rows.
    shared: True: one scale for all maps. False: each on its own.
    bar: whether to draw a colour bar; None: if the scale is shared.
    """
    tiles = np.asarray(tiles)
    if tiles.ndim not in (3, 4) or not tiles.size or tiles.ndim == 4 and tiles.shape[-1] != 3:
        raise ValueError(f"A sheet is made of (N, h, w) maps or (N, h, w, 3) pictures; this has shape {tiles.shape}.")
    count, colour = len(tiles), tiles.ndim == 4
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    bar = not colour and (shared if bar is None else bar)
    height, breadth = tiles.shape[1:3]
    if colour:
        tiles, common = np.clip(np.rint(tiles), 0, 255).astype(np.uint8), None
    else:
        tiles = tiles.astype(np.float32) if shared else shares(tiles.astype(np.float32), (1, 2))
        common = scale(tiles, from_zero=not shared)
    # Pixels of small maps are repeated, so that a gap of whole pixels can be thin.
    enlarge = max(1, 48 // max(height, breadth))
    gap = math.ceil(enlarge * max(height, breadth) / 20)
    large = tiles.repeat(enlarge, 1).repeat(enlarge, 2)
    mosaic = pictures.tile(large, columns, gap, fill=255 if colour else np.nan)
    steps = enlarge * height + gap, enlarge * breadth + gap

    margin = 0.7 * (bar + (rows is not None))
    side = min((width - margin) / columns, 2, HEIGHT * mosaic.shape[1] / len(mosaic) / columns)
    drawing = figure(side * columns + margin, side * columns * len(mosaic) / mosaic.shape[1], title)
    axis = drawing.subplots()
    shown = _draw(axis, mosaic, common, cmap)
    _bare(axis)
    for place, text in enumerate(_checked_labels(labels, count, "labels")):
        row, column = divmod(place, columns)
        spot = {"va": "top", "color": "white", "fontsize": 7, "path_effects": OUTLINE}
        axis.text(column * steps[1] + gap / 2, row * steps[0] + gap / 2, text, **spot)
    if heads is not None:
        heads = [wrapped(head, side, 8) for head in _checked_labels(heads, columns, "column names")]
        axis.set_xticks(np.arange(columns) * steps[1] + steps[1] / 2 - gap / 2, heads, fontsize=8)
        axis.xaxis.tick_top()
    if rows is not None:
        rows = _checked_labels(rows, math.ceil(count / columns), "row names")
        axis.set_yticks(np.arange(len(rows)) * steps[0] + steps[0] / 2 - gap / 2, rows, fontsize=8)
    axis.tick_params(length=0)
    if bar:
        drawing.colorbar(shown, ax=axis, shrink=0.8, aspect=30)
    return drawing


def strongest(maps, count=None):
    """Numbers of the channels of `(…, C)` by their mean magnitude, strongest first: int `(count,)`, all if None."""
    strength = np.abs(np.asarray(maps)).mean(tuple(range(np.ndim(maps) - 1)))
    return np.argsort(-strength, kind="stable")[:count]


def channels(maps, count=64, **options):
    """The strongest channels of a layer's activation `(H, W, C)`, strongest first, each with its number.

    options: those of `sheet`; `shared=True` shows which speak loudest, `shared=False` what each of them says.
    """
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise ValueError(f"The maps of one picture are (H, W, C); these have shape {maps.shape}.")
    chosen = strongest(maps, count)
    return sheet(np.moveaxis(maps[..., chosen], -1, 0), labels=chosen, **options)


def filters(kernel, count=64, **options):
    """The filters of a convolution, each on a scale symmetric around zero.

    Filters on colours are shown as small colour pictures in which grey is zero. Deeper ones have no colours: of those
    every slice is a map, a column for each output channel and a row for each input channel.

    kernel: `(kh, kw, cin, cout)`, as Keras keeps it.
    count: at most so many filters; of deeper kernels at most √count columns and rows.
    options: those of `sheet`.
    """
    kernel = np.asarray(kernel, np.float32)
    if kernel.ndim != 4:
        raise ValueError(f"A kernel is (kh, kw, cin, cout); this has shape {kernel.shape}.")
    inputs, outputs = kernel.shape[2:]
    if inputs == 3:
        colours = shares(np.moveaxis(kernel[..., :count], -1, 0), (1, 2, 3))
        return sheet(127.5 + 127.5 * colours, **options)
    options = {"shared": False} | options
    if 1 in (inputs, outputs):
        return sheet(kernel.reshape(*kernel.shape[:2], -1).transpose(2, 0, 1)[:count], **options)
    shown = kernel[:, :, : math.isqrt(count), : math.isqrt(count)].transpose(2, 3, 0, 1)
    named = {"heads": [f"out {n}" for n in range(shown.shape[1])], "rows": [f"in {n}" for n in range(shown.shape[0])]}
    return sheet(shown.reshape(-1, *kernel.shape[:2]), shown.shape[1], **named | options)


def filmstrip(frames, steps, shared=False, rows=None, **options):
    """How maps or filters change: a row for each channel, a column for each step.

    frames: `(T, H, W, C)`, from `training.activation_evolution`, or from `filter_evolution` for one input channel.
    steps: name or number of each of the T columns.
    shared: True: one scale for all. False: one for each row, over all of its steps.
    rows: names of the channels; None: their numbers.
    options: `cmap`, `title`, `width`, as in `sheet`.
    """
    frames = np.asarray(frames, np.float32)
    if frames.ndim != 4:
        raise ValueError(f"A film strip is (T, H, W, C); this has shape {frames.shape}. Choose fewer axes.")
    strips = np.moveaxis(frames, -1, 0)
    strips = strips if shared else shares(strips, (1, 2, 3))
    heads = list(map(str, _checked_labels(steps, len(frames), "steps")))
    rows = [f"channel {n}" for n in range(len(strips))] if rows is None else rows
    tiles = strips.reshape(-1, *frames.shape[1:3])
    return sheet(tiles, len(frames), heads=heads, rows=rows, bar=shared, **options)


def overlays(image, maps, titles=None, shared=False, alpha=0.8, **options):
    """A photograph, and each map laid over it by `images.overlay`, fading where it is weak.

    image, maps, titles: a photograph, maps `(h, w)` of any sizes, and a title for each.
    shared: True: all on one scale. False: each on its own.
    alpha: of the strongest values, 0 (the photograph) to 1 (the maps). options: those of `grid`.
    """
    suited, common = scale(np.concatenate([np.ravel(values) for values in maps]))
    limits = common if shared else "symmetric" if suited == DIVERGING else None
    cmap = options.pop("cmap", None) or suited
    drawn = [pictures.overlay(image, values, alpha, cmap, limits, fade=True) for values in maps]
    titles = ["the photograph", *_checked_labels(titles, len(drawn), "titles")]
    return grid([image, *drawn], titles, **options)


@_styled
def curves(panels, x, log=(), columns=None, xlabel=None, title=None, width=WIDTH):
    """Numbers over the depth of a network or the steps of training: one panel for each quantity.

    panels: dict: title of the panel → a list of numbers, or a dict: name of the line → such a list.
    x: names of layers, written upright below, or numbers.
    log: the titles of panels with a logarithmic scale; "x" for that of the steps (0 included).
    columns: panels in a row; None: one above the other for layers, up to three side by side for numbers.
    """
    named = isinstance(x[0], str)
    columns = columns or (1 if named else min(3, len(panels)))
    count = math.ceil(len(panels) / columns)
    positions = np.arange(len(x)) if named else np.asarray(x, float)
    room = 0.08 * max(map(len, x)) if named else 0.3
    drawing = figure(width, count * (1.5 if named else 2) + room, title)
    axes = drawing.subplots(count, columns, squeeze=False, sharex=True).ravel()
    for axis, (name, lines) in zip(axes, panels.items(), strict=False):
        lines = lines if isinstance(lines, dict) else {"": lines}
        for number, (line, values) in enumerate(lines.items()):
            if len(values) != len(x):
                raise ValueError(f"{name} {line}: {len(values)} values for {len(x)} places on the x axis.")
            axis.plot(positions, values, label=line, marker="os^Dv<>"[number % 7], markersize=3, linewidth=1.2)
        axis.set_title(wrapped(name, width / columns))
        axis.grid(alpha=0.3)
        if name in log:
            axis.set_yscale("log")
        if len(lines) > 1:
            axis.legend(fontsize=8, frameon=False)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[-columns:]:
        axis.set_xlabel(xlabel or "")
        if "x" in log:
            axis.set_xscale("symlog", linthresh=1)
            axis.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        if named:
            every = math.ceil(len(x) * columns / (6 * width))  # upright names need a sixth of an inch each
            axis.set_xticks(positions[::every], x[::every], rotation=90, fontsize=8)
    return drawing


@_styled
def matrix(values, labels, titles=None, limits=None, cmap=None, title=None, width=WIDTH):
    """Square matrices, of similarities for instance, on one scale; up to 12 × 12 with their numbers in the fields.

    values: `(N, N)`, or several of them, `(K, N, N)`, side by side.
    labels, titles: N names, and K titles.
    limits: (low, high) of the colours; None: as for maps.
    """
    values = np.asarray(values, float)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1:] != (len(labels),) * 2:
        raise ValueError(f"{len(labels)} labels for matrices of shape {values.shape[1:]}: they must be square and fit.")
    titles = _checked_labels(titles, len(values), "titles")
    suited, common = scale(values)
    names = 0.07 * max(len(str(label)) for label in labels) + 0.1  # inches, beside and below
    side = min((width - 0.9 - names) / len(values), 5)
    drawing = figure(side * len(values) + 0.9 + names, side + names + 0.2 * any(titles), title)
    axes = drawing.subplots(1, len(values), squeeze=False)[0]
    size = min(8, 0.8 * 72 * side / len(labels) / 3)
    for axis, part, text in zip(axes, values, titles, strict=True):
        shown = _draw(axis, part, (suited, limits or common), cmap)
        _bare(axis)
        axis.set_title(wrapped(text, side))
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
        axis.tick_params(length=0)
        for (row, column), value in np.ndenumerate(part if len(labels) <= 12 else np.empty((0, 0))):
            dark = np.mean(shown.cmap(shown.norm(value))[:3]) < 0.5
            spot = {"ha": "center", "va": "center", "fontsize": size, "color": "white" if dark else "black"}
            axis.text(column, row, f"{value:.2f}".replace("-0.00", "0.00"), **spot)
    axes[0].set_yticks(range(len(labels)), labels, fontsize=8)
    drawing.colorbar(shown, ax=axes, shrink=0.7, aspect=30)
    return drawing


@_styled
def boxes(image, boxes, labels=None, title=None, width=5):
    """Rectangles drawn on a photograph: receptive fields, say.

    boxes: `(N, 4)`, each (top, left, bottom, right) in pixels, ends excluded; they may reach beyond the picture.
    labels: N names.
    """
    image, boxes = pictures.load(image), np.asarray(boxes, float).reshape(-1, 4)
    labels = _checked_labels(labels, len(boxes), "labels")
    whole = np.array([[0, 0, *image.shape[:2]], *boxes])
    (first, start), (last, end) = whole[:, :2].min(0), whole[:, 2:].max(0)
    margin = 0.02 * max(last - first, end - start)
    drawing = figure(width, (width - 1.2 * any(labels)) * (last - first) / (end - start), title)
    axis = drawing.subplots()
    axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    _bare(axis)
    style = {"linewidth": 2, "path_effects": [matplotlib.patheffects.withStroke(linewidth=3.5, foreground="white")]}
    for (top, left, bottom, right), label, colour in zip(boxes, labels, itertools.cycle(COLOURS), strict=False):
        corner, size = (left, top), (right - left, bottom - top)
        axis.add_patch(Rectangle(corner, *size, fill=False, color=colour, label=label, **style))
    axis.set(xlim=(start - margin, end + margin), ylim=(last + margin, first - margin))
    if any(labels):
        drawing.legend(loc="outside right center", frameon=False)
    return drawing


def patches(groups, rows, scores=None, side=96, **options):
    """The patches that excite some channels most: a row for each channel, strongest patch on the left.

    groups: for each channel its patches `(count, h, w, 3)`, 0..255; sizes may differ between channels.
    rows, scores: names of the channels, and for each the numbers to write into its patches.
    side: to how many pixels patches are scaled; those that are smaller keep their pixels visible.
    options: `title` and `width`, as in `sheet`.
    """
    _checked_labels(rows, len(groups), "row names")
    columns = max(len(group) for group in groups)
    blank = np.full((side, side, 3), 255, np.uint8)
    tiles, labels = [], []
    for number, group in enumerate(groups):
        for patch in group:
            method = "nearest" if max(patch.shape[:2]) < side // 2 else None
            tiles.append(pictures.resize(pictures.load(patch), side, method))
        tiles += [blank] * (columns - len(group))
        labels += [f"{score:.3g}" for score in (scores[number] if scores is not None else [])]
        labels += [""] * (len(tiles) - len(labels))
    return sheet(np.stack(tiles), columns, labels=labels, rows=rows, **options)


@_styled
def predictions(images, answers, titles=None, columns=None, title=None, width=WIDTH):
    """Photographs, each with the network's best answers as bars below it.

    images, titles: photographs, and a title for each.
    answers: for each the list that `models.decode` gives: `(class_index, label, probability)`, best first.
    columns: in a row; None: up to four.
    """
    images = list(map(pictures.load, images))
    if len(answers) != len(images):
        raise ValueError(f"{len(answers)} lists of answers for {len(images)} pictures: give one for each.")
    titles = _checked_labels(titles, len(images), "titles")
    columns = columns or math.ceil(len(images) / math.ceil(len(images) / 4))
    count, side, most = math.ceil(len(images) / columns), min(width / columns, 3), max(map(len, answers))
    heights = [side * max(image.shape[0] / image.shape[1] for image in images) + 0.2, 0.19 * most + 0.25] * count
    drawing = figure(side * columns, sum(heights), title)
    axes = drawing.subplots(2 * count, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axis in axes.flat:
        _bare(axis)
    for place, (image, answer, text) in enumerate(zip(images, answers, titles, strict=True)):
        row, column = divmod(place, columns)
        axes[2 * row, column].imshow(image)
        axes[2 * row, column].set_title(wrapped(text, side), pad=3)
        axis = axes[2 * row + 1, column]
        for line, (_, label, probability) in enumerate(answer):
            axis.barh(line, probability, color="#9ecae1", height=0.85)
            share = f"{probability:.0%}" if probability >= 0.005 else "<1%"
            axis.text(0.01, line, f"{share}  {label}", va="center", fontsize=8)  # over it: there is room
        axis.set(xlim=(0, 1), ylim=(len(answer) - 0.5, -0.5))
    return drawing


@_styled
def dots(groups, zero=0, xlabel=None, title=None, width=WIDTH):
    """Every single number as a dot, in a row for each group: what a mean and a standard deviation hide.

    Args:
        groups: dict: name of the row → dict: name of the colour → numbers. All rows have the same colours.
        zero: where a vertical line stands: no effect, or chance.
        xlabel: what the numbers are.
    """
    drawing = figure(width, 0.34 * len(groups) + 0.9, title)
    axis, colours = drawing.subplots(), list(next(iter(groups.values())))
    for row, (name, numbers) in enumerate(groups.items()):
        if list(numbers) != colours:
            raise ValueError(f"Row {name!r} has the colours {list(numbers)}, and the first row {colours}.")
        for place, (label, values) in enumerate(numbers.items()):
            height = row + 0.3 * ((place + 0.5) / len(colours) - 0.5)
            style = {"s": 26, "alpha": 0.75, "linewidth": 0, "color": COLOURS[place], "marker": "os^Dv<>"[place]}
            axis.scatter(values, [height] * len(values), label=None if row else label, **style)
    axis.axvline(zero, color="0.5", linewidth=1)
    axis.set(xlabel=xlabel or "", ylim=(len(groups) - 0.5, -0.5))
    axis.set_yticks(range(len(groups)), list(groups))
    axis.grid(axis="x", alpha=0.3)
    if len(colours) > 1:
        drawing.legend(loc="outside right center", frameon=False)
    return drawing
