"""A Colab of our own: a folder for /content, a module google.colab, and a bare clone on this disk for GitHub."""

import os
import subprocess
import sys

import pytest

import helpers
from tests.tools import notebook as nb

PRETEND = "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
LATER = "v-later"  # a tag with a commit that no branch has


def git(*arguments):
    done = subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """What GitHub would have after a push: the last commit as the published branch, and a tag on a later one."""
    if not (nb.ROOT / ".git").exists():
        pytest.skip("this copy of the collection is no git repository, so it cannot be cloned")
    bare = tmp_path_factory.mktemp("github") / "published.git"
    git("clone", "-q", "--bare", nb.ROOT, bare)
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    later = git("-C", bare, *author, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "later")
    git("-C", bare, "update-ref", f"refs/heads/{helpers.BRANCH}", "HEAD")
    git("-C", bare, "update-ref", f"refs/tags/{LATER}", later)
    return bare


class Colab:
    """Runs code as Colab does: in a fresh process that starts in `content`, with google.colab imported."""

    def __init__(self, content, published):
        self.content = content
        self.environment = self.github_is_at(published)

    def github_is_at(self, path):
        """Environment variables that make git fetch from `path` what it would fetch from GitHub."""
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{path.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": f"https://github.com/{helpers.REPOSITORY}",
        }

    def home(self):
        """Where the bootstrap cell puts the collection."""
        return self.content / f"{helpers.REPOSITORY.partition('/')[2]}-{helpers.BRANCH}"

    def here(self, source):
        """`source` with the folder that stands for /content; the rest of the cell is as it is published."""
        assert source.count("/content/") == 1
        return source.replace("/content/", f"{self.content.as_posix()}/")

    def run(self, source):
        return subprocess.run(
            [sys.executable, "-c", PRETEND + source],
            cwd=self.content,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def colab(tmp_path, published):
    content = tmp_path / "content"
    content.mkdir()
    return Colab(content, published)
