"""Ten minutes of made-up files through the reader."""

import csv
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

MINUTES = 10
COLUMNS = ["movie_name", "genre", "description", "split"]
WORDS = st.sampled_from([*COLUMNS, "Drama", "A text.", "train", "None", "", '"', "[", "\0", "\r", "é", "1"])
GOOD = [[f"Film {i}", ("Drama", "War", "Drama, War")[i % 3], f"Text number {i}."] for i in range(20)]


def measure(scale: float) -> dict[str, Any]:
    """Each is read and split, or refused by a DataError; anything else is counted and shown."""
    from modeling.data import DataError, assign_splits, read_films

    deadline, counts = time.time() + 60 * MINUTES * scale, {"read": 0, "refused": 0, "unhandled": 0}
    examples: list[str] = []
    rows = st.lists(st.lists(WORDS, max_size=5) | st.tuples(WORDS, WORDS, WORDS), max_size=6)
    lines = (rows | rows.map(lambda made: GOOD + made)).map(_csv)
    inserted = st.tuples(lines, st.binary(max_size=8), st.integers(0, 500))
    mangled = inserted.map(lambda made: made[0][: made[2]] + made[1] + made[0][made[2] :])
    objects = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    )
    strategy = st.tuples(st.just(".csv"), st.binary() | lines | mangled, st.booleans()) | st.tuples(
        st.just(".jsonl"), st.lists(objects, max_size=4).map(_json), st.booleans()
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
        def each(made: tuple[str, bytes, bool]) -> None:
            path = Path(folder) / f"films{made[0]}"
            path.write_bytes(made[1])
            try:
                assign_splits(read_films(path, skip_bad_rows=made[2])[0])
                counts["read"] += 1
            except DataError:
                counts["refused"] += 1
            except Exception as error:  # this is what is looked for
                counts["unhandled"] += 1
                examples[9:] = [f"{error!r} at {made!r}"[:1000]]

        while time.time() < deadline:
            each()
    return {"minutes": round(MINUTES * scale, 1), **counts, "examples": examples}


def _csv(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([COLUMNS[:3], *rows])
    return buffer.getvalue().encode()


def _json(rows: list[Any]) -> bytes:
    good = [dict(zip(COLUMNS, row, strict=False)) for row in GOOD]
    odd = [{"genre": "Drama", "description": "A text.", "x": row} if i % 2 else row for i, row in enumerate(rows)]
    return "\n".join(map(json.dumps, good + odd)).encode()
