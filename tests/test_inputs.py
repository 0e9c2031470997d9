"""What readers bring: calls by keyword, dicts, whole numbers, halves, channels first, and what is no picture at all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import cam, engine, gradients, perturbation, submodels, units
from helpers.submodels import graph
from tests import zoo

L = keras.layers


def pictures(count=2, shape=(12, 12, 3)):
    return np.random.default_rng(1).uniform(0, 255, (count, *shape)).astype("float32")


def network(dtype=None, data_format="channels_last", shape=(12, 12, 3), start=lambda x: x, named=None):
    keras.utils.set_random_seed(0)
    picture = keras.Input(shape, dtype=dtype)
    x = L.Conv2D(6, 3, activation="relu", name="conv", data_format=data_format)(start(picture))
    y = L.Dense(4, name="scores")(L.GlobalAveragePooling2D(name="gap", data_format=data_format)(x))
    return zoo._randomised(keras.Model(picture, {named: y} if named else y))


def test_calls_by_keyword():
    picture = keras.Input((12, 12, 3))
    inner = keras.Sequential([keras.Input((10, 10, 4)), L.Conv2D(4, 3, name="inside"), L.ReLU()], name="inner")
    x = L.Conv2D(4, 3, name="first")(inputs=picture)
    x = inner(inputs=L.Dropout(0.5)(inputs=L.BatchNormalization(name="norm")(inputs=x)))
    model = zoo._randomised(keras.Model(picture, L.Dense(4)(inputs=L.GlobalAveragePooling2D()(inputs=x))))
    x = pictures() / 255
    assert submodels.layer_names(model)[:2] == ["first", "norm"]
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    assert report.folded == {"norm": "first"}
    np.testing.assert_allclose(folded(x), model(x), atol=1e-5)
    np.testing.assert_allclose(submodels.relu_rule(model, "guided")(x), model(x), atol=1e-6)
    np.testing.assert_allclose(gradients.saliency(model, x, 1), zoo.gradient(model, x), atol=1e-5)


def test_dicts_and_lists_in_and_out():
    picture = keras.Input((12, 12, 3), name="image")
    x = L.Conv2D(6, 3, activation="relu", name="conv")(picture)
    y = L.Dense(4)(L.GlobalAveragePooling2D()(x))
    model, x = zoo._randomised(keras.Model({"image": picture}, {"class": y})), pictures()
    np.testing.assert_allclose(engine.run(model, x)["class"], model({"image": x})["class"], atol=1e-4)
    plain = keras.Model(picture, y)
    maps = engine.run(submodels.activations(model, "conv"), x)["conv"]
    np.testing.assert_allclose(maps, submodels.activations(plain, "conv")(x)["conv"], atol=1e-4)
    back = submodels.deconvnet(model, "conv")
    np.testing.assert_allclose(engine.run(back, x, maps), engine.run(submodels.deconvnet(plain, "conv"), x, maps))
    body, head = submodels.split(model, "conv")
    np.testing.assert_allclose(engine.run(head, engine.run(body, x))["class"], plain(x), atol=1e-4)


def test_pictures_of_whole_numbers_have_gradients():
    model = network("uint8", start=L.Rescaling(1 / 255.0))
    x = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3)).astype("uint8")
    np.testing.assert_allclose(engine.run(model, x), model(x), atol=1e-5)
    twin = network(start=L.Rescaling(1 / 255.0))
    twin.set_weights(model.get_weights())
    wanted = zoo.gradient(twin, x.astype("float32"))
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(gradients.saliency(model, x, 1), wanted, atol=1e-7)
    np.testing.assert_allclose(
        cam.grad_cam(model, x, 1, layer="conv"), cam.grad_cam(twin, x, 1, layer="conv"), atol=1e-6
    )
    maps = engine.run(submodels.activations(model, "conv"), x)["conv"]
    np.testing.assert_allclose(
        engine.run(submodels.deconvnet(model, "conv"), x, maps), engine.run(submodels.deconvnet(twin, "conv"), x, maps)
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_every_precision_is_run(policy):
    keras.utils.set_random_seed(0)
    dtype, picture = keras.DTypePolicy(policy), keras.Input((12, 12, 3))
    x = L.Conv2D(6, 3, name="conv", dtype=dtype)(L.Rescaling(1 / 255)(picture))
    x = L.ReLU(dtype=dtype)(L.BatchNormalization(dtype=dtype)(x))
    y = L.Dense(4, dtype="float32")(L.GlobalAveragePooling2D(dtype=dtype)(x))
    model, x = zoo._randomised(keras.Model(picture, y)), pictures()
    maps = engine.run(submodels.activations(model, "conv"), x)["conv"]
    assert maps.dtype == ("float64" if policy == "float64" else "float32")
    pixels = engine.run(submodels.deconvnet(model, "conv", "gradient"), x, maps)
    assert pixels.dtype == "float32"
    kernel = np.asarray(model.get_layer("conv").kernel)
    wanted = tf.nn.conv2d_transpose(maps.astype("float32"), kernel, x.shape, 1, "VALID") / 255
    np.testing.assert_allclose(pixels, wanted, atol=0.02 * np.abs(wanted).max())  # halves have three digits
    folded = submodels.fold_batchnorm(model)
    np.testing.assert_allclose(folded(x), model(x), atol=0.02)
    assert folded.get_layer("conv").dtype_policy == dtype


def test_channels_first_is_refused_where_places_matter_and_passed_where_not():
    model, x = network(data_format="channels_first", shape=(3, 12, 12)), pictures(shape=(3, 12, 12))
    assert engine.run(submodels.activations(model, "conv"), x)["conv"].shape == (2, 6, 10, 10)
    for method in (gradients.saliency, cam.grad_cam, perturbation.occlusion):
        with pytest.raises(ValueError, match="channels first.*channels_last"):
            method(model, x, 1)
    with pytest.raises(ValueError, match="channels first.*channels_last"):
        submodels.deconvnet(model, "conv")
    turned = network(data_format="channels_first", start=L.Permute((3, 1, 2)))
    plain, x = network(), pictures()
    turned.set_weights(plain.get_weights())
    np.testing.assert_allclose(gradients.saliency(turned, x, 1), gradients.saliency(plain, x, 1), atol=1e-7)
    with pytest.raises(ValueError, match="'conv'.*channels first"):
        cam.grad_cam(turned, x, 1, layer="conv")


def test_a_layer_goes_by_its_name_itself_or_its_place():
    model, x = network(), pictures()
    maps = submodels.activations(model, "conv")(x)["conv"]
    for layer in (model.get_layer("conv"), 0, -3):
        assert graph.trace(model).named(layer) == "conv"
        np.testing.assert_array_equal(submodels.activations(model, layer)(x)["conv"], maps)
        np.testing.assert_array_equal(submodels.split(model, layer)[0](x), maps)
    for layer in (3, -4, 1.5, None, L.Dense(3, name="other")):
        with pytest.raises(ValueError, match="There is no layer"):
            submodels.activations(model, [layer])


def test_a_subclassed_model_runs():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = L.Dense(3)

        def call(self, x):
            return self.scores(x)

    net, x = Net(), np.ones((5, 4), "float64")
    np.testing.assert_allclose(engine.run(net, x), net(x), atol=1e-6)
    with pytest.raises(ValueError, match="Python code"):
        engine.as_batch(net, pictures())


def two_inputs():
    one, other = keras.Input((12, 12, 3)), keras.Input((12, 12, 3))
    return keras.Model([one, other], L.Dense(4)(L.Flatten()(L.Add()([one, other]))))


def of_signals():
    signal = keras.Input((32, 2))
    return keras.Model(signal, L.Dense(3)(L.GlobalAveragePooling1D()(L.Conv1D(4, 3)(signal))))


WORDS = {
    "a path": (network, "cat.jpg", "not the path"),
    "a dataset": (network, tf.data.Dataset.from_tensor_slices(pictures()).batch(2), "one batch of it"),
    "two sizes": (network, [np.zeros((12, 12, 3)), np.zeros((6, 12, 3))], "pictures of one size"),
    "no numbers": (network, ["a", "b"], "no array of numbers"),
    "two inputs": (two_inputs, [pictures(), pictures()], "takes 2 inputs.*Hold the others fixed"),
    "a signal": (of_signals, np.zeros((5, 32, 2)), "signals \\(time × channels\\)"),
    "other channels": (network, np.zeros((12, 12, 1)), "12 × 12 × 3.*12 × 12 × 1"),
    "no channel axis": (lambda: network(shape=(12, 12, 1)), np.zeros((5, 12, 12)), "\\[\\.\\.\\., None\\]"),
    "a flat list": (network, [1, 2, 3], "give \\(B, H, W, C\\)"),
    "no picture": (network, np.zeros((0, 12, 12, 3)), "empty"),
}


@pytest.mark.parametrize("case", sorted(WORDS))
def test_what_is_no_picture_is_refused_in_words(case):
    build, images, words = WORDS[case]
    model = build()
    for method in (gradients.saliency, perturbation.occlusion):
        with pytest.raises(ValueError, match=words):
            method(model, images, 1)
    with pytest.raises(ValueError, match=words):
        engine.as_batch(model, images)


def test_a_network_of_keras_2_is_named():
    class Functional:
        name = "old"

    Functional.__module__ = "tf_keras.src.engine.functional"
    with pytest.raises(ValueError, match="Keras 2.*keras.models.load_model"):
        submodels.layer_names(Functional())


def test_a_receptive_field_needs_no_pictures_but_places():
    with pytest.raises(ValueError, match="channels first"):
        units.receptive_field(network(data_format="channels_first", shape=(3, 12, 12)), "conv")
