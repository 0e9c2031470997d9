"""JupyterLab and Voilà for a test: on a free port of this machine, with settings of their own, and gone afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil

from tests.tools import notebook as nb

READY = 120  # seconds until a server answers, on a machine that is busy
LAB = [
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=",
    "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",
]
NO_NEWS = '{"checkForUpdates": false, "fetchNews": "false"}'  # it would ask the web for them


def workspace(folder, kept):
    """A copy of the collection in which JupyterLab may write: notebooks without outputs, and all that they need.

    kept: name of a notebook → whether a code cell, by its number and its source, is part of the copy. The whole
        notebook is run once, by nbval; what a browser adds to that is seen in a few cells.
    """
    shutil.copytree(nb.FOLDER / "thumbnails", folder / "notebooks" / "thumbnails")  # no server follows a link to them
    for part in ("helpers", "data", "requirements.txt"):
        (folder / part).symlink_to(nb.ROOT / part)
    for name, keep in kept.items():
        notebook = nb.read(nb.FOLDER / name)
        cells = nb.code_cells(notebook)
        left_out = [cell.id for number, cell in enumerate(cells) if not keep(number, cell.source)]
        notebook.cells = [cell for cell in notebook.cells if cell.id not in left_out]
        for cell in nb.code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / "notebooks" / name)
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, port, folder, settings):
    """A server process in `folder`; yields its address once it listens. Its log is `settings`/log.txt.

    settings: a folder; what its `config` says comes before what the environment says. Nothing that the user of this
        machine has configured counts, and nothing of it is changed.
    """
    log = settings / "log.txt"
    own = {f"JUPYTER_{kind}_DIR": str(settings / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTER_PREFER_ENV_PATH": "0", "IPYTHONDIR": str(settings / "ipython")}
    with log.open("wb") as output:
        process = psutil.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process)


def _wait_for(port, process, log):
    end = time.monotonic() + READY
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{process.args} does not listen:\n{log.read_text('utf-8')[-3000:]}") from error
            time.sleep(0.2)


def _end(process):
    """End a server, politely, and then whatever is left of it and its kernels."""
    family = [*process.children(recursive=True), process]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=15)
    for member in alive:
        member.kill()


@contextlib.contextmanager
def jupyterlab(folder, settings):
    """`make lab` on `folder`; yields an address to be completed by the path of a file in it."""
    apputils = settings / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    apputils.mkdir(parents=True)
    (apputils / "notification.jupyterlab-settings").write_text(NO_NEWS)
    with _made("lab", settings, f"--ServerApp.root_dir={folder}", *LAB) as address:
        yield f"{address}/lab/workspaces/test/tree"


@contextlib.contextmanager
def app(notebook, settings):
    """`make app` for a notebook; yields its address."""
    with _made("app", settings, APP=notebook) as address:
        yield address


def _made(target, settings, *options, **variables):
    """A server that `make` starts, with the tools of this environment."""
    port = free_port()
    variables |= {"BIN": Path(sys.executable).parent}
    variables |= {"ARGS": " ".join(["--no-browser", f"--port={port}", *options])}
    command = ["make", target, "--assume-old=.venv/installed", *(f"{key}={value}" for key, value in variables.items())]
    return running(command, port, nb.ROOT, settings)
