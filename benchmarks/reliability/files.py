"""Malformed files through the command line."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT


def measure(scale: float) -> dict[str, Any]:
    """`train.py` on each malformed file: exit code 2, one sentence, nothing written."""
    from tests.malformed import CASES

    cases = CASES[:: round(1 / scale)]
    failures = []
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path, output = case.write(folder), folder / "run"
            command = [sys.executable, "train.py", "--train_file", str(path), "--output_dir", str(output)]
            environment = os.environ | {"HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
            said = re.search(case.says, done.stderr) is not None and "Traceback" not in done.stderr
            if done.returncode != 2 or not said or output.exists():
                failures.append({"case": case.name, "exit_code": done.returncode, "said": done.stderr[-300:]})
    return {"files": len(cases), "refused_with_code_2": len(cases) - len(failures), "failures": failures}
