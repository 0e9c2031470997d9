"""inversion and the parameterisations under it: networks that can be inverted on paper, and slow obvious twins."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import structural_similarity

from helpers import images, inversion, models, submodels, synthesis
from tests import zoo

L = keras.layers
FREE = {"tv": 0, "alpha": 0, "progress": False}  # nothing but the features counts


def photograph(size=16):
    return images.batch(images.sample("koala"), size=size)[0]


def orthogonal(size=16):
    """A linear layer that only turns the colours, then two more that read one of its channels each."""
    picture = keras.Input((size, size, 3))
    turned = L.Conv2D(3, 1, use_bias=False, name="turned")(picture)
    model = keras.Model(picture, L.Dense(4, name="answer")(L.Flatten()(turned)))
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    model.get_layer("turned").set_weights([turn[None, None].astype("float32")])
    return model


@pytest.fixture(scope="module")
def functional():
    return zoo.build("functional")


# Inversion


@pytest.mark.parametrize(("parameterisation", "steps"), [("pixel", 40), ("fourier", 300)])
def test_an_orthogonal_layer_is_inverted_exactly(parameterisation, steps):
    image = photograph()
    result = inversion.invert(orthogonal(), image, "turned", parameterisation=parameterisation, steps=steps, **FREE)
    np.testing.assert_allclose(result.picture, image, atol=0.5)
    assert result.errors[0] < 2e-3


def test_result_has_the_shapes_that_it_says(functional):
    result = inversion.invert(functional, photograph(), "conv1", starts=3, steps=8, progress=False)
    assert result.pictures.shape == (3, 16, 16, 3) and result.pictures.dtype == np.float32
    assert result.losses.shape == (3, 8) and result.errors.shape == (3,)
    assert result.pictures.min() >= 0 and result.pictures.max() <= 255
    np.testing.assert_array_equal(result.picture, result.pictures[result.losses[:, -1].argmin()])


@pytest.mark.parametrize("layer", ["conv1", "pool1", "relu2", "gap", "answer"])
def test_loss_falls_for_every_kind_of_layer(functional, layer):
    picture = zoo.pictures(1)[0]  # of the size of its weights: no unit is saturated
    result = inversion.invert(functional, picture, layer, steps=25, limits=(-5, 5), **FREE)
    assert result.losses[0, -1] < 0.5 * result.losses[0, 0]
    assert np.all(np.diff(result.losses) <= 0)


@pytest.mark.parametrize("layer", ["relu2", "answer"])
def test_the_error_is_that_of_the_picture(functional, layer):
    image = photograph()
    result = inversion.invert(functional, image, layer, starts=2, steps=10, progress=False)
    layer_of = submodels.activations(functional, layer)
    wanted = layer_of(image[None])[layer].numpy()
    for picture, error in zip(result.pictures, result.errors, strict=True):
        found = layer_of(picture[None])[layer].numpy()
        np.testing.assert_allclose(error, np.linalg.norm(found - wanted) / np.linalg.norm(wanted), rtol=1e-4)


def test_the_loss_is_the_formula_of_the_paper(functional):
    image, tv, alpha = photograph(), 3.0, 0.7
    result = inversion.invert(functional, image, "conv1", steps=15, tv=tv, alpha=alpha, progress=False)
    picture = result.picture[None]
    assert picture.min() > 0 and picture.max() < 255  # nothing was clipped, so the loss can be recomputed
    penalties = tv * slow_total_variation(picture[0], 2) + alpha * np.mean(np.abs(picture / 127.5 - 1) ** 6)
    np.testing.assert_allclose(result.losses[0, -1], result.errors[0] ** 2 + penalties, rtol=1e-4)


def test_total_variation_makes_the_picture_smoother(functional):
    rough, smooth = (
        inversion.invert(functional, photograph(), "conv1", steps=25, tv=tv, progress=False).picture for tv in (0, 300)
    )
    assert slow_total_variation(smooth, 2) < 0.5 * slow_total_variation(rough, 2)


def test_the_same_seed_gives_the_same_bits(functional):
    first, again, other = (
        inversion.invert(functional, photograph(), "conv1", steps=12, seed=seed, progress=False) for seed in (4, 4, 5)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(first.pictures - other.pictures).max() > 0.1


def test_starts_differ_and_the_first_does_not_depend_on_their_number(functional):
    one = inversion.invert(functional, photograph(), "answer", steps=10, progress=False)
    three = inversion.invert(functional, photograph(), "answer", starts=3, steps=10, progress=False)
    np.testing.assert_array_equal(one.pictures[0], three.pictures[0])
    assert np.abs(np.diff(three.pictures, axis=0)).max(axis=(1, 2, 3)).min() > 1


@pytest.mark.parametrize("parameterisation", ["pixel", "fourier"])
def test_one_channel_is_matched_and_the_others_are_not(parameterisation):
    model, image = orthogonal(), photograph()
    turn = model.get_layer("turned").get_weights()[0][0, 0]
    result = inversion.invert(model, image, "turned", 1, parameterisation=parameterisation, steps=60, **FREE)
    difference = (result.picture - image) @ turn
    assert np.abs(difference[..., 1]).max() < 1
    assert np.abs(difference[..., [0, 2]]).mean() > 10
    assert result.errors[0] < 1e-2


def test_other_channels_cannot_be_felt(functional):
    image = photograph()
    before = inversion.invert(functional, image, "conv1", 2, steps=8, progress=False)
    twin = keras.models.clone_model(functional)
    twin.set_weights(functional.get_weights())
    kernel, bias = twin.get_layer("conv1").get_weights()
    kernel[..., [0, 1, 3, 4, 5]] *= -3
    twin.get_layer("conv1").set_weights([kernel, bias])
    after = inversion.invert(twin, image, "conv1", 2, steps=8, progress=False)
    np.testing.assert_array_equal(before.pictures, after.pictures)


def test_steps_are_the_number_of_gradients(functional, monkeypatch):
    calls, build = [], inversion._build

    def counted(*args):
        features, loss_and_gradient = build(*args)
        return features, lambda *inputs: calls.append(1) or loss_and_gradient(*inputs)

    monkeypatch.setattr(inversion, "_build", counted)
    inversion.invert(zoo.build("functional"), photograph(), "relu2", starts=2, steps=7, progress=False)
    assert len(calls) == 14


def test_a_start_that_gets_no_further_repeats_its_loss():
    image = np.full((16, 16, 3), 127.5, "float32")
    result = inversion.invert(orthogonal(), image, "turned", parameterisation="pixel", steps=300, **FREE)
    assert result.losses.shape == (1, 300) and result.losses[0, -2] == result.losses[0, -1]


@pytest.mark.parametrize(("name", "layer"), [("transfer", "base"), ("shared", "twice#2"), ("two_outputs", "size")])
def test_every_build_of_network(name, layer):
    result = inversion.invert(zoo.build(name), zoo.pictures(1)[0], layer, limits=(-5, 5), steps=20, **FREE)
    assert result.losses[0, -1] < result.losses[0, 0]
    assert result.pictures.min() >= -5 and result.pictures.max() <= 5


def test_grey_digits_and_free_sizes():
    digit = np.zeros((28, 28, 1), "float32")
    digit[4:24, 12:16] = 255
    result = inversion.invert(models.load("mnist_cnn"), digit, "logits", steps=5, progress=False)
    assert result.picture.shape == (28, 28, 1)
    picture = keras.Input((None, None, 3))
    model = keras.Model(picture, L.Conv2D(4, 3, name="conv")(picture))
    for size in (12, 17):
        assert inversion.invert(model, photograph(size), "conv", steps=2, progress=False).picture.shape == (
            size,
            size,
            3,
        )


def test_the_model_is_left_as_it_was_and_compiled_once(functional, monkeypatch):
    weights = functional.get_weights()
    layers, trainable = list(functional.layers), [layer.trainable for layer in functional.layers]
    inversion.invert(functional, photograph(), "gap", steps=3, progress=False)
    monkeypatch.setattr(inversion, "_build", lambda *args: pytest.fail("compiled again"))
    inversion.invert(functional, photograph()[::-1], "gap", steps=5, tv=2, seed=3, progress=False)
    for before, after in zip(weights, functional.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert layers == functional.layers and trainable == [layer.trainable for layer in functional.layers]


def test_one_compiled_function_serves_all_channels(monkeypatch):
    model, built, build = orthogonal(), [], inversion._build
    monkeypatch.setattr(inversion, "_build", lambda *args: built.append(1) or build(*args))
    image = photograph()
    turn = model.get_layer("turned").get_weights()[0][0, 0]
    for channel in (0, 2):
        result = inversion.invert(model, image, "turned", channel, steps=40, parameterisation="pixel", **FREE)
        assert np.abs(((result.picture - image) @ turn)[..., channel]).max() < 1
    assert len(built) == 1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_every_float_type_is_inverted_in_float32(policy):
    from tests.test_dream import with_policy

    plain, model = orthogonal(), with_policy(policy, orthogonal)
    model.set_weights(plain.get_weights())
    result = inversion.invert(model, photograph(), "turned", parameterisation="pixel", steps=40, **FREE)
    assert result.pictures.dtype == result.losses.dtype == np.float32
    assert result.errors[0] < {"mixed_float16": 0.004, "mixed_bfloat16": 0.03, "float64": 0.002}[policy]


def test_inputs_by_name_and_of_whole_numbers_are_inverted():
    plain = orthogonal()
    expected = inversion.invert(plain, photograph(), "turned", steps=20, **FREE).picture
    for dtype, structure in (("uint8", lambda x: x), ("float32", lambda x: {"image": x})):
        picture = keras.Input((16, 16, 3), dtype=dtype, name="image")
        twin = keras.Model(structure(picture), plain.get_layer("turned")(keras.ops.cast(picture, "float32")))
        found = inversion.invert(twin, photograph(), "turned", steps=20, **FREE).picture
        np.testing.assert_allclose(found, expected, atol=0.5)


def test_what_has_no_gradient_is_refused():
    picture = keras.Input((16, 16, 3))
    largest = L.Lambda(lambda x: tf.cast(tf.argmax(x, -1), "float32")[..., None] + 1, name="largest")(picture)
    with pytest.raises(ValueError, match="no gradient.*'largest'"):
        inversion.invert(keras.Model(picture, largest), photograph(), "largest", steps=2, progress=False)


def dead():
    picture = keras.Input((16, 16, 3))
    model = keras.Model(picture, L.Conv2D(2, 1, activation="relu", name="conv")(picture))
    model.get_layer("conv").set_weights([np.full((1, 1, 3, 2), -1, "float32"), np.array([-1, 1e6], "float32")])
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "conv3"}, "no layer 'conv3'.*'conv1'"),
        ({"layer": "conv1", "channel": 6}, "channels 0 to 5, and 6"),
        ({"layer": "conv1", "channel": -1}, "channels 0 to 5, and -1"),
        ({"layer": "answer", "channel": 5}, "channels 0 to 4, and 5"),
        ({"image": np.zeros((16, 15, 3))}, "16 × 16 × 3"),
        ({"image": np.zeros((2, 16, 16, 3))}, "a batch of 2"),
        ({"image": np.zeros((16, 16))}, "shape"),
        ({"image": np.full((16, 16, 3), np.nan)}, "NaN"),
        ({"image": np.full((16, 16, 3), 300.0)}, "300.*outside limits"),
        ({"limits": (255, 0), "image": np.full((16, 16, 3), 300.0)}, "limits"),
        ({"image": np.full((16, 16, 3), 0.5)}, "from 0 to 1.*limits=\\(0, 1\\)"),
        ({"limits": 5}, "limits=5.*two numbers"),
        ({"layer": "conv1", "channel": 1.0}, "1.0 is not one"),
        ({"layer": "conv1", "channel": True}, "True is not one"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 200.0}, "steps=200.0.*whole number"),
        ({"starts": 1.5}, "starts=1.5"),
        ({"tv": "much"}, "tv='much'"),
        ({"starts": 0}, "starts=0"),
        ({"tv": -1.0}, "tv=-1.0"),
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"parameterisation": "furier"}, "no parameterisation 'furier'.*'fourier'"),
        ({"model": "vgg19"}, "keras.Model is needed"),
        ({"model": dead(), "layer": "conv", "channel": 0}, "Channel 0.*zero everywhere"),
    ],
)
def test_what_cannot_be_inverted_is_refused_in_words(functional, changes, message):
    arguments = {"model": functional, "image": photograph(), "layer": "conv1", **changes}
    with pytest.raises(ValueError, match=message):
        inversion.invert(**arguments, progress=False)


def test_a_network_with_broken_weights_is_refused():
    model = orthogonal()
    model.get_layer("turned").set_weights([np.full((1, 1, 3, 3), np.nan, "float32")])
    with pytest.raises(ValueError, match="'turned' has NaN"):
        inversion.invert(model, photograph(), "turned", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["koala", "coffee"])
def test_quality_on_the_bundled_network(name):
    model, image = models.load("vgg19", size=64), images.batch(images.sample(name), size=64)[0]
    for layer, steps, error, similarity in (("block1_conv2", 60, 0.05, 0.95), ("block3_conv1", 80, 0.07, 0.82)):
        result = inversion.invert(model, image, layer, steps=steps, progress=False)
        assert result.errors[0] <= error
        assert structural_similarity(image, result.picture, channel_axis=-1, data_range=255) >= similarity


# Parameterisations and penalties


@pytest.mark.parametrize("shape", [(12, 12, 3), (9, 14, 3), (8, 7, 1)])
@pytest.mark.parametrize("name", ["pixel", "fourier"])
def test_pictures_go_to_parameters_and_back(name, shape):
    pictures = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype("float32")
    way = synthesis.parameterisation(name, shape)
    parameters = way.encode(tf.constant(pictures))
    assert parameters.shape == pictures.shape
    np.testing.assert_allclose(way.decode(parameters), pictures, atol=1e-2)
    np.testing.assert_allclose(way.encode(way.decode(parameters)), parameters, atol=1e-3)


@pytest.mark.parametrize("name", ["pixel", "fourier"])
def test_gradient_of_a_parameterisation_against_differences(name):
    way, rng = synthesis.parameterisation(name, (6, 5, 3)), np.random.default_rng(1)
    z, weights, step = (rng.normal(size=(1, 6, 5, 3)).astype("float32") for _ in range(3))
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        score = tf.reduce_sum(weights * way.decode(z))
    slope = np.sum(tape.gradient(score, z) * step)
    moved = np.sum(weights * (np.asarray(way.decode(z + step), "float64") - way.decode(z)))  # linear: any step will do
    np.testing.assert_allclose(slope, moved, rtol=1e-3)


def test_fourier_waves_are_hartleys_with_falling_amplitudes():
    """Against the sum over all waves, written out; the amplitude of a wave is 1 / frequency."""
    height, width = 6, 5
    z = np.random.default_rng(2).normal(size=(1, height, width, 1)).astype("float32")
    rows, columns = np.arange(height), np.arange(width)
    wanted, energy = np.zeros((height, width)), 0
    for down in range(height):
        for across in range(width):
            frequency = np.hypot(min(down, height - down) / height, min(across, width - across) / width)
            amplitude = 1 / max(frequency, 1 / height)
            angle = 2 * np.pi * (down * rows[:, None] / height + across * columns / width)
            wanted += amplitude * z[0, down, across, 0] * (np.cos(angle) + np.sin(angle))
            energy += amplitude**2
    found = synthesis.fourier((height, width, 1), decay=1).decode(z)[0, :, :, 0]
    np.testing.assert_allclose(found, 127.5 + 51 * wanted / np.sqrt(energy), rtol=1e-4)


def test_noise_of_deviation_one_varies_as_photographs_do():
    z = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
    for name in ("pixel", "fourier"):
        assert np.std(synthesis.parameterisation(name, (32, 32, 3)).decode(z)) == pytest.approx(51, rel=0.1)


def test_fourier_colours_go_together_as_in_photographs():
    z = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
    pixels = np.reshape(synthesis.fourier((32, 32, 3)).decode(z), (-1, 3))
    wanted = synthesis.COLOURS @ synthesis.COLOURS.T
    deviation = np.sqrt(np.diag(wanted))
    np.testing.assert_allclose(np.corrcoef(pixels.T), wanted / np.outer(deviation, deviation), atol=0.05)


def test_limits_move_and_scale_the_picture():
    z = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    for name in ("pixel", "fourier"):
        raw, unit = (synthesis.parameterisation(name, (8, 8, 3), limits).decode(z) for limits in ((0, 255), (-1, 1)))
        np.testing.assert_allclose(raw / 127.5 - 1, unit, atol=1e-5)


def test_an_unknown_parameterisation_and_turned_limits_are_refused():
    with pytest.raises(ValueError, match="'fourier'"):
        synthesis.parameterisation("wavelet", (8, 8, 3))
    with pytest.raises(ValueError, match="limits"):
        synthesis.parameterisation("pixel", (8, 8, 3), (1, -1))


def slow_total_variation(picture, beta, size=255):
    height, width, channels = picture.shape
    parts = []
    for row in range(height - 1):
        for column in range(width - 1):
            for channel in range(channels):
                here = float(picture[row, column, channel])
                across = (float(picture[row, column + 1, channel]) - here) / size
                down = (float(picture[row + 1, column, channel]) - here) / size
                parts.append((across**2 + down**2) ** (beta / 2))
    return np.mean(parts)


@pytest.mark.parametrize("beta", [1, 2, 3])
def test_total_variation_against_loops(beta):
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 6, 5, 3)).astype("float32")
    wanted = [slow_total_variation(picture, beta) for picture in pictures]
    np.testing.assert_allclose(synthesis.total_variation(pictures, beta=beta), wanted, rtol=1e-4)
    wanted = [slow_total_variation(picture, beta, size=4) for picture in pictures / 255]
    np.testing.assert_allclose(synthesis.total_variation(pictures / 255, (-2, 2), beta), wanted, rtol=1e-3)


@pytest.mark.parametrize("beta", [1, 2])
def test_total_variation_of_a_flat_picture_is_zero_and_has_a_slope(beta):
    flat = tf.fill((1, 5, 5, 3), 90.0)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        value = synthesis.total_variation(flat, beta=beta)
    assert float(value[0]) < 1e-4
    assert np.isfinite(tape.gradient(value, flat)).all()


def test_alpha_norm_against_loops_and_at_its_ends():
    pictures = np.random.default_rng(0).uniform(-50, 300, (2, 4, 3, 3)).astype("float32")
    wanted = [np.mean([abs((float(value) - 127.5) / 127.5) ** 6 for value in p.ravel()]) for p in pictures]
    np.testing.assert_allclose(synthesis.alpha_norm(pictures), wanted, rtol=1e-4)
    ends = np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), 255), np.full((2, 2, 1), 127.5)]).astype("float32")
    np.testing.assert_allclose(synthesis.alpha_norm(ends), [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(synthesis.alpha_norm(ends / 127.5 - 1, (-1, 1), alpha=3), [1, 1, 0], atol=1e-6)
