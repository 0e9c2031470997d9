"""`explore.dreamer`: let a network dream, watch it, and stop it."""

import contextlib
import html
import math
import time
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np

from .. import models
from ..pictures import plots
from ..submodels.graph import trace
from ..synthesis import dream
from .background import Background
from .frame import MARK, Chooser, Explorer, Number, Panel, labelled, row, short
from .gallery import Activations, Cache, Gallery, as_pixels
from .layers import layer_menu

SIZE = 256  # side of the pictures for a network that takes any size
SCALE = 1.4  # from one octave to the next
SMALLEST = 72  # pixels, of the first octave
AT_ONCE = 2  # octaves that are dreamt before anybody presses a button: the small ones, which are quick
PAUSE = 0.4  # seconds between pictures on the way
WHOLE, ONE = "the whole layer", "one channel"


class Found(NamedTuple):
    """A dream, finished or stopped."""

    picture: np.ndarray  # (H, W, C) float32
    before: float  # the objective in the photograph
    after: float  # in the picture
    done: int  # steps
    total: int


class Settings(NamedTuple):
    """All that a dream depends on."""

    name: str  # of the photograph
    layer: str
    channel: int | None  # None: the whole layer
    octaves: int
    steps: int
    step: float

    @property
    def objective(self):
        return self.layer if self.channel is None else (self.layer, self.channel)

    def __str__(self):
        return self.layer if self.channel is None else f"channel {self.channel} of {self.layer}"


class Dreamer(Explorer):
    """DeepDream with controls: choose what the network is to see more of, watch it appear, and stop it when you like.

    The picture is that of `dream.deep_dream(model, picture, objective, octaves=…, steps=…, step=…)`, whose objective is
    the chosen layer or `(layer, channel)`. It is shown as it grows, then beside the photograph and wiped over it, with
    the objective before and after. A stopped dream is kept as it is. The first two octaves are dreamt at once, which
    takes some seconds, the others with the button, or with `explorer.work.begin.click(); explorer.work.wait()`.

    Args, raises: as `explore.layers`, but
        model: one of free size dreams on 256 × 256 pixels; None for VGG19.
        pictures: with values from 0 to 255.
        layer: what comes before the first weights is not offered.
    """

    def __init__(self, model=None, *, pictures=None, layer=None):
        if model is None:
            model, layer = models.load("vgg19", size="any"), layer or "block5_conv2"
        self.model, self.gallery, self.cache = model, Gallery(model, pictures, SIZE), Cache()
        self.maps = Activations(model, self.gallery, self.cache)
        calls = trace(model).calls  # what comes before the first weights only prepares the picture
        first = next((index for index, call in enumerate(calls) if getattr(call.operation, "weights", ())), 0)
        learned = {call.name for call in calls[first:]}
        shapes = {name: shape for name, shape in self.maps.shapes.items() if name in learned}
        fitting = 1 + int(math.log(max(min(self.gallery.shape[:2]) / SMALLEST, 1), SCALE))
        self.chooser = Chooser(self.gallery)
        self.layer = layer_menu(shapes, layer, self.gallery.shape[0], 16)
        self.what = widgets.ToggleButtons(options=[WHOLE, ONE], description="More of", style={"button_width": "auto"})
        self.channel = Number("Channel")
        self.octaves = labelled(widgets.IntSlider, "Octaves (sizes)", value=min(fitting, 4), min=1, max=8)
        self.steps = labelled(widgets.IntSlider, "Steps in each", value=10, min=1, max=40)
        self.step = labelled(widgets.FloatSlider, "Step size", value=1, min=0.25, max=5, step=0.25)
        self.work = Background("Dream", icon="magic")
        self.wipe = labelled(widgets.IntSlider, "Wipe", value=50)
        self.words = widgets.HTML()
        width = max(Panel().width, min(self.gallery.shape[1], SIZE))
        self.before, self.after, self.both = Panel(width=width), Panel(width=width), Panel(width=width)
        numbers, target = row(self.octaves, self.steps, self.step), row(self.layer, self.what, self.channel)
        controls = [self.chooser, target, numbers, self.work, self.wipe, self.words]
        super().__init__("dreamer", controls, [[self.before, self.after, self.both]])
        self.work.attach(self, self.work_steps)
        self.listen_to_uploads(self.chooser)
        self.listen(self.layer, self.what, prepare=self.choose_channel)
        self.listen(self.channel, self.octaves, self.steps, self.step, self.wipe)
        self.begin()
        self.start()

    @property
    def settings(self):
        """The `Settings` that the controls say."""
        channel = self.channel.value if self.what.value == ONE else None
        numbers = self.octaves.value, self.steps.value, self.step.value
        return Settings(self.chooser.value, self.layer.value, channel, *numbers)

    @property
    def found(self):
        """The `Found` for these settings; None if there is none."""
        return self.cache.peek(self.settings)

    def choose_channel(self, change):
        """Begin with the channel that is strongest in the photograph: one that is silent has no way up."""
        if self.what.value == ONE:
            with self.busy("Looking for the strongest channel …"):
                maps = self.maps[self.chooser.value, self.layer.value]
            self.channel.set(maps.shape[-1] - 1, int(plots.strongest(maps, 1)[0]))

    def begin(self):
        """Dream the first octaves, so that there is something to see at once, also where no kernel runs."""
        with contextlib.closing(self.work_steps()) as steps:
            for done, *_ in steps:
                if done == AT_ONCE * self.steps.value:
                    break

    def work_steps(self):
        """The work of the button: a step at a time, shown as it goes. What is there when it is stopped is kept."""
        settings, total = self.settings, self.octaves.value * self.steps.value
        if self.found and self.found.done == total:
            return
        photograph = self.gallery[settings.name]
        numbers = {"octaves": settings.octaves, "steps": settings.steps, "step": settings.step, "octave_scale": SCALE}
        frames = dream.frames(self.model, photograph, settings.objective, **numbers)
        self.both.hide()
        self.after.show(as_pixels(photograph), "The dream begins …")
        self.words.value = html.escape(f"Dreaming of more of {settings}.")
        yield 0, total, "compiling, which happens once for each layer …"
        before, shown, done = dream.measure(self.model, photograph, settings.objective), 0, 0
        try:
            for frame in frames:
                done = frame.octave * settings.steps + frame.step
                picture = dream.resized(frame.picture, photograph, photograph.shape[:2])
                place = f"octave {frame.octave + 1} of {settings.octaves}, step {frame.step} of {settings.steps}"
                if frame.step and time.monotonic() - shown > PAUSE:
                    self.after.show(as_pixels(picture), f"Dreaming: {place}, {frame.picture.shape[1]} pixels wide.")
                    shown = time.monotonic()
                yield done, total, place
        finally:
            if done:
                after = dream.measure(self.model, picture, settings.objective)
                self.cache.put(settings, Found(picture, before, after, done, total))

    def refresh(self):
        photograph, found = self.gallery.shown(self.chooser.value), self.found
        self.channel.layout.display = "" if self.what.value == ONE else "none"
        self.wipe.layout.display = "" if found else "none"
        self.before.show(photograph, f"Before: {self.chooser.value}.")
        words = f"Press Dream to see more of {self.settings}: {self.octaves.value * self.steps.value} steps."
        if found is None:
            self.after.hide()
            self.both.hide()
        else:
            picture = as_pixels(found.picture)
            steps = f" {found.done} of {found.total} steps" if found.done < found.total else ""
            self.after.show(picture, f"After{steps}: more of {self.settings}.")
            self.both.show(wiped(photograph, picture, self.wipe.value), "Left the photograph, right the dream.")
            words = self._tell(found)
        self.words.value = html.escape(words)

    def _tell(self, found):
        """The objective before and after, in words."""
        kind = "mean square of its outputs" if self.settings.channel is None else "mean output"
        before, after = short(found.before), short(found.after)
        times = f", {short(found.after / found.before)} times as much" if 0 < found.before < found.after else ""
        words = f"{self.settings}, {kind}: {before} in the photograph, {after} in the dream{times}."
        if found.after <= found.before:
            words += " It did not rise: take another channel or layer, or a smaller step."
        return words if found.done == found.total else f"{words} Press Dream for all {found.total} steps."

    def summary(self):
        settings = self.settings
        octaves = "1 octave" if settings.octaves == 1 else f"{settings.octaves} octaves"
        steps = f"{octaves} of {settings.steps} steps, step size {settings.step:g}"
        return f"{settings.name} · more of {settings} · {steps}"


def wiped(before, after, percent):
    """The left `percent` of the width of one picture and the rest of another `(H, W, 3)`, with a line between them."""
    middle = round(before.shape[1] * percent / 100)
    picture = np.concatenate([before[:, :middle], after[:, middle:]], axis=1)
    if 0 < middle < before.shape[1]:
        picture[:, middle - 1 : middle + 1] = MARK
    return picture
