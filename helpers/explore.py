"""Interactive explorers for JupyterLab, Notebook 7, VS Code, Voilà and Colab: move a control and see what changes.

Each function returns a widget, which shows itself as the last line of a cell. Everything also works on one's own
picture: *Your own picture* opens a file, and on a phone or tablet also the camera, because the browser offers it there.
(Core ipywidgets have no camera of their own.) What was computed once is kept, within a fixed amount of memory. Where no
kernel runs, on GitHub or in an exported page, a still picture stands in for the explorer.
"""

from . import _explore_deconv, _explore_layers, models


def layers(model=None, *, pictures=None, layer=None):
    """Walk through the channels of a network: what does each layer see in a picture?

    Shows the picture, the activation map of the channel, the map over the picture, numbers about it, all channels of
    the layer in a mosaic, and on request the patches, out of all pictures, to which the channel answers most.

    Args:
        model: a `keras.Model` that is a graph of layers, with one input `(B, H, W, C)` of raw pixels; None for
            EfficientNet-Lite0.
        pictures: None for the bundled photographs (digits for a network of 28 × 28 × 1); a list of names of bundled
            photographs, files, or anything else that `images.load` reads; or a dict name → picture. An array of the
            network's own shape is taken as it is.
        layer: the layer to begin with, one of `submodels.layer_names(model, kind="spatial")`; None chooses one.

    Returns:
        An `ipywidgets` widget.

    Raises:
        ValueError: a network that takes other inputs, an unknown layer, or `pictures` that cannot be read.
    """
    if model is None:
        model, layer = models.load(), layer or "block5a_expand_relu"
    return _explore_layers.Layers(model, pictures, layer)


def deconvolution(model=None, *, pictures=None, layer=None):
    """Point at a place in an activation map and see what in the picture caused it (Zeiler and Fergus 2014).

    The place is chosen by its row and column, and marked on the map; on the picture a frame shows what the unit there
    sees. Its activation alone goes back to the pixels through `submodels.deconvnet`: shown are what arrives, the part
    of the picture that it comes from, and the picture with everything else darkened.

    Args:
        model: as for `layers`, but a network that can be run backwards, with ReLUs; None for VGG19, of which the
            max-pooling layers have the switches that the paper is about.
        pictures, layer: as for `layers`.

    Returns:
        An `ipywidgets` widget.

    Raises:
        ValueError: as for `layers`, and for a first layer that cannot be run backwards.
    """
    if model is None:
        model, layer = models.load("vgg19"), layer or "block4_conv2"
    return _explore_deconv.Deconvolution(model, pictures, layer)
