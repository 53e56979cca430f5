"""Bulk prediction from a thousand rows to a million: time, rate and peak memory; writes results/bulk.json and .png.

    python -m benchmarks.bulk [--rows 1000 10000 100000 1000000]

The plumbing is what is measured, so the network is tiny: reading, tokenizing, batching, writing.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import CHECKPOINT, RESULTS, ROOT, about, movies, write


def write_model(folder: Path) -> None:
    """A network of one small layer, with the shipped model's tokenizer and genres."""
    from modeling import MovieGenreConfig, MovieGenreModel
    from modeling.export import export

    shipped = MovieGenreModel.from_pretrained(CHECKPOINT)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = MovieGenreConfig(**sizes, vocab_size=shipped.config.vocab_size, id2label=shipped.config.id2label)
    tiny = MovieGenreModel(config).eval()
    tiny._tokenizer = shipped.tokenizer
    export(tiny, folder)


def write_films(path: Path, rows: int) -> None:
    """The project's own films over and over."""
    texts = [film["description"] for film in movies()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["movie_name", "description"])
        writer.writerows([f"Film {i}", texts[i % len(texts)]] for i in range(rows))


def measure(model: Path, folder: Path, rows: int) -> dict[str, float]:
    """One run of the command, in a process of its own that reports its peak memory."""
    source = folder / "films.csv"
    write_films(source, rows)
    program = (
        "from benchmarks.speed import peak_mb; from modeling.cli import app; "
        "app(standalone_mode=False); print(peak_mb())"
    )
    flags = ["predict", "--backend", "onnx", "--model", model, "--input", source, "--output", folder / f"out-{rows}"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, flags)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    peak = float(done.stdout.split()[-1])
    return {"rows": rows, "seconds": seconds, "rows_a_second": rows / seconds, "peak_mb": peak}


def plot(runs: list[dict[str, float]], path: Path) -> None:
    """Time and memory by rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, name, title in zip(axes, ("seconds", "peak_mb"), ("seconds", "peak memory, MB"), strict=True):
        axis.plot([run["rows"] for run in runs], [run[name] for run in runs], marker="o")
        axis.set(xscale="log", yscale="log" if name == "seconds" else "linear", xlabel="rows", title=title)
        axis.set_ylim(bottom=0 if name == "peak_mb" else None)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--output", type=Path, default=RESULTS / "bulk.json")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name) / "model")
        for rows in options.rows:
            runs.append(measure(Path(name) / "model", Path(name), rows))
            print(
                "{rows:>9,.0f} rows: {seconds:.1f} s, {rows_a_second:,.0f} rows/s, {peak_mb:,.0f} MB".format(**runs[-1])
            )
    result = about("bulk") | {"runs": runs}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write(options.output, result)
    plot(runs, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
