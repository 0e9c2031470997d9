"""Pictures in, numbers into colours, figures out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["digits", "images", "plots"])
