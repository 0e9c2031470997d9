"""What is remembered on a network: hidden from Keras, and forgotten when the network changes."""

import copy

import keras
import numpy as np
import pytest

from helpers import cam, deconv, engine, gradients, perturbation, relevance, submodels, units
from helpers.submodels.memory import cached
from tests import zoo

L = keras.layers


def network():
    keras.utils.set_random_seed(0)
    picture = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, name="conv")(L.Rescaling(0.5, name="scale")(picture))
    x = L.LeakyReLU(0.1, name="leaky")(L.BatchNormalization(name="norm")(x))
    x = L.MaxPooling2D(2, name="pool")(x)
    x = L.Dense(5, activation="softmax", name="end")(L.GlobalAveragePooling2D(name="gap")(x))
    return zoo._randomised(keras.Model(picture, x))


def pictures(count=2):
    return zoo.pictures(count, side=8)


CHANGES = {
    "activation": lambda m: setattr(m.layers[-1], "activation", keras.activations.linear),
    "inner activation": lambda m: setattr(m.get_layer("conv"), "activation", keras.activations.tanh),
    "slope": lambda m: setattr(m.get_layer("leaky"), "negative_slope", 0.7),
    "scale": lambda m: setattr(m.get_layer("scale"), "scale", 2.0),
    "epsilon": lambda m: setattr(m.get_layer("norm"), "epsilon", 1.0),
    "weights": lambda m: m.set_weights([0.5 * w for w in m.get_weights()]),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_the_call_after_a_change_is_right(change):
    model, x = network(), pictures()
    for _ in range(2):
        np.testing.assert_allclose(engine.run(model, x), model(x), atol=1e-6)
        np.testing.assert_allclose(gradients.saliency(model, x, 1), zoo.gradient(model, x), atol=1e-6)
        whole = gradients.full_gradients(model, x, 1)
        np.testing.assert_allclose(whole.inputs, zoo.gradient(model, x) * x, atol=1e-6)
        fresh = keras.models.clone_model(model)
        fresh.set_weights(model.get_weights())
        probe = submodels.activations(model, ["pool", "end"])
        for name, maps in engine.run(probe, x).items():
            np.testing.assert_allclose(maps, submodels.activations(fresh, name)(x)[name], atol=1e-5)
        np.testing.assert_allclose(submodels.logits(model)(x), submodels.logits(fresh)(x), atol=1e-5)
        np.testing.assert_allclose(cam.grad_cam(model, x, 1), cam.grad_cam(fresh, x, 1), atol=1e-5)
        CHANGES[change](model)


def test_a_sequential_that_grows_or_shrinks_is_another_network():
    inner = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), L.ReLU()], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 3)), inner, L.GlobalAveragePooling2D(), L.Dense(3)])
    x = pictures()
    assert engine.run(model, x).shape == (2, 3)
    gradients.saliency(model, x)
    model.pop()
    model.add(L.Dense(6))
    np.testing.assert_allclose(engine.run(model, x), model(x), atol=1e-6)
    np.testing.assert_allclose(
        gradients.saliency(model, x, 5), zoo.gradient(model, x, lambda outputs: outputs[:, 5]), atol=1e-6
    )


def test_nothing_is_built_twice_as_long_as_nothing_changes():
    model, x, built = network(), pictures(), []
    probe = submodels.activations(model, "pool")
    for use in (engine.run, gradients.saliency, lambda m, x: m.predict(x, verbose=0)):
        use(model, x)
        assert submodels.activations(model, "pool") is probe
    model.compile("adam", "mse")
    model.fit(x, np.zeros((2, 5)), verbose=0)
    assert submodels.activations(model, "pool") is probe
    cached(model, "mine", lambda: built.append(1))
    cached(model, "mine", lambda: built.append(1))
    assert built == [1]


def test_a_network_that_was_handed_out_and_changed_is_built_again():
    model, x = network(), pictures()
    scores = submodels.logits(model)
    wanted = scores(x)
    scores.layers[-1].activation = keras.activations.tanh
    np.testing.assert_allclose(submodels.logits(model)(x), wanted, atol=1e-6)


USES = {
    "run": lambda m, x: engine.run(m, x),
    "guided": lambda m, x: gradients.guided_backprop(m, x),
    "grad_cam": lambda m, x: cam.grad_cam(m, x),
    "fullgrad": lambda m, x: gradients.fullgrad(m, x),
    "occlusion": lambda m, x: perturbation.occlusion(m, x, progress=False),
    "deep_lift": lambda m, x: relevance.deep_lift(m, x),
    "project": lambda m, x: deconv.project(m, x[0], "pool", rule="gradient"),
    "patches": lambda m, x: units.top_patches(m, "conv", 0, x),
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """Files of a network that was never looked at: name → size."""
    folder, model = tmp_path_factory.mktemp("untouched"), network()
    model.save(folder / "all.keras")
    model.save_weights(folder / "only.weights.h5")
    return folder, {file.name: file.stat().st_size for file in folder.iterdir()}


@pytest.mark.parametrize("use", sorted(USES))
def test_keras_sees_nothing_of_it(use, untouched, tmp_path):
    folder, sizes = untouched
    model, x = network(), pictures()
    outputs = model(x)
    USES[use](model, x)
    model.load_weights(folder / "only.weights.h5")  # train, look, go back to the best weights
    np.testing.assert_array_equal(model(x), outputs)
    model.save(tmp_path / "all.keras")
    model.save_weights(tmp_path / "only.weights.h5")
    assert {file.name: file.stat().st_size for file in tmp_path.iterdir()} == sizes
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "all.keras")(x), outputs)
    np.testing.assert_array_equal(copy.deepcopy(model)(x), outputs)
    assert len(model.variables) == len(network().variables)
