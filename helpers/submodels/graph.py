"""Open a Keras network into one flat list of calls, and replay that list with some operations exchanged.

A network may hold networks; Keras has no public way to see through them, so the calls are recorded while the network's
own graph is run once on new symbolic inputs.
"""

import functools
import inspect
from numbers import Integral
from types import MethodType
from typing import Any, NamedTuple

import keras

from .. import checks
from .memory import cached, refuse_what_is_no_model


class Call(NamedTuple):
    """One operation applied once. A layer that is called twice makes two calls."""

    name: str  # unique in the graph: "conv", "inner/conv" where "conv" is ambiguous, "conv#2" for a second call
    path: str  # the names of the networks around it and its own, joined by "/"
    operation: Any  # a layer, or a bare Keras operation
    args: tuple
    kwargs: dict
    outputs: Any  # symbolic tensor, or a structure of them
    notes: dict  # what `kinds` has found out about it

    @property
    def inputs(self):
        """The symbolic tensors that the operation reads, as a flat list."""
        return [x for x in keras.tree.flatten((self.args, self.kwargs)) if keras.backend.is_keras_tensor(x)]

    def bound(self, values):
        """`(args, kwargs)` of the call, with other values in the places of `inputs`."""
        values = iter(values)
        flat = keras.tree.flatten((self.args, self.kwargs))
        flat = [next(values) if keras.backend.is_keras_tensor(x) else x for x in flat]
        return keras.tree.pack_sequence_as((self.args, self.kwargs), flat)

    def apply(self, values, operation=None):
        """The operation, or another one in its place, on other values in the places of `inputs`, as at inference."""
        args, kwargs = self.bound(values)
        training = {"training": False} if _takes_training(self.operation) else {}
        return (operation or self.operation)(*args, **kwargs | training)


class Graph(NamedTuple):
    """A network as a flat list of calls, in an order in which they can be run."""

    inputs: Any
    outputs: Any
    calls: list
    tensors: dict  # every name by which a reader may ask for an output → that output
    name: str

    def model(self, outputs=None):
        """A `keras.Model` from the network's inputs to `outputs`, by default the network's own; names stay valid."""
        graph = self if outputs is None else self.up_to(outputs)
        model = keras.Model(graph.inputs, graph.outputs, name=graph.name)
        cached(model, "graph", lambda: graph)
        return model

    def up_to(self, outputs):
        """The part of the graph that computes these outputs."""
        needed, calls = set(ids(outputs)), []
        for call in reversed(self.calls):
            if not needed.isdisjoint(ids(call.outputs)):
                needed.update(ids(call.inputs))
                calls.insert(0, call)
        there = set(ids([self.inputs, [call.outputs for call in calls]]))
        tensors = {name: value for name, value in self.tensors.items() if there.issuperset(ids(value))}
        return self._replace(outputs=outputs, calls=calls, tensors=tensors)

    def named(self, layer):
        """The name of a layer that is given by name, as an object, or by its place in `layer_names`; −1 is the last."""
        if isinstance(layer, keras.layers.Layer):
            names = [call.name for call in self.calls if call.operation is layer]
            return names[0] if names else self.named(layer.name)
        if isinstance(layer, Integral) and not isinstance(layer, bool):
            names = [call.name for call in self.calls if isinstance(call.operation, keras.layers.Layer)]
            if not -len(names) <= layer < len(names):
                raise ValueError(f"There is no layer {layer}: {self.name!r} has {len(names)}, 0 to {len(names) - 1}.")
            return names[layer]
        how = f"submodels.layer_names(model) lists all {len(self.calls)} of {self.name!r}."
        return checks.choose(layer, self.tensors, "layer", how)

    def tensor(self, layer):
        """The output of a layer. Raises a `ValueError` with the nearest names."""
        return self.tensors[self.named(layer)]

    def single(self, layer):
        """The output of a layer that has only one. Raises a `ValueError` where there are several."""
        tensor = self.tensor(layer)
        if not keras.backend.is_keras_tensor(tensor):
            raise ValueError(f"Layer {layer!r} of {self.name!r} has several outputs; name a layer that has one.")
        return tensor

    def index(self, layer):
        """The position in `calls` of the call that computes the output of this layer."""
        wanted = ids(self.tensor(layer))[0]
        for index, call in enumerate(self.calls):
            if wanted in ids(call.outputs):
                return index
        raise ValueError(f"{layer!r} is the input of {self.name!r}: nothing computes it. Name a layer.")

    def readers(self, tensor):
        """The calls that read a tensor, and None for each time that it is an output of the network."""
        calls = [call for call in self.calls for x in call.inputs if x is tensor]
        return calls + [None for x in keras.tree.flatten(self.outputs) if x is tensor]

    def maker(self, tensor):
        """The call that computes a tensor; None for an input of the network."""
        return next((call for call in self.calls if id(tensor) in ids(call.outputs)), None)

    def values(self, table, calls=None):
        """A table `{id of a symbolic tensor: value}`, completed by what these calls, or all, put out for it."""
        table = dict(table)
        for call in self.calls if calls is None else calls:
            outputs = keras.tree.flatten(call.apply([table[id(x)] for x in call.inputs]))
            table.update(zip(ids(call.outputs), outputs, strict=True))
        return table


def ids(structure):
    """The ids of the tensors in a structure: symbolic tensors are told apart by what they are, not by `==`."""
    return [id(x) for x in keras.tree.flatten(structure)]


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
        self.calls, self.nested = [], []  # calls of layers, and of the networks that hold them
        self.owner, self.renamed = {}, {}  # name in Keras → operation; id of an operation → its stand-in

    def record(self, path, operation, args, kwargs, name=""):
        stand_in = operation
        if _trains_by_default(operation):  # augmentation: Keras leaves it on unless it is told
            kwargs = {**kwargs, "training": False}
        if self.owner.setdefault(operation.name, operation) is not operation:
            if id(operation) not in self.renamed:
                longer = path.replace("/", ".")
                while longer in self.owner:
                    longer += "_"
                self.owner[longer] = operation
                self.renamed[id(operation)] = _Renamed(operation, longer)
            stand_in = self.renamed[id(operation)]
        outputs = stand_in(*args, **kwargs)
        self.calls.append(Call(name, path, operation, args, kwargs, outputs, {}))
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
                given = args[0] if args else kwargs["inputs"]
                outputs = self.run(operation, path + "/", given, kwargs.get("training", training))
                self.nested.append(Call("", path, operation, args, kwargs, outputs, {}))
                return outputs

            return call

        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = step(layer)(inputs)
            return inputs
        # Private, and the only such call of the project: no public function walks the graph with one's own callback.
        outputs = model._run_through_graph(inputs, operation_fn=step)
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs


def _named(calls):
    """The calls with the names that readers use."""
    owners, times, named = {}, {}, []
    for call in calls:
        owners.setdefault(call.operation.name, set()).add(id(call.operation))
    for call in calls:
        times[id(call.operation)] = nth = times.get(id(call.operation), 0) + 1
        name = call.operation.name if len(owners[call.operation.name]) == 1 else call.path
        named.append(call._replace(name=name if nth == 1 else f"{name}#{nth}"))
    return named


def _takes_training(operation):
    return isinstance(operation, keras.layers.Layer) and "training" in inspect.signature(operation.call).parameters


def _trains_by_default(operation):
    return _takes_training(operation) and inspect.signature(operation.call).parameters["training"].default is True


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


def new_input(tensor, dtype=None):
    """A fresh `keras.Input` like this symbolic tensor, with a free batch axis."""
    return keras.Input(shape=tensor.shape[1:], dtype=dtype or tensor.dtype, name=tensor.name)


def trace(model):
    """A functional or sequential network as a flat `Graph` of what it does at inference, recorded once for each model.

    Pictures of whole numbers, `keras.Input(dtype="uint8")`, become float32: the same outputs, and there is a gradient.
    `ValueError` for a network without a graph, with what to do about it.
    """
    refuse_what_is_no_model(model)
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
    return cached(model, "graph", lambda: _trace(model))


def _trace(model):
    recorder = _Recorder()
    sequential = isinstance(model, keras.Sequential)
    old = model.inputs[0] if sequential else model.input
    inputs = keras.tree.map_structure(lambda x: new_input(x, "float32" if is_whole_picture(x) else None), old)
    outputs = recorder.run(model, "", inputs)
    calls, nested = _named(recorder.calls), _named(recorder.nested)
    tensors = {call.name: call.outputs for call in calls}
    # Further names: a network inside, the full path, the input.
    for call in nested:
        tensors.setdefault(call.name, call.outputs)
    for call in [*calls, *nested]:
        tensors.setdefault(call.path, call.outputs)
    for tensor in keras.tree.flatten(inputs):
        tensors.setdefault(tensor.name, tensor)
    if isinstance(inputs, list) and len(inputs) == 1:  # keras.Model(other.inputs, …): the same as other.input
        inputs = inputs[0]
    return Graph(inputs, outputs, calls, tensors, model.name)


def is_whole_picture(tensor):
    """Whether this symbolic input takes pictures, or signals, of whole numbers."""
    return len(tensor.shape) > 2 and not keras.backend.is_float_dtype(tensor.dtype)


def replay(graph, replace=lambda call: call.operation, start=None):
    """Call the operations of a graph again, some of them exchanged; names stay valid.

    Args:
        graph: from `trace`.
        replace: function of a `Call` to the operation to use in its place, or to None, which passes the first
            input on (the call vanishes, and its name then means what it was given).
        start: name of a layer whose output is to be the new graph's input, or a list of symbolic tensors of the graph,
            or None for the graph's own inputs. Calls that need something else are left out.

    Returns:
        A new `Graph`. The old one is as it was.
    """
    recorder, table = _Recorder(), {}
    old_inputs = graph.inputs if start is None else graph.tensor(start) if isinstance(start, str) else start
    inputs = keras.tree.map_structure(new_input, old_inputs)

    def pair(old, new):  # a replacement may put out more than what it stands for
        table.update(zip(ids(old), keras.tree.flatten(new), strict=False))

    def known(structure):
        return table.keys() >= set(ids(structure))

    def renewed(structure):
        return keras.tree.map_structure(lambda x: table.get(id(x), x), structure)

    pair(old_inputs, inputs)
    for call in graph.calls:
        if known(call.outputs) or not known(call.inputs):
            continue
        operation = replace(call)
        if operation is None:
            pair(call.outputs, renewed(call.inputs[0]))
        else:
            args, kwargs = renewed(call.args), renewed(call.kwargs)
            pair(call.outputs, recorder.record(call.path, operation, args, kwargs, call.name))
    tensors = {name: renewed(value) for name, value in graph.tensors.items() if known(value)}
    return Graph(inputs, renewed(graph.outputs), recorder.calls, tensors, graph.name)


def twin(layer, **attributes):
    """Another layer that computes with the very variables and layers of this one, but for some attributes.

    It is no copy by configuration: whatever a layer holds, it has too, and nothing of it is made anew.
    """
    copy = object.__new__(type(layer))
    own = {name: MethodType(one.__func__, copy) for name, one in vars(layer).items() if _is_method_of(layer, one)}
    copy.__dict__.update({**vars(layer), **own, **attributes, "_inbound_nodes": [], "_outbound_nodes": []})
    return copy


def _is_method_of(layer, value):  # `layer.call = layer.call` is what libraries leave behind that watch a layer
    return isinstance(value, MethodType) and value.__self__ is layer
