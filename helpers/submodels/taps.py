"""The builders: from a network, another network that shows what the first one computes on the way.

Every builder takes any graph of layers (functional, sequential, nested, shared layers, several outputs), returns a
`keras.Model` that shares the weights of the given one, and leaves that one exactly as it was.

A layer is named as `layer_names` lists it: by its bare name where that is unique, else `outer/inner/name`; the second
call of a shared layer is `name#2`. A network inside the network goes by its own name.
"""

import keras

from .graph import replay, trace, with_activation

_KINDS = {
    "conv": ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")
    + ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    "dense": ("Dense", "EinsumDense"),
    "norm": ("BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization"),
}


def layer_names(model, kind=None):
    """The names by which all other functions take a layer, in the order of computation.

    Args:
        model: a `keras.Model` that is a graph of layers.
        kind: None for all (inputs excepted); `"conv"`, `"dense"`, `"norm"`, `"relu"` (a layer that is, or ends in, a
            ReLU), `"pool"`, `"spatial"` (output `(B, H, W, C)`); or a layer class, or the name of one, as `"Conv2D"`.

    Returns:
        List of str.

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
        return _relu_of(call.operation) is not None
    if kind == "pool":
        return any("Pooling" in name for name in classes)
    return any(name in classes for name in _KINDS.get(kind, (kind,)))


def is_spatial(tensor):
    """Whether this is one symbolic tensor `(B, H, W, C)`."""
    return keras.backend.is_keras_tensor(tensor) and len(tensor.shape) == 4


def flatten(model):
    """The same network with the networks inside it laid out flat.

    Args:
        model: a `keras.Model` that is a graph of layers, nested to any depth.

    Returns:
        A functional `keras.Model` with the same inputs and outputs and no network inside; layers and weights are those
        of `model`. Where two inner networks each have a layer of one name, the second appears behind a wrapper with
        a longer name, because Keras wants names to differ; `layer_names` is the same for both.

    Raises:
        ValueError: a network that is no graph of layers, with what to do about it.
    """
    return trace(model).model()


def activations(model, layers):
    """One network that gives the outputs of many layers in one pass.

    Args:
        model: a `keras.Model` that is a graph of layers.
        layers: a name, or several, as `layer_names` lists them.

    Returns:
        A `keras.Model` from the input of `model` to a dict: each name as it was asked for → what the layer puts out.

    Raises:
        ValueError: no name, or one that is not in the model.
    """
    layers = [layers] if isinstance(layers, str) else list(layers)
    if not layers:
        raise ValueError("No layer is asked for: give at least one of submodels.layer_names(model).")
    graph = trace(model)
    return graph.model({name: graph.tensor(name) for name in layers})


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
    head = replay(graph, start=layer)
    if head.outputs is head.inputs:  # cut after the last layer: Keras wants something in a model
        return graph.model(tensor), keras.Model(head.inputs, keras.layers.Identity()(head.inputs))
    return graph.model(tensor), head.model()


def bottlenecks(graph):
    """Positions of the calls with one output, on which everything after them depends alone."""
    made = {id(x): -1 for x in keras.tree.flatten(graph.inputs)}
    for index, call in enumerate(graph.calls):
        made.update((id(x), index) for x in keras.tree.flatten(call.outputs))
    end = len(graph.calls)
    last_use = {id(x): end for x in keras.tree.flatten(graph.outputs)}
    for index in reversed(range(end)):
        call = graph.calls[index]
        if any(id(x) in last_use for x in keras.tree.flatten(call.outputs)):  # else nothing needs this call
            for x in call.inputs:
                last_use.setdefault(id(x), index)
    positions, open_until = [], -1  # open_until: the last reader of anything made before this call
    latest = {}
    for tensor, index in made.items():
        latest[index] = max(latest.get(index, -1), last_use.get(tensor, -1))
    open_until = latest.get(-1, -1)
    for index, call in enumerate(graph.calls):
        needed = latest[index] > index
        if needed and open_until <= index and keras.backend.is_keras_tensor(call.outputs):
            positions.append(index)
        open_until = max(open_until, latest[index])
    return positions


def logits(model):
    """The network without the softmax or sigmoid at its end.

    Args:
        model: a `keras.Model` that is a graph of layers.

    Returns:
        A `keras.Model` whose outputs are logits: the scores before a final `softmax` or `sigmoid`, whether that is a
        layer of its own or the `activation=` of the last one. Each of several outputs is treated so; where there is
        nothing to remove, the outputs are those of `model`.
    """
    graph = trace(model)
    final = {id(x) for x in keras.tree.flatten(graph.outputs)}
    twins = {}

    def replace(call):
        if keras.backend.is_keras_tensor(call.outputs) and id(call.outputs) in final:
            if activation_name(call.operation) in ("softmax", "sigmoid"):
                if _is_activation(call.operation):
                    return None
                return twins.setdefault(id(call.operation), with_activation(call.operation, "linear"))
        return call.operation

    return replay(graph, replace).model()


def _is_activation(operation):
    """Whether an operation does nothing but apply a function to each value (or each row)."""
    return isinstance(operation, (keras.layers.Activation, keras.layers.ReLU, keras.layers.Softmax)) or (
        type(operation).__module__.endswith("ops.nn")
    )


def activation_name(operation):
    """The name of the function that an operation ends in, in lower case: `relu`, `softmax`, `silu`, …, or None."""
    function = getattr(operation, "activation", None)
    if function is not None:
        return getattr(function, "__name__", type(function).__name__).lower()
    return type(operation).__name__.lower() if not getattr(operation, "weights", None) else None


def _relu_of(operation):
    """The rectifier that an operation is or ends in, as a function of a tensor, or None."""
    if activation_name(operation) in ("relu", "relu6"):
        return operation.activation if hasattr(operation, "activation") else operation
    return None
