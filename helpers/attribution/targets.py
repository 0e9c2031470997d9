"""Which score is explained: what a reader may give as `target=`, checked, and as a function of the outputs."""

import keras
import numpy as np
import tensorflow as tf

from ..submodels import taps
from ..submodels.graph import trace
from ..submodels.memory import cached

OWN = -1  # stands for: whatever class is the most probable in this very pass
AGAINST = -(2**31)  # stands for: the negative of the only output, where one sigmoid answered no
ONE_EACH = "return one score for each picture, (B,), whatever their number"


def only(outputs):
    """The one output of a network, which may come in a dict or a list."""
    return keras.tree.flatten(outputs)[0]


def classes(outputs, targets):
    """The targets `(B,)`, with the most probable class in place of `OWN`."""
    return tf.where(targets == OWN, tf.argmax(only(outputs), -1, targets.dtype), targets)


def logit(outputs, targets):
    """The score `(B,)` of each picture's target."""
    index = classes(outputs, targets)
    values = tf.gather(only(outputs), tf.maximum(index, 0), batch_dims=1)
    return tf.cast(tf.where(index == AGAINST, -values, values), "float32")


def score_of(function):
    """The score `(outputs, targets) → (B,)` that a reader's function is, checked in every pass."""

    def score(outputs, targets):
        values = tf.cast(function(outputs), "float32")
        tf.debugging.assert_equal(tf.shape(values), tf.shape(only(outputs))[:1], f"The target function: {ONE_EACH}.")
        return values

    return score


def check_function(model, function):
    """Refuse a target function whose scores are not one for each picture, as far as shapes tell: of 2, and of 97."""
    last = cached(model, "target function", dict)
    if last.get("function") is function:
        return
    outputs = trace(model).outputs
    for count in (2, 97):
        specs = keras.tree.map_structure(lambda x, n=count: tf.TensorSpec((n, *x.shape[1:]), x.dtype), outputs)
        trial = tf.function(lambda given: tf.convert_to_tensor(function(given)), autograph=False)
        try:
            shape = trial.get_concrete_function(specs).output_shapes
        except Exception as error:  # whatever a reader's function raises
            raise ValueError(
                f"The target function fails on the outputs of {count} pictures: {error}. Write it in TensorFlow "
                f"operations, and {ONE_EACH}."
            ) from error
        if not shape.is_compatible_with((count,)):
            raise ValueError(f"The target function returns shape {shape} for {count} pictures: {ONE_EACH}.")
    last["function"] = function


def check(model, target, count):
    """One class for each picture, `(B,)` int32."""
    how = "Give a function of the outputs instead, for instance target=lambda outputs: …"
    shapes = [tuple(x.shape) for x in model.outputs]
    if len(shapes) > 1:
        raise ValueError(f"Model {model.name!r} has {len(shapes)} outputs, {shapes}: which one is meant? {how}")
    if len(shapes[0]) != 2:
        raise ValueError(
            f"Model {model.name!r} puts out {shapes[0]}, not one number for each class, so there is no class to "
            f"explain. {how}, such as target=lambda maps: tf.reduce_mean(maps[..., 3], axis=(1, 2))."
        )
    if target is None:
        return np.full(count, OWN, "int32")
    given = np.asarray(target)
    if given.dtype.kind not in "iu" or given.ndim > 1 or given.ndim == 1 and len(given) != count:
        raise ValueError(
            f"target={target!r}: give None, an int, one int for each of the {count} pictures, or a function "
            "of the outputs."
        )
    number = shapes[0][-1]
    if not np.all((given >= 0) & (given < number) | (given == AGAINST) & one_sigmoid(model)):
        raise ValueError(f"target={target!r}: model {model.name!r} has {number} outputs, 0 to {number - 1}.")
    return np.broadcast_to(given, count).astype("int32")


def one_sigmoid(model):
    """Whether the network puts out one probability for each picture, that of yes."""
    single = len(model.outputs) == 1 and tuple(model.outputs[0].shape[1:]) == (1,)
    return single and taps.endings(model)[0].function == "sigmoid"
