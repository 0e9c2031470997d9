"""Networks by name: raw RGB pixels 0..255 in, logits out, their preprocessing inside the graph.

Bundled and offline: `efficientnet_lite0`, `vgg19` (convolutional base), `mnist_cnn`. Every classifier of
`keras.applications` loads by its lower-case name too, with Keras's own download.
"""

import numpy as np
import scipy.special

from .. import checks, data
from . import applications, bundled

BUNDLED = {build.__name__: build for build in (bundled.efficientnet_lite0, bundled.vgg19, bundled.mnist_cnn)}


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
    spellings = {known.replace("_", ""): known for known in available()}
    name = spellings.get(str(name).lower().replace("_", ""), name)
    checks.choose(name, available(), "network", f"Bundled: {', '.join(BUNDLED)}. All: models.available().")
    shape = None
    if size is not None:
        shape = (None, None) if str(size) == "any" else checks.pair(size, "size", 28 if name == "mnist_cnn" else 32)
    if name not in BUNDLED:
        return _application(name, size, shape, weights)
    if weights not in ("imagenet", None):
        raise ValueError(f'weights={weights!r}: {name} is bundled; choose "imagenet" (trained) or None (random).')
    if name == "mnist_cnn" and shape not in (None, (28, 28)):
        raise ValueError(f"size={size!r}: mnist_cnn ends in a dense layer over positions; it takes 28 × 28 only.")
    model = BUNDLED[name](*shape or ())
    return _trained(model, name) if weights else model


def decode(outputs, top=5, labels=None, activation=None):
    """The most probable classes: per image a list of `(class_index, label, probability)`, best first.

    outputs: (N, classes), or (classes,) of one image, which gives its list alone; as for `probabilities`. One number
        for each image stands for two classes: 0, and 1, whose probability it is or gives.
    top: how many; None for all.
    labels: names of the classes. None: names for 1000 classes (ImageNet), "0" … "9" for 10 (digits), else "class 17".
    activation: what is still to be applied, as for `probabilities`.
    ValueError: features, NaN, another number of labels than of classes, or numbers that could mean this or that.
    """
    outputs = np.asarray(outputs, "float64")
    if outputs.ndim == 1:
        return decode(outputs[None], top, labels, activation)[0]
    if outputs.ndim != 2:
        raise ValueError(f"decode takes outputs (N, classes) or (classes,), not an array of shape {outputs.shape}.")
    shares = probabilities(outputs, activation)
    labels = class_names(shares.shape[1], labels)
    best = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    return [
        [(int(index), labels[index], float(row[index])) for index in order]
        for row, order in zip(shares, best, strict=True)
    ]


def probabilities(outputs, activation=None):
    """What a classifier puts out as probabilities (N, classes); one number for each image, (N, 1), gives two classes.

    outputs: (N, classes), logits or probabilities.
    activation: what is still to be applied: `"softmax"` to logits of classes that exclude each other, `"sigmoid"` to
        those of classes that do not (or to one), `"linear"` to probabilities: nothing. None: the numbers tell. Rows
        between 0 and 1 that add up to 1, and a single column between 0 and 1, are probabilities; what lies outside are
        logits, of the softmax, or of a single column the sigmoid. The numbers do not tell logits of classes that do
        not exclude each other, nor a single column of logits that happen to lie between 0 and 1.
    ValueError: NaN; numbers between 0 and 1 that do not add up to 1, without an `activation`; one that does not fit.
    """
    outputs = np.asarray(outputs, "float64")
    if np.isnan(outputs).any():
        raise ValueError("The outputs hold NaN: there is no probability in them.")
    inside = bool(((outputs > -1e-6) & (outputs < 1 + 1e-6)).all())
    add_up, single = bool((abs(outputs.sum(1) - 1) < 0.01).all()), outputs.shape[1] == 1
    if activation is None:
        if inside and not (add_up or single):
            raise ValueError(
                "These outputs lie between 0 and 1 and do not add up to 1: they could be logits, or probabilities of "
                'classes that do not exclude each other. Say it: activation="softmax", or activation="linear".'
            )
        activation = "linear" if inside else "sigmoid" if single else "softmax"
    checks.choose(activation, ["softmax", "sigmoid", "linear"], "activation")
    if activation == "linear" and not inside or activation == "softmax" and single:
        what = "are no probabilities: they leave 0 … 1" if activation == "linear" else "are one number for each image"
        raise ValueError(f"activation={activation!r}: these outputs {what}.")
    if activation == "softmax":
        return scipy.special.softmax(outputs, axis=1)
    shares = scipy.special.expit(outputs) if activation == "sigmoid" else outputs
    return np.hstack([1 - shares, shares]) if single else shares


def class_names(count, labels=None):
    """Names of so many classes, as `decode` has them. ValueError: another number of labels."""
    if labels is not None:
        labels = [labels] if isinstance(labels, str) else [str(label) for label in labels]
        if len(labels) != count:
            raise ValueError(f"labels: {len(labels)} names for {count} classes.")
        return labels
    if count == 1000:
        return data.path("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [str(index) if count == 10 else f"class {index}" for index in range(count)]


def _application(name, size, shape, weights):
    try:
        return applications.build(applications.constructors()[name], shape, weights)
    except ConnectionError as error:
        how = f"Bundled are {', '.join(BUNDLED)}; models.load({name!r}, weights=None) has random weights."
        raise ConnectionError(f"The weights of {name} could not be downloaded ({error}). {how}") from error
    except ValueError as error:
        raise ValueError(f"{name} with size={size!r}, weights={weights!r}: {error} size=None is native.") from error


def _trained(model, name):
    """A bundled network with its trained weights; an 8-bit kernel is a table of codes into a codebook of floats."""
    with np.load(data.path(f"{name}.npz"), allow_pickle=False) as stored:
        for layer in (layer for layer in model.layers if layer.weights):
            kind = "codebook" if f"{layer.name}/codebook" in stored else "kernel"
            kernel, bias = stored[f"{layer.name}/{kind}"], stored[f"{layer.name}/bias"]
            layer.set_weights([kernel[stored[f"{layer.name}/codes"]] if kind == "codebook" else kernel, bias])
    return model
