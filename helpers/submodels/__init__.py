"""The thin core: from a network another network, and run it over a batch.

Every builder takes any graph of layers (functional, sequential, nested, shared layers, several outputs), returns a
`keras.Model` that shares the weights of the given one, and leaves that one exactly as it was.

A layer is named as `layer_names` lists it: by its bare name where that is unique, else `outer/inner/name`; the second
call of a shared layer is `name#2`. A network inside the network goes by its own name.
"""

from . import engine
from .folding import fold_batchnorm
from .relu import deconvnet, relu_rule
from .taps import activations, flatten, layer_names, logits, split

__all__ = [
    "activations",
    "deconvnet",
    "engine",
    "flatten",
    "fold_batchnorm",
    "layer_names",
    "logits",
    "relu_rule",
    "split",
]
