"""Where the collection is published, written to all that repeats it: python -m tests.tools.publish --help

The constants in helpers/__init__.py say it. The badge and the bootstrap cell of each notebook and the addresses in the
texts are made from them. Nothing is executed, and no output is touched.
"""

import argparse
import re
import sys
from pathlib import Path

import helpers
from tests.tools import gallery
from tests.tools import notebook as nb

NAME = r"[\w.-]*\w"  # of an owner, a repository, a branch or a tag, also where a full stop follows


def repository_name(text):
    """`text`, if it can be the owner and the name of a repository."""
    if not re.fullmatch(rf"\w+(-\w+)*/{NAME}", text, re.ASCII) or text.endswith(".git"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a repository. Write owner/name, without an address before it or .git after it"
        )
    return text


def branch_name(text):
    """`text`, if it can be the name of a branch or tag, and a part of an address."""
    if not re.fullmatch(rf"\w({NAME})?", text, re.ASCII) or ".." in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a branch or tag here: letters, digits and '-', '_', '.' may stand in it. "
            "A '/' may not, since in an address it could not be told from a folder"
        )
    return text


def addresses(text, former):
    """`text`, with each address of the collection that was published as `former` (owner/name) as it is now."""
    of_any, here = f"{NAME}/{NAME}", helpers.REPOSITORY
    for pattern, now in [
        (rf"(colab\.research\.google\.com/github/){of_any}/blob/{NAME}/", rf"\g<1>{here}/blob/{helpers.BRANCH}/"),
        (rf"(mybinder\.org/v2/gh/){of_any}/{NAME}", rf"\g<1>{here}/{helpers.BRANCH}"),
        (rf"(codespaces\.new/){of_any}", rf"\g<1>{here}"),
        (rf"(https://github\.com/){re.escape(former)}(?![\w-])", rf"\g<1>{here}"),
    ]:
        text = re.sub(pattern, now, text)
    return text


def _constants(text):
    for name in ("REPOSITORY", "BRANCH"):
        text = re.sub(rf'^{name} = ".*"$', f'{name} = "{getattr(helpers, name)}"', text, flags=re.MULTILINE)
    return text


def _rewrite(path, change):
    """Write `change(text)` to the file, if that is another text; returns whether it is."""
    before = path.read_text(encoding="utf-8")
    after = change(before)
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before


def _restamp(path, former):
    """Fixed parts and addresses of one notebook; returns whether something changed."""
    notebook, before = nb.read(path), nb.read(path)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = addresses(cell.source, former)
    nb.stamp(notebook, path.stem)
    if notebook != before:
        nb.write(notebook, path)
    return notebook != before


def publish(repository, branch):
    """Say in every file that the collection is at `repository`, `branch`; returns the names of the changed files."""
    former = helpers.REPOSITORY
    helpers.REPOSITORY, helpers.BRANCH = repository, branch
    constants = Path(helpers.__file__)
    changed = [constants] if _rewrite(constants, _constants) else []
    changed += [path for path in nb.paths() if _restamp(path, former)]
    texts = [gallery.README, nb.ROOT / "CITATION.cff", *sorted(nb.FOLDER.glob("*.md"))]
    changed += [path for path in texts if _rewrite(path, lambda text: addresses(text, former))]
    return [path.relative_to(nb.ROOT).as_posix() for path in changed]


def main():
    parser = argparse.ArgumentParser(prog="make publish", description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=repository_name, default=helpers.REPOSITORY, help="owner/name on GitHub")
    parser.add_argument("--branch", type=branch_name, default=helpers.BRANCH, help="a branch or a tag of it")
    chosen = parser.parse_args()
    changed = publish(chosen.repository, chosen.branch)
    print("\n".join(changed) or "Everything says so already.")
    print(f"Published at https://github.com/{chosen.repository}, branch or tag {chosen.branch}: commit and push.")


if __name__ == "__main__":
    sys.exit(main())
