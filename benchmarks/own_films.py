"""The second, independent test: the test rows of data/movies.csv; writes results/own_films.json.

    python -m benchmarks.own_films

Scores the shipped checkpoint, apart for titles that its training list has too and for those that it has not, and what
training on the train rows alone reaches (python train.py without further words).
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import (
    CHECKPOINT,
    MOVIES,
    RESULTS,
    ROOT,
    TMDB,
    TRAIN,
    about,
    movies,
    weights,
    without_tmdb,
    write,
)
from modeling.data import normalise

RUN = ROOT / "runs" / "movies"


def evaluate(model: Path, data: Path, output: Path) -> dict:
    """Figures of `movie-genre evaluate` on the test rows of a file."""
    command = [sys.executable, "-m", "modeling.cli", "evaluate", "--split", "test"]
    flags = ["--model", str(model), "--data", str(data), "--output", str(output)]
    subprocess.run([*command, *flags], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads(output.read_text(encoding="utf-8"))


def main() -> None:
    """Measure and write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if without_tmdb():  # it tells which titles are known
        return
    with TMDB.open(encoding="utf-8", newline="") as file:
        known = {normalise(row["movie_name"]) for row in csv.DictReader(file)}
    rows = movies("test")
    parts = {
        "all": rows,
        "known": [row for row in rows if normalise(row["movie_name"]) in known],
        "new": [row for row in rows if normalise(row["movie_name"]) not in known],
    }
    systems = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            path = Path(folder) / "films.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(part)
            systems[f"checkpoint, {name}"] = evaluate(CHECKPOINT, path, Path(folder) / "result.json")
        subprocess.run([*TRAIN, "--output_dir", str(RUN), "--overwrite_output_dir", "true"], cwd=ROOT, check=True)
        systems["trained on data/movies.csv"] = evaluate(RUN, MOVIES, Path(folder) / "result.json")
    training = json.loads((RUN / "training.json").read_text(encoding="utf-8"))
    result = {
        **about("own_films", MOVIES),
        "model": weights(CHECKPOINT),
        "training_seconds": training["seconds"],
        "systems": systems,
    }
    write(RESULTS / "own_films.json", result)


if __name__ == "__main__":
    main()
