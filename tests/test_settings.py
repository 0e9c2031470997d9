"""What JupyterLab and Voilà are told reaches them, and what others have told them stays."""

import json
import os
import re
import subprocess
import sys

import pytest
from jupyter_core.paths import jupyter_config_path

from tests.tools import notebook as nb
from tests.tools import settings

README = (nb.ROOT / "README.md").read_text(encoding="utf-8")


# What a server does that is started without any option.
STARTED = {
    "jupyterlab": "from jupyter_server.serverapp import ServerApp; app = ServerApp(); app.load_config_file()",
    "voila": "from voila.app import Voila; app = Voila(); app.load_config_file('voila', path=app.config_file_paths)",
}


@pytest.mark.parametrize("server", STARTED)
def test_a_server_finds_the_settings_in_its_environment(tmp_path, server):
    """Without the size, a server drops a picture above 10 MB without a word, however it was started."""
    settings.write(tmp_path)
    found = {"JUPYTER_CONFIG_PATH": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "none")}
    code = f"import json; {STARTED[server]}; print(json.dumps(app.tornado_settings))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **found}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == settings.TORNADO
    [folder] = settings.write.__defaults__
    assert str(folder) in jupyter_config_path()


def test_what_others_have_set_is_kept(tmp_path):
    path = tmp_path / "jupyter_server_config.json"
    path.write_text('{"ServerApp": {"port": 9999}, "FileManager": {"x": 1}}')
    for _ in range(2):
        settings.write(tmp_path)
    told = json.loads(path.read_text())
    assert told == {"ServerApp": {"port": 9999, "tornado_settings": settings.TORNADO}, "FileManager": {"x": 1}}


def test_every_way_to_install_writes_them():
    """`make venv` (Codespaces too), the lines for Windows and conda, Binder."""
    command = "python -m tests.tools.settings"
    makefile, binder = ((nb.ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "postBuild"))
    assert re.search(rf"^venv: .*\n\t@\$\(BIN\)/{command}$", makefile, re.MULTILINE)
    assert binder.splitlines() == ["#!/bin/sh", command]
    assert os.access(nb.ROOT / "postBuild", os.X_OK)
    windows, conda = README.partition("On Windows")[2].partition("With conda")[::2]
    assert windows.index(rf".venv\Scripts\{command}") < windows.index(r"Scripts\jupyter lab")
    assert conda.index(f"`{command}`") < conda.index("`jupyter lab")
