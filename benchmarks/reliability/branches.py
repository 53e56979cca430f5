"""Which branches of modeling/ do the tests take? Counted in every process that they start."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT


def measure(scale: float) -> dict[str, Any]:
    """All tests under coverage.py; a few of them for a small scale."""
    tests = ["tests"] if scale == 1 else ["tests/test_decision.py", "tests/test_metrics.py"]
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "coverage.json"
        command = [sys.executable, "-m", "pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *tests]
        command += ["--cov", "--cov-report", f"json:{report}"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "COVERAGE_FILE": str(Path(name) / "data")}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"tests fail:\n{done.stdout[-3000:]}")
        counted = json.loads(report.read_text(encoding="utf-8"))
    totals = counted["totals"]
    return {
        "branches": totals["num_branches"],
        "covered": totals["covered_branches"],
        "share": round(totals["covered_branches"] / totals["num_branches"], 4),
        "lines_share": round(totals["covered_lines"] / totals["num_statements"], 4),
        "by_file": {
            file: [part["summary"]["covered_branches"], part["summary"]["num_branches"]]
            for file, part in counted["files"].items()
        },
    }
