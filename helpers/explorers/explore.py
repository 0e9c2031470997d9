"""Interactive explorers for JupyterLab, Notebook 7, VS Code, Voilà and Colab: move a control and see what changes.

Each of these makes a widget, which shows itself as the last line of a cell. *Your own picture* opens a file, and on a
phone or tablet the camera. What was computed once is kept, within a fixed amount of memory. Where no kernel runs, on
GitHub or in an exported page, a still picture stands in for the explorer.
"""

from .deconvolution import Deconvolution as deconvolution
from .dreamer import Dreamer as dreamer
from .heatmaps import Heatmaps as heatmaps
from .layers import Layers as layers
from .occluder import Occluder as occluder
from .training import Training as training

__all__ = ["deconvolution", "dreamer", "heatmaps", "layers", "occluder", "training"]
