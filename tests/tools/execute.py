"""Execute notebooks in place, as they are committed: python -m tests.tools.execute notebooks/01*.ipynb

The outputs are captured the way the regression run captures them, so that the two can be compared: a kernel of this
environment, a limit on the time of each cell (without one, kernels with widgets can hang), no stored widget state.
"""

import argparse
import copy
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import psutil
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from nbval.plugin import coalesce_streams
from tqdm import tqdm

from tests.tools import checks
from tests.tools import notebook as nb

CELL_TIMEOUT = 600  # seconds
KEPT_METADATA = {"tags", "jupyter", "cellView"}


class PeakMemory(threading.Thread):
    """Samples the resident memory of a process until it ends; `peak` is in bytes."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.peak = 0

    def run(self):
        try:
            while True:
                self.peak = max(self.peak, self.process.memory_info().rss)
                time.sleep(0.1)
        except psutil.Error:
            pass  # the kernel is gone


def execute(notebook, progress=None, folder=nb.FOLDER):
    """An executed copy of `notebook`, and the peak memory of its kernel in bytes.

    The kernel starts in `folder`, and `progress` is called after each cell. Raises `CellExecutionError` at the first
    cell that fails.
    """
    executed = copy.deepcopy(notebook)
    # With this variable, which the regression run sets too, a kernel keeps the logs of C++ libraries to itself.
    os.environ["PYTEST_CURRENT_TEST"] = "notebook"
    manager = KernelManager(kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager())
    manager.start_kernel(cwd=str(folder), stderr=open(os.devnull, "w"))
    memory = PeakMemory(manager.provisioner.pid)
    memory.start()
    client = NotebookClient(
        executed,
        km=manager,
        timeout=CELL_TIMEOUT,
        startup_timeout=120,
        store_widget_state=False,
        record_timing=False,
        on_cell_executed=lambda **_: progress and progress(),
    )
    client.execute()
    return executed, memory.peak


def normalise(notebook):
    """Drop what differs from one execution to the next without a meaning: a commit shows real changes only."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    seen = set()
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT_METADATA}
        salt = 0
        while (name := hashlib.sha256(f"{salt}{cell.source}".encode()).hexdigest()[:8]) in seen:
            salt += 1
        seen.add(name)
        cell.id = name
        if cell.cell_type == "code":
            cell.outputs = coalesce_streams(cell.outputs)  # how print's text is cut into pieces depends on the time
        for output in cell.get("outputs", []):
            # The model behind a widget lives as long as its kernel; without it the view is an error message.
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def execute_in_place(path):
    """Execute and overwrite one notebook; returns what is wrong with it, in words."""
    notebook = nb.read(path)
    if path.name != nb.APP.name:
        nb.stamp(notebook, path.stem)
    start = time.perf_counter()
    with tqdm(total=len(nb.code_cells(notebook)), desc=path.stem, unit="cell") as bar:
        try:
            executed, peak = execute(notebook, progress=bar.update)
        except CellExecutionError as error:
            return [str(error)]
    normalise(executed)
    nb.write(executed, path)
    seconds = time.perf_counter() - start
    print(f"{path.stem}: {seconds:.0f} s, {peak / 1e9:.2f} GB, file of {path.stat().st_size / 1e6:.2f} MB")
    return checks.problems(executed, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    failed = False
    for path in parser.parse_args().notebooks:
        for problem in execute_in_place(path.resolve()):
            failed = True
            print(f"  {problem}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
