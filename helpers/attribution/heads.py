"""What comes after a layer: the rest of a network as a network of its own."""

import keras

from ..submodels.graph import replay, trace


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
