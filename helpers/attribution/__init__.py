"""Which pixels made the score? One file a family of methods, named after it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["cam", "gradients", "perturbation", "relevance"])
