"""The bundled files, each compared with its checksum before any number is computed from it."""

import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "data"
CHECKSUMS = "checksums.sha256"


def path(name):
    """Full path of a bundled file, verified once per process.

    name: path below `data/` with forward slashes, such as `"photos/koala.webp"`.
    FileNotFoundError: the file is missing. ValueError: it was truncated or altered, or is none of the bundled files.
    """
    return _verified(ROOT, name)


def names(folder):
    """Sorted file names of a folder of `data/`: `names("photos")` → `["astronaut.png", "bison.webp", …]`."""
    prefix = folder.rstrip("/") + "/"
    return sorted(name.removeprefix(prefix) for name in checksums(ROOT) if name.startswith(prefix))


@functools.cache
def checksums(root):
    """Dict of file name → SHA-256 in hexadecimal, as `sha256sum` writes it."""
    listing = root / CHECKSUMS
    if not listing.is_file():
        raise FileNotFoundError(f"data/{CHECKSUMS} is missing. {_restore(CHECKSUMS)}")
    lines = listing.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


@functools.cache
def _verified(root, name):
    if name not in checksums(root):
        raise ValueError(f"data/{name} is not one of the bundled files listed in data/{CHECKSUMS}.")
    file = root / name
    if not file.is_file():
        raise FileNotFoundError(f"data/{name} is missing. {_restore(name)}")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != checksums(root)[name]:
        raise ValueError(f"data/{name} is damaged: its SHA-256 is not the one in data/{CHECKSUMS}. {_restore(name)}")
    return file


def _restore(name):
    return f"Restore it with `git checkout -- data/{name}`, or rebuild all of data/ with `python data/build.py`."
