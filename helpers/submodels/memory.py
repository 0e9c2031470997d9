"""What was built from a network: kept as long as the network stays as it is."""

import operator

import keras


class _Store:
    """What was built from a network. No dict and no list, so that Keras does not take it for a part of the network."""

    __slots__ = ("built", "settings")

    def __init__(self):
        self.built, self.settings = {}, None


def cached(model, key, build):
    """Return `build()`, computed once for this model and this key, as long as the model stays as it is.

    It is kept on the model itself, because a global table would keep every model alive, and out of Keras's sight:
    saving, loading and copying know nothing of it. All of it is dropped when a layer comes or goes, at any depth, or
    an attribute of a layer gets another value (`layer.activation = …`); not when a list in a layer is changed in place.
    Weights may change as they like: compiled functions read them anew.

    Args:
        model: a `keras.Model`.
        key: hashable; say everything in it that the result depends on, besides the model.
        build: function without arguments.
    """
    refuse_what_is_no_model(model)
    store = model.__dict__.setdefault("_helpers_cache", _Store())
    now = settings(model)
    if store.settings is None or not unchanged(store.settings, now):
        store.built.clear()
        store.settings = now
    if key not in store.built:
        store.built[key] = build()
        store.settings = settings(model)  # a layer may note something when it is called
    return store.built[key]


def remembered(model, key, build):
    """As `cached`, for a network that a reader gets hold of: it is built again if the reader has changed it."""
    kept = cached(model, ("builder", *key), list)
    if not kept or not unchanged(kept[1], settings(kept[0])):
        network = build()
        kept[:] = network, settings(network)
    return kept[0]


def settings(model):
    """All layers inside a network, at any depth, and what their attributes say: `[(layer, {name: value}), …]`."""
    return [(layer, dict(vars(layer))) for layer in model._flatten_layers(include_self=False)]


def unchanged(before, now):
    """Whether two `settings` say the same. The first look takes a twentieth of a millisecond for a hundred layers."""
    if len(before) != len(now) or any(a is not b for (a, _), (b, _) in zip(before, now, strict=True)):
        return False
    return all(map(_same_objects, before, now)) or all(map(_same_settings, before, now))


def _same_objects(before, now):
    (_, old), (_, new) = before, now
    return len(old) == len(new) and all(map(operator.is_, old.values(), new.values()))


def _same_settings(before, now):
    """As `_same_objects`, without what is no setting: what a network inside says of itself, and what a call leaves."""
    (layer, old), (_, new) = before, now
    pairs = [(name, old.get(name), new.get(name)) for name in old.keys() | new.keys()]
    return isinstance(layer, keras.Model) or all(a is b or _is_note(name, b) or _equal(a, b) for name, a, b in pairs)


def _is_note(name, value):
    """Whether an attribute is what a layer wrote down when it was called: a flag of Keras's own, a symbolic tensor."""
    symbolic = keras.backend.is_keras_tensor(value) or hasattr(value, "graph") and not hasattr(value, "numpy")
    return symbolic or name in ("_called", "_dropout_mask", "_recurrent_dropout_mask")


def _equal(a, b):
    if isinstance(a, tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(_equal, a, b))
    return type(a) is type(b) and isinstance(a, (bool, int, float, str, type(None))) and a == b


def refuse_what_is_no_model(model):
    if not isinstance(model, keras.Model):
        kind = type(model).__name__
        how = " It is a network of Keras 2: save it as an .h5 file, and open that with keras.models.load_model."
        old = type(model).__module__.startswith(("tf_keras", "tensorflow"))
        raise ValueError(f"A keras.Model is needed, and this is a {kind}.{how if old else ''}")
