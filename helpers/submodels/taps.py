"""The builders: from a network, another network that shows what the first one computes on the way."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .graph import ids, replay, trace, twin
from .kinds import BY_NAME, activation, channels_first, is_function, is_idle, recognised
from .memory import cached, remembered


def layer_names(model, kind=None):
    """The names by which all other functions take a layer: a list of str, in the order of computation.

    Args:
        model: a `keras.Model` that is a graph of layers.
        kind: None for all (inputs excepted); `"conv"`, `"dense"`, `"norm"`, `"relu"` (a layer that is, or ends in, a
            ReLU), `"pool"`, `"spatial"` (output `(B, H, W, C)`); or a layer class, or the name of one, as `"Conv2D"`.

    Raises:
        ValueError: a model that is no graph of layers, or a kind that no layer of it has.
    """
    graph = trace(model)
    calls = [call for call in graph.calls if isinstance(call.operation, keras.layers.Layer)]
    names = [call.name for call in calls if kind is None or _is_kind(call, kind)]
    if not names:
        classes = sorted({type(call.operation).__name__ for call in calls})
        raise ValueError(
            f"Model {model.name!r} has no layer of kind {kind!r}. Kinds are 'conv', 'dense', 'norm', 'relu', 'pool', "
            f"'spatial', and the layer classes, here: {', '.join(classes)}."
        )
    return names


def _is_kind(call, kind):
    if isinstance(kind, type):
        return isinstance(call.operation, kind)
    classes = [base.__name__ for base in type(call.operation).__mro__]
    if kind == "spatial":
        return is_spatial(call.outputs)
    if kind == "relu":
        return activation(call) is not None and activation(call).is_rectifier
    if kind == "pool":
        return any("Pooling" in name for name in classes)
    return any(name in classes for name in BY_NAME.get(kind, (kind,)))


def is_spatial(tensor):
    """Whether this is one symbolic tensor `(B, H, W, C)`."""
    return keras.backend.is_keras_tensor(tensor) and len(tensor.shape) == 4


def spatial(model, layer):
    """The name of a layer whose output is one map for each channel, `(B, h, w, c)`.

    Raises:
        ValueError: no such layer, or one without spatial axes, or with its channels before them.
    """
    graph = trace(model)
    name = graph.named(layer)
    tensor = graph.tensor(name)
    if not is_spatial(tensor):
        raise ValueError(
            f"Layer {name!r} of {model.name!r} puts out {getattr(tensor, 'shape', 'several tensors')}, which has no "
            "spatial axes: (B, height, width, channels) is needed. submodels.layer_names(model, kind='spatial') lists "
            "the layers that have."
        )
    if id(tensor) in channels_first(graph):
        raise ValueError(
            f"Layer {name!r} of {model.name!r} has its channels first, (B, channels, height, width). Rebuild the "
            "network with data_format='channels_last': the kernels stay as they are."
        )
    return name


def flatten(model):
    """The same network with the networks inside it, at any depth, laid out flat: a functional `keras.Model`.

    Layers and weights are those of `model`. Where two inner networks each have a layer of one name, the second appears
    behind a wrapper with a longer name, because Keras wants names to differ; `layer_names` is the same for both.
    `ValueError` for a network that is no graph of layers, with what to do about it.
    """
    return remembered(model, ("flatten",), lambda: trace(model).model())


def activations(model, layers):
    """One network that gives the outputs of many layers in one pass.

    Args:
        model: a `keras.Model` that is a graph of layers.
        layers: a name, or several, as `layer_names` lists them; or layers themselves, or their places in that list.

    Returns:
        A `keras.Model` from the input of `model` to a dict: each name as it was asked for → what the layer puts out.
        What is only there for training, such as augmentation, is off.

    Raises:
        ValueError: no name, or one that is not in the model.
    """
    graph = trace(model)
    several = isinstance(layers, (list, tuple, set, dict)) or type(layers).__name__ == "dict_keys"
    names = tuple(map(graph.named, layers if several else [layers]))
    if not names:
        raise ValueError("No layer is asked for: give at least one of submodels.layer_names(model).")
    return remembered(model, ("activations", names), lambda: graph.model({name: graph.tensor(name) for name in names}))


def cut(model, layer):
    """What comes before and after any layer: `(body, head)` with `head(body(x)) == model(x)`.

    Unlike with `split` the layer need not be a bottleneck: the body puts out a list, the layer's own output and then
    whatever else paths around the layer carry past it.
    """
    graph = trace(model)
    own, end = graph.tensor(layer), graph.index(layer) + 1
    made = keras.tree.flatten([graph.inputs, [call.outputs for call in graph.calls[:end]]])
    read = set(ids([graph.outputs, [call.inputs for call in graph.calls[end:]]]))
    border = [own, *(x for x in made if id(x) in read and x is not own)]

    def build():
        return graph.model(border), _closed(replay(graph, start=border))

    return cached(model, ("cut", graph.named(layer)), build)


def _closed(graph):
    """The model of a graph; after the last layer nothing is left to do, and Keras wants something in a model."""
    if set(ids(graph.inputs)).isdisjoint(ids(graph.outputs)):
        return graph.model()
    return keras.Model(graph.inputs, keras.tree.map_structure(lambda x: keras.layers.Identity()(x), graph.outputs))


def split(model, layer):
    """Cut a network in two at a layer.

    Args:
        model: a `keras.Model` that is a graph of layers.
        layer: name of a layer that is a bottleneck: everything after it is computed from its output alone.

    Returns:
        `(body, head)`, with `head(body(x)) == model(x)`. They share their weights with the model.

    Raises:
        ValueError: an unknown layer, or one that another path goes around (a skip connection, say); then the message
            names the nearest layer where the network can be cut.
    """
    graph = trace(model)
    index, tensor = graph.index(layer), graph.tensor(layer)
    possible = bottlenecks(graph)
    if index not in possible:
        nearest = min(possible, key=lambda other: (abs(other - index), -other), default=None)
        instead = "nowhere" if nearest is None else f"at {graph.calls[nearest].name!r}, which is the nearest"
        raise ValueError(
            f"Model {model.name!r} cannot be cut at {layer!r}: what comes after it also reads something from before "
            f"it (a skip connection, or a branch). It can be cut {instead}."
        )
    return graph.model(tensor), _closed(replay(graph, start=tensor))


def bottlenecks(graph):
    """Positions of the calls with one output, on which everything after them depends alone."""
    last = dict.fromkeys(ids(graph.outputs), len(graph.calls))  # id of what is needed → position of its last reader
    for index, call in reversed(list(enumerate(graph.calls))):
        if not last.keys().isdisjoint(ids(call.outputs)):
            last = dict.fromkeys(ids(call.inputs), index) | last
    positions, carried = [], max(last.get(x, -1) for x in ids(graph.inputs))
    for index, call in enumerate(graph.calls):
        own = max(last.get(x, -1) for x in ids(call.outputs))
        if own > index >= carried and keras.backend.is_keras_tensor(call.outputs):
            positions.append(index)
        carried = max(carried, own)  # the last reader of anything made so far
    return positions


_ENDINGS = ("softmax", "sigmoid")


class Ending(NamedTuple):
    """How one output of a network comes out of its scores."""

    tensor: Any  # the output
    calls: list  # what ends in, or is, the function, and then only reshapes; all of it in order
    function: str  # "softmax", "sigmoid", or "linear" where nothing is to be taken away


def endings(model):
    """The `Ending` of each output, in the order of `keras.tree.flatten(model.outputs)`.

    A softmax or sigmoid counts by whatever name it goes, as `activation=` or as an operation, also with layers behind
    it that only reshape or do nothing.
    """
    graph, found = trace(model), []
    for output in keras.tree.flatten(graph.outputs):
        tensor, calls = output, []
        while (call := graph.maker(tensor)) and _passes_on(call):
            calls.insert(0, call)
            tensor = call.inputs[0]
        last = call and activation(call)
        name = last.name if last and last.name in _ENDINGS else call and _ending_of_own(call)
        found.append(Ending(output, [call, *calls], name) if name else Ending(output, [], "linear"))
    return found


def _passes_on(call):
    reshapes = type(call.operation).__name__ in ("Reshape", "Flatten", "Squeeze", "ExpandDims", "Cast")
    single = len(call.inputs) == 1 and keras.backend.is_keras_tensor(call.outputs)
    return single and (reshapes or is_function(call) and is_idle(call))


def _ending_of_own(call):
    """The name of the softmax or sigmoid in which a layer of the reader's own ends by its `activation`; or None."""
    layer = call.operation
    own = recognised(layer.activation) if callable(vars(layer).get("activation")) else None
    if own is None or own.name not in _ENDINGS:
        return None
    random = np.random.default_rng(0)
    inputs = [random.normal(size=[n or 4 for n in (2, *x.shape[1:])]).astype("float32") for x in call.inputs]
    with tf.init_scope():
        whole, scores = call.apply(inputs), call.apply(inputs, twin(layer, activation=tf.identity))
        if np.allclose(whole, layer.activation(scores), 1e-4, 1e-5) and not np.allclose(whole, scores):
            return own.name
    raise ValueError(
        f"Layer {call.name!r} ({type(layer).__name__}) has {own.name} as its activation, but that is not the last "
        "thing that it does: its scores cannot be told. Move it into a layer of its own, keras.layers.Activation."
    )


def logits(model):
    """The network without the softmax or sigmoid at its end.

    Args:
        model: a `keras.Model` that is a graph of layers.

    Returns:
        A `keras.Model` whose outputs are logits: the scores before a final `softmax` or `sigmoid`, whether that is a
        layer of its own or the `activation=` of the last one, and by whatever name (`tf.nn.softmax`). Each of several
        outputs is treated so; what reads an output inside the network still gets what it got. Where there is
        nothing to remove, the outputs are those of `model`.

    Raises:
        ValueError: a layer of the reader's own whose softmax cannot be taken away, with its name.
    """
    return remembered(model, ("logits",), lambda: _logits(model))


def _logits(model):
    graph = trace(model)
    is_first = {id(call): call is ending.calls[0] for ending in endings(model) for call in ending.calls}
    calls, scores, linear = [], {}, {}  # id of an output → what it is without the function; a layer → its twin
    for call in graph.calls:
        calls.append(call)
        if id(call) not in is_first:
            continue
        operation, args, kwargs = call.operation, call.args, call.kwargs
        if not is_first[id(call)]:
            args, kwargs = call.bound([scores[id(call.inputs[0])]])
        elif is_function(call) and activation(call).name in _ENDINGS:
            scores[id(call.outputs)] = call.inputs[0]
            continue
        else:
            operation = linear.setdefault(operation, twin(operation, activation=keras.activations.linear))
        scores[id(call.outputs)] = tensor = operation(*args, **kwargs)
        calls.append(call._replace(operation=operation, args=args, kwargs=kwargs, outputs=tensor, notes={}))
    graph = graph._replace(calls=calls)
    part = graph.up_to(keras.tree.map_structure(lambda x: scores.get(id(x), x), graph.outputs))
    tensors = {name: scores[id(x)] for name, x in graph.tensors.items() if id(x) in scores} | part.tensors
    named = {}
    for call in part.calls:  # where another reader needs the function, both are there
        name = f"{call.name}_logits" if call.name in named else call.name
        named[name] = call._replace(name=name)
        tensors.setdefault(name, call.outputs)
    return replay(part._replace(calls=list(named.values()), tensors=tensors)).model()
