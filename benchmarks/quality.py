"""Quality of every system under one protocol; writes results/quality.json and .png.

    python -m benchmarks.quality [--systems tfidf scratch] [--jobs 2]

One seeded, grouped, stratified split (split.json, row hashes) of the TMDB list: fit on train; choose an epoch, where
one is chosen, and tune thresholds on validation; score test once. Three training seeds each. What finished runs
answered is kept in results/predictions: they are not repeated. A training that was cut short goes on in runs/quality.
"""

import argparse
import copy
import csv
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from transformers import (
    AutoConfig,
    AutoModel,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.common import RESULTS, ROOT, STORIES, TMDB, TRAIN, about, flops, keep, kept, without_tmdb, write
from modeling import MovieGenreConfig
from modeling.arguments import parse_arguments
from modeling.data import (
    Problems,
    assign_splits,
    file_hash,
    genre_matrix,
    genre_vocabulary,
    read_films,
    split_hashes,
    stream_rows,
)
from modeling.decision import (
    FOLDS,
    THRESHOLD_OBJECTIVES,
    count_label_sets,
    fit_calibration,
    fit_label_set_weight,
    tune_profiles,
)
from modeling.metrics import (
    SCORES,
    average_precision,
    bootstrap,
    calibration_errors,
    decision_scores,
    per_genre,
    scores,
    selective_gain,
)
from modeling.prediction_movie_genre import LabelSets, choose, expected_f1, length_batches
from modeling.record import given
from modeling.teacher import LONGEST, embed, linear_model, predicted
from modeling.tokenization import MINILM, load_tokenizer, local_source
from modeling.training import attention_kernel

SPLIT = ROOT / "benchmarks" / "split.json"
OFF_TOPIC = ROOT / "benchmarks" / "behaviour" / "off_topic.csv"
# What train.py is told, a system of ours.
NETWORKS = {
    "seed": ["configs/seed.yaml"],
    "scratch": ["configs/scratch.yaml"],
    # True labels overfit where soft ones do not: here validation films choose the epoch.
    "warm": [
        *("configs/best.yaml", "--teacher", "none", "--hint_weight", "0", "--transfer_file", ""),
        *("--load_best_model_at_end", "true", "--early_stopping_patience", "3"),
    ],
    "graph": ["configs/best.yaml", "--label_graph", "gcn"],
    "best": ["configs/best.yaml"],
}
LABELS = {
    "seed": "the seed's settings",
    "fasttext": "fastText",
    "tfidf": "TF-IDF + logistic regression",
    "probe": "frozen MiniLM-L6 + logistic regression",
    "setfit": "SetFit, MiniLM-L6, two pairs a film",
    "minilm": "MiniLM-L6, fine-tuned",
    "scratch": "ours, from scratch",
    "warm": "ours, warm start alone",
    "graph": "ours, warm start, distilled, with label graph",
    "best": "ours, warm start and distilled",
}
WITHOUT_WEIGHT = {
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "cpu_threads", "bf16", "use_cpu"),
    *("ddp_find_unused_parameters", "greater_is_better"),  # which follow from others
}
SEEDS = (0, 1, 2)
SEEDED = (*NETWORKS, "minilm")  # the others have no seed, or are run once
OURS = "best"
RARE = 0.05  # genres of fewer films than this share
SCORED = ("validation", "test")
FASTTEXT_EPOCHS = (25, 50, 100)
MINILM_EPOCHS, MINILM_LEARNING_RATE = 4, 2e-4  # a rate that serves the validation films better than 1e-4
SETFIT_ITERATIONS = 1  # two pairs a film; its default of 20 takes hours on a CPU
ALONE = threading.Lock()  # baselines draw from generators of the whole process, and are fitted one after another
VECTORS = ROOT / "runs" / "teachers"
MINILM_LAYERS = {"probe": 2, "setfit": 1, "minilm": 1}  # of how many the dense layer on top reads the vectors
MEAN_TOKENS = 60  # of a description, for the operations a token


class Films:
    """Texts and truth of the protocol's split."""

    def __init__(self) -> None:
        films, _ = read_films(TMDB)
        stored = json.loads(SPLIT.read_text(encoding="utf-8")) if SPLIT.exists() else None
        films = assign_splits(films, stored=stored, seed=0)
        if stored is None:
            SPLIT.write_text(json.dumps({"sha256": file_hash(TMDB), **split_hashes(films)}, indent=0) + "\n")
        self.genres = genre_vocabulary(films)
        names = np.array(films["split"])
        texts, truth = np.array(films["description"], dtype=object), genre_matrix(films, self.genres)
        self.texts = {name: texts[names == name] for name in ("train", "validation", "test")}
        self.truth = {name: truth[names == name] for name in self.texts}
        self.path = TMDB

    def with_fewer(self, count: int, folder: Path) -> "Films":
        """The same with so many training films, of which each smaller number is a part; a file of them in `folder`."""
        some = np.random.default_rng(0).permutation(len(self.texts["train"]))[:count]
        fewer = copy.copy(self)
        fewer.texts = self.texts | {"train": self.texts["train"][some]}
        fewer.truth = self.truth | {"train": self.truth["train"][some]}
        fewer.path = folder / "films.csv"
        folder.mkdir(parents=True, exist_ok=True)
        with fewer.path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["movie_name", "genre", "description"])
            for name, texts in fewer.texts.items():
                for text, row in zip(texts, fewer.truth[name], strict=True):
                    table.writerow(["", ", ".join(g for g, given in zip(self.genres, row, strict=True) if given), text])
        return fewer


def fit_tfidf(films: Films, folder: Path, seed: int, bf16: bool) -> dict[str, Any]:
    """The linear baseline."""
    return _fit_linear(linear_model(), films.texts, films, folder)


def fit_probe(films: Films, folder: Path, seed: int, bf16: bool) -> dict[str, Any]:
    """A logistic regression a genre on frozen MiniLM vectors."""
    vectors = {name: embed(MINILM, list(texts), VECTORS) for name, texts in films.texts.items()}
    model = make_pipeline(MultiOutputClassifier(LogisticRegression(C=2.0, max_iter=1000)))
    return _fit_linear(model, vectors, films, folder)


def _fit_linear(model: Any, features: dict[str, np.ndarray], films: Films, folder: Path) -> dict[str, Any]:
    model.fit(features["train"], films.truth["train"])
    for name in SCORED:
        np.save(folder / f"{name}.npy", predicted(model, features[name]))
    return {"parameters": int(sum(head.coef_.size + 1 for head in model[-1].estimators_))}


def fit_fasttext(films: Films, folder: Path, seed: int, bf16: bool) -> dict[str, Any]:
    """FastText (Joulin et al. 2017), a logistic loss a genre; epochs chosen on validation."""
    import fasttext

    def line(text: str) -> str:
        return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))

    genres = [f"__label__{i}" for i in range(len(films.genres))]
    lines = [
        " ".join([*(genres[i] for i in np.flatnonzero(row)), line(text)])
        for text, row in zip(films.texts["train"], films.truth["train"], strict=True)
    ]
    path = folder / "train.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    best, parameters = -1.0, 0
    for epochs in FASTTEXT_EPOCHS:
        model = fasttext.train_supervised(
            str(path), loss="ova", lr=0.5, epoch=epochs, wordNgrams=2, thread=1, verbose=0
        )
        found = {name: np.zeros(films.truth[name].shape) for name in SCORED}
        for name, values in found.items():
            for row, text in enumerate(films.texts[name]):
                # The compiled function: the Python one around it does not know NumPy 2.
                for value, genre in model.f.predict(line(text) + "\n", len(genres), 0.0, "strict"):
                    values[row, genres.index(genre)] = min(value, 1.0)
        quality = np.nanmean(average_precision(films.truth["validation"], found["validation"]))
        if quality > best:
            best, parameters = quality, model.get_input_matrix().size + model.get_output_matrix().size
            for name, values in found.items():
                np.save(folder / f"{name}.npy", values)
    path.unlink()
    return {"parameters": int(parameters)}


def fit_setfit(films: Films, folder: Path, seed: int, bf16: bool) -> dict[str, Any]:
    """SetFit (Tunstall et al. 2022): MiniLM tuned on pairs of films, then a logistic regression a genre."""
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(local_source(MINILM), multi_target_strategy="one-vs-rest")
    arguments = TrainingArguments(
        str(folder / "checkpoints"), batch_size=16, num_epochs=1, num_iterations=SETFIT_ITERATIONS, seed=seed
    )
    rows = Dataset.from_dict({"text": list(films.texts["train"]), "label": films.truth["train"].astype(int).tolist()})
    Trainer(model, arguments, train_dataset=rows).train()
    for name in SCORED:
        np.save(folder / f"{name}.npy", np.asarray(model.predict_proba(list(films.texts[name])), dtype=float))
    return {}


class MeanPooled(torch.nn.Module):
    """MiniLM-L6 as it was made to be read, by the mean of its token vectors, and a dense layer a genre on top."""

    def __init__(self, genres: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(local_source(MINILM), use_safetensors=True)
        self.dropout = torch.nn.Dropout(0.1)
        self.output = torch.nn.Linear(self.encoder.config.hidden_size, genres)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Logits (films, genres), and the loss where labels are given."""
        states = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None]
        logits = self.output(self.dropout((states * mask).sum(dim=1) / mask.sum(dim=1)))
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def fit_minilm(films: Films, folder: Path, seed: int, bf16: bool) -> dict[str, Any]:
    """MiniLM-L6 fine-tuned whole, by Hugging Face's Trainer and linear decay, in bfloat16 where ours is."""
    set_seed(seed)
    tokenizer = load_tokenizer(MINILM, LONGEST)
    model = MeanPooled(len(films.genres))
    ids = {
        name: tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]
        for name, texts in films.texts.items()
    }
    lengths = [len(row) for row in ids["train"]]
    labels = films.truth["train"].astype(np.float32).tolist()
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=MINILM_EPOCHS,
        learning_rate=MINILM_LEARNING_RATE,
        per_device_train_batch_size=16,
        warmup_steps=0.06,
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        seed=seed,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Dataset.from_dict({"input_ids": ids["train"], "labels": labels, "length": lengths}),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    with attention_kernel(arguments):
        trainer.train()
    model.cpu().eval()
    for name in SCORED:
        probabilities = np.zeros(films.truth[name].shape)
        for batch in length_batches([len(row) for row in ids[name]], 32):
            padded = tokenizer.pad({"input_ids": [ids[name][i] for i in batch]}, return_tensors="pt")
            with torch.inference_mode():
                probabilities[batch] = model(**padded)["logits"].sigmoid().numpy()
        np.save(folder / f"{name}.npy", probabilities)
    return {}


def cost(system: str, folder: Path, run: dict[str, Any], genres: int) -> dict[str, int | None]:
    """Parameters, and operations of the encoder's matrix products for one token of a text of the mean length."""
    if system in NETWORKS:
        config, parameters = MovieGenreConfig.from_pretrained(folder), run["parameters"]
    elif system in MINILM_LAYERS:
        config = AutoConfig.from_pretrained(local_source(MINILM))
        with torch.device("meta"):
            parameters = AutoModel.from_config(config).num_parameters()
        parameters += genres * (MINILM_LAYERS[system] * config.hidden_size + 1)
    else:
        return {"parameters": run["parameters"], "flops_per_token": None}
    return {"parameters": parameters, "flops_per_token": int(flops(config, [MEAN_TOKENS]) / MEAN_TOKENS)}


def recipe(films: Path, folder: Path, seed: int, system: str) -> list[str]:
    """What train.py is told, but for what changes no weight."""
    files = ["--train_file", os.path.relpath(films, ROOT), "--split_file", os.path.relpath(SPLIT, ROOT)]
    return [*NETWORKS[system], *files, "--seed", str(seed), "--output_dir", os.path.relpath(folder, ROOT)]


def check_recipe(name: str, then: dict[str, Any], words: list[str]) -> None:
    """Is a finished run, trained with the arguments `then`, of today's recipe, by which train.py is told `words`?

    Raises:
        ValueError: naming what differs; for a run that is kept would be reported under a recipe that is not its own.
    """
    groups = parse_arguments(words)
    now = {name: value for group in groups for name, value in vars(group).items()}
    for key in (then | given(*groups)).keys() - WITHOUT_WEIGHT:  # what is not recorded was at its default
        if key not in then or then[key] != now.get(key):
            raise ValueError(
                f"{name} was trained with {key} {then.get(key, 'at its default')}, its recipe says {now.get(key)}: "
                "delete it from results/predictions, and its folder in runs, to train it anew"
            )


def fit_network(films: Films, folder: Path, seed: int, system: str, threads: int, bf16: bool) -> dict[str, Any]:
    """Train and predict as a user would, each in its own process."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    launch = [*TRAIN, *recipe(films.path, folder, seed, system), "--cpu_threads", str(threads), "--bf16", str(bf16)]
    launch += ["--resume_from_checkpoint", "true"]  # of a run that was cut short; else it starts anew
    evaluate = [sys.executable, "-m", "modeling.cli", "evaluate", "--model", str(folder), "--data", str(TMDB)]
    evaluate += ["--split", "test", "--split-file", str(SPLIT), "--output", str(folder / "evaluation.json")]
    evaluate += ["--probabilities", str(folder / "test.npy"), "--off-topic", str(OFF_TOPIC)]
    with folder.with_suffix(".log").open("w") as log:
        for command in (launch, evaluate):
            subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = MovieGenreConfig.from_pretrained(folder)
    return {
        "arguments": training["arguments"],
        "parameters": training["parameters"],
        "best_epoch": training["best_epoch"],
        "profiles": config.threshold_profiles,
    }


BASELINES = {
    "fasttext": fit_fasttext,
    "tfidf": fit_tfidf,
    "probe": fit_probe,
    "setfit": fit_setfit,
    "minilm": fit_minilm,
}


def finish(name: str, system: str, seed: int, films: Films, threads: int, bf16: bool = False) -> None:
    """One run, in its folder of runs/, unless what it answered is kept already."""
    folder = ROOT / "runs" / name
    if done := kept(name):
        if system in NETWORKS:
            check_recipe(name, done[0]["arguments"], recipe(films.path, folder, seed, system))
        return
    print(f"{name} ...", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    started, resumed = time.time(), any(folder.glob("checkpoint-*"))
    if system in NETWORKS:
        run = fit_network(films, folder, seed, system, threads, bf16)
    else:
        with ALONE:
            run = BASELINES[system](films, folder, seed, bf16)
        run["profiles"] = tune_profiles(films.truth["validation"], np.load(folder / "validation.npy"))
    seconds = round(time.time() - started, 1)
    run |= cost(system, folder, run, len(films.genres))
    run |= {"bf16": bf16, "seconds": None if resumed else seconds}  # of a part of the run they would say nothing
    keep(name, run, np.load(folder / "test.npy"))
    print(f"{name} done in {seconds:.0f} s", flush=True)


def summarise(system: str, films: Films) -> tuple[dict[str, Any], list[np.ndarray], list[np.ndarray]]:
    """Mean scores with 95 % intervals over films; each seed's [chosen, probabilities]; each seed's whole sets."""
    truth = films.truth["test"]
    finished = [done for seed in SEEDS if (done := kept(f"quality/{system}-{seed}"))]
    runs, probabilities = [run for run, _ in finished], [found for _, found in finished]
    chosen = {
        objective: [
            choose(p, np.array(run["profiles"][objective]), 1) for run, p in zip(runs, probabilities, strict=True)
        ]
        for objective in THRESHOLD_OBJECTIVES
    }
    sets = [by_label_sets(films, p) for p in probabilities]
    arrays = [array for pair in zip(chosen["micro_f1"], probabilities, strict=True) for array in pair]
    mean = mean_scores(truth, *arrays)
    result = {
        "name": LABELS[system],
        "seeds": len(runs),
        **mean,
        "intervals": bootstrap(mean_scores, [truth, *arrays]),
        "per_seed": [scores(truth, *pair) for pair in zip(chosen["micro_f1"], probabilities, strict=True)],
        "profiles": {
            objective: float(np.mean([score(truth, c) for c in chosen[objective]]))
            for objective, score in THRESHOLD_OBJECTIVES.items()
        },
        "selective": selective(truth, chosen["micro_f1"], probabilities),
        "label_sets": {
            **mean_decisions(truth, *sets),
            "intervals": bootstrap(mean_decisions, [truth, *sets]),
            "selective": selective(truth, sets, probabilities),
        },
        "per_genre": per_genre(truth, chosen["micro_f1"][0], probabilities[0], films.genres),
        "calibration_error": float(np.mean([calibration_errors(truth, p).mean() for p in probabilities])),
        "calibration_error_calibrated": float(
            np.mean([calibration_errors(truth, calibrated(truth, p)).mean() for p in probabilities])
        ),
        **{name: runs[0][name] for name in ("parameters", "flops_per_token")},
        "training_seconds": [run["seconds"] for run in runs],
        "best_epoch": [run.get("best_epoch") for run in runs],
        "bf16": [run.get("bf16") for run in runs],
        "stories": bool(runs[0].get("arguments", {}).get("transfer_file")),
    }
    return result, arrays, sets


def mean_scores(truth: np.ndarray, *arrays: np.ndarray) -> dict[str, float]:
    """Scores averaged over runs, given as chosen, probabilities, chosen, probabilities, ..."""
    runs = [scores(truth, *arrays[i : i + 2]) for i in range(0, len(arrays), 2)]
    return {name: float(np.mean([run[name] for run in runs])) for name in SCORES}


def selective(truth: np.ndarray, chosen: list[np.ndarray], probabilities: list[np.ndarray]) -> dict[str, Any]:
    """What setting films aside by the expected F1 of what is chosen for them gains, with its interval."""
    arrays = [array for c, p in zip(chosen, probabilities, strict=True) for array in (c, expected_f1(p, c))]
    return mean_gain(truth, *arrays) | {"intervals": bootstrap(mean_gain, [truth, *arrays])}


def mean_gain(truth: np.ndarray, *arrays: np.ndarray) -> dict[str, float]:
    """`selective_gain` by expected F1 averaged over runs, given as chosen, expected F1, chosen, expected F1, ..."""
    gains = [selective_gain(truth, *arrays[i : i + 2]) for i in range(0, len(arrays), 2)]
    return {"gain": float(np.mean(gains))}


def mean_decisions(truth: np.ndarray, *chosen: np.ndarray) -> dict[str, float]:
    """Scores of what runs chose, averaged over them."""
    runs = [decision_scores(truth, one) for one in chosen]
    return {name: float(np.mean([run[name] for run in runs])) for name in ("micro_f1", "subset_accuracy")}


def by_label_sets(films: Films, probabilities: np.ndarray) -> np.ndarray:
    """The best of the training films' sets of genres for each test film, (films, genres).

    How much it counts what goes together is cross-fitted: on four fifths of the test films for the remaining one. For
    what is kept of a run are its probabilities of test films.
    """
    truth, counts = films.truth["test"], count_label_sets(films.truth["train"])
    chosen = np.zeros(truth.shape, dtype=bool)
    for fit, held in parts(len(truth)):
        weight = fit_label_set_weight(truth[fit], probabilities[fit], counts)
        rule = LabelSets.from_counts(counts, weight)
        chosen[held] = choose(probabilities[held], rule, 1)
    return chosen


def calibrated(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of test films, calibrated as ours are when they are trained, but cross-fitted, (films, genres)."""
    logits, found = logit(np.clip(probabilities, 1e-6, 1 - 1e-6)), np.empty(truth.shape)
    for fit, held in parts(len(truth)):
        scale, bias = fit_calibration(truth[fit], logits[fit])
        found[held] = expit(logits[held] * scale + bias)
    return found


def parts(films: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks (films,) of four fifths to fit on and of the remaining one, turn by turn."""
    folds = np.random.default_rng(0).permutation(films) % FOLDS
    for fold in range(FOLDS):
        yield folds != fold, folds == fold


def paired(
    truth: np.ndarray,
    ours: list[np.ndarray],
    other: list[np.ndarray],
    statistic: Callable[..., dict[str, float]] = mean_scores,
) -> dict[str, Any]:
    """Ours less another system on the same films, with 95 % intervals."""

    def difference(truth: np.ndarray, *arrays: np.ndarray) -> dict[str, float]:
        one, two = statistic(truth, *arrays[: len(ours)]), statistic(truth, *arrays[len(ours) :])
        return {name: one[name] - two[name] for name in one}

    arrays = [truth, *ours, *other]
    return {"difference": difference(*arrays), "intervals": bootstrap(difference, arrays)}


def unlike_stories(films: Films) -> np.ndarray:
    """Rows of the half of the test films that are least like any story, as a frozen MiniLM sees both.

    Some stories tell what a film tells, too: what is gained on films that no story tells was not learned by heart.
    """
    stories = [text for _, text in stream_rows(STORIES, Problems(str(STORIES), limit=0))]
    views = [embed(MINILM, list(texts), VECTORS) for texts in (films.texts["test"], stories)]
    likeness = (views[0] @ views[1].T).max(axis=1)
    return np.flatnonzero(likeness <= np.median(likeness))


def plot(systems: dict[str, dict[str, Any]], path: Path) -> None:
    """Bars with intervals, a panel a score."""
    from matplotlib.figure import Figure

    shown = ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision")
    figure = Figure(figsize=(12, 1.2 + 0.5 * len(systems)), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
    names = [system["name"] for system in systems.values()]
    for axis, score in zip(axes, shown, strict=True):
        values = np.array([system[score] for system in systems.values()])
        bounds = np.array([system["intervals"][score] for system in systems.values()]).T
        axis.barh(names, values, color="#4c72b0", xerr=np.abs(bounds - values), capsize=3)
        axis.set_title(score.replace("_", " "))
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(LABELS), choices=list(LABELS))
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, sharing the cores")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, on processors that multiply in it")
    options = parser.parse_args()
    if without_tmdb():
        return

    films = Films()
    jobs = [(system, seed) for system in options.systems for seed in (SEEDS if system in SEEDED else SEEDS[:1])]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    torch.set_num_threads(threads)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: finish(f"quality/{job[0]}-{job[1]}", *job, films, threads, options.bf16), jobs))

    systems, arrays, sets = {}, {}, {}
    for system in LABELS:
        if any(kept(f"quality/{system}-{seed}") for seed in SEEDS):
            systems[system], arrays[system], sets[system] = summarise(system, films)
    truth = films.truth["test"]
    rare = np.flatnonzero(truth.mean(axis=0) < RARE)
    less = {}
    unlike = unlike_stories(films) if OURS in arrays else []
    for name in arrays if OURS in arrays else ():
        if name != OURS:
            among_rare = ([array[:, rare] for array in arrays[one]] for one in (OURS, name))
            less[name] = paired(truth, arrays[OURS], arrays[name])
            less[name]["rare_genres"] = {
                "genres": [films.genres[i] for i in rare],
                **paired(truth[:, rare], *among_rare),
            }
            less[name]["label_sets"] = paired(truth, sets[OURS], sets[name], mean_decisions)
            among_unlike = ([array[unlike] for array in arrays[one]] for one in (OURS, name))
            less[name]["unlike_stories"] = {"films": len(unlike), **paired(truth[unlike], *among_unlike)}
    result = {
        "protocol": "fit on train, choose and tune on validation, score test once; thresholds of the profile micro_f1; "
        "the weight of label sets cross-fitted on test",
        **about("quality", TMDB, films={name: len(texts) for name, texts in films.texts.items()}),
        "systems": systems,
        "ours_less": less,
    }
    write(RESULTS / "quality.json", result)
    plot(systems, RESULTS / "quality.png")
    for system in systems.values():
        print(f"{system['name']:<32}", *(f"{name} {system[name]:.3f}" for name in SCORES))


if __name__ == "__main__":
    main()
