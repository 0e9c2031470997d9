"""submodels: every builder on every kind of network, against the network run by hand, and nothing mutated."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import engine, submodels
from tests import zoo

L = keras.layers
ALL = sorted(zoo.MODELS)
BUILDERS = {
    "layer_names": submodels.layer_names,
    "flatten": submodels.flatten,
    "activations": lambda model: submodels.activations(model, submodels.layer_names(model)),
    "split": lambda model: submodels.split(model, submodels.layer_names(model)[0]),
    "logits": submodels.logits,
    "fold_batchnorm": submodels.fold_batchnorm,
    "guided": lambda model: submodels.relu_rule(model, "guided"),
    "deconv": lambda model: submodels.relu_rule(model, "deconv"),
}
FAILING = {
    "activations": lambda model: submodels.activations(model, ["nothing"]),
    "split": lambda model: submodels.split(model, "nothing"),
    "relu_rule": lambda model: submodels.relu_rule(model, "nothing"),
    "layer_names": lambda model: submodels.layer_names(model, kind="nothing"),
}


def close(left, right, tolerance=1e-6):
    """Equal up to float32 rounding: the same operations, possibly fused differently by the compiler."""
    for a, b in zip(keras.tree.flatten(left), keras.tree.flatten(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def everything_about(model):
    """All that a builder must leave as it is."""
    layers = list(model._flatten_layers())
    state = [(layer.name, layer.trainable, layer.built, getattr(layer, "activation", None)) for layer in layers]
    return state, [w.numpy().copy() for w in model.weights], [w.trainable for w in model.weights], model.get_config()


def assert_unchanged(before, after):
    assert before[0] == after[0] and before[2:] == after[2:]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))


@pytest.mark.parametrize("builder", sorted(BUILDERS))
@pytest.mark.parametrize("name", ALL)
def test_no_builder_changes_the_model(name, builder):
    model, pictures = zoo.build(name), zoo.pictures()
    outputs = keras.tree.map_structure(np.array, model(pictures))
    before = everything_about(model)
    result = BUILDERS[builder](model)
    for part in result if isinstance(result, tuple) else [result]:
        if isinstance(part, keras.Model) and part.input_shape == model.input_shape:
            engine.run(part, pictures)
    assert_unchanged(before, everything_about(model))
    close(outputs, model(pictures), 0)


@pytest.mark.parametrize("builder", sorted(FAILING))
def test_no_builder_changes_the_model_when_it_raises(builder):
    model = zoo.build("transfer")
    before = everything_about(model)
    with pytest.raises(ValueError):
        FAILING[builder](model)
    assert_unchanged(before, everything_about(model))


def test_no_builder_changes_a_model_that_it_fails_on_halfway():
    class Stubborn(L.Dense):
        def call(self, x):
            return tf.nn.relu(super().call(x))

    model = keras.Sequential(
        [keras.Input((8,)), L.Dense(4, activation="relu"), Stubborn(3, activation="relu", name="own")]
    )
    weights = [w.numpy().copy() for w in model.weights]
    with pytest.raises(ValueError, match="ReLUs inside of 'own'"):
        submodels.relu_rule(model, "guided")
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.weights, strict=True))
    assert [layer.activation.__name__ for layer in model.layers] == ["relu", "relu"]


@pytest.mark.parametrize("name", ALL)
def test_flatten_computes_the_same_and_holds_no_network(name):
    model, pictures = zoo.build(name), zoo.pictures()
    flat = submodels.flatten(model)
    close(flat(pictures), model(pictures))
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert submodels.layer_names(flat) == submodels.layer_names(model)
    assert {id(w) for w in flat.weights} == {id(w) for w in model.weights}


def test_flatten_sees_new_weights_because_they_are_shared():
    model, pictures = zoo.build("two_levels"), zoo.pictures()
    flat = submodels.flatten(model)
    before = np.array(flat(pictures))
    model.get_layer("conv1").kernel.assign(2 * model.get_layer("conv1").kernel)
    assert not np.allclose(before, flat(pictures))
    close(flat(pictures), model(pictures))


def test_names_are_bare_where_unique_and_paths_where_not():
    assert submodels.layer_names(zoo.build("transfer")) == ["rescaling", "stem", "branch", "join", "gap", "dense"]
    names = submodels.layer_names(zoo.build("two_levels"))
    assert [n for n in names if "conv1" in n] == ["conv1", "middle/inner/conv1", "middle/conv1"]
    names = submodels.layer_names(zoo.build("shared"))
    assert names[:6] == ["twice", "inside", "relu", "twice#2", "inside#2", "relu#2"]


def test_kinds_of_layers():
    model = zoo.build("functional")
    assert submodels.layer_names(model, "conv") == ["conv1", "conv2"]
    assert submodels.layer_names(model, "relu") == ["conv1", "relu2"]
    assert submodels.layer_names(model, "pool") == ["pool1", "gap"]
    assert submodels.layer_names(model, "spatial") == ["conv1", "pool1", "conv2", "norm2", "relu2"]
    assert submodels.layer_names(model, "Dense") == submodels.layer_names(model, L.Dense) == ["answer"]
    with pytest.raises(ValueError, match="no layer of kind 'transformer'.*MaxPooling2D"):
        submodels.layer_names(model, "transformer")


def test_activations_equal_the_network_run_by_hand():
    model, pictures = zoo.build("shared"), zoo.pictures()
    twice, block = model.get_layer("twice"), model.get_layer("block")
    inside, relu = block.layers
    by_hand, x = {}, pictures
    for suffix in ("", "#2"):
        by_hand["twice" + suffix] = x = twice(x)
        by_hand["inside" + suffix] = x = inside(x)
        by_hand["relu" + suffix] = x = relu(x)
    result = engine.run(submodels.activations(model, list(by_hand)), pictures)
    assert list(result) and set(result) == set(by_hand)
    close([result[name] for name in by_hand], list(by_hand.values()))


def test_a_network_inside_that_is_called_twice_has_two_names():
    model, pictures = zoo.build("shared"), zoo.pictures()
    twice, block = model.get_layer("twice"), model.get_layer("block")
    first = block(twice(pictures))
    result = submodels.activations(model, ["block", "block#2"])(pictures)
    close([result["block"], result["block#2"]], [first, block(twice(first))])


def test_activations_inside_nested_networks_at_both_depths():
    model, pictures = zoo.build("two_levels"), zoo.pictures()
    middle = model.get_layer("middle")
    inner = middle.get_layer("inner")
    x = model.get_layer("conv1")(pictures)
    wanted = {
        "conv1": x,
        "middle/inner/conv1": inner.get_layer("conv1")(x),
        "inner": inner(x, training=False),
        "middle/conv1": middle(x, training=False),
        "middle": middle(x, training=False),
    }
    result = engine.run(submodels.activations(model, list(wanted)), pictures)
    for name, value in wanted.items():
        close(result[name], value)


def test_activations_of_one_name_and_bad_names():
    model = zoo.build("functional")
    assert set(submodels.activations(model, "conv1").output) == {"conv1"}
    with pytest.raises(ValueError, match="no layer 'conv3'. Nearest: .*'conv2'.*layer_names"):
        submodels.activations(model, "conv3")
    with pytest.raises(ValueError, match="No layer is asked for"):
        submodels.activations(model, [])


@pytest.mark.parametrize("name", ALL)
def test_split_wherever_it_is_possible_and_nowhere_else(name):
    model, pictures = zoo.build(name), zoo.pictures()
    names = submodels.layer_names(model)
    possible = []
    for layer in names:
        try:
            body, head = submodels.split(model, layer)
        except ValueError as error:
            assert "cannot be cut" in str(error)
            continue
        possible.append(layer)
        close(head(body(pictures)), model(pictures))
    expected = {
        "residual": ["stem", "join", "depthwise", "gmp", "dense"],
        "transfer": ["rescaling", "stem", "join", "gap", "dense"],
        "two_outputs": ["trunk", "gap"],
        "bare_operations": ["conv1", "flatten", "dense"],
    }
    wanted = expected.get(name, names)
    assert [layer.split("_")[0] for layer in possible] == [layer.split("_")[0] for layer in wanted]


def test_split_names_the_nearest_possible_layer():
    with pytest.raises(ValueError, match="cannot be cut at 'branch'.*cut at 'join'"):
        submodels.split(zoo.build("residual"), "branch")


@pytest.mark.parametrize("name", ALL)
def test_logits_undo_the_final_activation(name):
    model, pictures = zoo.build(name), zoo.pictures()
    scores, answer = submodels.logits(model)(pictures), model(pictures)
    if name == "two_outputs":
        close(keras.ops.softmax(scores["kind"]), answer["kind"])
        close(keras.ops.sigmoid(scores["size"]), answer["size"])
    elif name in ("functional", "sequential", "bare_operations"):
        close(keras.ops.softmax(scores), answer)
        assert np.max(np.abs(np.sum(scores, 1) - 1)) > 0.01  # they are not probabilities any more
    else:
        close(scores, answer, 0)


def test_logits_leaves_a_sigmoid_in_the_middle_alone():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="sigmoid"), L.Dense(2)])
    x = np.ones((1, 4), "float32")
    close(submodels.logits(model)(x), model(x), 0)


# ---------------------------------------------------------------------- ReLU rules


def gradient(model, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(model(x))
    return np.array(tape.gradient(y, x))


def sum_of_squares(relu):
    x = keras.Input((4,))
    return keras.Model(x, keras.ops.sum(keras.ops.square(relu(x)), axis=-1))


RELUS = {
    "layer": lambda: L.ReLU(),
    "activation layer": lambda: L.Activation("relu"),
    "bare operation": lambda: keras.ops.relu,
    "activation of a layer": lambda: L.Dense(4, kernel_initializer="identity", activation="relu"),
}


@pytest.mark.parametrize("form", sorted(RELUS))
def test_deconv_rule_in_closed_form(form):
    model = submodels.relu_rule(sum_of_squares(RELUS[form]()), "deconv")
    np.testing.assert_allclose(gradient(model, [[5.0, -1.0, -2.0, 10.0]]), [[10, 0, 0, 20]])


def test_a_relu_that_no_output_comes_from_is_none():
    picture = keras.Input((4,))
    inner = keras.Model(picture, [L.Dense(3, activation="tanh")(picture), L.ReLU(name="unused")(picture)])
    picture = keras.Input((4,))
    model = keras.Model(picture, inner(picture)[0])
    assert "unused" in submodels.layer_names(model)
    with pytest.raises(ValueError, match="no ReLU.*activations: tanh"):
        submodels.relu_rule(model, "guided")


def test_rules_where_max_value_clips():
    x = [[5.0, -1.0, -2.0, 10.0]]
    clipped = sum_of_squares(L.ReLU(max_value=3))
    np.testing.assert_allclose(gradient(submodels.relu_rule(clipped, "deconv"), x), [[6, 0, 0, 6]])
    np.testing.assert_allclose(gradient(submodels.relu_rule(clipped, "guided"), x), [[0, 0, 0, 0]])


def test_rules_differ_as_the_papers_say():
    """y = Σ w·ReLU(x): the gradient is w where x > 0; guided drops negative w; deconv ignores x."""
    x, weights = keras.Input((4,)), np.array([[1.0], [-2.0], [3.0], [-4.0]], "float32")
    model = keras.Model(x, L.Dense(1, use_bias=False, name="sum")(L.ReLU()(x)))
    model.get_layer("sum").kernel.assign(weights)
    point = [[1.0, 1.0, -1.0, -1.0]]
    np.testing.assert_allclose(gradient(model, point), [[1, -2, 0, 0]])
    np.testing.assert_allclose(gradient(submodels.relu_rule(model, "guided"), point), [[1, 0, 0, 0]])
    np.testing.assert_allclose(gradient(submodels.relu_rule(model, "deconv"), point), [[1, 0, 3, 0]])


@pytest.mark.parametrize("rule", ["guided", "deconv"])
@pytest.mark.parametrize("name", ALL)
def test_rules_change_the_gradient_and_never_the_answer(name, rule):
    model, pictures = submodels.logits(zoo.build(name)), zoo.pictures()
    ruled = submodels.relu_rule(model, rule)
    close(ruled(pictures), model(pictures), 0)
    assert set(submodels.layer_names(ruled)) >= set(submodels.layer_names(model))  # a bare ReLU becomes a layer

    def first_score(network):
        return keras.Model(network.input, keras.tree.flatten(network.output)[0][:, 0])

    plain, changed = gradient(first_score(model), pictures), gradient(first_score(ruled), pictures)
    assert np.linalg.norm(plain - changed) > 0.05 * np.linalg.norm(plain)


def test_a_network_without_relu_is_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="swish"), L.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match="no ReLU.*silu"):
        submodels.relu_rule(model, "guided")
    with pytest.raises(ValueError, match="no ReLU rule 'guidded'"):
        submodels.relu_rule(model, "guidded")


# ---------------------------------------------------------------------- models that are no graphs


def test_models_that_cannot_be_opened_say_what_to_do():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, x):
            return self.dense(x)

    with pytest.raises(ValueError, match="class Own.*model.call\\(inputs\\)"):
        submodels.flatten(Own())
    inputs = keras.Input((3,))  # the way out that the message names
    assert submodels.layer_names(keras.Model(inputs, Own().call(inputs)))
    with pytest.raises(ValueError, match="does not know its input shape.*keras.Input"):
        submodels.flatten(keras.Sequential([L.Dense(2)]))
    with pytest.raises(ValueError, match="keras.Model is needed.*str"):
        submodels.flatten("vgg16")


def test_a_sequential_that_grows_is_opened_again():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, name="first")])
    assert submodels.layer_names(model) == ["first"]
    model.add(L.Dense(2, name="second"))
    assert submodels.layer_names(model) == ["first", "second"]


# ---------------------------------------------------------------------- BatchNorm


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "DenseNet121", "EfficientNetB0"])
def test_folding_keeps_the_outputs_of_real_architectures(name):
    model = zoo.application(name, size=64)
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    norms = submodels.layer_names(model, "BatchNormalization")
    assert set(report.folded) | set(report.left) == set(norms) and len(report.folded) > len(norms) / 3
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    wanted, result = (np.asarray(one(pictures, training=False)) for one in (model, folded))
    assert np.abs(wanted).max() > 1e-2  # an all-but-zero output would agree with anything
    assert np.abs(result - wanted).max() <= 1e-4 * np.abs(wanted).max()
    left = [n for n in submodels.layer_names(folded) if n in norms]
    assert sorted(left) == sorted(report.left)


def normalised(*layers):
    return zoo._randomised(keras.Sequential([keras.Input((9, 9, 4)), *layers]), seed=3)


N = L.BatchNormalization
FOLDS = {
    "conv": lambda: [L.Conv2D(6, 3), N()],
    "conv without bias, strided, same": lambda: [L.Conv2D(6, 3, strides=2, padding="same", use_bias=False), N()],
    "grouped conv": lambda: [L.Conv2D(6, 3, groups=2), N()],
    "depthwise": lambda: [L.DepthwiseConv2D(3, depth_multiplier=2), N()],
    "separable": lambda: [L.SeparableConv2D(6, 3, depth_multiplier=2), N()],
    "dense": lambda: [L.Dense(6), N()],
    "no scale, no centre": lambda: [L.Conv2D(6, 3), N(scale=False, center=False)],
    "before a conv": lambda: [N(), L.Conv2D(6, 3, activation="relu")],
    "before a depthwise": lambda: [N(), L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)],
    "before a separable": lambda: [N(), L.SeparableConv2D(6, 3, depth_multiplier=2)],
    "before a dense": lambda: [N(), L.Dense(6)],
    "before a padded 1 × 1": lambda: [N(), L.Conv2D(6, 1, padding="same")],
    "before, and after": lambda: [N(), L.Conv2D(6, 3), N()],
    "two in a row": lambda: [L.Conv2D(6, 3), N(), N()],
}


@pytest.mark.parametrize("case", sorted(FOLDS))
def test_folding_is_exact(case):
    model = normalised(*FOLDS[case]())
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    pictures = np.random.default_rng(1).normal(0, 1, (2, 9, 9, 4)).astype("float32")
    close(folded(pictures), model(pictures), 2e-5)
    assert not report.left and not any(isinstance(layer, N) for layer in folded.layers)


LEAVES = {
    "padding in between": (lambda: [N(name="norm"), L.Conv2D(6, 3, padding="same")], "pads with zeros"),
    "activation in between": (lambda: [L.Conv2D(6, 3, activation="relu"), N(name="norm")], "activation of its own"),
    "nothing linear beside it": (lambda: [L.ReLU(), N(name="norm"), L.ReLU()], "is a ReLU"),
    "transposed": (lambda: [L.Conv2DTranspose(6, 3), N(name="norm")], "Conv2DTranspose"),
}


@pytest.mark.parametrize("case", sorted(LEAVES))
def test_folding_leaves_what_would_not_be_exact(case):
    layers, reason = LEAVES[case]
    model = normalised(*layers())
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    assert list(report.left) == ["norm"] and reason in report.left["norm"]
    pictures = np.random.default_rng(1).normal(0, 1, (2, 9, 9, 4)).astype("float32")
    close(folded(pictures), model(pictures))


def test_folding_leaves_a_convolution_that_is_shared_or_read_elsewhere():
    picture = keras.Input((9, 9, 4))
    conv = L.Conv2D(4, 3, padding="same", name="conv")
    shared = zoo._randomised(keras.Model(picture, N(name="norm")(conv(conv(picture)))))
    assert "called more than once" in submodels.fold_batchnorm(shared, return_report=True)[1].left["norm"]
    picture = keras.Input((9, 9, 4))
    x = L.Conv2D(4, 3, padding="same", name="conv")(picture)
    read = zoo._randomised(keras.Model(picture, L.Add()([x, N(name="norm")(x)])))
    assert "another reader" in submodels.fold_batchnorm(read, return_report=True)[1].left["norm"]
    both = zoo._randomised(keras.Model(read.input, [read.get_layer("conv").output, read.get_layer("norm").output]))
    pictures = np.random.default_rng(1).normal(0, 1, (2, 9, 9, 4)).astype("float32")
    for model in (shared, read, both):
        close(submodels.fold_batchnorm(model)(pictures), model(pictures))


def padded(pad, kernel=3, stride=2, size=(8, 11), **options):
    picture = keras.Input((*size, 4))
    x = L.ZeroPadding2D(pad, name="pad")(picture)
    x = N(name="norm")(L.Conv2D(6, kernel, strides=stride, name="conv", **options)(x))
    return zoo._randomised(keras.Model(picture, x), seed=3)


@pytest.mark.parametrize(
    ("model", "gone"),
    [
        (padded(((0, 1), (1, 1))), True),  # what padding="same" adds to 8 × 11 in steps of 2
        (padded(((1, 1), (1, 1)), stride=1), True),
        (padded(((2, 2), (2, 2)), stride=1, dilation_rate=2), True),
        (padded(((1, 1), (1, 1))), False),
        (padded(((3, 3), (3, 3)), kernel=7), False),
        (padded(((1, 1), (1, 1)), padding="same", stride=1), False),
    ],
)
def test_padding_is_left_to_the_convolution_only_where_that_is_the_same(model, gone):
    folded, report = submodels.fold_batchnorm(model, return_report=True, padding=True)
    assert report.padding == ({"pad": "conv"} if gone else {})
    assert gone is not any(isinstance(layer, L.ZeroPadding2D) for layer in folded.layers)
    pictures = np.random.default_rng(1).normal(0, 1, (2, 8, 11, 4)).astype("float32")
    close(folded(pictures), model(pictures), 2e-5)
    assert not submodels.fold_batchnorm(model, return_report=True)[1].padding  # only where it is asked for


def test_padding_that_is_read_elsewhere_stays():
    picture = keras.Input((8, 8, 4))
    pad = L.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(picture)
    model = keras.Model(picture, [N()(L.Conv2D(6, 3, strides=2)(pad)), pad])
    assert not submodels.fold_batchnorm(model, return_report=True, padding=True)[1].padding
    free = keras.Input((None, None, 4))
    model = keras.Model(free, N()(L.Conv2D(6, 3, strides=2)(L.ZeroPadding2D(((0, 1), (0, 1)))(free))))
    assert not submodels.fold_batchnorm(model, return_report=True, padding=True)[1].padding


def test_names_of_folded_batchnorms_stay_valid():
    model, pictures = zoo.build("functional"), zoo.pictures()
    folded = submodels.fold_batchnorm(model)
    wanted = engine.run(submodels.activations(model, "norm2"), pictures)["norm2"]
    result = engine.run(submodels.activations(folded, ["norm2", "conv2"]), pictures)
    close(result["norm2"], wanted, 1e-5)
    close(result["conv2"], wanted, 1e-5)


def test_folding_returns_a_model_even_with_nothing_to_fold():
    model = zoo.build("residual")
    folded, report = submodels.fold_batchnorm(model, return_report=True)
    assert isinstance(folded, keras.Model) and report == ({}, {}, {})
