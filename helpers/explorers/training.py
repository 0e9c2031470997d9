"""`explore.training`: filters, activations and numbers at any moment of a training."""

import html
import math
from functools import partial

import ipywidgets as widgets
import numpy as np
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageDraw

from .. import training
from ..pictures import colour, images, plots
from ..submodels.graph import trace
from .classes import classes_of
from .frame import MARK, Chooser, Explorer, Panel, labelled, row
from .gallery import Cache, Gallery

SMALL, SHEET, WIDE = 160, 368, 912  # pixels: widths of the panels
MOST, GAP = 64, 6  # filters or maps in a sheet, and the pixels between them
PROBE = "the picture of the training"


class Film:
    """Filters or maps through time, on a scale that stays the same, so that one sees them grow.

    values: `(T, N, h, w)`, or `(T, N, h, w, 3)` for filters on colours. Moments with NaN or infinity have no frame.
    content, notes: which filters or maps these are, in words, and a sentence for each of the T moments.
    columns: tiles in a row; None: nearly a square.
    """

    def __init__(self, values, content, notes, columns=None):
        self.values, self.content, self.notes = values, content, notes
        self.columns = columns or math.ceil(math.sqrt(values.shape[1]))
        self.has_frame = np.isfinite(values).all(tuple(range(1, values.ndim)))
        known = values[self.has_frame]
        self.is_signed = bool((known < 0).any())
        self.largest = np.abs(known).max((0, *range(2, values.ndim)), initial=0)  # of each tile
        self.nbytes = values.nbytes  # what a `Cache` counts

    def frame(self, moment, own=False):
        """The tiles at a moment, `(H, W, 3)` uint8. own: each on its own scale; otherwise all are on one."""
        largest = self.largest if own else np.full_like(self.largest, self.largest.max())
        largest = np.where(largest > 0, largest, 1).reshape(-1, *[1] * (self.values.ndim - 2))
        shares = self.values[moment] / largest
        if shares.ndim == 4:
            tiles = np.rint(127.5 + 127.5 * shares).astype(np.uint8)
        else:
            tiles = images.colorize(shares, *colour.scale(np.ones(1), self.is_signed, from_zero=True))
        height, width = _tile_size(tiles.shape[1:3], self.columns)
        rows, columns = np.arange(height) * tiles.shape[1] // height, np.arange(width) * tiles.shape[2] // width
        sheet = images.tile(tiles[:, rows[:, None], columns], self.columns, GAP)
        return np.pad(sheet, ((0, 0), (0, SHEET - sheet.shape[1]), (0, 0)), constant_values=255)

    def caption(self, own):
        """What is in the frames, and what their colours mean."""
        if self.values.ndim == 5:
            colours = "Grey is zero"
        else:
            colours = "Red is above zero, blue below" if self.is_signed else "Black is zero, yellow is high"
        limit = "each has its own scale" if own else f"full colour is {self.largest.max():.2g}"
        return f"{self.content}. {colours}; {limit}, the same at all steps."


def film_of_filters(kernels, layer):
    """The `Film` of the kernels `(T, kh, kw, cin, cout)` of a layer, laid out as `plots.filters` does."""
    inputs, outputs = kernels.shape[3:]
    title, side = f"Filters of {layer}", math.isqrt(MOST)
    sizes, moved = (np.sqrt((x**2).mean((1, 2, 3, 4))) for x in (kernels, kernels - kernels[0]))
    notes = [
        f"{title}: typical weight {size:.3g}, and since the first snapshot they have moved by "
        f"{way / max(sizes[0], 1e-12):.0%} of their first size."
        for size, way in zip(sizes, moved, strict=True)
    ]
    are_coloured = inputs == 3 and outputs > 1
    if are_coloured or 1 in (inputs, outputs):
        each = kernels if are_coloured else kernels.reshape(*kernels.shape[:3], -1)
        chosen = _strongest(each[-1])
        return Film(np.moveaxis(each[..., chosen], -1, 1), f"{title}: {_named(chosen, each.shape[-1])}", notes)
    shown = kernels[:, :, :, :side, :side].transpose(0, 3, 4, 1, 2)
    rows, columns = shown.shape[1:3]
    across = f"a column for each of the first {columns} of {outputs} outputs"
    content = f"{title}: a row for each of the first {rows} of {inputs} inputs, {across}"
    return Film(shown.reshape(len(shown), -1, *shown.shape[3:]), content, notes, columns)


def film_of_maps(maps, layer):
    """The `Film` of the maps `(T, h, w, C)` of a layer."""
    chosen = _strongest(maps[-1])
    shown = maps[..., chosen]
    size = _tile_size(shown.shape[1:3], math.ceil(math.sqrt(len(chosen))))
    if size[1] < shown.shape[2]:
        shown = np.stack([images.resize(moment, size) for moment in shown])
    notes = [
        f"Maps of {layer}: mean {moment.mean():.3g}, largest {moment.max():.3g}, {(moment == 0).mean():.0%} zeros."
        for moment in maps
    ]
    return Film(np.moveaxis(shown, -1, 1), f"Maps of {layer}: {_named(chosen, maps.shape[-1])}", notes)


def _tile_size(shape, columns):
    """(height, width) in pixels of one of so many tiles side by side."""
    width = (SHEET + GAP) // columns - GAP
    return max(1, round(shape[0] * width / shape[1])), width


def _strongest(values):
    """Numbers of the last axis, in order: at most `MOST`, those of the largest magnitude."""
    return np.sort(plots.strongest(np.nan_to_num(values), MOST))


def _named(chosen, count):
    if len(chosen) < count:
        return f"the {len(chosen)} of {count} channels that are strongest at the end"
    return f"channels 0 to {count - 1}, row by row" if count > 1 else "its only channel"


class Curves:
    """The numbers of a training over its steps, name → a number or NaN for each, drawn once; then a marker moves."""

    def __init__(self, lines, steps):
        figure = plots.curves(lines, steps, log=["x"], xlabel="training step", width=WIDE / 100)
        for axis in figure.axes:  # a step without numbers, as the first one often is, has its place too
            axis.update_datalim(np.column_stack([steps, steps]), updatey=False)
            axis.autoscale_view()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.pixels = np.array(canvas.buffer_rgba())[..., :3]
        height = len(self.pixels)
        self.places = []  # for each line: top and bottom of its axes, and its points, in pixels from the top left
        for axis, values in zip(figure.axes, lines.values(), strict=False):
            numbers = np.nan_to_num(values)  # one NaN in a point would take both of its coordinates
            points = axis.transData.transform(np.column_stack([steps, numbers])) * (1, -1) + (0, height)
            points[~np.isfinite(values), 1] = np.nan
            self.places.append((height - axis.bbox.y1, height - axis.bbox.y0, points))

    def marked(self, moment):
        """The picture with a line at a moment and a dot on each curve: `(H, W, 3)` uint8."""
        picture = Image.fromarray(self.pixels)
        draw = ImageDraw.Draw(picture)
        for top, bottom, points in self.places:
            across, down = points[moment]
            draw.line((across, top, across, bottom), MARK, width=2)
            if np.isfinite(down):
                draw.ellipse((across - 5, down - 5, across + 5, down + 5), MARK, "black")
        return np.array(picture)


class Training(Explorer):
    """Move through a training: how do filters come out of noise, and when does the network begin to answer right?

    Shows, at the chosen step, the filters of a layer and its maps of a picture, on scales that stay the same over the
    whole training, so that one sees them grow; and all numbers that were kept, as curves. *Play* shows it as a film.

    The first picture is the probe. Where the snapshots hold all weights on the way to a layer, others can be chosen and
    brought along: the network then runs again with the weights of each step. Where they hold all weights of a
    classifier, it is told what it takes the picture for.

    snapshots: a `training.Snapshots` that has been through `fit`. It is read only, and so is its model.
    pictures: as for `explore.layers`; None for the bundled ones if the probe's values go to 255 (or there is no probe),
        and else for the probe alone, since only you know how pictures are scaled for your network.
    ValueError: no snapshots, or none of a convolution or of maps; `pictures` that cannot be read, or that the network
        cannot be run on because weights were not kept.
    """

    def __init__(self, snapshots, *, pictures=None):
        self.snapshots, self.cache = snapshots, Cache()
        self.layers = _layers(snapshots)
        self.gallery = self._gallery(pictures)
        self.classes, self.last = classes_of(snapshots.model), trace(snapshots.model).calls[-1].name
        self.lines, count = _lines(snapshots.logs), len(snapshots.steps)
        self.curves = Curves(self.lines, snapshots.steps) if self.lines else None
        steps = [(f"step {step}", index) for index, step in enumerate(snapshots.steps)]
        self.moment = labelled(widgets.SelectionSlider, "Training", "480px", options=steps, index=count - 1)
        self.play = widgets.Play(value=count - 1, max=count - 1, interval=700, description="Play the training")
        self.link = traitlets.link((self.play, "value"), (self.moment, "index"))
        first = next((layer for layer in self.layers if _has_kernel(self.snapshots, layer)), self.layers[0])
        self.layer = labelled(widgets.Dropdown, "Layer", options=self.layers, value=first)
        self.own = widgets.Checkbox(description="Each channel on its own scale", indent=False)
        self.chooser = Chooser(self.gallery, self.gallery.names[0]) if self.gallery else None  # first the probe
        self.numbers = widgets.HTML()
        self.photo, self.filters, self.maps = Panel(width=SMALL), Panel(width=SHEET), Panel(width=SHEET)
        self.history = Panel("Each dot is a snapshot; the orange one is shown above.", width=WIDE)
        times = [row(self.moment, self.play)] if count > 1 else []
        choice = [self.chooser] if self.gallery and len(self.gallery.names) > 1 else []
        rows = [[self.photo, self.filters, self.maps], [self.history]]
        super().__init__("training", [*times, *choice, row(self.layer, self.own), self.numbers], rows)
        self.listen(self.moment, trait="index")
        self.listen(self.layer, self.own)
        if choice:
            self.listen_to_uploads(self.chooser)
        self.start()

    def _gallery(self, pictures):
        """The probe and, where the network can be run again, other pictures; None if there is none to look at."""
        probe, model = self.snapshots.probe, self.snapshots.model
        known = {} if probe is None else {PROBE: probe}
        can_run = any(not training.missing_weights(self.snapshots, layer) for layer in self.layers)
        # Whoever trains on other values than 0..255 has scaled the pictures in a way that is not known here.
        is_raw = probe is None or 1 < probe.max() <= 255 and probe.min() >= 0
        if can_run and (pictures is not None or is_raw and model.inputs[0].shape[-1] in (1, 3)):
            others = Gallery(model, pictures)
            known |= {name: others[name] for name in others.names}
        elif pictures is not None:
            raise ValueError("Other pictures need weights that were not kept: take training.Snapshots(layers=None).")
        return Gallery(model, known) if known else None

    def _filters(self):
        """The `Film` of the layer's filters; None if it has none."""
        layer = self.layer.value
        if not _has_kernel(self.snapshots, layer):
            return None
        kernels = training.filter_evolution(self.snapshots, layer)
        return self.cache.get(("filters", layer), lambda: film_of_filters(kernels, layer))

    def _maps(self):
        """The `Film` of the layer's maps of the picture; None if there is no picture."""
        if not self.gallery:
            return None
        name, layer = self.chooser.value, self.layer.value
        picture = None if name == PROBE and layer in self.snapshots.activations else self.gallery[name]
        words = f"Running the network with the weights of {len(self.snapshots.steps)} moments …"
        with self.busy(words, picture is not None and (name, layer) not in self.cache):
            evolution = partial(training.activation_evolution, self.snapshots, layer, picture)
            return self.cache.get((name, layer), lambda: film_of_maps(evolution(), layer))

    def refresh(self):
        filters, maps, layer = self._filters(), self._maps(), self.layer.value
        words = [
            self._tell_numbers(),
            self._tell_answer(),
            self._show(self.filters, filters) or f"{layer} has no filters of its own.",
            self._show(self.maps, maps) or "No maps: training.Snapshots(probe=picture) keeps those of a picture.",
        ]
        if self.gallery:
            self.photo.show(self.gallery.shown(self.chooser.value), self.chooser.value)
        if self.curves:
            self.history.show(self.curves.marked(self.moment.index))
        self.numbers.value = html.escape(" ".join(filter(None, words)))

    def _show(self, panel, film):
        """Show the frame of this moment, if there is one, and return what there is to say about it."""
        moment = self.moment.index
        if film is None or not film.has_frame[moment]:
            panel.hide()
            return film and "Some of its values are no numbers any more (NaN or infinite): the training broke down."
        panel.show(film.frame(moment, self.own.value), film.caption(self.own.value))
        return film.notes[moment]

    def _tell_numbers(self):
        """The step, and the numbers that were kept there."""
        steps, moment = self.snapshots.steps, self.moment.index
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.snapshots.logs[moment].items())
        place = f"snapshot {moment + 1} of {len(steps)}" if len(steps) > 1 else "the only snapshot"
        return f"Step {steps[moment]} of {steps[-1]}, {place}: {numbers or 'no numbers were kept here'}."

    def _tell_answer(self):
        """What the network takes the picture for at this step, if that is known."""
        if not (self.classes and self.gallery) or training.missing_weights(self.snapshots, self.last):
            return ""
        answers = partial(training.rerun, self.snapshots, self.last, self.gallery[self.chooser.value])
        outputs = self.cache.get(("answers", self.chooser.value), answers)[self.moment.index]
        if not np.isfinite(outputs).all():
            return ""
        return f"The network takes it for {self.classes.option(outputs, self.classes.top(outputs, 1)[0])[0]}."

    def summary(self):
        return f"{self.moment.label} of {self.snapshots.steps[-1]} · layer {self.layer.value}"


def _layers(snapshots):
    """Names of the layers of which there are filters or maps, in their order."""
    if not isinstance(snapshots, training.Snapshots):
        kind = type(snapshots).__name__
        raise ValueError(f"snapshots is {kind}: give a training.Snapshots that was among the callbacks of fit.")
    training.check_trained(snapshots)
    maps = [layer for layer, kept in snapshots.activations.items() if kept[0].ndim == 3]
    kernels = [layer for layer in snapshots.weights if _has_kernel(snapshots, layer)]
    if not maps + kernels:
        how = "Train with training.Snapshots(probe=picture), or name convolutions in layers=."
        raise ValueError(f"There is nothing to look at, only weights of {list(snapshots.weights)}. {how}")
    return list(dict.fromkeys(maps + kernels))


def _has_kernel(snapshots, layer):
    kept = snapshots.weights.get(layer)
    return bool(kept) and kept[0][0].ndim == 4


def _lines(logs):
    """Dict: name → its numbers at all snapshots, of all names with two or more numbers."""
    names = dict.fromkeys(name for log in logs for name in log)
    lines = {name: [log.get(name, math.nan) for log in logs] for name in names}
    return {name: numbers for name, numbers in lines.items() if np.isfinite(numbers).sum() > 1}
