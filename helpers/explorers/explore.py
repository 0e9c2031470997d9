"""Interactive explorers for JupyterLab, Notebook 7, VS Code, Voilà and Colab: move a control and see what changes.

Each function returns a widget, which shows itself as the last line of a cell. Everything also works on one's own
picture: *Your own picture* opens a file, and on a phone or tablet also the camera, because the browser offers it there.
(Core ipywidgets have no camera of their own.) What was computed once is kept, within a fixed amount of memory. Where no
kernel runs, on GitHub or in an exported page, a still picture stands in for the explorer.
"""

from .. import models
from .deconvolution import Deconvolution
from .dreamer import Dreamer
from .heatmaps import Heatmaps
from .layers import Layers
from .occluder import Occluder
from .training import Training


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
        model, layer = models.load(), layer or "block6b_add"
    return Layers(model, pictures, layer)


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
    return Deconvolution(model, pictures, layer)


def training(snapshots, *, pictures=None):
    """Move through a training: how do filters come out of noise, and when does the network begin to answer right?

    Shows, at the chosen step, the filters of a layer and its maps of a picture, on scales that stay the same over the
    whole training, so that one sees them grow; and all numbers that were kept, as curves. *Play* shows it as a film.

    The first picture is the probe. Where the snapshots hold all the weights that a layer depends on, others can be
    chosen and brought along: the network then runs again with the weights of each step.

    Args:
        snapshots: a `training.Snapshots` that has been through `fit`. It is read only, and so is its model.
        pictures: as for `layers`; None for the bundled ones if the probe's values go to 255 (or there is no probe), and
            else for the probe alone, since only you know how pictures are scaled for your network.

    Returns:
        An `ipywidgets` widget.

    Raises:
        ValueError: no snapshots, or none of a convolution or of maps; `pictures` that cannot be read, or that the
            network cannot be run on because weights were not kept.
    """
    return Training(snapshots, pictures)


def dreamer(model=None, *, pictures=None, layer=None):
    """DeepDream with controls: choose what the network is to see more of, watch it appear, and stop it when you like.

    The picture is that of `dream.deep_dream(model, picture, objective, octaves=…, steps=…, step=…)`, whose objective is
    the chosen layer or `(layer, channel)`, and all else as it is there by default. It is shown as it grows, then beside
    the photograph and wiped over it, with the objective before and after. A stopped dream is kept as it is. The first
    two octaves are dreamt at once, which takes some seconds.

    Args:
        model: as for `layers`, of fixed size or not: a network of fixed size dreams on pictures of its size, another
            one on 256 × 256 pixels. None for VGG19.
        pictures: as for `layers`; with values from 0 to 255.
        layer: the layer to begin with, as for `layers`.

    Returns:
        An `ipywidgets` widget. `explorer.work.begin.click(); explorer.work.wait()` dreams before it is shown.

    Raises:
        ValueError: a network that takes other inputs, an unknown layer, `pictures` that cannot be read or dreamt.
    """
    if model is None:
        model, layer = models.load("vgg19", size="any"), layer or "block5_conv2"
    return Dreamer(model, pictures, layer)


def occluder(model=None, *, pictures=None):
    """Cover a part of the picture with a patch: what does the network take it for now?

    Shows the picture exactly as the network gets it, with a frame around the patch, and the probabilities of the likely
    classes before and after. *Map everything* covers one place after the other and draws how far the score of the
    chosen class falls: `perturbation.occlusion(model, picture, class, patch=…, fill=…)`.

    Args:
        model: as for `layers`, of classes; None for EfficientNet-Lite0.
        pictures: as for `layers`.

    Returns:
        An `ipywidgets` widget. `explorer.mapping.begin.click(); explorer.mapping.wait()` draws the map before it is
        shown.

    Raises:
        ValueError: a network that takes other inputs, or puts out something else than one number for each class;
            `pictures` that cannot be read.
    """
    return Occluder(models.load() if model is None else model, pictures)


def heatmaps(model=None, *, pictures=None, methods=None):
    """Ask several attribution methods the same question: which pixels made it this class, and what did that cost?

    Up to six maps side by side, signed or as magnitudes, on one scale or each on its own, alone or over the photograph.
    Under each is how often the network was run and how long that took. What takes a few passes is there at once; what
    takes many is computed when *Compute what is missing* is pressed. A method that does not work for the network says
    why.

    Args:
        model: as for `layers`; None for EfficientNet-Lite0.
        pictures: as for `layers`.
        methods: names from the menus, up to six, such as `["SmoothGrad", "occlusion"]`: these are all computed before
            the function returns. None: six that take a few passes.

    Returns:
        An `ipywidgets` widget.

    Raises:
        ValueError: a network that takes other inputs, an unknown method, more than six, or `pictures` that cannot be
            read.
    """
    return Heatmaps(models.load() if model is None else model, pictures, methods)
