"""The classifiers of `keras.applications`, flat, from raw RGB 0..255 to logits: each with its own preprocessing."""

import contextlib
import inspect
import re
import socket
import sys

import keras
import numpy as np

# Where Keras itself takes another size than 224 × 224.
NATIVE_SIZES = {"Xception": 299, "InceptionV3": 299, "InceptionResNetV2": 299, "NASNetLarge": 331}
NATIVE_SIZES |= {f"EfficientNetB{n}": size for n, size in enumerate((240, 260, 300, 380, 456, 528, 600), start=1)}
NATIVE_SIZES |= {"EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300}
NATIVE_SIZES |= {"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480}
SECONDS_OF_SILENCE = 5  # after which a download counts as failed; Keras would wait for minutes


@keras.saving.register_keras_serializable("see_convnets")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR, the order of networks that were trained in Caffe."""

    def call(self, images):
        return images[..., ::-1]


def constructors():
    """Dict of lower-case name → constructor: `{"convnext_tiny": keras.applications.ConvNeXtTiny, …}`."""
    functions = inspect.getmembers(keras.applications, inspect.isfunction)
    return {_lower_case(function): function for _, function in functions}


def _lower_case(constructor):
    """`MobileNetV3Small` of the module `mobilenet_v3` → `mobilenet_v3_small`."""
    family, name = constructor.__module__.rpartition(".")[2], constructor.__name__.lower()
    rest = name.removeprefix(family.replace("_", ""))
    return name if rest == name else family + re.sub(r"^(?=[a-z])", "_", rest)


def build(constructor, shape, weights):
    """A flat functional model, its input (height, width, 3); `shape=None` for the native one."""
    height, width = shape or (NATIVE_SIZES.get(constructor.__name__, 224),) * 2
    image = keras.Input((height, width, 3), name="image")
    options = {"input_tensor": preprocess(constructor, image), "classes": 1000, "classifier_activation": None}
    with _impatient_download():
        network = constructor(weights=weights, **options)
    return keras.Model(image, network.output, name=network.name)  # Keras made a list of one input of it


def preprocess(constructor, image):
    """Apply the `preprocess_input` of the constructor's family as layers; nothing where the network does it itself.

    Each maps a pixel by a scale and an offset for each channel, reversed or not: four pixels show which, and no list.
    """
    preprocess_input = sys.modules[constructor.__module__].preprocess_input
    black, *primaries = preprocess_input(np.vstack([np.zeros(3), np.eye(3) * 255])[:, None])[:, 0]
    matrix = (np.array(primaries) - black) / 255  # [channel of the image, channel after preprocessing]
    order, scale = matrix.argmax(axis=0), matrix.max(axis=0)
    if list(order) == [2, 1, 0]:
        image = ReverseChannels(name="preprocess_to_bgr")(image)
    if not (np.allclose(scale, 1) and np.allclose(black, 0)):
        image = keras.layers.Rescaling(scale.tolist(), black.tolist(), name="preprocess")(image)
    return image


@contextlib.contextmanager
def _impatient_download():
    """Fail after seconds without an answer, and as a ConnectionError (Keras raises a bare Exception)."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_OF_SILENCE)
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or "URL fetch failure" in str(error):
            raise ConnectionError(str(error)) from error
        raise
    finally:
        socket.setdefaulttimeout(patience)
