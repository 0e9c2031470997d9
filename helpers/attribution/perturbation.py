"""Attribution by trying out: change a part of the picture, and look what happens to the score.

Nothing here needs a gradient (but `meaningful_perturbation`): a network is a function that can be asked. What is put
in place of pixels matters, for a grey square is something to see too: try several.
"""

from .learned_mask import meaningful_perturbation
from .occlusion import Occlusion, occlusion
from .random_masks import rise, sobol
from .surrogates import kernel_shap, lime

__all__ = ["Occlusion", "kernel_shap", "lime", "meaningful_perturbation", "occlusion", "rise", "sobol"]
