"""Receptive fields against measurement, perturbation and published numbers; patches against the slow obvious way."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from helpers import engine, models, submodels, units
from tests import zoo

RNG = np.random.default_rng(0)


def network(*stack, shape=(23, 30, 2)):
    """Linear layers with positive weights: then a change of any pixel in the field changes the unit."""
    model = keras.Sequential([keras.Input(shape), *stack])
    for variable in model.trainable_variables:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape) / np.prod(variable.shape[:-1] or (1,)))
    model.layers[-1].name = "last"
    return model


def vgg_like():
    same = {"padding": "same", "activation": "relu"}
    return network(kl.Conv2D(3, 3, **same), kl.Conv2D(3, 3, **same), kl.MaxPooling2D(), kl.Conv2D(2, 5), kl.ReLU())


def strided_and_dilated():
    return network(
        kl.Conv2D(3, 4, strides=2, padding="same"),
        kl.Conv2D(3, 3, dilation_rate=(2, 1), padding="same"),
        kl.Conv2D(2, (2, 3), strides=3, padding="same"),
    )


def padded_and_cropped():
    return network(
        kl.ZeroPadding2D(((1, 2), (0, 3))),
        kl.DepthwiseConv2D(5, strides=2),
        kl.SeparableConv2D(3, 3, padding="same"),
        kl.Cropping2D(((2, 1), (1, 0))),
        kl.AveragePooling2D(3, strides=2, padding="same"),
        kl.BatchNormalization(),
    )


def resized():
    return network(
        kl.MaxPooling2D(3, strides=2, padding="same"),
        kl.UpSampling2D(2),
        kl.Conv2D(2, 3, padding="same"),
        kl.AveragePooling2D(3),
        kl.UpSampling2D((3, 2), interpolation="bilinear"),
        kl.Resizing(17, 11, interpolation="bilinear"),
        kl.Conv2D(2, 2, padding="same"),
        shape=(19, 22, 2),
    )


def transposed():
    return network(
        kl.Conv2D(2, 3, strides=2, padding="same"),
        kl.Conv2DTranspose(2, 3, strides=2, padding="same"),
        kl.MaxPooling2D(4, padding="same"),
        kl.Conv2DTranspose(2, 4, strides=3),
        kl.Conv2DTranspose(2, 5, strides=2, padding="same"),
        kl.Conv2D(2, 3, padding="same"),
        shape=(15, 18, 2),
    )


def residual():
    image = keras.Input((23, 30, 2))
    x = kl.Conv2D(3, 3, strides=2, padding="same")(image)
    for _ in range(2):
        branch = kl.BatchNormalization()(kl.Conv2D(3, 3, padding="same", activation="relu")(x))
        x = kl.Add()([x, kl.Conv2D(3, 3, padding="same")(branch)])
    far = kl.Conv2D(2, (1, 7), padding="same")(x)
    x = kl.LayerNormalization()(kl.Concatenate()([far, kl.Activation("gelu")(x) * 2 + 1]))
    return keras.Model(image, kl.Dense(2, name="last")(x))


def nested():
    return keras.Sequential(
        [keras.Input((46, 60, 2)), kl.AveragePooling2D(2), vgg_like(), kl.Conv2D(1, 2, name="last")], name="outer"
    )


def dilated_chain():
    """Rows between the taps of one window are on the taps of the next only for some places."""
    return network(
        kl.Conv2D(2, 3, dilation_rate=(3, 2), padding="same"),
        kl.DepthwiseConv2D(3, dilation_rate=(4, 4), padding="same"),
        kl.MaxPooling2D((1, 2)),
        kl.SeparableConv2D(2, (2, 3), dilation_rate=(5, 5), padding="same"),
    )


def dilated_and_strided():
    return network(
        kl.Conv2D(2, 2, dilation_rate=(6, 7), padding="same"),
        kl.Conv2D(2, 2, strides=(3, 2), padding="same"),
        kl.Conv2D(2, 3, dilation_rate=2, padding="same"),
    )


def dilated_and_transposed():
    return network(
        kl.Conv2D(2, 2, dilation_rate=(5, 1), padding="same"),
        kl.Conv2DTranspose(2, 2, strides=3),
        kl.Conv2D(2, 3, dilation_rate=(4, 7), padding="same"),
        kl.Conv2DTranspose(1, 1, strides=2, padding="same"),  # most units see nothing at all
        shape=(12, 10, 2),
    )


def dilated_branches():
    image = keras.Input((23, 30, 2))
    branches = [kl.Conv2D(2, 3, dilation_rate=rate, padding="same")(image) for rate in ((7, 1), (11, 9))]
    return keras.Model(image, kl.Conv2D(1, 2, dilation_rate=8, padding="same", name="last")(kl.Add()(branches)))


BUILDERS = [vgg_like, strided_and_dilated, padded_and_cropped, resized, transposed, residual, nested]
BUILDERS += [dilated_chain, dilated_and_strided, dilated_and_transposed, dilated_branches]


def maps_of(model, layer, pictures):
    return engine.run(submodels.activations(model, layer), pictures)[layer]


def positions(model, layer, count=8):
    """Corners, centre, and a few others."""
    height, width = submodels.activations(model, layer).outputs[0].shape[1:3]
    corners = list(itertools.product((0, height - 1), (0, width - 1)))
    others = zip(RNG.integers(0, height, count), RNG.integers(0, width, count), strict=True)
    return [*corners, None, *((int(row), int(column)) for row, column in others)]


@pytest.mark.parametrize("build", BUILDERS)
def test_arithmetic_agrees_with_measurement(build):
    model = build()
    before = [w.copy() for w in model.get_weights()]
    for position in positions(model, "last"):
        exact = units.receptive_field(model, "last", position)
        measured = units.receptive_field(model, "last", position, method="gradient")
        assert exact.clipped == measured.box == measured.clipped, position
        assert exact.position == measured.position
        assert exact.box[0] <= exact.clipped[0] and exact.box[3] >= exact.clipped[3]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("row", range(9))
def test_a_dilated_window_sees_only_its_taps(row):
    model = network(kl.Conv2D(1, 3, dilation_rate=3, padding="same"), shape=(9, 9, 1))
    taps = [tap for tap in (row - 3, row, row + 3) if 0 <= tap < 9]
    field = units.receptive_field(model, "last", (row, 4))
    assert field.box == (row - 3, 1, row + 4, 8) and field.size == (7, 7)
    assert field.clipped == (taps[0], 1, taps[-1] + 1, 8)


def test_a_dilated_transposed_window_sees_only_its_taps():
    """By the definition, since TensorFlow does not run it on a CPU: row i of the input goes to rows i + 4 k − 4."""
    model = keras.Sequential([keras.Input((9, 9, 1)), kl.Conv2DTranspose(1, 3, dilation_rate=4, padding="same")])
    for row in range(9):
        rows = [i for i in range(9) for k in range(3) if i + 4 * k - 4 == row]
        clipped = units.receptive_field(model, model.layers[-1], (row, 4)).clipped
        assert clipped == (rows[0], 0, rows[-1] + 1, 9)


def test_upsampling_has_a_stride_below_one():
    model = network(kl.Conv2DTranspose(1, 3, strides=3), kl.Conv2D(1, 2, strides=2), shape=(9, 9, 1))
    assert units.receptive_field(model, "last").stride == (2 / 3, 2 / 3)


@pytest.mark.parametrize("build", [strided_and_dilated, padded_and_cropped, resized, transposed, dilated_chain])
def test_only_the_pixels_of_the_box_matter_and_its_borders_do(build):
    """On the network itself: noise outside changes nothing, and each outermost row and column of the box counts."""
    model = build()
    probe = submodels.activations(model, "last")
    picture = RNG.uniform(0, 1, model.input_shape[1:]).astype("float32")
    for position in positions(model, "last", 3):
        field = units.receptive_field(model, "last", position)
        top, left, bottom, right = field.clipped
        inside = np.zeros(picture.shape[:2], bool)
        inside[top:bottom, left:right] = True
        noise = np.where(inside[..., None], picture, RNG.uniform(5, 9, picture.shape)).astype("float32")
        shown = [picture, noise]
        for edge in (np.s_[top], np.s_[bottom - 1], np.s_[:, left], np.s_[:, right - 1]):
            shown.append(picture.copy())
            shown[-1][edge] += np.where(inside, 100, 0)[edge][..., None]
        base, outside, *edges = engine.run(probe, np.stack(shown))["last"][:, *field.position]
        np.testing.assert_allclose(outside, base, rtol=1e-6)
        for changed in edges:
            assert np.abs(changed - base).max() > 1e-3, position


def test_the_fields_of_a_small_stack_on_paper():
    model = network(
        kl.Conv2D(1, 3, padding="same"), kl.MaxPooling2D(2), kl.Conv2D(1, 3, padding="same"), shape=(8, 8, 1)
    )
    assert units.receptive_field(model, "last") == ((2, 2), (8, 8), (2, 2), (1, 1, 9, 9), (1, 1, 8, 8))
    assert units.receptive_field(model, "last", (0, 3)) == ((0, 3), (8, 8), (2, 2), (-3, 3, 5, 11), (0, 3, 5, 8))


def test_uneven_padding_comes_after():
    model = network(kl.Conv2D(1, 3, strides=2, padding="same"), shape=(8, 9, 1))
    # 8 rows: one row of padding, below. 9 columns: one on either side.
    assert units.receptive_field(model, "last", (0, 0)).box == (0, -1, 3, 2)


def test_a_unit_that_sees_only_padding_sees_nothing():
    model = network(kl.ZeroPadding2D(2), shape=(4, 4, 1))
    for method in ("exact", "gradient"):
        assert units.receptive_field(model, "last", (0, 3), method).clipped == (0, 0, 0, 0)
    assert units.receptive_field(model, "last", (0, 3)).box == (-2, 1, -1, 2)


@pytest.mark.parametrize(
    ("name", "layer", "size", "stride"),
    [  # Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", table 1; VGG by the formula
        ("vgg16", "block5_pool", 212, 32),
        ("vgg19", "block5_conv4", 252, 16),
        ("resnet50", "conv5_block3_out", 483, 32),
        ("mobilenet", "conv_pw_13_relu", 315, 32),
    ],
)
def test_published_sizes(name, layer, size, stride):
    constructors = {"vgg16": "VGG16", "vgg19": "VGG19", "resnet50": "ResNet50", "mobilenet": "MobileNet"}
    model = getattr(keras.applications, constructors[name])(weights=None, include_top=False, input_shape=(224, 224, 3))
    field = units.receptive_field(model, layer)
    assert field.size == (size, size) and field.stride == (stride, stride)


@pytest.mark.slow
def test_real_networks_agree_with_measurement():
    mobilenet = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    for model, layers in [
        (models.load("mnist_cnn"), ["conv1", "pool1", "conv2", "pool2"]),
        (
            models.load("efficientnet_lite0", weights=None),
            ["stem", "block2b_add", "block3b_depthwise", "block5a_project"],
        ),
        (mobilenet, ["block_2_add", "block_4_add", "block_6_project"]),
    ]:
        for layer in layers:
            for position in [None, (0, 0), (3, 4)]:
                exact = units.receptive_field(model, layer, position)
                assert exact.clipped == units.receptive_field(model, layer, position, "gradient").clipped, layer


def test_deep_border_pixels_are_not_lost_to_underflow():
    model = network(*(kl.Conv2D(4, 3, padding="same") for _ in range(60)), shape=(160, 160, 1))
    field = units.receptive_field(model, "last", method="gradient")
    assert field.box == units.receptive_field(model, "last").box == (20, 20, 141, 141)


def test_squeeze_and_excitation_and_dense_see_everything():
    image = keras.Input((20, 24, 2))
    x = kl.Conv2D(4, 3, padding="same", name="before")(image)
    gate = kl.Reshape((1, 1, 4))(kl.Dense(4, activation="sigmoid")(kl.GlobalAveragePooling2D()(x)))
    x = kl.Conv2D(4, 3, padding="same", name="after")(kl.Multiply()([x, gate]))
    kept = kl.Conv2D(4, 1, activation="hard_sigmoid")(kl.GlobalMaxPooling2D(keepdims=True)(x))
    x = kl.Conv2D(4, 3, name="second")(x * kept)
    model = keras.Model(image, kl.Dense(3, name="logits")(kl.Flatten()(x)))
    assert units.receptive_field(model, "before").clipped == (9, 11, 12, 14)
    for layer in ("after", "second", "logits"):
        for method in ("exact", "gradient"):
            assert units.receptive_field(model, layer, method=method).clipped == (0, 0, 20, 24)
    assert units.receptive_field(model, "after").stride == (1, 1)
    assert units.receptive_field(model, "logits").stride == (0, 0)
    assert units.receptive_field(model, "logits").position is None


def test_free_size():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, kl.Conv2D(2, 3, strides=2, padding="same", name="last")(image))
    with pytest.raises(ValueError, match="any size.*size="):
        units.receptive_field(model, "last")
    # The uneven padding depends on the size of the picture.
    assert units.receptive_field(model, "last", (0, 0), size=(8, 9)).box == (0, -1, 3, 2)
    assert units.receptive_field(model, "last", (0, 0), "gradient", size=(8, 9)).box == (0, 0, 3, 2)


def test_receptive_field_errors():
    model = vgg_like()
    with pytest.raises(ValueError, match="no layer 'lost'.*'last'"):
        units.receptive_field(model, "lost")
    with pytest.raises(ValueError, match="7 × 11 positions"):
        units.receptive_field(model, "last", (7, 0))
    with pytest.raises(ValueError, match="'exact', 'gradient'"):
        units.receptive_field(model, "last", method="guess")
    with pytest.raises(ValueError, match="23 × 30 pixels"):
        units.receptive_field(model, "last", size=(24, 30))
    flipped = keras.Sequential([keras.Input((6, 6, 1)), kl.Lambda(lambda x: x[:, ::-1], name="flip")])
    with pytest.raises(ValueError, match="Lambda 'flip' reaches is not known.*gradient"):
        units.receptive_field(flipped, "flip")
    dense = keras.Sequential([keras.Input((6, 6, 1)), kl.Flatten(), kl.Dense(2, name="dense")])
    with pytest.raises(ValueError, match="no spatial axes"):
        units.receptive_field(dense, "dense", (0, 0))


AUGMENTED = [
    kl.RandomFlip(),
    kl.RandomRotation(0.2),
    kl.RandomZoom(0.3),
    kl.RandomTranslation(0.2, 0.2),
    kl.RandomContrast(0.5),
    kl.RandomBrightness(0.5, value_range=(0, 1)),
    kl.GaussianNoise(1.0),
    kl.SpatialDropout2D(0.5),
    kl.ActivityRegularization(),
]


def test_what_is_idle_is_passed_and_nothing_is_drawn():
    model = network(*AUGMENTED, kl.Conv2D(2, 3, dilation_rate=2, padding="same", name="conv"), shape=(16, 14, 3))
    before = [variable.numpy() for variable in model.variables]
    picture = RNG.uniform(size=(16, 14, 3)).astype("float32")
    for position in ((0, 0), (1, 13), (8, 7)):
        fields = [units.receptive_field(model, "last", position, method) for method in ("exact", "gradient")]
        rows, columns = ([t for t in (p - 2, p, p + 2) if 0 <= t < n] for p, n in zip(position, (16, 14), strict=True))
        for field in fields:
            assert field.clipped == (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    one, two = (units.effective_receptive_field(model, "last", picture) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(*(units.top_patches(model, "last", 0, picture).scores for _ in range(2)))
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new)


class Standardised(kl.Conv2D):
    """A kernel of its own making, in the window of its parent."""

    def call(self, x):
        kernel = (self.kernel - keras.ops.mean(self.kernel)) / keras.ops.std(self.kernel)
        return keras.ops.conv(x, kernel, self.strides, self.padding, dilation_rate=self.dilation_rate)


class Rolled(kl.Conv2D):
    """What its parent computes, moved by two rows."""

    def call(self, x):
        return keras.ops.roll(super().call(x), 2, axis=1)


class Half(kl.Conv2D):
    """The upper rows of the window of its parent alone."""

    def call(self, x):
        return keras.ops.conv(keras.ops.pad(x, ((0, 0), (1, 0), (1, 1), (0, 0))), self.kernel[:2])


class Middle(kl.Conv2D):
    """Nothing but the middle of the window of its parent."""

    def call(self, x):
        return keras.ops.conv(x, self.kernel[1:2, 1:2])


def test_a_layer_of_a_readers_own_is_known_by_what_it_sees():
    model = network(Standardised(2, 3, dilation_rate=2, padding="same"), shape=(12, 12, 2))
    assert units.receptive_field(model, "last", (1, 5)).clipped == (1, 3, 4, 8)
    model = network(Middle(2, 3, padding="same"), shape=(12, 12, 2))
    assert units.receptive_field(model, "last", (1, 5)).clipped == (1, 5, 2, 6)
    for own in (Rolled, Half):
        model = network(own(2, 3, padding="same"), shape=(12, 12, 2))
        with pytest.raises(ValueError, match=f"{own.__name__} 'last' reaches is not known.*gradient"):
            units.receptive_field(model, "last")


def test_inputs_by_name_by_keyword_and_of_whole_numbers():
    def build(dtype, structure):
        keras.utils.set_random_seed(0)
        image = keras.Input((12, 14, 3), dtype=dtype, name="image")
        x = kl.Rescaling(1 / 255)(image)
        x = kl.Conv2D(4, 3, strides=2, activation="relu", name="last")(inputs=x)
        return keras.Model(structure(image), {"class": kl.Dense(3)(kl.GlobalAveragePooling2D()(x))})

    plain, pictures = build("float32", lambda x: x), RNG.integers(0, 256, (3, 12, 14, 3))
    effective = units.effective_receptive_field(plain, "last", pictures, channel=1)
    assert effective.max() > 0
    for twin in (
        build("float32", lambda x: {"image": x}),
        build("uint8", lambda x: x),
        build("float32", lambda x: [x]),
    ):
        for method in ("exact", "gradient"):
            fields = [units.receptive_field(model, "last", (0, 1), method) for model in (plain, twin)]
            assert fields[0] == fields[1]
        np.testing.assert_allclose(units.effective_receptive_field(twin, "last", pictures, channel=1), effective)
        for one, two in zip(*(units.top_patches(m, "last", 2, pictures) for m in (plain, twin)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_every_float_type_answers_in_float32(policy):
    layers = [{"filters": 4, "kernel_size": 3, "name": "conv"}, {"filters": 2, "kernel_size": 2, "name": "last"}]
    plain, model = (
        keras.Sequential([keras.Input((12, 14, 3)), *(kl.Conv2D(**one, dtype=dtype) for one in layers)])
        for dtype in ("float32", policy)
    )
    model.set_weights(plain.get_weights())
    pictures = RNG.uniform(0, 255, (3, 12, 14, 3)).astype("float32")
    rounding = {"rtol": 0.03, "atol": 0.03}
    expected, found = (units.effective_receptive_field(m, "last", pictures) for m in (plain, model))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, **rounding)
    expected, found = (units.top_patches(m, "last", 1, pictures) for m in (plain, model))
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=3)
    loud = [weight * 1000 for weight in plain.get_weights()[:2]] + plain.get_weights()[2:]
    for m in (plain, model):
        m.set_weights(loud)
    expected, found = (units.activity(m, pictures, "conv")["conv"] for m in (plain, model))
    assert expected.energy > 1e5 and np.isfinite(found.energy) or policy == "mixed_float16"
    if policy != "mixed_float16":  # there the maps themselves are beyond what the type holds
        np.testing.assert_allclose(found, expected, rtol=0.03)
    assert units.receptive_field(model, "last") == units.receptive_field(plain, "last")


def test_nothing_piles_up_on_the_model():
    model = patch_network()
    for place in ((0, 0), (3, 4), (5, 6)):
        for channel in (None, 0, 3):
            units.effective_receptive_field(model, "last", PICTURES[0], place, channel)
    for channels, count in (([0], 1), ([1, 2], 5), ([4], 9)):
        units.top_patches(model, "last", channels, PICTURES[:4], count=count, per_image=None)
    kept = model.__dict__["_helpers_cache"].built
    assert len([key for key in kept if "effective_receptive_field" in key]) == 1
    assert len([key for key in kept if "strongest places" in key]) == 1


def test_no_gradient_is_not_zero():
    stopped = network(
        kl.Lambda(lambda x: keras.ops.cast(keras.ops.argmax(x, -1), "float32")[..., None]), shape=(6, 6, 2)
    )
    with pytest.raises(ValueError, match="no gradient.*'last'"):
        units.effective_receptive_field(stopped, "last", np.zeros((6, 6, 2)))


def test_layers_as_objects_and_by_their_place():
    model = patch_network()
    for layer in (model.get_layer("last"), 2):
        assert units.receptive_field(model, layer) == units.receptive_field(model, "last")
        found, expected = (units.top_patches(model, one, 1, PICTURES) for one in (layer, "last"))
        np.testing.assert_array_equal(found.patches, expected.patches)
    assert list(units.activity(model, PICTURES, [model.layers[0]])) == [model.layers[0].name]


def test_effective_field_of_one_convolution_is_its_kernel():
    model = network(kl.Conv2D(2, 3, strides=2), shape=(9, 9, 2))
    kernel = model.get_layer("last").get_weights()[0]
    pictures = RNG.uniform(size=(5, 9, 9, 2))
    found = units.effective_receptive_field(model, "last", pictures, position=(1, 2), batch=2)
    expected = np.zeros((9, 9))
    expected[2:5, 4:7] = kernel.sum(axis=(2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    one = units.effective_receptive_field(model, "last", pictures[0], position=(1, 2), channel=1)
    np.testing.assert_allclose(one[2:5, 4:7], kernel[..., 1].sum(axis=2), atol=1e-6)


def test_effective_field_averages_over_pictures_and_stays_in_the_box():
    model = models.load("mnist_cnn")
    pictures = RNG.uniform(0, 255, (6, 28, 28, 1)).astype("float32")
    mean = units.effective_receptive_field(model, "conv2", pictures, batch=4)
    singles = [units.effective_receptive_field(model, "conv2", picture) for picture in pictures]
    np.testing.assert_allclose(mean, np.mean(singles, axis=0), rtol=1e-4, atol=1e-9)
    top, left, bottom, right = units.receptive_field(model, "conv2").clipped
    inside = np.zeros((28, 28), bool)
    inside[top:bottom, left:right] = True
    assert mean[inside].max() > 0 and not mean[~inside].any()
    with pytest.raises(ValueError, match="channels 0 to 31"):
        units.effective_receptive_field(model, "conv2", pictures, channel=32)


def patch_network():
    model = network(
        kl.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
        kl.MaxPooling2D(2),
        kl.Conv2D(5, 3, padding="same", name="last"),
        kl.GlobalAveragePooling2D(),
        shape=(24, 28, 3),
    )
    keras.utils.set_random_seed(4)
    for variable in model.trainable_variables:
        variable.assign(keras.random.normal(variable.shape))
    model.layers[-1].name, model.layers[-2].name = "pool", "last"
    return model


PICTURES = RNG.uniform(0, 255, (37, 24, 28, 3)).astype("float32")


@pytest.mark.parametrize("per_image", [1, 2, None])
def test_patches_like_the_slow_obvious_way(per_image):
    model = patch_network()
    maps = maps_of(model, "last", PICTURES)
    answers = units.top_patches(model, "last", [3, 0], PICTURES, count=7, per_image=per_image, batch=8)
    for channel, found in zip([3, 0], answers, strict=True):
        order = np.argsort(-maps[..., channel].ravel(), kind="stable")
        images, *places = np.unravel_index(order, maps.shape[:3])
        taken, rank = [], 0
        while len(taken) < 7:
            if per_image is None or sum(images[i] == images[rank] for i in taken) < per_image:
                taken.append(rank)
            rank += 1
        np.testing.assert_array_equal(found.images, images[taken])
        np.testing.assert_array_equal(found.positions, np.stack(places, -1)[taken])
        np.testing.assert_allclose(found.scores, maps[..., channel].ravel()[order][taken], rtol=1e-5)
        assert found.channel == channel and found.scores.dtype == np.float32
        for index in range(7):
            field = units.receptive_field(model, "last", found.positions[index])
            assert tuple(found.boxes[index]) == field.box
            top, left, bottom, right = field.box
            padded = np.full((24 + 80, 28 + 80, 3), 128, "float32")
            padded[40:-40, 40:-40] = PICTURES[found.images[index]]
            np.testing.assert_array_equal(found.patches[index], padded[40 + top : 40 + bottom, 40 + left : 40 + right])


def test_only_the_patch_makes_the_score():
    """Noise everywhere outside the box leaves the score as it is."""
    model = patch_network()
    found = units.top_patches(model, "last", 2, PICTURES, count=20)
    for score, image, (row, column), (top, left, bottom, right) in zip(*found[2:6], strict=True):
        noise = RNG.uniform(0, 255, PICTURES[0].shape)
        rows, columns = slice(max(top, 0), bottom), slice(max(left, 0), right)
        noise[rows, columns] = PICTURES[image][rows, columns]
        answer = maps_of(model, "last", noise[None])[0, row, column, 2]
        np.testing.assert_allclose(answer, score, rtol=1e-5)


def test_patches_from_any_collection_are_the_same():
    model = patch_network()
    array = units.top_patches(model, "last", 1, PICTURES)
    for images in (list(PICTURES), (picture for picture in PICTURES), PICTURES.astype("float64")):
        for ours, theirs in zip(array, units.top_patches(model, "last", 1, images, batch=5), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert array.patches.shape == (9, 13, 13, 3) and len(set(array.images)) == 9
    few = units.top_patches(model, "last", 1, PICTURES[0], per_image=3)
    assert few.scores.shape == (3,) and (np.diff(few.scores) <= 0).all()


def test_padding_and_fields_larger_than_the_picture():
    model = patch_network()
    edge = units.top_patches(model, "last", 1, PICTURES, count=500, per_image=None, pad="edge")
    grey = units.top_patches(model, "last", 1, PICTURES, count=500, per_image=None, pad=7)
    index = np.flatnonzero(edge.boxes[:, 0] < 0)[0]
    assert (grey.patches[index][0] == 7).all()
    first = -edge.boxes[index, 0]
    np.testing.assert_array_equal(edge.patches[index][0], edge.patches[index][first])

    deep = network(kl.Conv2D(2, (31, 3), padding="same"), shape=(24, 28, 3))
    found = units.top_patches(deep, "last", 0, PICTURES, count=2)
    assert found.patches.shape == (2, 24, 3, 3)
    assert (found.boxes[:, 0] == 0).all() and (found.boxes[:, 2] == 24).all()


def test_equal_scores_go_to_the_earlier():
    model = network(kl.Conv2D(1, 1), shape=(4, 4, 1))
    found = units.top_patches(model, "last", 0, np.ones((20, 4, 4, 1)), count=3, batch=2)
    assert found.images.tolist() == [0, 1, 2] and not found.positions.any()


def test_patch_errors():
    model = patch_network()
    with pytest.raises(ValueError, match="'pool' of .* no spatial axes"):
        units.top_patches(model, "pool", 0, PICTURES)
    with pytest.raises(ValueError, match="channels 0 to 4, and 5"):
        units.top_patches(model, "last", [0, 5], PICTURES)
    for wrong in ({"count": 0}, {"count": 2.0}, {"per_image": 0}, {"per_image": 1.5}):
        with pytest.raises(ValueError, match=f"{list(wrong)[0]}=.*whole number"):
            units.top_patches(model, "last", 0, PICTURES, **wrong)
    with pytest.raises(ValueError, match="not the path"):
        units.top_patches(model, "last", 0, "pictures/")
    with pytest.raises(ValueError, match="tf.data.Dataset"):
        units.activity(model, tf.data.Dataset.from_tensor_slices(PICTURES), "last")
    with pytest.raises(ValueError, match="24 × 28"):
        units.activity(model, PICTURES[:, :20], "last")
    with pytest.raises(ValueError, match="24 × 28"):
        units.top_patches(model, "last", 0, PICTURES[:, :20])
    with pytest.raises(ValueError, match="crop them to one size"):
        units.top_patches(model, "last", 0, [PICTURES[0], PICTURES[0, :20]])
    with pytest.raises(ValueError, match="shape \\(2, 24, 28, 3\\)"):
        units.top_patches(model, "last", 0, [PICTURES[:2]])
    with pytest.raises(ValueError, match="empty"):
        units.top_patches(model, "last", 0, [])


def test_activity_equals_its_definition():
    model, pictures = zoo.build("functional"), zoo.pictures(7)
    kernel, bias = model.get_layer("conv1").get_weights()
    bias[2] = -1000  # a channel that cannot fire
    model.get_layer("conv1").set_weights([kernel, bias])
    found = units.activity(model, pictures, ["conv1", "relu2"], batch=3)
    for name, numbers in found.items():
        maps = engine.run(submodels.activations(model, name), pictures)[name]
        assert numbers.sparsity == pytest.approx((maps == 0).mean())
        assert numbers.dead == pytest.approx((maps.reshape(-1, maps.shape[-1]) == 0).all(0).mean())
        assert numbers.energy == pytest.approx((maps**2).mean(), rel=1e-5)
    assert found["conv1"].dead >= 1 / 6
    assert list(units.activity(model, pictures, ["relu2", "conv1"])) == ["relu2", "conv1"]
