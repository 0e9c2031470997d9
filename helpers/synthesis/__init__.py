"""Pictures made by optimisation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["dream", "inversion", "overview"],
    {
        "objectives": ["Objective", "alike", "alpha_norm", "channel", "class_logit", "layer", "total_variation"],
        "parameters": ["COLOURS", "fourier", "parameterisation", "pixel"],
    },
)
