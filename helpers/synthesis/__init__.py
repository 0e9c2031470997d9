"""Pictures made by optimisation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["dream", "inversion", "overview"],
    {"parameters": ["COLOURS", "alpha_norm", "fourier", "parameterisation", "pixel", "total_variation"]},
)
