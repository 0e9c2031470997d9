"""The same with sliders: one file an explorer, and their frame."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["explore"])
