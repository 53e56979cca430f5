"""Quality of every system under one protocol; writes results/quality.json and .png.

    python benchmarks/quality.py [--systems tfidf scratch] [--jobs 2]

One seeded, grouped, stratified split (split.json, row hashes) of the TMDB list: fit on train; stop and tune thresholds
on validation; score test once. Three training seeds each. Finished runs are kept in runs/quality and not repeated, so
that an interrupted benchmark goes on where it stopped.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modeling.data import assign_splits, file_hash, genre_matrix, genre_vocabulary, read_films, split_hashes  # noqa: E402
from modeling.decision import OBJECTIVES, tune_profiles  # noqa: E402
from modeling.metrics import SCORES, bootstrap, per_genre, scores  # noqa: E402
from modeling.prediction_movie_genre import choose  # noqa: E402
from modeling.teacher import linear_model  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "top_movies.csv"
SPLIT = ROOT / "benchmarks" / "split.json"
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "runs" / "quality"
NETWORKS = {"seed": "configs/seed.yaml", "scratch": "configs/scratch.yaml"}
LABELS = {
    "tfidf": "TF-IDF + logistic regression",
    "seed": "the seed's settings",
    "scratch": "ours, from scratch",
}
SEEDS = (0, 1, 2)
OURS = "scratch"
SEED_THRESHOLD = 0.4  # what the notebook used


class Films:
    """Texts and truth of the protocol's split."""

    def __init__(self) -> None:
        films, _ = read_films(DATA)
        stored = json.loads(SPLIT.read_text(encoding="utf-8")) if SPLIT.exists() else None
        films = assign_splits(films, stored=stored, seed=0)
        if stored is None:
            SPLIT.write_text(json.dumps({"sha256": file_hash(DATA), **split_hashes(films)}, indent=0) + "\n")
        self.genres = genre_vocabulary(films)
        names = np.array(films["split"])
        texts, truth = np.array(films["description"], dtype=object), genre_matrix(films, self.genres)
        self.texts = {name: texts[names == name] for name in ("train", "validation", "test")}
        self.truth = {name: truth[names == name] for name in self.texts}


def fit_tfidf(films: Films, folder: Path) -> None:
    """The linear baseline; it has no seed."""
    started = time.time()
    model = linear_model().fit(films.texts["train"], films.truth["train"])
    folder.mkdir(parents=True, exist_ok=True)
    probabilities = {name: model.predict_proba(films.texts[name]) for name in ("validation", "test")}
    coefficients = sum(head.coef_.size + 1 for head in model[-1].estimators_)
    training = {"seconds": round(time.time() - started, 1), "parameters": int(coefficients)}
    profiles = tune_profiles(films.truth["validation"], probabilities["validation"])
    np.save(folder / "test.npy", probabilities["test"])
    (folder / "run.json").write_text(json.dumps(training | {"profiles": profiles}))


def fit_network(system: str, seed: int, folder: Path, threads: int) -> None:
    """Train and predict as a user would, each in its own process."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    log = folder.with_suffix(".log").open("w")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "train.py", NETWORKS[system]]
    flags = ["--train_file", os.path.relpath(DATA, ROOT), "--split_file", os.path.relpath(SPLIT, ROOT)]
    flags += [
        "--cpu_threads",
        str(threads),
        "--seed",
        str(seed),
        "--output_dir",
        str(folder.relative_to(ROOT)),
        "--overwrite_output_dir",
        "true",
    ]
    subprocess.run([*launch, *flags], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    evaluate = [sys.executable, "-m", "modeling.cli", "evaluate", "--model", str(folder), "--data", str(DATA)]
    evaluate += ["--split", "test", "--split-file", str(SPLIT), "--output", str(folder / "evaluation.json")]
    evaluate += ["--probabilities", str(folder / "test.npy")]
    subprocess.run(evaluate, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    run = {name: training[name] for name in ("seconds", "parameters", "best_epoch")}
    (folder / "run.json").write_text(json.dumps(run | {"profiles": config["threshold_profiles"]}))


def finish(job: tuple[str, int], films: Films, threads: int) -> None:
    """One run, unless it is there already."""
    system, seed = job
    folder = RUNS / f"{system}-{seed}"
    if not (folder / "run.json").exists():
        print(f"{system}, seed {seed} ...", flush=True)
        RUNS.mkdir(parents=True, exist_ok=True)
        if system == "tfidf":
            fit_tfidf(films, folder)
        else:
            fit_network(system, seed, folder, threads)
        print(f"{system}, seed {seed} done", flush=True)


def summarise(system: str, films: Films) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Mean scores over the seeds with 95 % intervals over films; and each seed's [chosen, probabilities]."""
    truth = films.truth["test"]
    folders = [RUNS / f"{system}-{seed}" for seed in SEEDS if (RUNS / f"{system}-{seed}" / "run.json").exists()]
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]
    probabilities = [np.load(folder / "test.npy") for folder in folders]
    chosen = {
        objective: [
            choose(p, np.array(run["profiles"][objective]), 1) for run, p in zip(runs, probabilities, strict=True)
        ]
        for objective in OBJECTIVES
    }
    arrays = [array for pair in zip(chosen["micro_f1"], probabilities, strict=True) for array in pair]
    mean = mean_scores(truth, *arrays)
    fixed = [choose(p, np.full(p.shape[1], SEED_THRESHOLD), 1) for p in probabilities]
    result = {
        "name": LABELS[system],
        "seeds": len(folders),
        **mean,
        "intervals": bootstrap(mean_scores, [truth, *arrays]),
        "per_seed": [scores(truth, *pair) for pair in zip(chosen["micro_f1"], probabilities, strict=True)],
        "profiles": {
            objective: float(np.mean([score(truth, c) for c in chosen[objective]]))
            for objective, score in OBJECTIVES.items()
        },
        "at_threshold_0.4": mean_scores(truth, *(a for pair in zip(fixed, probabilities, strict=True) for a in pair)),
        "per_genre": per_genre(truth, chosen["micro_f1"][0], probabilities[0], films.genres),
        "parameters": runs[0]["parameters"],
        "training_seconds": [run["seconds"] for run in runs],
        "best_epoch": [run.get("best_epoch") for run in runs],
    }
    return result, arrays


def mean_scores(truth: np.ndarray, *arrays: np.ndarray) -> dict[str, float]:
    """Scores averaged over runs, given as chosen, probabilities, chosen, probabilities, ..."""
    runs = [scores(truth, *arrays[i : i + 2]) for i in range(0, len(arrays), 2)]
    return {name: float(np.mean([run[name] for run in runs])) for name in SCORES}


def paired(truth: np.ndarray, ours: list[np.ndarray], other: list[np.ndarray]) -> dict[str, Any]:
    """Ours less another system on the same films, with 95 % intervals."""

    def difference(truth: np.ndarray, *arrays: np.ndarray) -> dict[str, float]:
        one, two = mean_scores(truth, *arrays[: len(ours)]), mean_scores(truth, *arrays[len(ours) :])
        return {name: one[name] - two[name] for name in SCORES}

    arrays = [truth, *ours, *other]
    return {"difference": difference(*arrays), "intervals": bootstrap(difference, arrays)}


def plot(systems: dict[str, dict[str, Any]], path: Path) -> None:
    """Bars with intervals, a panel a score."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision")
    figure, axes = plt.subplots(
        1, len(shown), figsize=(12, 1.2 + 0.5 * len(systems)), sharey=True, layout="constrained"
    )
    names = [system["name"] for system in systems.values()]
    for axis, score in zip(axes, shown, strict=True):
        values = np.array([system[score] for system in systems.values()])
        bounds = np.array([system["intervals"][score] for system in systems.values()]).T
        axis.barh(names, values, color="#4c72b0", xerr=np.abs(bounds - values), capsize=3)
        axis.set_title(score.replace("_", " "))
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run what is missing, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(LABELS), choices=list(LABELS))
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, sharing the cores")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"{os.path.relpath(DATA, ROOT)} is not here: this benchmark measures on that list alone")

    films = Films()
    jobs = [(system, seed) for system in options.systems for seed in (SEEDS if system in NETWORKS else SEEDS[:1])]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: finish(job, films, threads), jobs))

    systems, arrays = {}, {}
    for system in LABELS:
        if (RUNS / f"{system}-0" / "run.json").exists():
            systems[system], arrays[system] = summarise(system, films)
    truth = films.truth["test"]
    result = {
        "protocol": "fit on train, stop and tune on validation, score test once; thresholds of the profile micro_f1",
        "command": "python benchmarks/quality.py",
        "data": {"source": DATA.name, "sha256": file_hash(DATA), "films": {k: len(v) for k, v in films.texts.items()}},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "systems": systems,
        "ours_less": {
            name: paired(truth, arrays[OURS], arrays[name]) for name in arrays if name != OURS and OURS in arrays
        },
    }
    from modeling.training import versions

    result["versions"] = versions()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "quality.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(systems, RESULTS / "quality.png")
    for system in systems.values():
        print(f"{system['name']:<32}", *(f"{name} {system[name]:.3f}" for name in SCORES))


if __name__ == "__main__":
    main()
