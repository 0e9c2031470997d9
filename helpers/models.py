"""Networks by name: raw RGB pixels 0..255 in, logits out, their preprocessing inside the graph.

Bundled and offline: `efficientnet_lite0`, `vgg19` (convolutional base), `mnist_cnn`. Every classifier of
`keras.applications` loads by its lower-case name too, with Keras's own download.
"""

import difflib

import keras
import numpy as np

from . import _bundled, _data

BUNDLED = {
    "efficientnet_lite0": _bundled.efficientnet_lite0,
    "vgg19": _bundled.vgg19,
    "mnist_cnn": _bundled.mnist_cnn,
}


def available():
    """Names that `load` takes, the bundled ones first."""
    return list(BUNDLED)


def load(name="efficientnet_lite0", size=None, weights="imagenet"):
    """Network by name, from raw RGB 0..255 (N, height, width, 3) float32 to logits (N, classes).

    name: one of `available()`. `vgg19` ends in features, `block5_pool`; `mnist_cnn` takes one grey channel.
    size: None for the native shape, `(height, width)` or one int for another, `"any"` to leave both free.
    weights: `"imagenet"` for the trained ones (of `mnist_cnn`: trained on the bundled digits), None for random ones.
    """
    if name not in BUNDLED:
        raise ValueError(f"There is no network {name!r}.")
    shape = {} if size is None else dict(zip(("height", "width"), _free_or_pair(size), strict=True))
    model = BUNDLED[name](**shape)
    if weights is not None:
        _assign(model, name)
    return model


def _free_or_pair(size):
    if size == "any":
        return None, None
    return (size, size) if isinstance(size, int) else size


def _assign(model, name):
    """Give a bundled network its trained weights; an 8-bit kernel is a table of codes into a codebook of floats."""
    with np.load(_data.path(f"{name}.npz"), allow_pickle=False) as stored:
        for layer in model.layers:
            if layer.weights:
                if f"{layer.name}/codes" in stored:
                    kernel = stored[f"{layer.name}/codebook"][stored[f"{layer.name}/codes"]]
                else:
                    kernel = stored[f"{layer.name}/kernel"]
                layer.set_weights([kernel, stored[f"{layer.name}/bias"]])


def decode(logits, top=5):
    """Per image a list of `(class_index, label, probability)`, best first."""
    logits = np.asarray(logits, "float64")
    if logits.ndim == 1:
        return decode(logits[None], top)[0]
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    labels = _labels(logits.shape[-1])
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]
    return [[(int(i), labels[i], float(row[i])) for i in order] for row, order in zip(probabilities, best, strict=True)]


def _labels(classes):
    if classes == 1000:
        return _data.path("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [str(index) if classes == 10 else f"class {index}" for index in range(classes)]
