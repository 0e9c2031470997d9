"""Dreams against closed forms and a slow obvious loop, on networks that are small enough to know by heart."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import dream, images, models, synthesis
from helpers.synthesis import objectives, transforms
from tests import zoo

L = keras.layers


def photograph(height=24, width=20, seed=0):
    return np.random.default_rng(seed).uniform(60, 190, (height, width, 3)).astype("float32")


def network(*layers, size=(None, None)):
    model = keras.Sequential([keras.Input((*size, 3)), L.Rescaling(1 / 128, -1, name="preprocess"), *layers])
    return zoo._randomised(model)


def convolutions(size=(None, None)):
    return network(
        L.Conv2D(6, 3, padding="same", activation="relu", name="conv1"),
        L.MaxPooling2D(name="pool"),
        L.Conv2D(5, 3, padding="same", activation="relu", name="conv2"),
        L.GlobalAveragePooling2D(name="gap"),
        L.Dense(4, activation="softmax", name="answer"),
        size=size,
    )


def run(model, image, objective, **options):
    return dream.deep_dream(model, image, objective, progress=False, **options)


def gradient(model, layers, score, picture):
    """The gradient of a score of a dict of activations, without any room of the package."""
    outputs = keras.Model(model.inputs[0], {name: model.get_layer(name).output for name in layers})
    picture = tf.constant(picture[None])
    with tf.GradientTape() as tape:
        tape.watch(picture)
        value = score(outputs(picture))
    return tape.gradient(value, picture)[0].numpy()


@pytest.mark.parametrize("objective", ["conv1", "conv2", ("conv2", 1), {"conv1": 0.5, "conv2": 2}, 2])
def test_the_objective_rises_in_every_octave(objective):
    result = run(convolutions(), photograph(), objective, octaves=3, steps=5, jitter=4)
    assert [octave.size for octave in result.octaves] == [(12, 10), (17, 14), (24, 20)]
    assert all(octave.after > octave.before for octave in result.octaves)
    assert result.picture.shape == (24, 20, 3) and result.picture.dtype == np.float32
    assert 0 <= result.picture.min() and result.picture.max() <= 255


@pytest.mark.parametrize(
    ("objective", "layers", "score"),
    [
        ("conv2", ["conv2"], lambda y: tf.reduce_mean(y["conv2"] ** 2)),
        (("conv2", 1), ["conv2"], lambda y: tf.reduce_mean(y["conv2"][..., 1])),
        (
            {"conv1": 0.5, "conv2": -2.0},
            ["conv1", "conv2"],
            lambda y: 0.5 * tf.reduce_mean(y["conv1"] ** 2) - 2 * tf.reduce_mean(y["conv2"] ** 2),
        ),
        (
            dream.Objective(("conv1", "gap"), lambda y: y["gap"][:, 1] + tf.reduce_max(y["conv1"], axis=(1, 2, 3))),
            ["conv1", "gap"],
            lambda y: y["gap"][0, 1] + tf.reduce_max(y["conv1"]),
        ),
    ],
)
def test_one_octave_without_jitter_is_the_obvious_loop(objective, layers, score):
    model, expected = convolutions(), photograph()
    for _ in range(4):
        slope = gradient(model, layers, score, expected)
        expected = np.clip(expected + 2 * slope / np.abs(slope).mean(), 0, 255)
    picture = run(model, photograph(), objective, octaves=1, steps=4, step=2, jitter=0).picture
    np.testing.assert_allclose(picture, expected, atol=0.01)


def test_frames_are_the_way_of_a_dream():
    model, options = convolutions(), {"octaves": 3, "steps": 4, "jitter": 5, "seed": 7}
    whole = run(model, photograph(), "conv2", **options)
    way = list(dream.frames(model, photograph(), "conv2", **options))
    assert [(frame.octave, frame.step) for frame in way] == [(octave, step) for octave in range(3) for step in range(5)]
    np.testing.assert_array_equal(way[-1].picture, whole.picture)
    for octave, found in enumerate(whole.octaves):
        first, *between, last = way[5 * octave : 5 * octave + 5]
        assert found == (first.picture.shape[:2], first.score, last.score)
        assert all(frame.score is None and frame.picture.shape == first.picture.shape for frame in between)
        assert first.score == pytest.approx(dream.measure(model, first.picture, "conv2"))
    with pytest.raises(ValueError, match="no layer 'conv3'"):  # at once, not with the first frame
        dream.frames(model, photograph(), "conv3")


def test_a_dream_at_another_size_keeps_the_detail_of_the_photograph():
    small = images.resize(photograph(), (12, 10)) + 10
    np.testing.assert_allclose(dream.resized(small, photograph(), (24, 20)), photograph() + 10, atol=1e-3)
    assert dream.resized(small, photograph(), (12, 10)) is small


def test_a_class_is_its_logit_before_the_softmax():
    model, picture = convolutions(), photograph()
    kernel, bias = model.get_layer("answer").get_weights()
    result = run(model, picture, 2, octaves=1, steps=1, step=1, jitter=0)
    slope = gradient(model, ["gap"], lambda y: tf.reduce_sum(y["gap"][0] * kernel[:, 2]), picture)
    np.testing.assert_allclose(result.picture, picture + slope / np.abs(slope).mean(), atol=0.01)
    pooled = keras.Model(model.inputs[0], model.get_layer("gap").output)(picture[None])[0].numpy()
    assert result.octaves[0].before == pytest.approx(pooled @ kernel[:, 2] + bias[2], rel=1e-5)


def linear(kernel):
    """A network of one 1×1 convolution to one channel."""
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(1, 1, use_bias=False, name="sum")])
    model.set_weights([np.reshape(kernel, (1, 1, 3, 1))])
    return model


def test_a_step_of_a_linear_network_in_closed_form():
    result = run(linear([3.0, -1.0, 2.0]), photograph(), ("sum", 0), octaves=1, steps=3, step=0.5, jitter=7)
    np.testing.assert_allclose(result.picture, photograph() + 3 * 0.5 * np.array([1.5, -0.5, 1.0]), atol=1e-3)
    before, after = (np.mean(picture @ [3.0, -1.0, 2.0]) for picture in (photograph(), result.picture))
    assert result.octaves == [((24, 20), pytest.approx(before, rel=1e-5), pytest.approx(after, rel=1e-5))]


def test_each_octave_keeps_what_was_dreamt_and_puts_the_detail_back():
    """Every step adds the same colour: what is left is the photograph, all its detail, and that colour."""
    result = run(linear([1.0, 1.0, 1.0]), photograph(), ("sum", 0), octaves=4, steps=2, step=1.5, jitter=5)
    np.testing.assert_allclose(result.picture, photograph() + 4 * 2 * 1.5, atol=1e-3)
    sizes = [octave.size for octave in result.octaves]
    expected = [3 * (images.resize(photograph(), size).mean() + 3 * n) for n, size in enumerate(sizes)]
    np.testing.assert_allclose([octave.before for octave in result.octaves], expected, rtol=1e-5)


def test_pixels_stay_between_black_and_white():
    picture = run(linear([1.0, -1.0, 0.1]), photograph(), ("sum", 0), octaves=1, steps=9, step=50).picture
    assert (picture[..., 0] == 255).all() and (picture[..., 1] == 0).all() and (picture[..., 2] < 255).any()


def test_same_seed_same_bits():
    model = convolutions()
    first, again, other = (run(model, photograph(), "conv2", octaves=2, steps=3, seed=seed) for seed in (4, 4, 5))
    assert np.array_equal(first.picture, again.picture) and first.octaves == again.octaves
    assert not np.array_equal(first.picture, other.picture)


def test_tiles_of_a_pointwise_network_change_nothing():
    model = network(L.Conv2D(4, 1, activation="relu", name="colours"))
    options = dict(octaves=2, steps=4, jitter=0)
    whole = run(model, photograph(40, 27), "colours", **options)
    tiled = run(model, photograph(40, 27), "colours", tile=16, **options)
    np.testing.assert_allclose(tiled.picture, whole.picture, atol=0.01)


def test_tiles_of_a_convolution_differ_only_at_their_borders():
    """The windows of 48 pixels in tiles of 16 meet at 16 and 32. A 3×3 convolution mixes two pixels around there."""
    model = network(L.Conv2D(4, 3, padding="same", activation="relu", name="conv"))
    ascent, picture = dream._ascent(model, "conv"), photograph(48, 48)
    whole, tiled = (ascent.step(picture, 1.0, (0, 0), tile) - picture for tile in (None, 16))
    tiled *= np.median(whole / tiled)  # the mean by which a step is divided is not the same
    near = np.array([min(abs(n + 0.5 - seam) for seam in (16, 32)) < 2 for n in range(48)])
    np.testing.assert_allclose(tiled[~near][:, ~near], whole[~near][:, ~near], atol=1e-3)
    assert np.abs(tiled - whole)[near].max() > 0.1


def test_windows_cover_every_pixel_with_one_shape():
    picture = np.zeros((50, 16, 3))
    windows = list(transforms.windows(picture, 16))
    for window in windows:
        assert picture[window].shape[:2] == (16, 16)
        picture[window] += 1
    assert len(windows) == 4 and picture.min() == 1
    assert list(transforms.windows(picture, None)) == [(slice(0, 50), slice(0, 16))]


def test_shifts_move_the_grid_of_tiles_by_up_to_a_tile():
    random = np.random.default_rng(0)
    untiled = np.array([transforms.jitter(random, 3) for _ in range(200)])
    tiled = np.array([transforms.jitter(random, 3, 64) for _ in range(2000)])
    assert untiled.min() == -3 and untiled.max() == 3
    assert tiled.min() == 0 and tiled.max() == 63


def test_a_network_of_fixed_size_dreams_at_any_size_as_its_free_twin():
    free, fixed = convolutions(), convolutions(size=(16, 16))
    fixed.set_weights(free.get_weights())
    for objective in ("conv2", 1):
        dreams = [run(model, photograph(), objective, octaves=2, steps=3).picture for model in (free, fixed)]
        np.testing.assert_allclose(*dreams, atol=1e-3)
    model = zoo.build("transfer")  # a network in a network
    assert run(model, photograph(), "branch", octaves=2, steps=2).picture.shape == (24, 20, 3)


def test_the_model_is_left_as_it_was():
    model = convolutions(size=(24, 20))
    before, config = [weight.numpy() for weight in model.weights], model.get_config()
    run(model, photograph(), 1, octaves=2, steps=2)
    with pytest.raises(ValueError, match="no layer"):
        run(model, photograph(), "conv3")
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, model.weights, strict=True))
    assert model.get_config() == config and all(layer.trainable for layer in model.layers)


def test_new_weights_make_a_new_dream():
    model = convolutions()
    first = run(model, photograph(), "conv2", octaves=1, steps=2).picture
    model.get_layer("conv1").set_weights([weight[..., ::-1] for weight in model.get_layer("conv1").get_weights()])
    assert not np.allclose(first, run(model, photograph(), "conv2", octaves=1, steps=2).picture)


def test_the_guide_is_matched_by_the_largest_product():
    random = np.random.default_rng(0)
    outputs, guide = random.normal(size=(2, 3, 4, 5)).astype("float32"), random.normal(size=(7, 5)).astype("float32")
    expected = [np.mean([max(x @ y for y in guide) for x in own.reshape(-1, 5)]) / 5 for own in outputs]
    found = objectives.alike("conv", tf.constant(guide)).score({"conv": tf.constant(outputs)})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_guided_dream_is_the_obvious_loop():
    model, guide, expected = convolutions(), photograph(13, 30, seed=1), photograph()
    features = keras.Model(model.inputs[0], model.get_layer("conv2").output)(guide[None]).numpy().reshape(-1, 5)

    def score(outputs):
        products = tf.reshape(outputs["conv2"], (-1, 5)) @ features.T
        return tf.reduce_mean(tf.reduce_max(products, axis=1))

    for _ in range(3):
        slope = gradient(model, ["conv2"], score, expected)
        expected = np.clip(expected + slope / np.abs(slope).mean(), 0, 255)
    result = dream.guided_dream(
        model, photograph(), guide, "conv2", octaves=1, steps=3, step=1, jitter=0, progress=False
    )
    np.testing.assert_allclose(result.picture, expected, atol=0.01)
    assert result.octaves[0].after > result.octaves[0].before


def test_a_silent_channel_says_so():
    model = linear([0.0, 0.0, 0.0])
    with pytest.warns(UserWarning, match="did not rise.*silent"):
        result = run(model, photograph(), ("sum", 0), octaves=2, steps=1)
    np.testing.assert_allclose(result.picture, photograph(), atol=1e-4)


def test_the_bar_can_be_turned_off(capfd):
    run(convolutions(), photograph(), "conv1", octaves=1, steps=1)
    assert "dreaming" not in capfd.readouterr().err
    dream.deep_dream(convolutions(), photograph(), "conv1", octaves=1, steps=1)
    assert "dreaming" in capfd.readouterr().err


def test_objectives_add_up():
    outputs = {"a": tf.constant([[1.0, 2.0], [3.0, -4.0]]), objectives.LOGITS: tf.constant([[5.0, 6.0], [7.0, 8.0]])}
    objective = 2 * synthesis.layer("a") - synthesis.channel("a", 1) * 0.5 + -synthesis.class_logit(0)
    assert objective.layers == ("a", objectives.LOGITS)
    np.testing.assert_allclose(objective.score(outputs), [2 * 2.5 - 1 - 5, 2 * 12.5 + 2 - 7])


def test_a_dream_of_a_sum_is_the_obvious_loop():
    """The kernel of the last layer stands for the softmax that the class is free of."""
    model, picture = convolutions(), photograph()
    kernel = model.get_layer("answer").get_weights()[0]

    def score(y):
        return 0.5 * tf.reduce_mean(y["conv1"][..., 3]) + tf.reduce_sum(y["gap"][0] * kernel[:, 2])

    slope = gradient(model, ["conv1", "gap"], score, picture)
    objective = 0.5 * synthesis.channel("conv1", 3) + synthesis.class_logit(2)
    result = run(model, picture, objective, octaves=1, steps=1, step=1, jitter=0)
    np.testing.assert_allclose(result.picture, picture + slope / np.abs(slope).mean(), atol=0.01)


def test_one_compiled_function_serves_all_channels_all_classes_and_all_weights(monkeypatch):
    model, built = convolutions(), []
    make = dream.Ascent
    monkeypatch.setattr(dream, "Ascent", lambda *args: built.append(1) or make(*args))
    for objective in [("conv2", 0), ("conv2", 3), 0, 3, "conv2", {"conv2": 0.5}]:
        dream.measure(model, photograph(), objective)
    assert len(built) == 3
    maps = keras.Model(model.inputs[0], model.get_layer("conv2").output)(photograph()[None])[0].numpy()
    for number in (0, 3):
        assert dream.measure(model, photograph(), ("conv2", number)) == pytest.approx(
            maps[..., number].mean(), rel=1e-5
        )
    assert dream.measure(model, photograph(), {"conv2": 0.5}) == pytest.approx(0.5 * (maps**2).mean(), rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_every_float_type_dreams_as_float32_does(policy):
    """With activations whose squares are beyond what float16 holds."""
    plain, model = convolutions(), with_policy(policy, convolutions)
    kernel, bias = plain.get_layer("conv1").get_weights()
    plain.get_layer("conv1").set_weights([kernel * 3000, bias])
    model.set_weights(plain.get_weights())
    expected, found = (dream.measure(one, photograph(), "conv1") for one in (plain, model))
    assert expected > 1e5 and found == pytest.approx(expected, rel=0.02)
    for objective in ("conv2", 2):
        result = run(model, photograph(), objective, octaves=1, steps=2)
        assert result.picture.dtype == np.float32 and result.octaves[0].after > result.octaves[0].before
    guided = dream.guided_dream(model, photograph(), photograph(13, 14), "conv2", octaves=1, steps=2, progress=False)
    assert guided.octaves[0].after > guided.octaves[0].before


def with_policy(policy, build):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


def test_inputs_by_name_and_of_whole_numbers_dream_as_plain_ones():
    plain = convolutions(size=(24, 20))
    for dtype, structure in (("uint8", lambda x: x), ("float32", lambda x: {"image": x}), ("float32", lambda x: [x])):
        picture = keras.Input((24, 20, 3), dtype=dtype, name="image")
        x = picture
        for layer in plain.layers:
            x = layer(x)
        twin = keras.Model(structure(picture), {"class": x})
        for objective in ("conv2", 1):
            dreams = [run(model, photograph(), objective, octaves=2, steps=2).picture for model in (plain, twin)]
            np.testing.assert_allclose(*dreams, atol=1e-3)


def test_where_there_is_no_gradient_it_says_so():
    for function in (tf.round, lambda x: tf.cast(tf.argmax(x, -1), "float32")[..., None]):
        with pytest.raises(ValueError, match="no gradient.*'stopped'"):
            run(network(L.Lambda(function, name="stopped")), photograph(), "stopped", octaves=1, steps=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(objective="conv3"), "no layer 'conv3'.*conv2"),
        (dict(objective={"conv1": 1, "nothing": 1}), "no layer 'nothing'"),
        (dict(objective={}), "objective is {}"),
        (dict(objective=("conv2", 5)), "channels 0 to 4"),
        (dict(objective=("conv2", -1)), "channels 0 to 4"),
        (dict(objective=4), "logits.* 0 to 3, and 4"),
        (dict(objective=1.5), "give a layer name"),
        (dict(octaves=0), "octaves=0"),
        (dict(steps=0), "steps=0"),
        (dict(steps=2.5), "steps=2.5"),
        (dict(steps=200.0), "steps=200.0.*whole number"),
        (dict(octaves="3"), "octaves='3'"),
        (dict(objective={"conv1": "much"}), "weight of 'conv1'='much'"),
        (dict(objective=True), "objective is True"),
        (dict(objective=("conv2", 1.5)), "1.5 is not one"),
        (dict(objective=synthesis.channel("conv2", 5)), "channels 0 to 4"),
        (dict(objective=synthesis.class_logit(-1)), "channels 0 to 3, and -1"),
        (dict(objective=dream.Objective(("conv2",), lambda y: tf.reduce_mean(y["conv2"]))), "gives \\(\\) for one"),
        (dict(image=photograph() / 255), "from 0 to 1.*Rescaling"),
        (dict(step=0), "step=0"),
        (dict(octave_scale=1), "octave_scale=1"),
        (dict(jitter=-1), "jitter=-1"),
        (dict(tile=0), "tile=0"),
        (dict(tile=7), "tile is 7.*'conv2' sees 8 pixels.*tile=32"),
        (dict(image=photograph()[None]), "One picture"),
        (dict(image=photograph()[..., :2]), "any × any × 3"),
        (dict(image=photograph() * np.nan), "NaN"),
        (dict(image=photograph() * 2), "0 to 255"),
        (dict(image=photograph(4, 4), octaves=5), "1 × 1 pixels are too few.*fewer octaves"),
    ],
)
def test_bad_input_is_refused_in_words(change, message):
    given = {"image": photograph(), "objective": "conv2", "octaves": 1, "steps": 1} | change
    with pytest.raises(ValueError, match=message):
        run(convolutions(), **given)


def test_networks_that_cannot_dream_so_say_why():
    with pytest.raises(ValueError, match="has no logits.*no class"):
        run(models.load("vgg19", weights=None), photograph(64, 64), 3)
    with pytest.raises(ValueError, match="20 × 20 pixels does not go through.*Flatten"):
        run(zoo.build("sequential"), photograph(20, 20), 3, octaves=1)
    with pytest.raises(ValueError, match="'gap' of .* puts out"):
        dream.guided_dream(convolutions(), photograph(), photograph(), "gap")
    with pytest.raises(ValueError, match="1 × 1 pixels are too few"):
        dream.guided_dream(convolutions(), photograph(), photograph(1, 1), "conv2")
    assert run(zoo.build("sequential"), photograph(16, 16), 3, octaves=1, steps=2).picture.shape == (16, 16, 3)
