"""The tour runs from its first cell to its last."""

import nbformat
import pytest
from nbclient import NotebookClient

from .conftest import ROOT


@pytest.fixture(scope="module")
def tour():
    notebook = nbformat.read(ROOT / "notebooks" / "tour.ipynb", as_version=4)
    # A cell that fails raises here, with its traceback.
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    return notebook


def outputs(notebook, kind):
    return [o for cell in notebook.cells for o in cell.get("outputs", []) if kind in o.get("data", {})]


def test_the_tour_shows_plots_and_coloured_words(tour):
    assert len(outputs(tour, "image/png")) >= 3
    assert any("background" in "".join(o["data"]["text/html"]) for o in outputs(tour, "text/html"))


def test_the_tour_is_stored_without_outputs():
    notebook = nbformat.read(ROOT / "notebooks" / "tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
