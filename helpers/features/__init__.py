"""What does a unit look for, what does a layer know?"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["deconv", "space", "units"])
