"""How many films does it take? Ours and two others from 500 films on; writes results/data_efficiency.json and .png.

    python -m benchmarks.data_efficiency [--sizes 500 2000 5000] [--systems best tfidf minilm]

The protocol is that of quality.py, one seed; the validation and test films are always all of them, and each smaller
training set is a part of the next. What finished runs answered is kept in results/predictions.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import PREDICTIONS, RESULTS, ROOT, TMDB, about, kept, without_tmdb, write
from benchmarks.quality import LABELS, Films, finish, mean_scores
from modeling.metrics import bootstrap
from modeling.prediction_movie_genre import choose

RUNS = ROOT / "runs" / "data_efficiency"
SYSTEMS = ("best", "tfidf", "minilm")


def summarise(truth: np.ndarray, run: dict[str, Any], probabilities: np.ndarray) -> dict[str, Any]:
    """Scores on the test films, with 95 % intervals over them."""
    arrays = [choose(probabilities, np.array(run["profiles"]["micro_f1"]), 1), probabilities]
    intervals = bootstrap(mean_scores, [truth, *arrays])
    return {**mean_scores(truth, *arrays), "intervals": intervals, "seconds": run["seconds"]}


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """A line a system, with intervals."""
    from matplotlib.figure import Figure

    shown = ("micro_f1", "macro_f1", "mean_average_precision")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, len(shown))
    for axis, score in zip(axes, shown, strict=True):
        for system, sizes in results.items():
            values = np.array([figures[score] for figures in sizes.values()])
            bounds = np.array([figures["intervals"][score] for figures in sizes.values()]).T
            films = [int(size) for size in sizes]
            axis.errorbar(films, values, yerr=np.abs(bounds - values), marker="o", capsize=3, label=LABELS[system])
        axis.set(xscale="log", xlabel="training films", title=score.replace("_", " "))
        sizes = sorted({int(size) for figures in results.values() for size in figures})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 5000])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, on processors that multiply in it")
    options = parser.parse_args()
    if without_tmdb():
        return
    torch.set_num_threads(options.threads)
    films = Films()
    for size in options.sizes:
        fewer = films.with_fewer(size, RUNS / str(size))
        for system in options.systems:
            finish(f"data_efficiency/{system}-{size}", system, 0, fewer, options.threads, options.bf16)
    results: dict[str, dict[str, Any]] = {}
    for system in SYSTEMS:
        names = [path.stem for path in (PREDICTIONS / "data_efficiency").glob(f"{system}-*.json")]
        for size in sorted(int(name.rpartition("-")[2]) for name in names):
            if done := kept(f"data_efficiency/{system}-{size}"):
                results.setdefault(system, {})[str(size)] = summarise(films.truth["test"], *done)
    result = {
        "protocol": "one seed; thresholds for micro-F1 tuned on the validation films, scored on the test films",
        **about("data_efficiency", TMDB, films={name: len(texts) for name, texts in films.texts.items()}),
        "names": {system: LABELS[system] for system in results},
        "systems": results,
    }
    write(RESULTS / "data_efficiency.json", result)
    plot(results, RESULTS / "data_efficiency.png")
    for system, sizes in results.items():
        for size, figures in sizes.items():
            print(f"{LABELS[system]:<32} {size:>6} films: micro-F1 {figures['micro_f1']:.3f}")


if __name__ == "__main__":
    main()
