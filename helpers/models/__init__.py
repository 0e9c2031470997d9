"""Networks by name: raw RGB pixels 0..255 in, logits out, their preprocessing inside the graph.

Bundled and offline: `efficientnet_lite0`, `vgg19` (convolutional base), `mnist_cnn`. Every classifier of
`keras.applications` loads by its lower-case name too, with Keras's own download.
"""

import difflib

import keras
import numpy as np

from .. import data
from . import applications, bundled

BUNDLED = {
    "efficientnet_lite0": bundled.efficientnet_lite0,
    "vgg19": bundled.vgg19,
    "mnist_cnn": bundled.mnist_cnn,
}


def available():
    """Names that `load` takes: the bundled networks, then those of `keras.applications`."""
    return list(BUNDLED) + sorted(applications.constructors().keys() - BUNDLED.keys())


def load(name="efficientnet_lite0", size=None, weights="imagenet"):
    """Network by name: from raw RGB 0..255, (N, height, width, 3) float32, to logits (N, 1000).

    name: one of `available()`; underscores and capitals do not matter. `vgg19` is the convolutional base, from images
        to features (N, height / 32, width / 32, 512); `mnist_cnn` goes from (N, 28, 28, 1), ink is 255, to (N, 10).
    size: None for the native shape, one int or `(height, width)` for another, `"any"` to leave both free.
    weights: `"imagenet"` for the trained ones (`mnist_cnn`: trained on the bundled digits), None for random ones;
        for networks of `keras.applications` also the path of a weights file.

    ValueError: unknown name, impossible size or weights. ConnectionError: the weights could not be downloaded.
    """
    name = _known(name)
    shape = _shape(size, smallest=28 if name == "mnist_cnn" else 32)
    if name not in BUNDLED:
        return _load_application(name, size, shape, weights)
    if weights not in ("imagenet", None):
        raise ValueError(f'weights={weights!r}: {name} is bundled; choose "imagenet" (trained) or None (random).')
    if name == "mnist_cnn" and shape not in (None, (28, 28)):
        raise ValueError(f"size={size!r}: mnist_cnn ends in a dense layer over positions; it takes 28 × 28 only.")
    model = BUNDLED[name](*shape or ())
    if weights == "imagenet":
        _assign(model, name)
    return model


def efficientnet_lite0(size=None, batchnorm=True, seed=0):
    """EfficientNet-Lite0 with random weights and with its BatchNorm layers, which `load` has folded away.

    Their statistics are random too. For measuring what folding changes: the answers mean nothing.
    """
    random = np.random.default_rng(seed)
    model = bundled.efficientnet_lite0(*_shape(size) or (), batchnorm=batchnorm)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (random.uniform(-0.5, 0.5, layer.gamma.shape) for _ in range(4))
            layer.set_weights([1 + gamma, beta, mean, 1 + variance])
        elif layer.weights:
            kernel, *bias = layer.get_weights()
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            inputs = np.prod(kernel.shape[: 2 if depthwise else -1])  # of one output: keeps the signal's scale
            layer.set_weights([random.normal(0, np.sqrt(2 / inputs), kernel.shape), *bias])
    return model


def decode(logits, top=5):
    """The most probable classes: per image a list of `(class_index, label, probability)`, best first.

    logits: (N, classes), or (classes,) of one image, which gives its list alone. Probabilities are their softmax.
    Labels: names for 1000 classes (ImageNet), "0" … "9" for 10 (digits), "class 17" otherwise.
    """
    logits = np.asarray(logits, "float64")
    if logits.ndim == 1:
        return decode(logits[None], top)[0]
    if logits.ndim != 2:
        raise ValueError(f"decode takes logits (N, classes) or (classes,), not an array of shape {logits.shape}.")
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = _labels(logits.shape[1])
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(int(index), labels[index], float(row[index])) for index in order]
        for row, order in zip(probabilities, best, strict=True)
    ]


def _known(name):
    spellings = {candidate.replace("_", ""): candidate for candidate in available()}
    spelling = str(name).lower().replace("_", "")
    if spelling not in spellings:
        nearest = [spellings[close] for close in difflib.get_close_matches(spelling, spellings)]
        raise ValueError(
            f"There is no network {name!r}. Nearest: {', '.join(nearest) or 'none'}. "
            f"Bundled: {', '.join(BUNDLED)}. All: models.available()."
        )
    return spellings[spelling]


def _shape(size, smallest=32):
    """None, or (height, width) with None for a free axis."""
    if size is None:
        return None
    if isinstance(size, str) and size == "any":
        return None, None
    pair = (size, size) if np.ndim(size) == 0 else tuple(size)
    if len(pair) != 2 or not all(isinstance(length, int | np.integer) and length >= smallest for length in pair):
        raise ValueError(f'size={size!r}: give None, one int, (height, width) or "any"; at least {smallest} pixels.')
    return int(pair[0]), int(pair[1])


def _load_application(name, size, shape, weights):
    try:
        return applications.build(applications.constructors()[name], shape, weights)
    except ConnectionError as error:
        raise ConnectionError(
            f"The weights of {name} could not be downloaded ({error}). Bundled, without network: {', '.join(BUNDLED)}. "
            f"For random weights: models.load({name!r}, weights=None)."
        ) from error
    except ValueError as error:
        raise ValueError(f"{name} with size={size!r}, weights={weights!r}: {error} size=None is native.") from error


def _assign(model, name):
    """Give a bundled network its trained weights; an 8-bit kernel is a table of codes into a codebook of floats."""
    with np.load(data.path(f"{name}.npz"), allow_pickle=False) as stored:
        for layer in model.layers:
            if layer.weights:
                if f"{layer.name}/codes" in stored:
                    kernel = stored[f"{layer.name}/codebook"][stored[f"{layer.name}/codes"]]
                else:
                    kernel = stored[f"{layer.name}/kernel"]
                layer.set_weights([kernel, stored[f"{layer.name}/bias"]])


def _labels(classes):
    if classes == 1000:
        return data.path("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [str(index) if classes == 10 else f"class {index}" for index in range(classes)]
