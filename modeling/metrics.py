"""Multi-label measures on NumPy arrays.

Throughout, `truth` and `chosen` are (films, genres) of 0 and 1, `probabilities` are (films, genres) in [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

SCORES = (
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "macro_f1",
    "samples_f1",
    "subset_accuracy",
    "hamming_loss",
    "mean_average_precision",
    "micro_average_precision",
)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, dtype=float), np.asarray(denominator, dtype=float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def f1(true_positives: np.ndarray, chosen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """F1 from counts: 2 TP / (chosen + true), 0 where both are 0."""
    return _ratio(2 * np.asarray(true_positives), np.asarray(chosen) + np.asarray(truth))


def micro_f1(truth: np.ndarray, chosen: np.ndarray) -> float:
    """F1 over all pairs of film and genre."""
    return float(f1((truth * chosen).sum(), chosen.sum(), truth.sum()))


def macro_f1(truth: np.ndarray, chosen: np.ndarray) -> float:
    """Mean of the genres' F1."""
    return float(f1((truth * chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0)).mean())


def samples_f1(truth: np.ndarray, chosen: np.ndarray) -> float:
    """Mean of the films' F1."""
    return float(f1((truth * chosen).sum(axis=1), chosen.sum(axis=1), truth.sum(axis=1)).mean())


def subset_accuracy(truth: np.ndarray, chosen: np.ndarray) -> float:
    """Share of films whose set of genres is exactly right."""
    return float((truth == chosen).all(axis=1).mean())


def decision_scores(truth: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    """Measures of chosen sets: precision, recall and F1 (micro, macro, by film), subset accuracy, Hamming loss."""
    true_positives = (truth * chosen).sum()
    return {
        "micro_precision": float(_ratio(true_positives, chosen.sum())),
        "micro_recall": float(_ratio(true_positives, truth.sum())),
        "micro_f1": micro_f1(truth, chosen),
        "macro_f1": macro_f1(truth, chosen),
        "samples_f1": samples_f1(truth, chosen),
        "subset_accuracy": subset_accuracy(truth, chosen),
        "hamming_loss": float((truth != chosen).mean()),
    }


def ranking_scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Average precision: its mean over the genres that occur, and over all pairs of film and genre."""
    precisions = genre_average_precision(truth, probabilities)
    return {
        "mean_average_precision": float(np.nanmean(precisions)) if not np.isnan(precisions).all() else 0.0,
        "micro_average_precision": float(average_precision_score(truth.ravel(), probabilities.ravel()))
        if truth.any()
        else 0.0,
    }


def genre_average_precision(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Average precision of each genre, (genres,); NaN for a genre that no film has."""
    return np.array(
        [average_precision_score(y, p) if y.any() else np.nan for y, p in zip(truth.T, probabilities.T, strict=True)],
        dtype=float,
    )


def scores(truth: np.ndarray, chosen: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All of `SCORES`, in that order."""
    values = decision_scores(truth, chosen) | ranking_scores(truth, probabilities)
    return {name: values[name] for name in SCORES}


def per_genre(
    truth: np.ndarray, chosen: np.ndarray, probabilities: np.ndarray, genres: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Precision, recall, F1, average precision and counts of each genre."""
    true_positives, given, real = (truth * chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0)
    precision, recall, f = _ratio(true_positives, given), _ratio(true_positives, real), f1(true_positives, given, real)
    average = genre_average_precision(truth, probabilities)
    return {
        genre: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f[i]),
            "average_precision": None if np.isnan(average[i]) else float(average[i]),
            "films": int(real[i]),
            "chosen": int(given[i]),
        }
        for i, genre in enumerate(genres)
    }


def bootstrap(
    statistic: Callable[..., dict[str, float]],
    arrays: Sequence[np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[Any], Any] = iter,
) -> dict[str, list[float]]:
    """95 % percentile intervals of statistics over rows (films) drawn with replacement.

    For a paired comparison let `statistic` return the differences of two systems on the same rows.

    Args:
        statistic: from resampled arrays to named values.
        arrays: of equal length along the first axis.
        resamples: draws.
        seed: of the draws.
        progress: wraps the iterable of draws, to show a bar.

    Returns:
        Name -> [lower, upper].
    """
    generator = np.random.default_rng(seed)
    rows = len(arrays[0])
    draws: list[dict[str, float]] = []
    for _ in progress(range(resamples)):
        sample = generator.integers(rows, size=rows)
        draws.append(statistic(*(array[sample] for array in arrays)))
    return {name: [float(q) for q in np.quantile([draw[name] for draw in draws], [0.025, 0.975])] for name in draws[0]}


def evaluation(
    truth: np.ndarray,
    chosen: np.ndarray,
    probabilities: np.ndarray,
    genres: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[Any], Any] = iter,
) -> dict[str, Any]:
    """What `movie-genre evaluate` writes: rows, scores, their 95 % bootstrap intervals and the table by genre."""
    return {
        "rows": len(truth),
        **scores(truth, chosen, probabilities),
        "intervals": bootstrap(
            scores, [truth, chosen, probabilities], resamples=resamples, seed=seed, progress=progress
        ),
        "per_genre": per_genre(truth, chosen, probabilities, genres),
    }


def disagreement(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How much file and model differ on each film: mean log loss over the genres in nats, (films,)."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean(axis=1)
