"""Watch a network learn: real copies of its weights, and of what it makes of one picture, at chosen steps."""

import keras
import numpy as np

from . import checks, data
from .features import units
from .submodels import engine, taps
from .submodels.graph import trace


class Snapshots(keras.callbacks.Callback):
    """Keras callback that keeps copies of the weights at chosen optimisation steps.

    Step n is the state after n updates; step 0 is the network before the first one. The state at the end of `fit` is
    always kept, so that the last snapshot is the trained network bit for bit. (List it after callbacks that change
    the weights when training ends, such as `EarlyStopping(restore_best_weights=True)`.) A second `fit` with the same
    callback counts on. With `steps_per_execution=k` in `compile`, only every k-th state exists outside the compiled
    loop: a chosen step is then the next such state, under its own number. Each snapshot copies the weights of `layers`
    and the activations of one picture: for a large network name the layers.

    probe: one picture `(H, W, C)` as the model takes it, or None for no activations.
    layers: names as `submodels.layer_names` lists them. None: all with weights or an output `(B, H, W, C)`.
    steps: None for 0, 1, 2, 4, 8, …; ints; or a function of a step to whether it is kept.
    measure: None, or a function of the model to a dict of numbers, called at each snapshot and added to `logs`. It must
        not call `model.evaluate`, which resets the running metrics of `fit`: use `engine.run`.

    Attributes:
        steps: list of int, the steps that were kept.
        weights: layer name → list with, for each kept step, what `layer.get_weights()` gave (kernel first). The
            name is that of the layer's first call. `layer.set_weights(snapshots.weights[name][i])` goes back in time.
        activations: layer name → list with, for each kept step, the layer's output for the probe, `(H, W, C)`.
        logs: list of dict of float. Keras's numbers are means over the epoch so far; there are none at step 0.
    ValueError: steps that are not whole numbers from 0 on. When training begins: a layer that is not in the model, a
        probe of the wrong shape, or another model than before.
    """

    def __init__(self, probe=None, layers=None, steps=None, measure=None):
        super().__init__()
        self.probe = None if probe is None else np.array(probe, "float32")
        self.layers = layers if layers is None or isinstance(layers, (list, tuple)) else [layers]
        self.measure = measure
        self.steps, self.weights, self.activations, self.logs = [], {}, {}, []
        self._wanted, self._step = _chooser(steps), 0
        self._watched = None  # the model of the first fit

    def on_train_begin(self, logs=None):
        if self._watched is None:
            self._watch(self.model)
        elif self._watched is not self.model:
            old, new = self._watched.name, self.model.name
            raise ValueError(f"These snapshots hold the history of {old!r}: make new ones, to watch {new!r}.")
        # A model that was compiled again, or trained before, has a counter of its own.
        self._offset = self._step - int(self.model.optimizer.iterations)
        if not self.steps and self._wanted(0):
            self._keep(0, {})

    def on_train_batch_end(self, batch, logs=None):
        # Keras's batch number starts again in each epoch and means different things in different versions.
        before, self._step = self._step, self._offset + int(self.model.optimizer.iterations)
        if any(self._wanted(step) for step in range(before + 1, self._step + 1)):
            self._keep(self._step, logs)

    def on_train_end(self, logs=None):
        if self.steps and self.steps[-1] == self._step:  # kept already, but another callback may have changed it
            logs = self.logs[-1]
            for kept in (self.steps, self.logs, *self.weights.values(), *self.activations.values()):
                kept.pop()
        self._keep(self._step, logs)

    def _watch(self, model):
        graph = trace(model)
        calls = [call for call in graph.calls if isinstance(call.operation, keras.layers.Layer)]
        wanted = names = [call.name for call in calls]
        if self.layers is not None:
            how = f"submodels.layer_names(model) lists all {len(names)}."
            wanted = [checks.choose(graph.named(layer), names, "layer", how) for layer in self.layers]
        chosen = [call for call in calls if call.name in wanted]
        first_calls = {id(call.operation): call for call in reversed(chosen) if call.operation.weights}
        self._layers = {call.name: call.operation for call in chosen if first_calls.get(id(call.operation)) is call}
        self.weights = {name: [] for name in self._layers}
        if self.probe is not None:
            maps = [call.name for call in chosen if self.layers is not None or taps.is_spatial(call.outputs)]
            self._probe_batch, is_single = engine.as_batch(model, self.probe)
            checks.single(self._probe_batch, is_single, "probe=")
            self._probe_model = units.probe(model, maps) if maps else None
            self.activations = {name: [] for name in maps}
        self._watched = model

    def _keep(self, step, logs):
        self.steps.append(step)
        numbers = {**(logs or {}), **(self.measure(self.model) if self.measure else {})}
        self.logs.append({name: float(value) for name, value in numbers.items()})
        for name, kept in self.weights.items():
            # A real copy: on a CPU the numpy view of a variable may show its later values.
            kept.append([np.array(array, copy=True) for array in self._layers[name].get_weights()])
        outputs = engine.run(self._probe_model, self._probe_batch) if self.activations else {}
        for name, kept in self.activations.items():
            kept.append(np.array(outputs[name][0], copy=True))


def _chooser(steps):
    """The function that says of a step whether it is to be kept."""
    if steps is None:
        return lambda step: step & (step - 1) == 0  # 0 and the powers of two
    if callable(steps):
        return steps
    wanted = {checks.whole(step, "A step in steps", 0) for step in (steps if hasattr(steps, "__iter__") else [steps])}
    if not wanted:
        raise ValueError(f"steps is {steps!r}: give whole numbers from 0 on, a function of a step, or None.")
    return wanted.__contains__


def which_photograph():
    """The network of `filters_from_noise`, untrained: patches `(B, 32, 32, 3)`, 0..255, to 28 logits."""
    layers, noise = keras.layers, keras.initializers.RandomNormal(stddev=0.03, seed=0)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            # Each colour of each patch: minus its mean, and divided by its spread.
            layers.GroupNormalization(3, epsilon=100, center=False, scale=False, name="contrast"),
            layers.Conv2D(32, 7, strides=2, padding="same", activation="relu", kernel_initializer=noise, name="conv1"),
            layers.Conv2D(32, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Conv2D(48, 3, activation="relu", name="conv3"),
            layers.GlobalMaxPooling2D(name="largest"),
            layers.Dense(28, name="logits"),
        ],
        name="which_photograph",
    )


def filters_from_noise():
    """The `Snapshots` of a training that is over: a small network that learned which photograph a patch is from.

    The filters of its first layer, on colours, come out of noise. Its weights at 20 steps are bundled
    (`data/train_filters.py` made them), so nothing is trained here. The probe is a patch of the koala's face.
    """
    from .pictures import images  # reads photographs, which nothing else here does

    koala = images.batch(images.sample("koala"), size=128)[0]
    snapshots, model = Snapshots(probe=koala[16:48, 42:74]), which_photograph()
    snapshots.set_model(model)
    snapshots._watch(model)
    with np.load(data.path("filters_from_noise.npz"), allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}
    for index, step in enumerate(kept["steps"].tolist()):
        for name in snapshots.weights:
            model.get_layer(name).set_weights([kept[f"{name}/{part}"][index] for part in ("kernel", "bias")])
        snapshots._keep(step, {name: kept[name][index] for name in ("loss", "accuracy")})
    return snapshots


def filter_evolution(snapshots, layer):
    """The kernel of a convolution at each kept step: float32 `(T, kh, kw, cin, cout)`, as in `snapshots.steps`.

    snapshots: a `Snapshots` that has been through `fit`.
    layer: name of a convolution; `ValueError` for what has no two-dimensional kernel. A depthwise one has its
        multiplier in place of `cout`; of a separable one it is the depthwise kernel.
    """
    kept = _history(snapshots, snapshots.weights, layer, "layer with weights in these snapshots")
    if kept[0][0].ndim != 4:
        what = f"The first weight of layer {layer!r} has shape {kept[0][0].shape}: it is no two-dimensional convolution"
        raise ValueError(f"{what}. All its weights are in snapshots.weights[{layer!r}].")
    kernels = np.stack([arrays[0] for arrays in kept]).astype("float32")
    # Keras keeps that of a transposed one as (kh, kw, cout, cin).
    is_transposed = isinstance(snapshots._layers[layer], keras.layers.Conv2DTranspose)
    return kernels.swapaxes(3, 4) if is_transposed else kernels


def activation_evolution(snapshots, layer, picture=None):
    """What a layer makes of a picture at each kept step: float32 `(T, H, W, C)`, in the order of `snapshots.steps`.

    snapshots: a `Snapshots` that has been through `fit`.
    layer: name of a layer with an output `(B, H, W, C)`.
    picture: None for the probe, of which the activations were kept; any other `(H, W, C)` as the model takes it: the
        network then runs again with the weights of each step.
    ValueError: nothing recorded yet, no probe, an unknown layer, or one without spatial axes; a picture of the wrong
        shape, or one for which weights are missing (see `missing_weights`).
    """
    if picture is not None:
        kept = rerun(snapshots, layer, picture)
    elif snapshots.probe is None:
        raise ValueError("These snapshots had no picture to look at: give one, training.Snapshots(probe=picture).")
    else:
        kept = _history(snapshots, snapshots.activations, layer, "layer with activations in these snapshots")
    if kept[0].ndim != 3:
        where = f" It is in snapshots.activations[{layer!r}]." if picture is None else ""
        raise ValueError(f"The output of layer {layer!r} has shape {kept[0].shape}, not (H, W, C).{where}")
    return np.stack(kept).astype("float32")


def missing_weights(snapshots, layer):
    """Paths of the weights that a layer's output depends on and that were not kept: [] if any picture can be run."""
    check_trained(snapshots)
    known = _weights_at(snapshots, 0)
    return [variable.path for variable in _up_to(snapshots, layer).weights if id(variable) not in known]


def rerun(snapshots, layer, picture):
    """The output of any layer for a picture `(H, W, C)` at each kept step, a list. The model is left as it is."""
    if missing := missing_weights(snapshots, layer):
        what = f"Layer {layer!r} depends on weights that were not kept, such as {missing[0]!r}"
        raise ValueError(f"{what}. For other pictures than the probe train with training.Snapshots(layers=None).")
    batch, is_single = engine.as_batch(snapshots.model, picture)
    checks.single(batch, is_single, "activation_evolution")
    network, kept = _up_to(snapshots, layer), []
    variables = network.trainable_variables, network.non_trainable_variables
    for index in range(len(snapshots.steps)):
        known = _weights_at(snapshots, index)  # everything else is the state of random numbers, which are not drawn
        values = [[known.get(id(variable), variable.value) for variable in part] for part in variables]
        outputs, _ = network.stateless_call(*values, batch, training=False)
        kept.append(keras.ops.convert_to_numpy(outputs[layer])[0])
    return kept


def _up_to(snapshots, layer):
    """The watched network from its input to a layer."""
    model = snapshots.model
    return engine.cached(model, ("evolution", layer), lambda: units.probe(model, layer))


def _weights_at(snapshots, index):
    """Dict: id of a variable → its value at the kept step of this index."""
    return {
        id(variable): value
        for name, layer in snapshots._layers.items()
        for variable, value in zip(layer.weights, snapshots.weights[name][index], strict=True)
    }


def check_trained(snapshots):
    if not snapshots.steps:
        raise ValueError("There are no snapshots yet: train first, model.fit(…, callbacks=[snapshots]).")


def _history(snapshots, table, layer, what):
    check_trained(snapshots)
    return table[checks.choose(layer, table, what)]
