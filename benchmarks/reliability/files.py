"""Malformed files through the command line, and ten minutes of made-up ones through the reader."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent.parent
MINUTES = 10
COLUMNS = ["movie_name", "genre", "description", "split"]
WORDS = st.sampled_from([*COLUMNS, "Drama", "A text.", "train", "None", "", '"', "[", "\0", "\r", "é", "1"])


def measure(scale: float) -> dict[str, Any]:
    """Both."""
    return {"command_line": command_line(scale), "fuzzing": fuzz(60 * MINUTES * scale)}


def command_line(scale: float) -> dict[str, Any]:
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
            if done.returncode != 2 or "Traceback" in done.stderr or output.exists():
                failures.append({"case": case.name, "exit_code": done.returncode, "said": done.stderr[-300:]})
    return {"files": len(cases), "refused_with_code_2": len(cases) - len(failures), "failures": failures}


def fuzz(seconds: float) -> dict[str, Any]:
    """Made-up files: each is read, or refused by a DataError; anything else is counted and shown."""
    from modeling.data import DataError, assign_splits, read_films

    deadline, read = time.time() + seconds, {"read": 0, "refused": 0, "unhandled": 0}
    examples: list[str] = []
    lines = st.lists(st.lists(WORDS, max_size=5), max_size=6).map(_csv)
    inserted = st.tuples(lines, st.binary(max_size=8), st.integers(0, 200))
    mangled = inserted.map(lambda made: made[0][: made[2]] + made[1] + made[0][made[2] :])
    objects = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    )
    strategy = st.tuples(st.just(".csv"), st.binary() | lines | mangled) | st.tuples(
        st.just(".jsonl"), st.lists(objects, max_size=4).map(_json)
    )
    with tempfile.TemporaryDirectory() as folder:

        @settings(
            max_examples=500,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def each(made: tuple[str, bytes]) -> None:
            path = Path(folder) / f"films{made[0]}"
            path.write_bytes(made[1])
            try:
                assign_splits(read_films(path)[0])
                read["read"] += 1
            except DataError:
                read["refused"] += 1
            except Exception as error:  # this is what is looked for
                read["unhandled"] += 1
                examples[9:] = [f"{error!r} at {made!r}"[:1000]]

        while time.time() < deadline:
            each()
    return {"minutes": round(seconds / 60, 1), **read, "examples": examples}


def _csv(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([COLUMNS[:3], *rows])
    return buffer.getvalue().encode()


def _json(rows: list[Any]) -> bytes:
    films = [{"genre": "Drama", "description": "A text.", "x": row} if i % 2 else row for i, row in enumerate(rows)]
    return "\n".join(map(json.dumps, films)).encode()
