"""The notebook of the examples: it runs top to bottom, and what is committed is what it shows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
WHY = "is not installed (pip install 'sft-kit[notebook]')"
nbformat = pytest.importorskip("nbformat", reason=f"nbformat {WHY}")

MOST_BYTES = 300_000


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def shown(notebook: Any) -> tuple[str, str]:
    """What the cells print, and the HTML that they show."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    html = "".join(output.data.get("text/html", "") for output in outputs if "data" in output)
    return printed, html


def require_truth(notebook: Any) -> None:
    """Chart, table, page and answers are there, and the model learned what it was taught."""
    printed, html = shown(notebook)
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", [])}
    assert kinds == {"stream", "display_data", "execute_result"}
    before, after = map(float, re.findall(r"token: ([\d.]+) untrained, ([\d.]+) trained", printed)[0])
    assert before > 5 > 1 > after
    right, asked = re.findall(r"'trained': (\d+)}", printed)[0], re.findall(r"right of (\d+)", printed)[0]
    assert int(right) > int(asked) / 2
    assert "step 100 of 100, loss" in html
    assert html.count("<svg viewBox") == 1  # it was redrawn in its place
    assert "<iframe srcdoc=" in html
    assert "&lt;title&gt;" in html


def test_what_is_committed_was_executed_and_names_no_machine() -> None:
    notebook, text = read(), NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(
        range(1, 1 + sum(cell.cell_type == "code" for cell in notebook.cells))
    )
    require_truth(notebook)
    assert not re.search(r"/home/|/root/|/work/|site-packages|Warning", text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason=f"nbclient {WHY}")
    pytest.importorskip("ipykernel", reason=f"ipykernel {WHY}")
    pytest.importorskip("pandas", reason=f"pandas {WHY}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    notebook = read()
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    require_truth(notebook)
    (run,) = tmp_path.glob("sft-notebook-*/run")
    assert {path.name for path in run.iterdir()} >= {"run.json", "metrics.jsonl", "report.html", "final_model"}
