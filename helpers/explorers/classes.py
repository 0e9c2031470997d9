"""The classes of a network for the explorers: their names, scores and probabilities, and the controls to choose one."""

import ipywidgets as widgets
import keras
import numpy as np

from .. import checks, models
from ..submodels import engine, kinds, taps
from ..submodels.graph import trace
from .frame import Chooser, Explorer, labelled, row, short
from .gallery import Cache

TOP = 5


class Classes:
    """What a network's outputs for a picture say; `labels` as for `models.decode`.

    A network that ends in one sigmoid has two classes, and puts out the probability of the second. One number that is
    no probability is shown as it is. A `ValueError` says that there is not one number for each class, or not one label.
    """

    def __init__(self, model, labels=None):
        tensors = keras.tree.flatten(trace(model).outputs)
        shapes = [tuple(x.shape) for x in tensors]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            what = f"Model {model.name!r} puts out {', '.join(map(str, shapes))}"
            raise ValueError(f"{what}, not one number for each class. explore.layers shows what its layers do.")
        self.outputs, self._left = shapes[0][-1], _left_to_apply(model, tensors[0])
        self._is_yes_or_no = self.outputs == 1 and self._left == "linear"
        self._is_number = self.outputs == 1 and not self._is_yes_or_no
        if self._is_number and labels is None:
            labels = ["output 0"]
        self.names = models.class_names(2 if self._is_yes_or_no else self.outputs, labels)

    def scores(self, outputs):
        """Of each class, `(…, classes)`, for outputs `(…, outputs)`."""
        return np.concatenate([1 - outputs, outputs], -1) if self._is_yes_or_no else outputs

    def probabilities(self, outputs):
        """Of each class, `(classes,)`, for the outputs for one picture; None where nothing says that they are some."""
        if self._is_number:
            return None
        try:
            return models.probabilities(outputs[None], self._left)[0]
        except ValueError:  # a layer of the reader's own at the end, and values that could be this or that
            return None

    def target(self, index):
        """What explains a class: the `target=` of an attribution method."""
        if self._is_yes_or_no:
            return 0 if index == 1 else _no
        return index

    def top(self, outputs, count=TOP):
        """The classes of the highest scores, best first, as ints."""
        return [int(index) for index in np.argsort(-self.scores(outputs), kind="stable")[:count]]

    def option(self, outputs, index):
        """A class as an option of a `Dropdown`: `(text, index)`."""
        shares = self.probabilities(outputs)
        value = short(self.scores(outputs)[index]) if shares is None else percent(shares[index])
        return f"{self.names[index]}: {value}", index

    def find(self, words):
        """The class that a reader has typed, by its name or its number; `ValueError` if there is none."""
        known = {checks.plain(name): index for index, name in reversed(list(enumerate(self.names)))}
        if checks.plain(words) in known:
            return known[checks.plain(words)]
        if words.isdecimal() and int(words) < len(self.names):
            return int(words)
        how = f"Or give the number of a class, 0 to {len(self.names) - 1}."
        return checks.choose(words, self.names, "class", how)  # raises


def classes_of(model, labels=None):
    """The `Classes` of a network, or None if it has none and no `labels` say that it has."""
    try:
        return Classes(model, labels)
    except ValueError:
        if labels is not None:
            raise


def _left_to_apply(model, output):
    """What is still to be applied for probabilities, as `models.probabilities` takes it; None: nobody can know."""
    try:
        if taps.endings(model)[0].function != "linear":
            return "linear"
    except ValueError:  # a layer of the reader's own, of which the last step cannot be told
        return None
    return "softmax" if kinds.activation(trace(model).maker(output)) else None


def _no(outputs):
    """The probability of the first of two classes, of which the network puts out that of the second."""
    return 1 - keras.tree.flatten(outputs)[0][:, 0]


def percent(share):
    """`0.834` → `83.4 %`; what is less than half of the last digit says so."""
    return f"{share:.1%}".replace("%", " %") if share == 0 or share >= 0.0005 else "< 0.1 %"


class ClassExplorer(Explorer):
    """What explorers of one class share: a picture, its likely `classes` in a menu, if it has any, and all others."""

    def __init__(self, name, model, gallery, classes, controls, rows, first=None):
        self.model, self.gallery, self.classes, self.cache = model, gallery, classes, Cache()
        self.chooser = Chooser(gallery, first)
        off = {"disabled": classes is None}
        self.target = labelled(widgets.Dropdown, "Class", **off)
        off |= {"options": classes.names if classes else [], "placeholder": "its name or number"}
        self.search = labelled(widgets.Combobox, "Another class", continuous_update=False, **off)
        super().__init__(name, [self.chooser, row(self.target, self.search), *controls], rows)
        self.listen_to_uploads(self.chooser, self.change_picture)
        self.listen(self.target)
        self.listen(self.search, prepare=self.find_class)
        self.change_picture()

    def outputs(self):
        """What the network puts out for the picture, `(outputs,)`."""
        return self.cache.get(("outputs", self.chooser.value), lambda: self.run(self.gallery[self.chooser.value]))

    def run(self, picture):
        """What the network puts out for one picture `(H, W, C)`."""
        return keras.tree.flatten(engine.run(self.model, picture[None]))[0][0]

    def change_picture(self, change=None):
        """Offer the classes that are the most probable for the new picture, and choose the first."""
        if self.classes:
            self._offer(self.classes.top(self.outputs()))

    def find_class(self, change):
        """Offer the class that was typed as well, and choose it."""
        if words := change["new"].strip():
            index = self.classes.find(words)
            likely = self.classes.top(self.outputs())
            self._offer(likely if index in likely else [*likely, index], index)
            self.search.value = ""

    def _offer(self, indices, chosen=None):
        self.target.options = [self.classes.option(self.outputs(), index) for index in indices]
        self.target.value = indices[0] if chosen is None else chosen
