"""Snapshots against training by hand, one step at a time."""

import keras
import numpy as np
import pytest

from helpers import submodels, training

BATCH, STEPS = 8, 11
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (BATCH * STEPS, 8, 8, 1)).astype("float32")
LABELS = RNG.integers(0, 3, BATCH * STEPS)
PROBE = IMAGES[3]


def small_network(**compile_options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255, name="scale"),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], **compile_options)
    return model


def fit(model, snapshots, epochs=1, **options):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(IMAGES, LABELS, epochs=epochs, callbacks=[snapshots], **options)


def test_like_training_by_hand():
    snapshots = training.Snapshots(probe=PROBE)
    model = small_network()
    fit(model, snapshots)
    assert snapshots.steps == [0, 1, 2, 4, 8, 11]

    by_hand = small_network()
    maps = keras.Model(by_hand.inputs, by_hand.get_layer("depthwise").output)
    for step in range(STEPS + 1):
        if step in snapshots.steps:
            index = snapshots.steps.index(step)
            for name in ("conv", "depthwise", "logits"):
                for ours, theirs in zip(
                    snapshots.weights[name][index], by_hand.get_layer(name).get_weights(), strict=True
                ):
                    np.testing.assert_allclose(ours, theirs, atol=1e-6)
            np.testing.assert_allclose(
                training.activation_evolution(snapshots, "depthwise")[index], maps([PROBE[None]])[0], atol=1e-5
            )
        if step < STEPS:
            rows = slice(step * BATCH, (step + 1) * BATCH)
            by_hand.train_on_batch(IMAGES[rows], LABELS[rows])


def test_first_is_the_start_last_is_the_trained_network_and_none_are_alike():
    model = small_network()
    start = model.get_layer("conv").get_weights()
    snapshots = training.Snapshots(probe=PROBE)
    fit(model, snapshots)
    np.testing.assert_array_equal(snapshots.weights["conv"][0][0], start[0])
    for name in ("conv", "depthwise", "logits"):
        for kept, trained in zip(snapshots.weights[name][-1], model.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(kept, trained)
    trained_maps = submodels.activations(model, "conv").predict(PROBE[None], verbose=0)["conv"][0]
    np.testing.assert_allclose(snapshots.activations["conv"][-1], trained_maps, atol=1e-6)
    filters = training.filter_evolution(snapshots, "conv")
    maps = training.activation_evolution(snapshots, "conv")
    assert filters.shape == (6, 3, 3, 1, 4) and filters.dtype == np.float32
    assert maps.shape == (6, 6, 6, 4) and maps.dtype == np.float32
    assert (np.abs(np.diff(filters, axis=0)).max(axis=(1, 2, 3, 4)) > 1e-5).all()
    assert (np.abs(np.diff(maps, axis=0)).max(axis=(1, 2, 3)) > 1e-5).all()


def test_snapshots_are_copies():
    model = small_network()
    snapshots = training.Snapshots(probe=PROBE, steps=[0])
    fit(model, snapshots)
    kept = [snapshots.weights["conv"][-1][0], snapshots.activations["conv"][-1]]
    before = [array.copy() for array in kept]
    for variable in model.weights:
        variable.assign(variable * 0 + 7)  # a view would now show sevens
    fit(model, training.Snapshots(probe=PROBE))
    for array, old in zip(kept, before, strict=True):
        np.testing.assert_array_equal(array, old)
        assert array.flags.owndata


def test_going_back_in_time():
    model = small_network()
    snapshots = training.Snapshots()
    start = model.predict(IMAGES[:2], verbose=0)
    fit(model, snapshots)
    for name, kept in snapshots.weights.items():
        model.get_layer(name).set_weights(kept[0])
    np.testing.assert_allclose(model.predict(IMAGES[:2], verbose=0), start, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "kept"), [([3, 5], [3, 5, 22]), (range(0, 30, 10), [0, 10, 20, 22]), (lambda step: step == 7, [7, 22])]
)
def test_chosen_steps_run_through_epochs(steps, kept):
    snapshots = training.Snapshots(steps=steps, layers="conv")
    fit(small_network(), snapshots, epochs=2)
    assert snapshots.steps == kept
    assert list(snapshots.weights) == ["conv"] and snapshots.activations == {}


def test_second_fit_counts_on_even_when_compiled_again():
    model, snapshots = small_network(), training.Snapshots(steps=[0, 13])
    fit(model, snapshots)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, snapshots)
    assert snapshots.steps == [0, 11, 13, 22]
    np.testing.assert_array_equal(snapshots.weights["conv"][-1][0], model.get_layer("conv").get_weights()[0])


def test_a_trained_model_starts_at_step_0():
    model = small_network()
    fit(model, training.Snapshots())
    snapshots = training.Snapshots()
    fit(model, snapshots)
    assert snapshots.steps == [0, 1, 2, 4, 8, 11]


def test_steps_per_execution_keeps_the_states_that_exist():
    model, snapshots = small_network(steps_per_execution=3), training.Snapshots()
    fit(model, snapshots)
    assert snapshots.steps == [0, 3, 6, 9, 11]
    reference = training.Snapshots(steps=[6])
    fit(small_network(), reference)
    np.testing.assert_allclose(snapshots.weights["conv"][2][0], reference.weights["conv"][0][0], atol=1e-6)


def test_restored_weights_are_the_last_snapshot():
    class Restore(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.set_weights([0 * array for array in self.model.get_weights()])

    model, snapshots = small_network(), training.Snapshots(steps=[11])
    model.fit(IMAGES, LABELS, batch_size=BATCH, verbose=0, callbacks=[Restore(), snapshots])
    assert snapshots.steps == [11] and not snapshots.weights["conv"][-1][0].any()
    assert len(snapshots.logs) == 1


def test_logs_are_numbers_and_measure_adds_to_them():
    model = small_network()
    snapshots = training.Snapshots(measure=lambda model: {"size": np.abs(model.get_weights()[0]).sum()})
    history = fit(model, snapshots)
    assert [sorted(logs) for logs in snapshots.logs] == [["size"]] + 5 * [["accuracy", "loss", "size"]]
    assert all(type(value) is float for logs in snapshots.logs for value in logs.values())
    assert snapshots.logs[-1]["loss"] == pytest.approx(history.history["loss"][0], rel=1e-6)
    assert snapshots.logs[-1]["size"] == pytest.approx(np.abs(model.get_weights()[0]).sum(), rel=1e-6)


def test_watching_changes_nothing():
    watched, alone = small_network(), small_network()
    fit(watched, training.Snapshots(probe=PROBE))
    alone.fit(IMAGES, LABELS, batch_size=BATCH, shuffle=False, verbose=0)
    for ours, theirs in zip(watched.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_nested_and_shared_layers():
    shared = keras.layers.Conv2D(2, 3, padding="same", name="shared")
    image = keras.Input((8, 8, 2))
    inner = keras.Model(image, shared(shared(image)), name="inner")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 1, name="entry"), inner, keras.layers.GlobalMaxPooling2D()]
    )
    model.compile("sgd", "mse")
    snapshots = training.Snapshots(probe=PROBE)
    model.fit(IMAGES, np.ones((len(IMAGES), 2)), batch_size=BATCH, callbacks=[snapshots], verbose=0)
    assert list(snapshots.weights) == ["entry", "shared"]
    assert {"entry", "shared", "shared#2"} <= set(snapshots.activations)
    np.testing.assert_array_equal(training.filter_evolution(snapshots, "shared")[-1], shared.get_weights()[0])


def test_another_picture_runs_with_the_weights_of_each_step():
    model, other = small_network(), IMAGES[5]
    snapshots = training.Snapshots(probe=PROBE)
    fit(model, snapshots)
    trained = [array.copy() for array in model.get_weights()]
    found = training.activation_evolution(snapshots, "depthwise", other)
    for array, before in zip(model.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(array, before)
    for index in range(len(snapshots.steps)):
        for name, kept in snapshots.weights.items():
            model.get_layer(name).set_weights(kept[index])
        maps = submodels.activations(model, "depthwise")(other[None], training=False)["depthwise"]
        np.testing.assert_allclose(found[index], maps[0], atol=1e-5)
    again = training.activation_evolution(snapshots, "depthwise", PROBE)
    np.testing.assert_allclose(again, training.activation_evolution(snapshots, "depthwise"), atol=1e-5)


def test_another_picture_needs_the_weights_before_the_layer():
    model, snapshots = small_network(), training.Snapshots(layers=["depthwise"])
    with pytest.raises(ValueError, match="train first"):
        training.missing_weights(snapshots, "conv")
    fit(model, snapshots)
    assert training.missing_weights(snapshots, "scale") == []
    assert [path.split("/")[-2:] for path in training.missing_weights(snapshots, "depthwise")] == [
        ["conv", "kernel"],
        ["conv", "bias"],
    ]
    with pytest.raises(ValueError, match="conv/kernel.*layers=None"):
        training.activation_evolution(snapshots, "depthwise", PROBE)
    with pytest.raises(ValueError, match="One picture"):
        training.activation_evolution(snapshots, "scale", IMAGES[:2])
    with pytest.raises(ValueError, match="not \\(H, W, C\\)"):
        training.activation_evolution(complete(model), "flatten", PROBE)


def complete(model):
    snapshots = training.Snapshots()
    fit(model, snapshots)
    return snapshots


def test_layers_as_objects_and_a_single_step():
    model = small_network()
    snapshots = training.Snapshots(PROBE, [model.get_layer("conv"), -1], steps=3)
    fit(model, snapshots)
    assert list(snapshots.weights) == ["conv", "logits"] and snapshots.steps == [3, STEPS]
    with pytest.raises(ValueError, match="no layer 'inner'.*'conv'"):  # a network inside is no layer
        inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv")], name="inner")
        outer = keras.Sequential([keras.Input((8, 8, 1)), inner, keras.layers.Flatten(), keras.layers.Dense(3)])
        outer.compile("sgd", "mse")
        outer.fit(IMAGES, np.zeros((len(IMAGES), 3)), verbose=0, callbacks=[training.Snapshots(layers="inner")])


def test_a_network_without_maps_and_one_whose_input_has_a_name():
    picture = keras.Input((8, 8, 1), name="image", dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255, name="scale")(picture))
    model = keras.Model({"image": picture}, keras.layers.Dense(3, name="logits")(flat))
    model.compile("sgd", "mse")
    snapshots = training.Snapshots(PROBE, layers=["scale", "logits"], steps=[0])
    model.fit({"image": IMAGES}, np.zeros((len(IMAGES), 3)), verbose=0, callbacks=[snapshots])
    expected = training.activation_evolution(snapshots, "scale")
    np.testing.assert_allclose(expected, [PROBE / 255] * 2, rtol=1e-5)
    np.testing.assert_allclose(training.activation_evolution(snapshots, "scale", PROBE), expected, rtol=1e-5)

    plain = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, name="logits")])
    plain.compile("sgd", "mse")
    watched = training.Snapshots(PROBE)
    plain.fit(IMAGES, np.zeros((len(IMAGES), 3)), verbose=0, callbacks=[watched])
    assert watched.activations == {} and len(watched.weights["logits"]) == len(watched.steps)


def test_of_a_transposed_kernel_the_inputs_come_before_the_outputs():
    """By the definition: what one pixel of one channel becomes is the kernel of that input."""
    up = keras.layers.Conv2DTranspose(4, 3, use_bias=False, name="up")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 1), up, keras.layers.Flatten()])
    model.add(keras.layers.Dense(3))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    snapshots = training.Snapshots(steps=[1])
    fit(model, snapshots)
    kernel = training.filter_evolution(snapshots, "up")[-1]
    assert kernel.shape == (3, 3, 2, 4)
    for channel in range(2):
        np.testing.assert_allclose(
            up(np.eye(2, dtype="float32")[channel].reshape(1, 1, 1, 2))[0], kernel[:, :, channel]
        )


def test_errors_in_words():
    model = small_network()
    with pytest.raises(ValueError, match="no layer 'comv'.*'conv'"):
        fit(model, training.Snapshots(layers=["comv"]))
    with pytest.raises(ValueError, match="4 × 4 × 1"):
        fit(model, training.Snapshots(probe=PROBE[:4, :4]))
    with pytest.raises(ValueError, match="One picture"):
        fit(model, training.Snapshots(probe=IMAGES[:2]))
    for wrong in ([1, -2], [1, 2.0], 2.5, "all", [True]):
        with pytest.raises(ValueError, match="whole number"):
            training.Snapshots(steps=wrong)
    with pytest.raises(ValueError, match="whole numbers"):
        training.Snapshots(steps=[])
    empty = training.Snapshots(probe=PROBE)
    with pytest.raises(ValueError, match="train first"):
        training.filter_evolution(empty, "conv")
    with pytest.raises(ValueError, match="train first"):
        training.activation_evolution(empty, "conv")

    snapshots = training.Snapshots(layers=["conv", "logits"], probe=PROBE)
    fit(model, snapshots)
    with pytest.raises(ValueError, match="'logits' has shape .*no two-dimensional convolution"):
        training.filter_evolution(snapshots, "logits")
    with pytest.raises(ValueError, match="not \\(H, W, C\\)"):
        training.activation_evolution(snapshots, "logits")
    with pytest.raises(ValueError, match="no layer with weights.*'con'.*'conv'"):
        training.filter_evolution(snapshots, "con")
    with pytest.raises(ValueError, match="make new ones"):
        fit(small_network(), snapshots)
    no_probe = training.Snapshots()
    fit(model, no_probe)
    with pytest.raises(ValueError, match="probe=picture"):
        training.activation_evolution(no_probe, "conv")


def test_a_training_that_is_over_can_be_watched_without_training():
    snapshots = training.filters_from_noise()
    kernels = training.filter_evolution(snapshots, "conv1")
    assert snapshots.steps[0] == 0 and snapshots.steps[-1] == 1500 and kernels.shape == (20, 7, 7, 3, 32)
    accuracy = [log["accuracy"] for log in snapshots.logs]
    assert accuracy[0] < 0.06 and accuracy[-1] > 0.2
    # What was kept of the probe is what the network makes of it with the weights of that step.
    again = training.activation_evolution(snapshots, "conv2", snapshots.probe)
    np.testing.assert_allclose(training.activation_evolution(snapshots, "conv2"), again, rtol=1e-4, atol=1e-4)
    # Out of noise: neighbouring weights become alike.
    smooth = [np.corrcoef(k[:, 1:].ravel(), k[:, :-1].ravel())[0, 1] for k in kernels]
    assert abs(smooth[0]) < 0.1 < 0.3 < smooth[-1]
