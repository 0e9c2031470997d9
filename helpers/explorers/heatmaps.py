"""`explore.heatmaps`: what several methods say about the same picture and the same class."""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np

from .. import checks, models
from ..attribution import cam, gradients, perturbation, relevance
from ..pictures import colour, images
from ..submodels import engine
from .background import Background
from .classes import ClassExplorer, classes_of, percent
from .frame import Panel, labelled, row, short, text, told
from .gallery import Gallery

NONE, COMPUTE = "–", "Compute what is missing"
PERCENTILE = 99.5  # of the magnitudes is where colours end, so that one pixel does not make all others pale
BLANK = 235  # grey in place of a map that is not there


class Method(NamedTuple):
    """One of the methods that can be compared."""

    call: Callable  # (model, picture, target) to a map (H, W), or to one number for each pixel and colour (H, W, C)
    is_quick: bool  # a few passes: no reader needs to be asked before; the others have a bar, which is turned off
    is_magnitude: bool = False  # its authors show the largest magnitude of a pixel's colours
    from_mean: bool = False  # only differences tell something


METHODS = {
    "saliency": Method(gradients.saliency, True, is_magnitude=True),
    "gradient × input": Method(gradients.gradient_x_input, True),
    "guided backprop": Method(gradients.guided_backprop, True),
    "SmoothGrad": Method(gradients.smoothgrad, False, is_magnitude=True),
    "integrated gradients": Method(gradients.integrated_gradients, False, is_magnitude=True),
    "FullGrad": Method(gradients.fullgrad, True),
    "XRAI": Method(gradients.xrai, False),
    "Grad-CAM": Method(cam.grad_cam, True),
    "Grad-CAM++": Method(cam.grad_cam_plus_plus, True),
    "HiRes-CAM": Method(cam.hires_cam, True),
    "LayerCAM": Method(cam.layer_cam, True),
    "Eigen-CAM": Method(cam.eigen_cam, True),
    "Score-CAM": Method(cam.score_cam, False),
    "occlusion": Method(perturbation.occlusion, False),
    "RISE": Method(functools.partial(perturbation.rise, masks=500), False, from_mean=True),
    "LRP composite": Method(relevance.lrp, True),
    "DeepLIFT": Method(relevance.deep_lift, True),
}
# Those that are easy to read come first, those that look like noise last.
FIRST = ("Grad-CAM", "LRP composite", "FullGrad", "guided backprop", "gradient × input", "saliency")


class Result(NamedTuple):
    """What a method gave."""

    values: np.ndarray | None  # as the method gave it; None: it refused
    words: str  # what it took, or why it refused


class Heatmaps(ClassExplorer):
    """Ask several attribution methods the same question: which pixels made it this class, and what did that cost?

    Up to six maps side by side, signed or as magnitudes, on one scale or each on its own, alone or over the photograph.
    Above each is how often the network was run and how long that took. What takes a few passes is there at once, what
    takes many after *Compute what is missing*. A method that does not work for the network says why.

    model, pictures: as for `explore.layers`. Of a network that ends in one sigmoid both answers can be explained.
    methods: names from the menus, up to six, such as `["SmoothGrad", "occlusion"]`: these are all computed before the
        function returns. None: six that take a few passes.
    labels: names of the classes, in the order of the outputs; None for those of `models.decode`.
    ValueError: a network that takes other inputs, an unknown method, more than six, `pictures` that cannot be read, or
        another number of labels than of classes.
    """

    def __init__(self, model=None, *, pictures=None, methods=None, labels=None):
        chosen = [checks.choose(name, list(METHODS), "method") for name in (FIRST if methods is None else methods)]
        if len(chosen) > len(FIRST):
            raise ValueError(f"methods: {len(chosen)} are too many; up to {len(FIRST)} are compared.")
        model = models.load() if model is None else model
        gallery, self._has_run = Gallery(model, pictures), set()
        classes = classes_of(model, labels)  # if there are none, each method will say for itself what it makes of that
        values = [("signed: red for the class, blue against it", False), ("magnitude where the papers show it", True)]
        self.values = labelled(widgets.Dropdown, "Values", "400px", options=values)
        self.shared = widgets.Checkbox(description="One scale for all", indent=False)
        self.laid = widgets.Checkbox(description="Over the photograph", indent=False)
        self.computing = Background(COMPUTE)
        chosen += [NONE] * (len(FIRST) - len(chosen))
        self.photo, self.panels = Panel(), [Panel() for _ in chosen]
        options = {"width": f"{self.photo.width}px", "options": [NONE, *METHODS]}
        names = enumerate(chosen, 1)
        self.menus = [labelled(widgets.Dropdown, f"Map {place}", value=name, **options) for place, name in names]
        self.about = widgets.HTML()
        controls = [row(self.values, self.shared, self.laid), self.computing, self.about]
        pairs = zip(self.menus, self.panels, strict=True)
        maps = [widgets.VBox(pair, layout={"overflow": "visible"}) for pair in pairs]
        super().__init__("heatmaps", model, gallery, classes, controls, [[self.photo, *maps[:3]], maps[3:]])
        self.listen(self.values, self.shared, self.laid, *self.menus)
        self.computing.attach(self, self.compute_missing)
        if methods is not None:
            for name in self._missing():
                self._compute(name)
        self.start()

    def chosen(self):
        """The names of the chosen methods."""
        return [menu.value for menu in self.menus if menu.value != NONE]

    def result(self, name):
        """The `Result` of a method for this picture and class, or None."""
        return self.cache.peek((name, self.chooser.value, self.target.value))

    def _missing(self):
        return [name for name in dict.fromkeys(self.chosen()) if self.result(name) is None]

    def _compute(self, name, tell=None):
        passes = 0

        def count(rows):
            nonlocal passes
            passes += rows
            if tell:
                tell(f"{name}: {passes} passes")

        target = self.classes and self.classes.target(self.target.value)
        method, picture = METHODS[name], self.gallery[self.chooser.value]
        options = {} if method.is_quick else {"progress": False}
        began, again = time.perf_counter(), name in self._has_run
        try:
            with engine.watched(count):
                values = method.call(self.model, picture, target, **options)
            cost = "1 pass" if passes == 1 else f"{passes} passes"
            note = "" if again else " the first time"  # which may include compiling
            words = f"{cost}, {time.perf_counter() - began:.2g} s{note}"
        except Exception as error:  # whatever it is: the other maps have something to say
            values, words = None, told(error)
        self.cache.put((name, self.chooser.value, self.target.value), Result(values, words))
        self._has_run.add(name)

    def compute_missing(self):
        """One method after the other, the quick ones first, as all of these are there already when it begins."""
        missing = self._missing()
        for done, name in enumerate(missing):
            yield done, len(missing), name
            self._compute(name, self.computing.report)
            self._show()

    def refresh(self):
        for name in self._missing():
            if METHODS[name].is_quick:
                with self.busy(f"{name} …"):
                    self._compute(name)
        self._show()

    def _show(self):
        """Bring the panels up to date with what has been computed."""
        self.photo.show(self.gallery.shown(self.chooser.value), self.chooser.value)
        drawable = {}
        for name in self.chosen():
            found = self.result(name)
            if found and found.values is not None:
                drawable[name] = reduced(found.values, METHODS[name], self.values.value)
        ends = {name: colour.end_of_scale(values, PERCENTILE) for name, values in drawable.items()}
        if self.shared.value and ends:
            ends = dict.fromkeys(ends, max(ends.values()))
        for menu, panel in zip(self.menus, self.panels, strict=True):
            if menu.value == NONE:
                panel.hide()
            elif menu.value in drawable:
                self._show_map(panel, menu.value, drawable[menu.value], ends[menu.value])
            else:
                found = self.result(menu.value)
                why = f"not possible here. {found.words}" if found else f"takes many passes. Press “{COMPUTE}”."
                panel.show(np.full((*self.gallery.shape[:2], 3), BLANK, np.uint8), f"{menu.value}: {why}")
        self.about.value = self._about()

    def _show_map(self, panel, name, values, end):
        signed = bool(values.min() < 0)
        cmap, limits = colour.scale(np.float32([-end if signed else 0, end]), signed)
        if self.laid.value:
            pixels = images.overlay(self.gallery.shown(self.chooser.value), values, 0.8, cmap, limits, fade=True)
        else:
            pixels = images.colorize(values, cmap, limits)
        less = " (less its mean)" if METHODS[name].from_mean else ""
        colours = f"Colours from {short(limits[0])} to {short(limits[1])}." if values.any() else "Zero everywhere."
        panel.show(pixels, f"{name}{less}: {self.result(name).words}. {colours}")

    def _about(self):
        """What is explained, in words."""
        if self.classes is None:
            return text("This network has no classes: only a method that needs none has something to show.")
        index, shares = self.target.value, self.classes.probabilities(self.outputs())
        score = self.classes.scores(self.outputs())[index]
        words = f"Explained: class {index}, {self.classes.names[index]}. Score {score:.2f}"
        return text(f"{words}." if shares is None else f"{words}, probability {percent(shares[index])}.")

    def summary(self):
        target = self.classes.names[self.target.value] if self.classes else "no classes"
        return f"{self.chooser.value} · {target} · {'one scale' if self.shared.value else 'each map on its own scale'}"


def reduced(values, method, as_magnitude=False):
    """One number for each pixel, `(H, W)`: the sum over its colours, or the largest, where the authors show that."""
    if as_magnitude and method.is_magnitude:
        return np.abs(values).max(-1)
    values = values.sum(-1) if values.ndim == 3 else values
    return values - values.mean() if method.from_mean else values
