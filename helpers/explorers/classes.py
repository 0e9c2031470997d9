"""The classes of a network for the explorers: their names, their probabilities, and a menu of the likely ones."""

import keras
import numpy as np
import scipy.special

from .. import models
from ..submodels import taps
from ..submodels.graph import trace

TOP = 5


class Classes:
    """What a network's outputs `(classes,)` for a picture say.

    Raises:
        ValueError: a model that does not put out one number for each class.
    """

    def __init__(self, model):
        shapes = [tuple(x.shape) for x in keras.tree.flatten(model.outputs)]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise ValueError(
                f"Model {model.name!r} puts out {', '.join(map(str, shapes))}, not one number for each class, so there "
                "is no class whose probability could change. explore.layers shows what its layers do."
            )
        last = trace(model).calls[-1].operation
        self._are_probabilities = taps.activation_name(last) in ("softmax", "sigmoid")
        self.names = [label for _, label, _ in sorted(models.decode(np.zeros(shapes[0][-1]), top=None))]

    def probabilities(self, outputs):
        """Of each class, `(classes,)`."""
        return outputs if self._are_probabilities else scipy.special.softmax(outputs)

    def top(self, outputs, count=TOP):
        """The most probable classes, best first, as ints."""
        return [int(index) for index in np.argsort(-outputs, kind="stable")[:count]]

    def menu(self, outputs):
        """The most probable classes as options of a `Dropdown`: `(text, index)`."""
        shares = self.probabilities(outputs)
        return [(f"{self.names[index]}: {percent(shares[index])}", index) for index in self.top(outputs)]


def percent(share):
    """`0.834` → `83.4 %`; what is less than half of the last digit says so."""
    return f"{share:.1%}".replace("%", " %") if share == 0 or share >= 0.0005 else "< 0.1 %"
