"""What comes after a layer: the rest of a network as a network of its own, and the weights of a CAM head."""

import keras
import numpy as np

from ..submodels import taps
from ..submodels.graph import replay, trace

_POOLING = keras.layers.GlobalAveragePooling2D
_IDLE = (  # do nothing when a network is run rather than trained
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)


def cut(model, layer):
    """What comes before and after any layer: `(body, head)` with `head(body(x)) == model(x)`.

    Unlike with `submodels.split` the layer need not be a bottleneck: the body puts out a list, the layer's own output
    and then whatever else paths around the layer carry past it.
    """
    graph = trace(model)
    own, end = graph.tensor(layer), graph.index(layer) + 1
    made = keras.tree.flatten([graph.inputs, [call.outputs for call in graph.calls[:end]]])
    read = {id(x) for x in keras.tree.flatten([graph.outputs, [call.inputs for call in graph.calls[end:]]])}
    border = [own, *(x for x in made if id(x) in read and x is not own)]
    head = replay(graph, start=border)
    # Identity: after the last layer nothing is left to do, and Keras wants something in a model.
    return graph.model(border), keras.Model(
        head.inputs, keras.tree.map_structure(keras.layers.Identity(), head.outputs)
    )


def class_weights(model, layer):
    """The kernel `(channels, classes)` of a head of global average pooling and one Dense layer, as numpy.

    Layers that do nothing at inference may come in between, and an activation at the end.

    Raises:
        ValueError: any other head, with what is in the way and what to use instead.
    """
    graph = trace(model)
    tensor, pooled, kernel = graph.tensor(layer), False, None
    while tensor is not keras.tree.flatten(graph.outputs)[0]:
        readers = [call for call in graph.calls if any(x is tensor for x in call.inputs)]
        call = readers[0]
        operation, after = call.operation, call.outputs
        if len(readers) > 1:
            raise _no_cam(model, layer, f"the way forks to {', '.join(repr(call.name) for call in readers)}")
        if isinstance(operation, _POOLING) and not pooled:
            pooled = True
        elif pooled and kernel is None and _is_dense(operation):
            kernel = np.asarray(operation.kernel).reshape(operation.kernel.shape[-2:])
        elif pooled and isinstance(operation, (keras.layers.Flatten, keras.layers.Reshape)):
            if after.shape[-1] != tensor.shape[-1]:
                raise _no_cam(model, layer, f"{call.name!r} mixes channels")
        elif not (_is_idle(operation) or kernel is not None and taps._is_activation(operation)):
            raise _no_cam(model, layer, f"there comes {call.name!r} ({type(operation).__name__})")
        tensor = after
    if kernel is None:
        raise _no_cam(model, layer, "the network ends without them")
    return kernel


def _is_idle(operation):
    linear = taps._is_activation(operation) and taps.activation_name(operation) == "linear"
    return linear or isinstance(operation, _IDLE)


def _is_dense(operation):
    """Whether this is a Dense layer, or a 1×1 convolution, which is one for a map of a single place."""
    if isinstance(operation, keras.layers.Conv2D):
        return tuple(operation.kernel_size) == (1, 1) and operation.groups == 1
    return isinstance(operation, keras.layers.Dense)


def _no_cam(model, layer, reason):
    return ValueError(
        f"CAM needs global average pooling and one Dense layer right after {layer!r}, and in model {model.name!r} "
        f"{reason}. Use cam.grad_cam, which is CAM but for a factor where CAM is possible and works with any head, or "
        "cam.hires_cam, whose signed map adds up to the score wherever the head is linear."
    )
