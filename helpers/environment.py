"""Is everything here that the notebooks need? The answers are in words, and say how to go on."""

import importlib
import platform
import sys
from pathlib import Path

from packaging.requirements import Requirement

TESTED_PYTHON = ((3, 11), (3, 13))

# Module that a notebook imports → (line of requirements.txt, what it is for).
LIBRARIES = {
    "tensorflow": ("tensorflow", "computes the networks and their gradients"),
    "keras": ("keras", "describes the networks"),
    "numpy": ("numpy", "arrays"),
    "matplotlib": ("matplotlib", "figures"),
    "ipywidgets": ("ipywidgets", "sliders and menus"),
    "cv2": ("opencv-python", "outlines of maps, and XRAI's regions"),
    "PIL": ("Pillow", "reads and writes picture files"),
    "skimage": ("scikit-image", "image measures and segments"),
    "sklearn": ("scikit-learn", "projections and linear models"),
    "scipy": ("scipy", "searches, statistics, sparse matrices"),
    "tqdm": ("tqdm", "progress bars"),
    "lazy_loader": ("lazy-loader", "imports no more than is used"),
}

BARE_SERVER = (
    "OpenCV is installed, but the system lacks libraries that it stands on. On Debian or Ubuntu:\n"
    "    sudo apt-get install libxcb1 libgl1 libglib2.0-0\n"
    "Without administrator rights, take the variant that needs none of them:\n"
    "    python -m pip uninstall opencv-python && python -m pip install opencv-python-headless"
)


def _remedy():
    """How to get libraries that fit. Colab brings its own, which an installation would break."""
    if "google.colab" in sys.modules:
        return "In Colab choose Runtime → Change runtime type → Runtime version: Latest."
    return "Run: python -m pip install -r requirements.txt"


def _ranges():
    """Name of a requirement → the range of versions that requirements.txt gives."""
    lines = (Path(__file__).parents[1] / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {requirement.name: requirement.specifier for requirement in requirements}


def _against_range(name, version):
    """`("ok" | "old" | "new", sentence)` for an installed version of a requirement."""
    wanted = _ranges()[name]
    if wanted.contains(version, prereleases=True):
        return "ok", ""
    lowest = [part for part in wanted if part.operator == ">="]
    if all(part.contains(version, prereleases=True) for part in lowest):
        return "new", f"{name} {version} is newer than what this collection was tested with ({name}{wanted})."
    return "old", f"{name} {version} is too old: {name}{wanted} is needed. {_remedy()}"


def _problem(module):
    """What is wrong with a library, in words; an empty text if nothing is."""
    try:
        version = importlib.import_module(module).__version__
    except ModuleNotFoundError as error:
        return f"{'not installed' if error.name == module else error}. {_remedy()}"
    except ImportError as error:  # a shared library of the system is missing
        return f"{error}\n{BARE_SERVER}" if module == "cv2" else f"{error}"
    return _against_range(LIBRARIES[module][0], version)[1]


def library(module, purpose):
    """A library that few functions need, or an `ImportError` with what needs it (`purpose`) and how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{LIBRARIES[module][0]} is needed: {purpose}. {_problem(module)}") from error


def check():
    """Print one line for Python and for each library: `ok`, or what is wrong and how to put it right."""
    lowest, highest = TESTED_PYTHON
    if lowest <= tuple(map(int, platform.python_version_tuple()[:2])) <= highest:
        print("ok    Python")
    else:
        tested = " to ".join(f"{major}.{minor}" for major, minor in TESTED_PYTHON)
        print(f"LOOK  Python {platform.python_version()}: this collection was tested with {tested}.")
    for module, (name, purpose) in LIBRARIES.items():
        problem = _problem(module)
        print(f"LOOK  {name}: {problem}" if problem else f"ok    {name}: {purpose}")


def versions():
    """Print the version of Python, of each library, and of the system: what a report of a problem should contain."""
    print(f"Python {platform.python_version()} on {platform.system()} ({platform.machine()})")
    for module, (name, _) in LIBRARIES.items():
        try:
            print(name, importlib.import_module(module).__version__)
        except ImportError:
            print(name, "cannot be imported")


def require():
    """Silent where TensorFlow and Keras are as tested; a note where they are newer; an `ImportError` where older."""
    for module in ("tensorflow", "keras"):
        state, sentence = _against_range(module, importlib.import_module(module).__version__)
        if state == "old":
            raise ImportError(sentence)
        if state == "new":
            print(f"Note: {sentence} If something looks odd, this is the first suspect.")
