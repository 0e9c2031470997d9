import socket
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from helpers import data, models
from helpers.models import applications

# Class and probability of the largest centred square, resized with Pillow's bicubic filter.
PHOTOS = {
    "bison.webp": (347, "bison", 0.83),
    "chicken.webp": (8, "hen", 0.88),
    "coffee.png": (967, "espresso", 0.94),
    "cow.webp": (345, "ox", 0.67),
    "crocodile.webp": (49, "African crocodile", 0.87),
    "duck.webp": (99, "goose", 0.82),
    "german_shepherd.webp": (235, "German shepherd", 0.98),
    "hedgehog.webp": (334, "porcupine", 0.90),
    "jaguar.webp": (290, "jaguar", 0.84),
    "kangaroo.webp": (104, "wallaby", 0.98),
    "koala.webp": (105, "koala", 0.94),
    "komodo_dragon.webp": (48, "Komodo dragon", 0.90),
    "lemur.webp": (383, "Madagascar cat", 0.85),
    "narwhal.webp": (147, "grey whale", 0.62),
    "panda.webp": (388, "giant panda", 0.94),
    "polar_bear.webp": (296, "ice bear", 0.98),
    "scarlet_macaw.webp": (88, "macaw", 0.89),
    "sheep.webp": (348, "ram", 0.83),
}
# One network of each family, that is of each module of keras.applications.
FAMILIES = {function.__module__: name for name, function in sorted(applications.constructors().items(), reverse=True)}
FAMILIES = sorted(set(FAMILIES.values()) - {"vgg19"})


def square(name, size=224):
    photo = Image.open(data.path(f"photos/{name}")).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return np.asarray(photo.crop((left, top, left + side, top + side)).resize((size, size), Image.BICUBIC), "float32")


def noise(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


@pytest.fixture(scope="module")
def lite0():
    return models.load()


def test_efficientnet_lite0_names_the_photographs(lite0):
    answers = models.decode(lite0(np.stack([square(name) for name in PHOTOS])), top=1)
    for ((index, label, probability),), expected in zip(answers, PHOTOS.values(), strict=True):
        assert (index, label) == expected[:2]
        assert probability == pytest.approx(expected[2], abs=0.02)


def test_efficientnet_lite0_loads_in_three_seconds():
    start = time.perf_counter()
    models.load("efficientnet_lite0")
    assert time.perf_counter() - start < 3


def test_layer_names_can_be_read(lite0):
    names = [layer.name for layer in lite0.layers]
    expected = "stem stem_relu block2a_expand block2a_depthwise block2a_project block2b_add head head_relu pool logits"
    assert set(expected.split()) <= set(names)
    assert names[:2] == ["image", "preprocess"] and names[-1] == "logits"
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in lite0.layers)


def test_vgg19_is_kerass_vgg19_with_the_channels_reversed_and_the_mean_subtracted():
    ours = models.load("vgg19", size=64)
    theirs = keras.applications.VGG19(weights=None, include_top=False, input_shape=(64, 64, 3))
    for layer in theirs.layers:
        if layer.weights:
            kernel, bias = ours.get_layer(layer.name).get_weights()
            layer.set_weights([kernel[:, :, ::-1] if layer.name == "block1_conv1" else kernel, bias])
    image = square("koala.webp", 64)[None]
    expected = np.asarray(theirs(keras.applications.vgg19.preprocess_input(image.copy())))
    assert expected.std() > 1
    np.testing.assert_allclose(ours(image), expected, rtol=1e-4, atol=1e-3)


def test_vgg19_features_tell_animals_apart():
    """Two bears are nearer to each other than to a cup of coffee: broken weights would not know."""
    features = np.asarray(
        models.load("vgg19")(np.stack([square(f) for f in ("koala.webp", "lemur.webp", "coffee.png")]))
    )
    koala, lemur, coffee = (f / np.linalg.norm(f) for f in features.mean(axis=(1, 2)))
    assert koala @ lemur > 1.3 * max(koala @ coffee, lemur @ coffee)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "vgg19"])
def test_sizes(name):
    assert models.load(name, weights=None).input_shape == (None, 224, 224, 3)
    assert models.load(name, size=96, weights=None).input_shape == (None, 96, 96, 3)
    assert models.load(name, size=(64, 96), weights=None).input_shape == (None, 64, 96, 3)
    free, fixed = models.load(name, size="any"), models.load(name, size=(64, 96))
    image = noise(1, 64, 96, 3)
    np.testing.assert_allclose(free(image), fixed(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [0, 31, (224,), (1, 2, 3), "native", 224.0, (224, None)])
def test_impossible_sizes(size):
    with pytest.raises(ValueError, match="size="):
        models.load("efficientnet_lite0", size=size)


@pytest.mark.parametrize("size", [32, "any"])
def test_the_digit_classifier_has_one_size(size):
    with pytest.raises(ValueError, match="28 × 28 only"):
        models.load("mnist_cnn", size=size)
    assert models.load("mnist_cnn", size=28).input_shape == (None, 28, 28, 1)


def test_unknown_names_and_weights():
    with pytest.raises(ValueError, match="'resnet5'.*resnet50.*efficientnet_lite0"):
        models.load("resnet5")
    with pytest.raises(ValueError, match="efficientnet_lite0"):
        models.load("zzz")
    with pytest.raises(ValueError, match="weights='noisy'"):
        models.load("vgg19", weights="noisy")


def test_available_names_the_bundled_ones_first():
    names = models.available()
    assert names[:3] == ["efficientnet_lite0", "vgg19", "mnist_cnn"]
    contract = "vgg16 resnet50 mobilenet_v2 mobilenet_v3_small inception_v3 densenet121 nasnet_mobile convnext_tiny"
    assert set(contract.split()) <= set(names) and len(names) == len(set(names))
    assert len(names) >= 40


def test_spelling_is_forgiving():
    assert models.load("EfficientNetV2B0", size=32, weights=None).input_shape == (None, 32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_keras_has_its_own_preprocessing_in_the_graph(name):
    constructor = applications.constructors()[name]
    model = models.load(name, size=96, weights=None)
    assert model.input is model.inputs[0]  # not a list of one
    steps = [layer.name for layer in model.layers if layer.name.startswith("preprocess")]
    entering = keras.Model(model.input, model.get_layer((["image"] + steps)[-1]).output)
    images = noise(2, 96, 96, 3)
    expected = sys.modules[constructor.__module__].preprocess_input(images.copy())
    np.testing.assert_allclose(entering(images), expected, atol=1e-4)
    assert model.input_shape == (None, 96, 96, 3) and model.output_shape == (None, 1000)
    assert model.layers[-1].get_config().get("activation", "linear") == "linear"  # logits
    assert model.layers[0].name == "image"  # flat: the network's own layers are top-level


def test_a_network_of_keras_gives_the_same_answer_with_its_preprocessing_inside(tmp_path):
    theirs = keras.applications.MobileNet(weights=None, input_shape=(64, 64, 3), classifier_activation=None)
    for layer in theirs.layers:  # otherwise the outputs are near 1e-10, and everything is close
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([w + 0.1 if n == 1 else w * 2 for n, w in enumerate(layer.get_weights())])
    theirs.save_weights(tmp_path / "mobilenet.weights.h5")
    ours = models.load("mobilenet", size=64, weights=str(tmp_path / "mobilenet.weights.h5"))
    images = noise(2, 64, 64, 3)
    expected = np.asarray(theirs(keras.applications.mobilenet.preprocess_input(images.copy())))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(ours(images), expected, rtol=1e-4, atol=1e-5 * np.ptp(expected))


def test_native_sizes_are_those_of_keras(monkeypatch):
    """Keras says its default size only to the function that completes the input shape."""
    for name, constructor in applications.constructors().items():
        module, heard = sys.modules[constructor.__module__], []

        def listen(shape, default_size, heard=heard, **_):
            heard.append(default_size)
            raise InterruptedError

        if hasattr(module.imagenet_utils, "obtain_input_shape") and not name.startswith("mobilenet_v3"):
            with monkeypatch.context() as patch, pytest.raises(InterruptedError):
                patch.setattr(module.imagenet_utils, "obtain_input_shape", listen)
                constructor(weights=None)
            assert heard == [applications.NATIVE_SIZES.get(constructor.__name__, 224)], name


def test_an_impossible_size_of_a_network_of_keras_is_explained():
    with pytest.raises(ValueError, match="vgg16 with size='any'"):
        models.load("vgg16", size="any", weights=None)


def test_without_network_the_error_names_the_bundled_models_in_seconds(monkeypatch, tmp_path):
    """A server that accepts and never answers is the slowest way to have no network."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.h5"

        def constructor(**_):
            keras.utils.get_file(origin=origin, cache_dir=tmp_path)

        monkeypatch.setattr(applications, "constructors", lambda: {"resnet50": constructor})
        monkeypatch.setattr(applications, "preprocess", lambda constructor, image: image)
        monkeypatch.setattr(applications, "SECONDS_OF_SILENCE", 1)
        start = time.perf_counter()
        with pytest.raises(ConnectionError, match="resnet50.*efficientnet_lite0, vgg19, mnist_cnn"):
            models.load("resnet50")
        assert time.perf_counter() - start < 5
    assert socket.getdefaulttimeout() is None


def test_a_refused_connection_names_the_bundled_models(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = f"http://127.0.0.1:{server.getsockname()[1]}/weights.h5"
    with pytest.raises(ConnectionError), applications._impatient_download():
        keras.utils.get_file(origin=origin, cache_dir=tmp_path)


def test_decode_is_the_softmax_with_names():
    assert models.decode(np.log([[1.0, 3.0]])) == [
        [(1, "class 1", pytest.approx(0.75)), (0, "class 0", pytest.approx(0.25))]
    ]
    ((digit, *_),) = models.decode(10.0 * np.eye(10)[[7]])
    assert digit[:2] == (7, "7")
    assert [label for _, label, _ in models.decode(np.arange(1000.0), top=3)] == ["toilet tissue", "ear", "bolete"]


def test_decode_of_one_image_has_no_batch_axis():
    logits = np.linspace(-1, 1, 10)
    assert models.decode(logits, top=2) == models.decode(logits[None], top=2)[0]
    assert len(models.decode(logits, top=99)) == 10


def test_decode_survives_large_logits_and_refuses_features():
    assert models.decode([1e4, 0.0], top=1) == [(0, "class 0", 1.0)]
    with pytest.raises(ValueError, match=r"\(2, 7, 7, 512\)"):
        models.decode(np.zeros((2, 7, 7, 512)))


@pytest.mark.parametrize("value", [0.02, 0.98, 0.5, 0, 1, -4.0, 3.0])
def test_one_number_stands_for_two_classes(value):
    p = value if 0 <= value <= 1 else 1 / (1 + np.exp(-value))  # a probability, or a logit
    expected = sorted([(0, "no", pytest.approx(1 - p)), (1, "yes", pytest.approx(p))], key=lambda one: -one[2].expected)
    assert models.decode([[value]], labels=["no", "yes"]) == [expected]
    assert [label for _, label, _ in models.decode([value])] == [f"class {index}" for index, *_ in expected]


def test_a_column_is_read_as_a_whole():
    """A logit below 1 beside one above it is a logit too."""
    low, high = (dict((index, p) for index, _, p in row) for row in models.decode([[0.4], [2.0]]))
    assert low[1] == pytest.approx(1 / (1 + np.exp(-0.4))) and high[1] == pytest.approx(1 / (1 + np.exp(-2)))


def test_probabilities_are_taken_as_they_are():
    given = np.float32([[0.01, 0.9, 0.09], [0.5, 0.25, 0.25]])
    assert models.decode(given, top=1) == [[(1, "class 1", np.float32(0.9))], [(0, "class 0", 0.5)]]
    assert models.decode(given[0]) == models.decode(given)[0]


def test_labels_that_do_not_exclude_each_other():
    given = np.array([[0.9, 0.8, 0.1]])
    with pytest.raises(ValueError, match="do not add up to 1.*activation="):
        models.decode(given)
    assert [p for *_, p in models.decode(given, activation="linear")[0]] == [0.9, 0.8, 0.1]
    logits = np.log(given / (1 - given))
    assert [p for *_, p in models.decode(logits, activation="sigmoid")[0]] == pytest.approx([0.9, 0.8, 0.1])
    softmax = np.exp(given[0]) / np.exp(given[0]).sum()
    assert [p for *_, p in models.decode(given, activation="softmax")[0]] == pytest.approx(softmax)


@pytest.mark.parametrize(
    ("outputs", "options", "says"),
    [
        ([[0.1, np.nan]], {}, "NaN"),
        ([[1.0, 2.0]], {"labels": ["one"]}, "1 names for 2 classes"),
        ([[0.3]], {"labels": ["dog"]}, "1 names for 2 classes"),
        ([[1.0, 2.0]], {"activation": "relu"}, "no activation 'relu'"),
        ([[1.0, 2.0]], {"activation": "linear"}, "no probabilities"),
        ([[1.0]], {"activation": "softmax"}, "one number for each image"),
    ],
)
def test_decode_refuses_in_words(outputs, options, says):
    with pytest.raises(ValueError, match=says):
        models.decode(outputs, **options)


def test_class_names_are_unique():
    names = models.class_names(1000)
    assert len(names) == len(set(names)) == 1000 and all(names)
    assert [names[i] for i in (134, 517, 638, 639)] == ["crane (bird)", "crane (machine)", "maillot", "tank suit"]
