"""Open a Keras network into one flat list of calls, and replay that list with some operations exchanged.

This is the engine room of `submodels`. A network may hold networks; Keras has no public way to see through them,
so the calls are recorded while the network's own graph is run once on new symbolic inputs.
"""

import functools
import inspect
from typing import Any, NamedTuple

import keras

from .. import checks
from . import engine


class Call(NamedTuple):
    """One operation applied once. A layer that is called twice makes two calls."""

    name: str  # unique in the graph: "conv", "inner/conv" where "conv" is ambiguous, "conv#2" for a second call
    path: str  # the names of the networks around it and its own, joined by "/"
    operation: Any  # a layer, or a bare Keras operation
    args: tuple
    kwargs: dict
    outputs: Any  # symbolic tensor, or a structure of them

    @property
    def inputs(self):
        """The symbolic tensors that the operation reads, as a flat list."""
        return [x for x in keras.tree.flatten((self.args, self.kwargs)) if keras.backend.is_keras_tensor(x)]


class Graph(NamedTuple):
    """A network as a flat list of calls, in an order in which they can be run."""

    inputs: Any
    outputs: Any
    calls: list
    tensors: dict  # every name by which a reader may ask for an output → that output
    name: str

    def model(self, outputs=None):
        """A `keras.Model` from the network's inputs to `outputs`, by default the network's own."""
        model = keras.Model(self.inputs, self.outputs if outputs is None else outputs, name=self.name)
        if outputs is None:
            engine.cached(model, ("graph", _layer_ids(model)), lambda: self)
        return model

    def tensor(self, name):
        """The output of the layer with this name. Raises a `ValueError` with the nearest names."""
        how = f"submodels.layer_names(model) lists all {len(self.calls)} of {self.name!r}."
        return self.tensors[checks.choose(name, self.tensors, "layer", how)]

    def index(self, name):
        """The position in `calls` of the call that computes the tensor of this name."""
        wanted = id(keras.tree.flatten(self.tensor(name))[0])
        for index, call in enumerate(self.calls):
            if wanted in map(id, keras.tree.flatten(call.outputs)):
                return index
        raise ValueError(f"{name!r} is the input of {self.name!r}: nothing computes it. Name a layer.")


class _Renamed(keras.layers.Layer):
    """A layer of a nested network under a name of its own.

    Two nested networks may each hold a "conv1"; laid out flat, Keras wants the names to differ, and renaming
    the reader's layer would change the reader's model.
    """

    def __init__(self, operation, name):
        super().__init__(name=name)
        self.operation = operation

    def call(self, *args, **kwargs):
        return self.operation(*args, **kwargs)


class _Recorder:
    """Calls operations on symbolic tensors and writes down each call."""

    def __init__(self):
        self.calls, self.nested, self.owner, self.renamed = [], {}, {}, {}

    def record(self, path, operation, args, kwargs):
        stand_in = operation
        if self.owner.setdefault(operation.name, operation) is not operation:
            if id(operation) not in self.renamed:
                name = path.replace("/", ".")
                while name in self.owner:
                    name += "_"
                self.owner[name] = operation
                self.renamed[id(operation)] = _Renamed(operation, name)
            stand_in = self.renamed[id(operation)]
        outputs = stand_in(*args, **kwargs)
        self.calls.append(Call("", path, operation, args, kwargs, outputs))
        return outputs

    def run(self, model, prefix, inputs, training=None):
        """Run an open network on symbolic inputs, going into the networks inside it."""

        def step(operation):
            def call(*args, **kwargs):
                path = prefix + operation.name
                if training is not None and _takes_training(operation):
                    kwargs = {**kwargs, "training": training}
                if not is_open(operation):
                    return self.record(path, operation, args, kwargs)
                self.nested[path] = self.run(operation, path + "/", args[0], kwargs.get("training", training))
                return self.nested[path]

            return call

        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = step(layer)(inputs)
            return inputs
        # Private, and the only such call of the project: no public function walks the graph with one's own callback.
        outputs = model._run_through_graph(inputs, operation_fn=step)
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs

    def named_calls(self):
        """The calls with the names that readers use."""
        owners, times, named = {}, {}, []
        for call in self.calls:
            owners.setdefault(call.operation.name, set()).add(id(call.operation))
        for call in self.calls:
            times[id(call.operation)] = nth = times.get(id(call.operation), 0) + 1
            name = call.operation.name if len(owners[call.operation.name]) == 1 else call.path
            named.append(call._replace(name=name if nth == 1 else f"{name}#{nth}"))
        return named


def _takes_training(operation):
    return isinstance(operation, keras.layers.Layer) and "training" in inspect.signature(operation.call).parameters


def is_open(model):
    """Whether the network is a graph of layers that can be recorded (and not Python code of its own)."""
    if isinstance(model, keras.Sequential):
        return bool(model.layers) and model.built and type(model).call is keras.Sequential.call
    functional = _functional_class()
    return isinstance(model, functional) and type(model).call is functional.call


@functools.cache
def _functional_class():
    """The class that `keras.Model(inputs, outputs)` makes, which has no public name."""
    picture = keras.Input((1,))
    return type(keras.Model(picture, keras.layers.Identity()(picture)))


def _layer_ids(model):
    return tuple(map(id, model.layers))  # a Sequential can grow; then its old graph is no longer its graph


def new_input(tensor):
    """A fresh `keras.Input` like this symbolic tensor, with a free batch axis."""
    return keras.Input(shape=tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)


def trace(model):
    """The network as a flat `Graph`, recorded once for each model.

    Args:
        model: functional or sequential `keras.Model`, networks inside it included.

    Raises:
        ValueError: a network without a graph, with what to do about it.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"A keras.Model is needed, and this is a {type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not (model.layers and model.built):
        raise ValueError(
            f"Sequential model {model.name!r} does not know its input shape yet. Put keras.Input(shape=(height, "
            "width, channels)) before its first layer, or call it once on a batch."
        )
    if not is_open(model):
        raise ValueError(
            f"Model {model.name!r} is of class {type(model).__name__}, whose call() is Python code: there is no graph "
            "of layers to open. Rebuild it as a functional model, often simply with: "
            "inputs = keras.Input(shape=(height, width, channels)); keras.Model(inputs, model.call(inputs))."
        )
    return engine.cached(model, ("graph", _layer_ids(model)), lambda: _trace(model))


def _trace(model):
    recorder = _Recorder()
    sequential = isinstance(model, keras.Sequential)
    old = model.inputs[0] if sequential else model.input
    inputs = keras.tree.map_structure(new_input, old)
    outputs = recorder.run(model, "", inputs)
    calls = recorder.named_calls()
    tensors = {call.name: call.outputs for call in calls}
    # Further names that mean one thing only: the full path, a network inside, the input.
    for call in calls:
        tensors.setdefault(call.path, call.outputs)
    for path, nested in recorder.nested.items():
        tensors.setdefault(path, nested)
        tensors.setdefault(path.split("/")[-1], nested)
    for tensor in keras.tree.flatten(inputs):
        tensors.setdefault(tensor.name, tensor)
    if isinstance(inputs, list) and len(inputs) == 1:  # keras.Model(other.inputs, …): the same as other.input
        inputs = inputs[0]
    return Graph(inputs, outputs, calls, tensors, model.name)


def replay(graph, replace=lambda call: call.operation, start=None):
    """Call the operations of a graph again, some of them exchanged; names stay valid.

    Args:
        graph: from `trace`.
        replace: function of a `Call` to the operation to use in its place, or to None, which passes the first
            argument on (the call vanishes, and its name then means what it was given).
        start: name of a layer whose output is to be the new graph's input, or a list of symbolic tensors of the graph,
            or None for the graph's own inputs. Calls that need something else are left out.

    Returns:
        A new `Graph`. The old one is as it was.
    """
    recorder, table = _Recorder(), {}
    old_inputs = graph.inputs if start is None else graph.tensor(start) if isinstance(start, str) else start
    inputs = keras.tree.map_structure(new_input, old_inputs)

    def pair(old, new):  # a replacement may put out more than what it stands for
        table.update(zip(map(id, keras.tree.flatten(old)), keras.tree.flatten(new), strict=False))

    def known(structure):
        return all(id(x) in table for x in keras.tree.flatten(structure))

    def renewed(structure):
        return keras.tree.map_structure(lambda x: table.get(id(x), x), structure)

    pair(old_inputs, inputs)
    for call in graph.calls:
        if known(call.outputs) or not known(call.inputs):
            continue
        args, kwargs = renewed(call.args), renewed(call.kwargs)
        operation = replace(call)
        if operation is None:
            outputs = args[0]
        else:
            outputs = recorder.record(call.path, operation, args, kwargs)
            recorder.calls[-1] = recorder.calls[-1]._replace(name=call.name)
        pair(call.outputs, outputs)
    tensors = {name: renewed(value) for name, value in graph.tensors.items() if known(value)}
    return Graph(inputs, renewed(graph.outputs), recorder.calls, tensors, graph.name)


def with_activation(layer, activation):
    """A twin of a layer that shares its weights and has another activation.

    Args:
        layer: a Keras layer with an `activation`, built.
        activation: function of a tensor, or a Keras name.
    """
    try:
        twin = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    except Exception as error:  # whatever a reader's own class raises there
        raise ValueError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be rebuilt from its configuration, which is needed "
            f"to give it another activation: {error}. Move its activation into a layer of its own, keras.layers.ReLU."
        ) from error
    for name, value in vars(layer).items():
        if isinstance(value, keras.Variable):
            setattr(twin, name, value)
    twin.input_spec = layer.input_spec
    twin.activation = keras.activations.get(activation)
    twin.built = True
    return twin
