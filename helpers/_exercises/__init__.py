"""What the notebooks ask, one module for each. No answer is stored: each is computed when it is first needed."""

from importlib import import_module
from pkgutil import iter_modules

# The number of a notebook, a point, and the number of the exercise, or P and the number of the prediction.
EXERCISES, PREDICTIONS = {}, {}
for _module in sorted(one.name for one in iter_modules(__path__) if one.name.startswith("notebook_")):
    EXERCISES |= getattr(import_module(f".{_module}", __name__), "EXERCISES", {})
    PREDICTIONS |= getattr(import_module(f".{_module}", __name__), "PREDICTIONS", {})
