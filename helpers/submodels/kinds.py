"""What a layer is: said once, for all rooms.

A layer is recognised by what it computes. A layer of Keras counts as itself only by its exact class, because a subclass
may compute something else; a function is tried out on a few numbers, because it goes by many names
(`activation="relu"`, `tf.nn.relu`, `ReLU()`, `ops.maximum(x, 0)`).
"""

import inspect
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

_L = keras.layers
CONVOLUTIONS = (_L.Conv2D, _L.DepthwiseConv2D, _L.SeparableConv2D)
# Layers that apply their `activation` to a linear function of what they get, as their very last step.
KERNELS = {*CONVOLUTIONS, _L.Dense, _L.EinsumDense, _L.Conv1D, _L.Conv3D, _L.DepthwiseConv1D, _L.SeparableConv1D}
KERNELS |= {_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose}

# Layers that do nothing when a network is run rather than trained.
_IDLE = "Identity Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise"
_IDLE += " ActivityRegularization AugMix CutMix MixUp RandAugment Equalization Solarization"
IDLE = {getattr(_L, name) for name in _IDLE.split() if hasattr(_L, name)}
IDLE |= {kind for name, kind in vars(_L).items() if name.startswith("Random") and inspect.isclass(kind)}
IDLE -= {_L.RandomCrop}  # cuts out the middle

BY_NAME = {
    "conv": [kind.__name__ for kind in KERNELS if "Conv" in kind.__name__],
    "dense": ["Dense", "EinsumDense"],
    "norm": ["BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization"],
}


class Function(NamedTuple):
    """What an operation is, or ends in."""

    name: str  # "relu", "softmax", "linear", … for what computes that, whatever it is called; else its own, lower case
    function: Callable  # of a tensor
    slope: float | None  # of a rectifier: times this goes through what is below zero; None for any other function
    is_affine: bool  # a · x + b, with one a and one b for all values
    keeps_sign: bool  # f(x) has the sign of x, or is 0
    is_elementwise: bool  # each value by itself, unlike softmax

    @property
    def is_rectifier(self):
        return self.slope is not None


_NUMBERS = np.array([-1e4, -7, -3, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 2, 3, 5.9, 6.1, 7, 1e4], "float32")
_ROWS = np.stack([_NUMBERS, np.clip(_NUMBERS, -3, 3)])  # the first decides what clips, the second what softmax it is
_NAMES = "softmax log_softmax sigmoid tanh elu selu celu silu gelu softplus softsign mish exponential hard_sigmoid"
KNOWN = {"linear": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6, "hard_silu": keras.activations.hard_silu}
KNOWN |= {name: getattr(keras.activations, name) for name in _NAMES.split()}


@np.errstate(all="ignore")  # 1 / x is a function too
def recognised(function, own=None, rank=2):
    """The `Function` that a callable of a tensor is, tried out on a few numbers; None if it takes none of them.

    Args:
        function: of a tensor.
        own: what a reader knows it by, where that is something else: a layer, a function.
        rank: of the tensors that it is for; the last axis holds channels, those between it and the first one places.
    """
    places = [1] * (rank - 2)
    grid = [2 ** len(range(axis, 4, len(places))) for axis in range(len(places))]  # 16 places, some along each axis

    def at(numbers, *shape):
        return np.asarray(tf.cast(function(tf.reshape(numbers, shape)), "float32")).reshape(numbers.shape)

    try:
        with tf.init_scope(), warnings.catch_warnings():  # these are numbers, also while a graph is built
            warnings.simplefilter("ignore")  # Keras's, of a softmax over one value
            rows, alone, spread = at(_ROWS, 2, *places, 16), at(_NUMBERS, 16, *places, 1), at(_NUMBERS, -1, *grid, 1)
            known = {name: np.asarray(one(_ROWS)) for name, one in KNOWN.items()}
    except Exception:  # whatever a reader's own function raises for what it was not made for
        return None
    if not np.allclose(alone, spread, 1e-5, 1e-6):
        return None  # it depends on what is beside a value, as pooling does
    values, own = rows[0], own or function
    slope = own.negative_slope if type(own) is _L.ReLU else _slope(values)
    kind = next((kind for kind, wanted in known.items() if np.allclose(rows, wanted, 1e-5, 1e-6)), None)
    kind = kind or ("leaky_relu" if slope else getattr(own, "__name__", type(own).__name__).lower())
    if kind in ("softmax", "sigmoid") and not np.allclose(rows, known[kind], 1e-5, 1e-6):
        kind = f"a {kind} of its own"  # of a temperature, say
    is_elementwise = np.allclose(values, alone, 1e-5, 1e-6)
    step = (values[-1] - values[0]) / (_NUMBERS[-1] - _NUMBERS[0])
    on_a_line = np.allclose(values, values[6] + step * _NUMBERS, 1e-5, 1e-5 * abs(step))
    keeps_sign = bool((values * _NUMBERS >= 0).all()) and bool(abs(values[6]) < 1e-6)
    return Function(kind, function, slope, bool(step != 0) and is_elementwise and on_a_line, keeps_sign, is_elementwise)


def _slope(values):
    """What a function with these values at `_NUMBERS` lets through below zero, if it is a rectifier, else None."""
    slope, ceiling = abs(float(values[0] / _NUMBERS[0])), values[-1]
    if not slope < 1 or not ceiling > 0:
        return None
    rectified = np.where(_NUMBERS > 0, np.minimum(_NUMBERS, ceiling), slope * _NUMBERS)
    return slope if np.allclose(values, rectified, 1e-5, 1e-6) else None


def activation(call):
    """The `Function` that a call is or ends in; None where it is no function of each place, or nobody can tell."""
    if "activation" not in call.notes:
        call.notes["activation"] = _activation(call)
    return call.notes["activation"]


def _activation(call):
    operation = call.operation
    if type(operation) in KERNELS:
        return recognised(operation.activation)
    if not is_function(call):
        return None
    own = getattr(operation, "activation", getattr(operation, "function", operation))
    return recognised(lambda x: call.apply([x]), own, len(call.outputs.shape))


def is_function(call):
    """Whether a call makes one tensor out of another one of the same shape, without weights."""
    single = keras.backend.is_keras_tensor(call.outputs) and len(call.inputs) == 1
    return single and call.inputs[0].shape == call.outputs.shape and not getattr(call.operation, "weights", None)


def is_idle(call):
    """Whether a call puts out what it gets, at inference."""
    if type(call.operation) in IDLE:
        return not call.kwargs.get("training")
    return is_function(call) and activation(call) is not None and activation(call).name == "linear"


def hidden_rectifiers(call, operation=None):
    """Whether there are ReLUs inside of an operation (or of another one in its place) that the list of calls hides."""
    operation = operation or call.operation
    parts = [operation, getattr(operation, "activation", operation)]
    own = any(not getattr(part, "__module__", "").startswith(("keras.", "tensorflow.")) for part in parts)
    if not own and type(operation) is not _L.Lambda and not getattr(operation, "_layers", None):
        return False  # a single layer of Keras, or a function of Keras or TensorFlow, has none but in plain sight
    specs = [tf.TensorSpec([n or 8 for n in (1, *x.shape[1:])], x.dtype) for x in call.inputs]
    compiled = tf.function(lambda *values: call.apply(values, operation)).get_concrete_function(*specs)
    graph = compiled.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    constants = [node for node in nodes if node.op == "Const"]
    zeros = {node.name for node in constants if not np.any(tf.make_ndarray(node.attr["value"].tensor))}
    maxima = [{x.split(":")[0] for x in node.input} for node in nodes if node.op == "Maximum"]
    return any(node.op in ("Relu", "Relu6", "LeakyRelu") for node in nodes) or any(zeros & names for names in maxima)


def normalisation(layer):
    """What a BatchNormalization does at inference, as y = a · x + b, in float64: `(a, b)`, each `(channels,)`."""
    mean, variance = (np.asarray(v, "float64") for v in (layer.moving_mean, layer.moving_variance))
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.asarray(layer.gamma, "float64")
    shift = -scale * mean
    if layer.center:
        shift = shift + np.asarray(layer.beta, "float64")
    return scale, shift


def channels_first(graph):
    """The ids of the tensors of a graph whose channels come before their places, as far as its layers say so."""
    found, handed_on = set(), []
    for call in graph.calls:
        tensors, kind = [*call.inputs, *keras.tree.flatten(call.outputs)], type(call.operation).__name__
        said = getattr(call.operation, "data_format", None) == "channels_first"
        if said and not isinstance(call.operation, _L.BatchNormalization):
            found.update(id(x) for x in tensors if len(x.shape) > 3)
        moves = kind in ("Permute", "Transpose", "Reshape", "Moveaxis", "Swapaxes")
        if not moves and len({x.shape for x in tensors}) == 1:
            handed_on.append(set(map(id, tensors)))
    before = -1
    while found and len(found) > before:  # what works on each value hands it on, both ways
        before = len(found)
        found.update(*(tensors for tensors in handed_on if found & tensors))
    return found
