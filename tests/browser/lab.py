"""What one does in JupyterLab."""

from playwright.sync_api import expect

from tests.browser.waiting import wait_until
from tests.tools import notebook as nb

IDLE = "Python 3 (ipykernel) | Idle"
ERROR = '.jp-OutputArea [data-mime-type="application/vnd.jupyter.error"]'
# The counts beside the cells would do, were there not cells whose input is folded.
COUNT = "[...jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.executionCount).length"


def open_notebook(page, address):
    """Open a notebook and wait until its kernel is there; cells that are run before are forgotten."""
    page.goto(f"{address}?reset")
    expect(page.get_by_text(IDLE)).to_be_visible(timeout=120_000)


def run_all(page, path, minutes):
    """Run → Run All Cells, wait for the last cell or the first error, save; the notebook as it is then on the disk."""
    cells = len(nb.code_cells(nb.read(path)))
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    wait_until(page, lambda: page.evaluate(COUNT) == cells or page.locator(ERROR).count(), 60 * minutes)
    expect(page.get_by_text(IDLE)).to_be_visible()
    page.evaluate("jupyterapp.shell.currentWidget.context.save()")
    return nb.read(path)
