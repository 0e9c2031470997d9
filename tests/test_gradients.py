"""Gradients as attributions: closed forms, slow obvious twins, exact laws, and what must be refused."""

import inspect
import warnings

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from helpers import engine, gradients, images, models, submodels
from helpers.attribution import integrated, regions, shared

from . import zoo

L, ops = keras.layers, keras.ops
METHODS = [
    gradients.saliency,
    gradients.gradient_x_input,
    gradients.guided_backprop,
    gradients.deconv_backprop,
    gradients.smoothgrad,
    gradients.vargrad,
    gradients.integrated_gradients,
    gradients.blur_integrated_gradients,
    gradients.guided_integrated_gradients,
    gradients.xrai,
    gradients.fullgrad,
]
MAPS = (gradients.xrai, gradients.fullgrad)
QUICK = {
    "smoothgrad": {"samples": 4},
    "vargrad": {"samples": 4},
    "integrated_gradients": {"steps": 20},
    "blur_integrated_gradients": {"steps": 20},
    "guided_integrated_gradients": {"steps": 20},
    "xrai": {"steps": 8},
}


def run(method, model, pictures, target=None, /, **options):
    """A method with few passes, without a bar, and without its warning of a gap."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return method(model, pictures, target, progress=False, **{**QUICK.get(method.__name__, {}), **options})


def closed_form(function, shape):
    """A network that computes `function` of the pixels, as its only output."""
    picture = keras.Input(shape)
    return keras.Model(picture, ops.reshape(function(ops.reshape(picture, (-1, int(np.prod(shape))))), (-1, 1)))


def tape_gradient(model, pictures, target):
    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(pictures))
        score = target(model(x, training=False))
    return tape.gradient(score, x).numpy()


@pytest.fixture(scope="module")
def residual():
    return zoo.common("residual")


@pytest.fixture(scope="module")
def efficientnet():
    return models.load()


# What holds for all of them


@pytest.mark.parametrize("method", METHODS)
def test_one_picture_a_batch_of_one_and_of_33_give_the_same_rows(method, residual):
    pictures = zoo.pictures(33 if method is not gradients.xrai else 8)  # segments take their time
    many = run(method, residual, pictures, 2)
    assert many.dtype == np.float32
    assert many.shape == (pictures.shape[:3] if method in MAPS else pictures.shape)
    np.testing.assert_allclose(run(method, residual, pictures[:1], 2)[0], many[0], atol=2e-5 * np.abs(many).max())
    np.testing.assert_allclose(run(method, residual, pictures[7], 2), many[7], atol=2e-5 * np.abs(many).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_every_build_of_network_and_the_own_class_as_default(method, name):
    model, pictures = zoo.common(name), zoo.pictures(2)
    own = np.argmax(model(pictures, training=False), -1)
    found = run(method, model, pictures)
    np.testing.assert_array_equal(found, run(method, model, pictures, own))
    assert np.isfinite(found).all() and found.any()


@pytest.mark.parametrize("method", METHODS)
def test_two_outputs_need_a_function(method):
    model = zoo.common("two_outputs")
    with pytest.raises(ValueError, match="2 outputs"):
        run(method, model, zoo.pictures(2), 1)
    kind, size = (
        run(method, model, zoo.pictures(2), target) for target in (lambda y: y["kind"][:, 1], lambda y: y["size"][:, 0])
    )
    assert np.abs(kind - size).max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_digits_and_a_picture_without_structure(method):
    model = models.load("mnist_cnn")
    found = run(method, model, np.stack([np.zeros((28, 28, 1)), np.full((28, 28, 1), 255.0)]), 3)
    assert found.shape == ((2, 28, 28) if method in MAPS else (2, 28, 28, 1))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_refused(method, residual):
    for pictures, target, message in (
        (np.zeros((16, 16)), 0, "give \\(B, H, W, C\\)"),
        (np.zeros((1, 8, 8, 3)), 0, "16 × 16 × 3"),
        (np.full((1, 16, 16, 3), np.nan), 0, "NaN"),
        (zoo.pictures(1), 5, "0 to 4"),
        (zoo.pictures(1), [0, 1], "one int for each of the 1 pictures"),
    ):
        with pytest.raises(ValueError, match=message):
            run(method, residual, pictures, target)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method):
    model, pictures = zoo.build("functional"), zoo.pictures(2)
    weights, plain = [np.copy(w) for w in model.get_weights()], run(gradients.saliency, model, pictures, 1)
    layers = [layer.get_config() for layer in model.layers]
    run(method, model, pictures, 1)
    for one, two in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert layers == [layer.get_config() for layer in model.layers]
    np.testing.assert_array_equal(plain, run(gradients.saliency, model, pictures, 1))


@pytest.mark.parametrize("method", METHODS)
def test_same_bits_again(method, residual):
    np.testing.assert_array_equal(*(run(method, residual, zoo.pictures(2), 1) for _ in range(2)))


def test_signatures_are_those_of_a_method():
    for method in METHODS:
        parameters = inspect.signature(method).parameters
        assert list(parameters)[:3] == ["model", "images", "target"] and parameters["target"].default is None


# One pass


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_saliency_and_gradient_x_input(name):
    model, pictures = zoo.common(name), zoo.pictures(3)
    wanted = tape_gradient(model, pictures, lambda y: y[:, 2])
    np.testing.assert_allclose(
        gradients.saliency(model, pictures, 2), wanted, rtol=1e-3, atol=2e-5 * np.abs(wanted).max()
    )
    np.testing.assert_allclose(
        gradients.gradient_x_input(model, pictures, 2), wanted * pictures, atol=1e-4 * np.abs(wanted).max()
    )
    assert (wanted < 0).any()  # nothing is made positive


@pytest.mark.parametrize(
    ("ceiling", "deconv", "guided", "plain"),
    [(None, [10, 0, 0, 20], [10, 0, 0, 20], [10, 0, 0, 20]), (3, [6, 0, 0, 6], [0, 0, 0, 0], [0, 0, 0, 0])],
)
def test_the_rules_on_paper(ceiling, deconv, guided, plain):
    model = closed_form(lambda x: ops.sum(ops.square(L.ReLU(max_value=ceiling)(x)), -1), (1, 4, 1))
    picture = np.reshape([5.0, -1, -2, 10], (1, 4, 1))
    for method, wanted in (("deconv_backprop", deconv), ("guided_backprop", guided), ("saliency", plain)):
        np.testing.assert_allclose(getattr(gradients, method)(model, picture, 0).ravel(), wanted)


def test_the_rules_keep_what_is_positive_on_the_way_back():
    model = closed_form(lambda x: ops.sum(ops.relu(x) * np.array([1.0, -1, 1, -1], "float32"), -1), (1, 4, 1))
    picture = np.reshape([1.0, 1, -1, -1], (1, 4, 1))
    assert gradients.saliency(model, picture, 0).ravel().tolist() == [1, -1, 0, 0]
    assert gradients.guided_backprop(model, picture, 0).ravel().tolist() == [1, 0, 0, 0]
    assert gradients.deconv_backprop(model, picture, 0).ravel().tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("rule", ["guided", "deconv"])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("sequential", "pool1"),  # the ReLU is a layer
        ("residual", "depthwise"),  # ReLU6
        ("transfer", "join"),  # a network in the network
        ("shared", "inside#2"),
        ("vgg19", "block3_conv2"),
    ],
)
def test_the_rules_against_the_explicit_deconvnet(name, layer, rule):
    if name == "vgg19":
        model, pictures = models.load("vgg19", size=48), images.batch(images.sample("koala"), size=48)
    else:
        model, pictures = zoo.common(name), zoo.pictures(2)
    probe = submodels.activations(model, layer)
    seed = np.zeros((len(pictures), *probe.outputs[0].shape[1:]), "float32")
    seed[:, 3, 3, 1] = 1
    wanted = engine.run(submodels.deconvnet(model, layer, rule), pictures, seed)
    method = getattr(gradients, f"{rule}_backprop")
    found = method(probe, pictures, lambda y: y[layer][:, 3, 3, 1])
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert wanted.any()
    plain = gradients.saliency(probe, pictures, lambda y: y[layer][:, 3, 3, 1])
    if (name, rule) != ("sequential", "guided"):  # under one ReLU, with a positive signal, guided is the gradient
        assert np.abs(found - plain).max() > 0.01 * np.abs(plain).max()


@pytest.mark.parametrize("method", [gradients.guided_backprop, gradients.deconv_backprop])
def test_a_rule_without_a_relu_is_refused(method):
    picture = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, activation="swish", name="conv")(picture)
    model = keras.Model(picture, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="no ReLU.*silu"):
        method(model, np.ones((8, 8, 3)), 0)


def test_guided_follows_the_weights_through_folding():
    model, pictures = zoo.build("functional"), zoo.pictures(2)
    gradients.guided_backprop(model, pictures, 1)
    norm = model.get_layer("norm2")
    norm.set_weights([w * 1.5 for w in norm.get_weights()])
    wanted = tape_gradient(submodels.relu_rule(model, "guided"), pictures, lambda y: y[:, 1])
    found = gradients.guided_backprop(model, pictures, 1)
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


# Noisy copies


@pytest.mark.parametrize("base", [gradients.saliency, gradients.gradient_x_input, gradients.fullgrad])
def test_smoothgrad_without_noise_is_the_method_itself(base, residual):
    pictures = zoo.pictures(3)
    plain = base(residual, pictures)
    for squared, wanted in ((False, plain), (True, plain**2)):
        found = gradients.smoothgrad(residual, pictures, base=base, noise=0, samples=5, squared=squared, progress=False)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())
    none = gradients.vargrad(residual, pictures, base=base, noise=0, samples=5, progress=False)
    assert none.max() <= 1e-9 * np.abs(plain).max() ** 2


def test_noisy_copies_against_the_slow_obvious_loop(residual):
    pictures = zoo.pictures(3) * np.reshape([1.0, 2.0, 5.0], (3, 1, 1, 1)).astype("float32")
    own = residual(pictures).numpy().argmax(-1)
    random, found = np.random.default_rng(7), []
    for _ in range(11):
        draw = random.standard_normal((16, 16, 3), dtype="float32")
        noisy = np.stack([x + 0.3 * (x.max() - x.min()) * draw for x in pictures]).astype("float32")
        found.append(gradients.saliency(residual, noisy, own))
    options = {"samples": 11, "noise": 0.3, "seed": 7, "batch": 4, "progress": False}
    scale = np.abs(found).max()
    for squared, wanted in ((False, np.mean(found, 0)), (True, np.mean(np.square(found), 0))):
        smooth = gradients.smoothgrad(residual, pictures, squared=squared, **options)
        np.testing.assert_allclose(smooth, wanted, atol=1e-5 * scale)
    np.testing.assert_allclose(
        gradients.vargrad(residual, pictures, **options), np.var(found, axis=0), atol=1e-5 * scale**2
    )


@pytest.mark.filterwarnings("ignore:The attribution does not add up")
def test_noisy_copies_of_any_method_with_its_options(residual, capsys):
    pictures = zoo.pictures(2)
    options = {"base": gradients.integrated_gradients, "samples": 3, "progress": False}
    one = gradients.smoothgrad(residual, pictures, 1, steps=32, **options)
    assert one.shape == pictures.shape
    other = gradients.smoothgrad(residual, pictures, 1, steps=32, baseline=1.0, **options)
    assert np.abs(one - other).max() > 0.01 * np.abs(one).max()
    assert gradients.smoothgrad(residual, pictures, 1, **{**options, "base": gradients.fullgrad}).shape == (2, 16, 16)
    assert not capsys.readouterr().err  # no bar, not even of the method inside


def test_another_seed_is_another_answer(residual):
    options = {"samples": 3, "progress": False}
    one, two = (gradients.smoothgrad(residual, zoo.pictures(1), 0, seed=seed, **options) for seed in (0, 1))
    assert np.abs(one - two).max() > 0


@pytest.mark.parametrize("options", [{"samples": 0}, {"samples": 2.5}, {"noise": -0.1}, {"noise": np.nan}])
def test_bad_noise_is_refused(options, residual):
    for method in (gradients.smoothgrad, gradients.vargrad):
        with pytest.raises(ValueError, match="samples=|noise="):
            method(residual, zoo.pictures(1), 0, progress=False, **options)


# Along a path

# f(x, y, z) = 5x + y² + sin z: the variables do not meet, so each has the difference that it makes.
SEPARATE = (lambda v: 5 * v[:, 0] + v[:, 1] ** 2 + ops.sin(v[:, 2]), [0.5, 1.0, 1.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "options",
    [{}, {"steps": 200}, {"steps": 8, "method": "gauss_legendre"}, {"baseline": [[0.5, 1.0, 1.0]]}],
    ids=["auto", "midpoint", "gauss_legendre", "list"],
)
def test_integrated_gradients_where_variables_do_not_meet(options):
    function, start, end = SEPARATE
    model = closed_form(function, (1, 1, 3))
    start, end = (np.array(v, "float32").reshape(1, 1, 3) for v in (start, end))
    given = [start] if "baseline" in options else start
    found, gap = gradients.integrated_gradients(
        model, end, 0, **{**options, "baseline": given}, return_gap=True, progress=False
    )
    np.testing.assert_allclose(found.ravel(), [2.5, 3.0, np.sin(3) - np.sin(1)], atol=0.02)
    change = 2.5 + 3 + np.sin(3) - np.sin(1)
    np.testing.assert_allclose(gap, abs(found.sum() - change) / change, atol=1e-6)
    assert gap <= 0.01 and gap.shape == ()


def test_integrated_gradients_of_linear_and_quadratic_functions_are_exact():
    random = np.random.default_rng(0)
    weights, matrix = random.normal(size=4).astype("float32"), random.normal(size=(4, 4)).astype("float32")
    model = closed_form(lambda v: v @ weights[:, None] + ops.sum(v @ matrix * v, -1, keepdims=True), (2, 2, 1))
    end, start = random.normal(size=(2, 3, 2, 2, 1)).astype("float32")
    middle = (start + end).reshape(3, 4) / 2
    slope = weights + middle @ (matrix + matrix.T)  # the gradient is linear on the way: its mean is that of the middle
    wanted = (end - start).reshape(3, 4) * slope
    for options in ({"steps": 1}, {"steps": 7}, {"steps": 1, "method": "gauss_legendre"}, {}):
        found = gradients.integrated_gradients(model, end, 0, baseline=start, progress=False, **options)
        np.testing.assert_allclose(found.reshape(3, 4), wanted, atol=1e-4)


def test_gauss_legendre_is_exact_for_polynomials():
    model = closed_form(lambda v: v[:, 0] ** 6 + v[:, 1], (1, 1, 2))
    picture = np.array([1.5, 1.0], "float32").reshape(1, 1, 2)
    found, gap = gradients.integrated_gradients(
        model, picture, 0, steps=3, method="gauss_legendre", return_gap=True, progress=False
    )
    np.testing.assert_allclose(found.ravel(), [1.5**6, 1], rtol=1e-5)
    assert gap < 1e-5


def test_a_gap_is_said_and_never_hidden():
    model = closed_form(lambda v: v[:, 0] ** 3, (1, 1, 1))
    picture = np.full((2, 1, 1, 1), 2.0)
    with pytest.warns(UserWarning, match="does not add up.*0: 25%.*1: 25%") as record:
        found, gap = gradients.integrated_gradients(model, picture, 0, steps=1, return_gap=True, progress=False)
    assert record[0].filename == __file__  # points at the reader's line
    np.testing.assert_allclose(found.ravel(), [6, 6])  # 3/4 of 2³, not stretched to 8
    np.testing.assert_allclose(gap, [0.25, 0.25])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients.integrated_gradients(model, picture, 0, steps=10, progress=False)


def test_a_picture_that_is_its_own_baseline(residual):
    picture = zoo.pictures(1)
    for options in ({}, {"steps": 3}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found, gap = gradients.integrated_gradients(
                residual, picture, 1, baseline=picture, return_gap=True, progress=False, **options
            )
        assert not found.any() and gap.tolist() == [0]


@pytest.mark.filterwarnings("ignore:The attribution does not add up")
def test_several_baselines_are_averaged(residual):
    pictures, own = zoo.pictures(2), zoo.pictures(2, seed=5)
    found, gap = gradients.integrated_gradients(
        residual, pictures, 1, baseline=[0.0, own, own[0]], steps=40, return_gap=True, progress=False
    )
    single = [
        gradients.integrated_gradients(residual, pictures, 1, baseline=b, steps=40, progress=False)
        for b in (0.0, own, own[0])
    ]
    np.testing.assert_allclose(found, np.mean(single, axis=0), atol=1e-5 * np.abs(found).max())
    ends = residual(pictures).numpy()[:, 1]
    starts = residual(np.zeros_like(pictures)).numpy()[:, 1], residual(own).numpy()[:, 1]
    change = ends - (starts[0] + starts[1] + starts[1][0]) / 3
    np.testing.assert_allclose(gap, np.abs(found.sum((1, 2, 3)) - change) / np.abs(change), atol=1e-4)


def test_fixed_steps_against_the_slow_obvious_sum(residual):
    pictures, start = zoo.pictures(3), zoo.pictures(3, seed=9)
    wanted = 0
    for step in range(7):
        here = start + (step + 0.5) / 7 * (pictures - start)
        wanted = wanted + tape_gradient(residual, here, lambda y: y[:, 4]) * (pictures - start) / 7
    for batch in (2, 7, 100):
        found = run(gradients.integrated_gradients, residual, pictures, 4, baseline=start, steps=7, batch=batch)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


class Bar:
    def __init__(self):
        self.count = 0

    def update(self, count):
        self.count += count


def kinked(places):
    """A piecewise linear function of one variable with its kinks at these places, all near the baseline."""
    places = np.array(places, "float32")
    signs = np.array([1, -2, 2, -2, 2][: len(places)], "float32") * 40
    return closed_form(lambda v: ops.sum(ops.relu(v[:, :1] - places) * signs, -1) + v[:, 0], (1, 1, 1))


def test_adaptive_steps_find_where_the_path_bends():
    model = kinked([0.011, 0.013, 0.02, 0.033, 0.05])
    picture = np.ones((1, 1, 1, 1), "float32")
    task, bar = shared.prepare(model, picture, 0), Bar()
    path = integrated.straight(np.zeros_like(picture[0]), picture[0], task.targets[0])
    found, change = integrated.adaptive(task, path, 256, 0.01, 16, bar)
    assert bar.count <= 130
    exact = float(model(picture)[0, 0] - model(0 * picture)[0, 0])
    np.testing.assert_allclose(change, exact, rtol=1e-5)
    gap = abs(found.sum() - exact) / abs(exact)
    assert gap <= 0.01
    for method in ("midpoint", "gauss_legendre"):
        uniform = run(gradients.integrated_gradients, model, picture, 0, steps=bar.count, method=method)
        assert abs(uniform.sum() - exact) / abs(exact) > gap


def test_errors_that_cancel_by_chance_do_not_end_the_search():
    # x rises by 1/2 within a narrow window around a node of the first look, y falls so around another: all sums right.
    def ramp(v, node):
        return (ops.relu(v - node / 31 + 0.002) - ops.relu(v - node / 31 - 0.002)) / 0.008

    model = closed_form(lambda v: v[:, 0] + ramp(v[:, 0], 10) - ramp(v[:, 1], 20), (1, 1, 2))
    first, gap = gradients.integrated_gradients(
        model, np.ones((1, 1, 2)), 0, max_steps=32, return_gap=True, progress=False
    )
    assert gap < 0.01 and first.max() > 4
    found = gradients.integrated_gradients(model, np.ones((1, 1, 2)), 0, progress=False)
    np.testing.assert_allclose(found.ravel(), [1.5, -0.5], atol=0.02)


def test_adaptive_steps_end(residual):
    # A jump of the slope that no step can resolve, and a tolerance that no sum can meet.
    task = shared.prepare(residual, zoo.pictures(1) * 10, 2)
    path = integrated.straight(task.images[0] * 0, task.images[0], task.targets[0])
    for most in (2, 20, 75):
        bar = Bar()
        integrated.adaptive(task, path, most, 1e-12, 16, bar)
        assert bar.count == most


def test_adaptive_steps_tell_the_same_as_very_many(residual):
    pictures = zoo.pictures(2)
    auto, gap = gradients.integrated_gradients(residual, pictures, 2, return_gap=True, progress=False)
    many = gradients.integrated_gradients(residual, pictures, 2, steps=2000, batch=100, progress=False)
    assert (gap <= 0.01).all()
    assert np.linalg.norm(auto - many) < 0.03 * np.linalg.norm(many)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["koala", "jaguar"])
def test_adaptive_steps_on_a_photograph(name, efficientnet, monkeypatch):
    picture = images.batch(images.sample(name))
    adaptive, results = integrated.adaptive, []
    monkeypatch.setattr(integrated, "adaptive", lambda *args: results.append(adaptive(*args)) or results[-1])
    rows = []
    with engine.watched(rows.append):
        found, gap = gradients.integrated_gradients(efficientnet, picture, return_gap=True, progress=False)
    ((total, _),), used = results, sum(rows) - 1  # one pass finds the class
    np.testing.assert_allclose(found[0], total, atol=1e-6)
    logits = efficientnet(np.concatenate([0 * picture, picture])).numpy()
    own = logits[1].argmax()
    np.testing.assert_allclose(gap, abs(found.sum(dtype="float64") / (logits[1] - logits[0])[own] - 1), atol=1e-4)
    assert gap <= 0.01 and used <= 160
    for method in ("midpoint", "gauss_legendre"):
        _, other = run(
            gradients.integrated_gradients, efficientnet, picture, steps=used, method=method, return_gap=True
        )
        assert other > gap


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0: give a whole number, at least 1, or 'auto'"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"steps": 200.0}, "steps=200.0: give a whole number"),
        ({"steps": "many"}, "steps='many'"),
        ({"steps": 3, "method": "simpson"}, "There is no method 'simpson'"),
        ({"max_steps": 1}, "max_steps=1: give a whole number, at least 2"),
        ({"tolerance": 0}, "tolerance=0"),
        ({"baseline": np.zeros((8, 8, 3))}, "baseline has shape"),
        ({"baseline": np.nan}, "baseline has NaN"),
        ({"baseline": []}, "empty list"),
        ({"batch": 0}, "batch=0"),
        ({"batch": 0, "steps": 4}, "batch=0"),
    ],
)
def test_bad_steps_and_baselines_are_refused(options, message, residual):
    with pytest.raises(ValueError, match=message):
        gradients.integrated_gradients(residual, zoo.pictures(1), 0, progress=False, **options)


# Blurred and guided paths


def test_the_blurred_path_is_a_gaussian_with_closed_borders():
    picture = zoo.pictures(1)[0]
    path = integrated._sharpening(picture, 0, 8.0)
    for sigma in (0.0, 1.5, 4.0, 8.0):
        wanted = scipy.ndimage.gaussian_filter(picture, (sigma, sigma, 0), mode="reflect", truncate=8)
        # The sampled kernel of the reference is a little less smooth than the continuous one.
        np.testing.assert_allclose(path.point(1 - np.sqrt(sigma / 8)), wanted, atol=1e-4)


def test_blur_integrated_gradients_of_a_linear_function_are_exact():
    weights = zoo.pictures(1, seed=3)
    model = closed_form(lambda v: v @ weights.reshape(-1, 1), (16, 16, 3))
    pictures = zoo.pictures(2)
    start = np.stack([integrated._sharpening(picture, 0, 5.0).point(0.0) for picture in pictures])
    for steps in (1, 6, "auto"):
        found, gap = gradients.blur_integrated_gradients(
            model, pictures, 0, max_sigma=5, steps=steps, return_gap=True, progress=False
        )
        np.testing.assert_allclose(found, weights * (pictures - start), atol=1e-4)
        assert (gap < 1e-4).all()


def test_blur_integrated_gradients_are_complete(residual):
    pictures = zoo.pictures(2)
    found, gap = gradients.blur_integrated_gradients(residual, pictures, 1, return_gap=True, progress=False)
    start = np.stack([integrated._sharpening(picture, 0, 50.0).point(0.0) for picture in pictures])
    change = (residual(pictures) - residual(start)).numpy()[:, 1]
    np.testing.assert_allclose(found.sum((1, 2, 3)), change, atol=0.011 * np.abs(change).max())
    assert (gap <= 0.01).all()
    np.testing.assert_allclose(start, pictures.mean((1, 2), keepdims=True) + 0 * start, atol=1e-5)  # no colour is lost


def slow_guided(model, picture, start, target, steps, fraction, distance):
    """Algorithm 1 of the paper, pixel values and all, for one picture."""
    x, found = start.astype("float64").ravel(), np.zeros(start.size)
    first, last = start.ravel(), picture.ravel()
    whole = np.abs(last - first).sum()
    for step in range(1, steps + 1):
        gradient = tape_gradient(model, x.reshape(1, *start.shape).astype("float32"), lambda y: y[:, target]).ravel()
        behind, ahead = max(step / steps - distance, 0), min(step / steps + distance, 1)
        slopes = np.abs(gradient).astype("float64")
        before = x.copy()
        reached = (x - first) / (last - first)
        x = np.where(reached < behind, first + behind * (last - first), x)
        limit = first + ahead * (last - first)
        for _ in range(100):
            left = np.abs(last - x).sum() - whole * (1 - step / steps)
            if left < 1e-9:
                break
            slopes[np.isclose(x, limit, atol=1e-12)] = np.inf
            group = (slopes <= np.sort(slopes)[int(fraction * len(slopes)) - 1]) & np.isfinite(slopes)
            room = np.abs(limit - x)[group].sum()
            x[group] += min(1, left / max(room, 1e-30)) * (limit - x)[group]
        found += gradient * (x - before)
    return found.reshape(start.shape)


@pytest.mark.parametrize(("fraction", "distance"), [(0.25, 0.1), (0.25, 1.0), (0.1, 0.02), (1.0, 0.05)])
def test_guided_path_against_the_algorithm_of_the_paper(fraction, distance, residual):
    pictures, start = zoo.pictures(2), zoo.pictures(2, seed=4)
    found = run(
        gradients.guided_integrated_gradients,
        residual,
        pictures,
        2,
        baseline=start,
        steps=12,
        fraction=fraction,
        max_distance=distance,
    )
    for one, picture, begin in zip(found, pictures, start, strict=True):
        wanted = slow_guided(residual, picture, begin, 2, 12, fraction, distance)
        np.testing.assert_allclose(one, wanted, atol=2e-4 * np.abs(wanted).max())


def test_a_guided_path_that_may_not_deviate_is_the_straight_one(residual):
    picture = zoo.pictures(1)
    found = run(gradients.guided_integrated_gradients, residual, picture, 1, steps=9, max_distance=0)
    wanted = sum(tape_gradient(residual, picture * step / 9, lambda y: y[:, 1]) for step in range(9)) * picture / 9
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_guided_integrated_gradients_of_a_linear_function_are_exact():
    weights, pictures = zoo.pictures(1, seed=3), zoo.pictures(2)
    model = closed_form(lambda v: v @ weights.reshape(-1, 1), (16, 16, 3))
    found, gap = gradients.guided_integrated_gradients(
        model, pictures, 0, baseline=1.0, steps=5, return_gap=True, progress=False
    )
    np.testing.assert_allclose(found, weights * (pictures - 1), atol=1e-4)
    assert gap.shape == (2,) and (gap < 1e-4).all()


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": "auto"}, {"fraction": 0}, {"fraction": 1.1}, {"max_distance": -0.1}]
)
def test_bad_guided_paths_are_refused(options, residual):
    with pytest.raises(ValueError, match="steps=|fraction=|max_distance="):
        gradients.guided_integrated_gradients(residual, zoo.pictures(1), 0, progress=False, **options)


def test_a_blur_without_a_width_is_refused(residual):
    with pytest.raises(ValueError, match="max_sigma=0"):
        gradients.blur_integrated_gradients(residual, zoo.pictures(1), 0, max_sigma=0, progress=False)


# XRAI


def slow_ranked(values, masks, least):
    result, covered, masks = np.full(values.shape, np.nan), np.zeros(values.shape, bool), list(masks)
    while True:
        masks = [mask for mask in masks if (mask & ~covered).sum() >= least]
        if not masks:
            break
        best = max(masks, key=lambda mask: values[mask & ~covered].mean())
        result[best & ~covered] = values[best & ~covered].mean()
        covered |= best
    return np.where(covered, result, values[~covered].mean() if (~covered).any() else 0)


def test_regions_join_in_the_order_of_the_paper():
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 50))
    masks = np.zeros((40, 60, 50), bool)
    for mask in masks:
        row, column = random.integers(0, 50), random.integers(0, 40)
        mask[row : row + random.integers(3, 20), column : column + random.integers(3, 20)] = True
    masks[0, 0, 0] = True
    least = round(50 * 3000 / 224**2)
    assert least > 1
    found = regions.ranked(values, masks)
    np.testing.assert_allclose(found, slow_ranked(values, masks, least), atol=1e-12)
    np.testing.assert_allclose(found.sum(), values.sum())  # regions share out what pixels have


def test_xrai_with_given_segments_on_a_linear_function():
    weights = np.zeros((16, 16, 1), "float32")
    weights[:8, :8], weights[8:, 8:] = 3.0, -2.0
    model = closed_form(lambda v: v @ weights.reshape(-1, 1), (16, 16, 1))
    corners = np.zeros((3, 16, 16), bool)
    corners[0, :8, :8], corners[1, 8:, 8:], corners[2] = True, True, True
    found = run(gradients.xrai, model, np.ones((16, 16, 1)), 0, baseline=0.0, segments=corners, steps=2)
    rest = np.sum(weights[8:, 8:]) / (3 * 64)  # the segment that is everything brings all but the first corner
    wanted = np.full((16, 16), rest)
    wanted[:8, :8] = 3
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for wrong in (corners[:, :8], corners.astype(int), corners[:0]):
        with pytest.raises(ValueError, match="segments has shape"):
            run(gradients.xrai, model, np.ones((16, 16, 1)), 0, segments=wrong)


def test_xrai_goes_from_the_darkest_and_the_brightest(residual):
    pictures = zoo.pictures(2)
    both = [np.zeros_like(pictures) + end(pictures, axis=(1, 2, 3), keepdims=True) for end in (np.min, np.max)]
    one = run(gradients.xrai, residual, pictures, 1)
    np.testing.assert_array_equal(one, run(gradients.xrai, residual, pictures, 1, baseline=both))


def test_segments_cover_the_picture_in_several_sizes():
    picture = images.batch(images.sample("koala"))[0]
    masks = regions.overlapping_segments(picture)
    assert masks.any(axis=0).all() and masks.shape[1:] == (224, 224)
    assert masks.mean((1, 2)).min() < 0.02 < 0.2 < masks.mean((1, 2)).max()
    assert (masks.sum(axis=0) > 6).any()  # margins overlap
    tall = images.resize(picture, (120, 80))
    assert regions.overlapping_segments(tall).shape[1:] == (120, 80)


# FullGrad


def total(found):
    """What a decomposition sums up to, for each picture."""
    parts = [found.inputs, *found.biases.values()]
    return sum(part.reshape(len(part), -1).sum(axis=1, dtype="float64") for part in parts)


def other_activations():
    picture = keras.Input((12, 12, 3))
    x = L.Rescaling(0.5, offset=-1.0, name="preprocess")(picture)
    x = L.Conv2D(6, 3, activation="swish", name="swish")(x)
    x = L.BatchNormalization(name="norm")(L.Conv2D(6, 3, activation="tanh", name="tanh")(x))
    x = L.MaxPooling2D(name="pool")(L.LeakyReLU(name="leaky")(x))
    x = L.Activation("gelu", name="gelu")(L.LayerNormalization(name="layer_norm")(x))
    return zoo._randomised(keras.Model(picture, L.Dense(3, activation="softmax", name="dense")(L.Flatten()(x))))


FULL = {
    **{
        name: lambda name=name: (zoo.build(name), zoo.pictures(3), None) for name in zoo.MODELS if name != "two_outputs"
    },
    "two_outputs": lambda: (zoo.build("two_outputs"), zoo.pictures(3), lambda y: y["kind"][:, 1] * y["size"][:, 0]),
    "probability": lambda: (zoo.build("residual"), zoo.pictures(3), lambda y: tf.nn.softmax(y)[:, 2]),
    "other activations": lambda: (other_activations(), zoo.pictures(3)[:, :12, :12], 1),
    "mnist_cnn": lambda: (models.load("mnist_cnn"), np.random.default_rng(0).uniform(0, 255, (2, 28, 28, 1)), None),
    "vgg19": lambda: (
        models.load("vgg19", size=48),
        images.batch(images.sample("koala"), size=48),
        lambda y: tf.reduce_mean(y[..., 7], axis=(1, 2)),
    ),
    "efficientnet_lite0": lambda: (models.load(), images.batch(images.sample("koala"), images.sample("panda")), None),
}


@pytest.mark.parametrize("case", FULL)
def test_full_gradients_are_complete(case):
    model, pictures, target = FULL[case]()
    found = gradients.full_gradients(model, pictures, target)
    outputs = model(np.asarray(pictures, "float32"), training=False)
    wanted = {None: lambda y: tf.reduce_max(y, -1), 1: lambda y: y[:, 1]}.get(target, target)(outputs)
    np.testing.assert_allclose(found.score, wanted, rtol=1e-4)
    terms = [found.inputs, *found.biases.values()]
    weight = max(np.abs(term).reshape(len(term), -1).sum(1).max() for term in terms)  # what cancels in the sum
    np.testing.assert_allclose(total(found), found.score, rtol=1e-5, atol=1e-6 * weight)
    assert not case == "efficientnet_lite0" or np.abs(total(found) / found.score - 1).max() < 1e-4


def test_biases_said_and_unsaid_on_paper():
    picture = keras.Input((1, 4, 1))
    x = L.Rescaling(2.0, offset=1.0, name="shift")(picture)
    x = L.ReLU(max_value=6, name="clip")(x)
    x = L.ReLU(name="plain")(x)
    dense = L.Dense(1, name="dense")
    model = keras.Model(picture, dense(L.Flatten()(x)))
    dense.set_weights([np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([0.5])])
    found = gradients.full_gradients(model, np.reshape([1.0, 10, -5, 2], (1, 4, 1)), 0)
    assert found.score == 3 * 1 + 6 * 2 + 0 * 3 + 5 * 4 + 0.5
    assert found.inputs.ravel().tolist() == [2, 0, 0, 16]
    assert {name: term.ravel().tolist() for name, term in found.biases.items()} == {
        "shift": [1, 0, 0, 4],
        "clip": [0, 12, 0, 0],
        "dense": [0.5],
    }


def test_layers_that_hide_what_they_do_are_refused():
    picture = keras.Input((16, 16, 3))

    def model(operation):
        return keras.Model(picture, L.Dense(2)(L.GlobalAveragePooling2D()(operation(picture))))

    found = gradients.full_gradients(model(L.Resizing(9, 9)), zoo.pictures(1), 0)
    np.testing.assert_allclose(total(found), found.score, rtol=1e-5)
    with pytest.raises(ValueError, match="add up to.*stop_gradient"):
        gradients.full_gradients(model(lambda x: ops.stop_gradient(x) * 2.0 + x), zoo.pictures(1), 0)
    with pytest.raises(ValueError, match="resize_by_hand.*cannot compute its linear part"):
        layer = L.Lambda(lambda x: tf.image.resize(x, (9, 9)), name="resize_by_hand")
        gradients.full_gradients(model(layer), zoo.pictures(1), 0)


def test_a_relu_without_a_bias_has_none():
    picture = keras.Input((16, 16, 3))
    x = L.Conv2D(4, 3, activation="relu", use_bias=False, name="conv")(picture)
    model = keras.Model(picture, L.Dense(2, use_bias=False)(L.GlobalAveragePooling2D()(x)))
    found = gradients.full_gradients(model, zoo.pictures(1), 0)
    assert not found.biases["conv"].any()
    weight = np.abs(found.inputs)
    wanted = ((weight - weight.min()) / (weight.max() - weight.min())).sum(-1)
    np.testing.assert_allclose(gradients.fullgrad(model, zoo.pictures(1), 0), wanted, rtol=1e-4, atol=1e-5)


def test_the_map_of_fullgrad_against_the_formula(residual):
    pictures = zoo.pictures(2)
    found = gradients.full_gradients(residual, pictures, 3)
    wanted = np.zeros((2, 16, 16))
    for term in [found.inputs, *found.biases.values()]:
        if term.ndim == 4:
            for row, one in zip(wanted, np.abs(term), strict=True):
                one = (one - one.min()) / (one.max() - one.min())
                row += tf.image.resize(one, (16, 16)).numpy().sum(-1)
    assert {name for name, term in found.biases.items() if term.ndim == 4} == {"stem", "branch", "depthwise"}
    np.testing.assert_allclose(gradients.fullgrad(residual, pictures, 3), wanted, rtol=1e-3)


def test_one_picture_has_terms_without_a_batch_axis(residual):
    found = gradients.full_gradients(residual, zoo.pictures(1)[0], 3)
    assert found.score.shape == () and found.inputs.shape == (16, 16, 3) and found.biases["stem"].shape == (16, 16, 6)


def test_padding_with_minus_infinity_has_no_bias():
    picture = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv")(picture)
    x = L.MaxPooling2D(3, 2)(ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf))
    model = zoo._randomised(keras.Model(picture, L.Dense(2)(L.GlobalAveragePooling2D()(x))))
    found = gradients.full_gradients(model, zoo.pictures(2)[:, :8, :8], 1)
    np.testing.assert_allclose(total(found), model(zoo.pictures(2)[:, :8, :8]).numpy()[:, 1], rtol=1e-5)
    assert np.isfinite(gradients.fullgrad(model, zoo.pictures(1)[:, :8, :8], 1)).all()


def test_a_loop_has_no_known_bias():
    picture = keras.Input((8, 8, 3))
    x = L.GRU(4, name="rows")(L.Reshape((8, 24))(picture))
    with pytest.raises(ValueError, match="'rows' .GRU.: TensorFlow cannot compute its linear part"):
        gradients.fullgrad(keras.Model(picture, L.Dense(2)(x)), np.zeros((1, 8, 8, 3)), 0)


@pytest.mark.parametrize("method", [gradients.guided_backprop, gradients.deconv_backprop])
def test_a_relu_out_of_reach_is_named(method):
    class Block(L.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 3, shape[-1], 4), name="kernel")

        def call(self, x):
            return tf.nn.relu(tf.nn.conv2d(x, self.kernel, 1, "VALID"))

    picture = keras.Input((8, 8, 3))
    x = L.ReLU()(L.Conv2D(4, 3)(Block(name="block")(picture)))
    with pytest.raises(ValueError, match="ReLUs inside of 'block'"):
        method(keras.Model(picture, L.Dense(2)(L.Flatten()(x))), np.ones((8, 8, 3)), 0)
