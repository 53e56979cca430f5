"""Multi-label measures on NumPy arrays.

Throughout, `truth` and `chosen` are (films, genres) of 0 and 1, `probabilities` are (films, genres) in [0, 1].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from .prediction_movie_genre import binary_entropy, expected_f1

CALIBRATION_BINS = 10
COVERAGES = tuple(round(share, 2) for share in np.arange(0.05, 1.001, 0.05))
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
    """Mean of the genres' F1, of those that a film has or is given."""
    there = truth.any(axis=0) | chosen.any(axis=0)
    genres = f1((truth * chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0))
    return float(genres[there].mean()) if there.any() else 0.0


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
    precisions = average_precision(truth, probabilities)
    return {
        "mean_average_precision": float(np.nanmean(precisions)) if not np.isnan(precisions).all() else 0.0,
        "micro_average_precision": float(np.nan_to_num(average_precision(truth.ravel(), probabilities.ravel()))),
    }


def average_precision(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Average precision along the first axis; NaN where nothing is true.

    The sum over thresholds of precision times the step in recall, as scikit-learn's `average_precision_score`, which
    takes one genre at a time and is too slow for thousands of bootstrap draws.
    """
    order = np.argsort(-probabilities, axis=0, kind="stable")
    ranked, hits = np.take_along_axis(probabilities, order, axis=0), np.take_along_axis(truth, order, axis=0).cumsum(0)
    # Equal probabilities fall to one threshold: only the last of them counts, and for all of them.
    last = np.concatenate([ranked[1:] != ranked[:-1], np.ones_like(ranked[:1], dtype=bool)])
    count = np.arange(1, len(truth) + 1).reshape(-1, *[1] * (truth.ndim - 1))
    counted = np.maximum.accumulate(np.where(last, hits, 0.0), axis=0)
    step = np.diff(counted, axis=0, prepend=np.zeros_like(hits[:1]))
    total = hits[-1]
    return np.where(total > 0, (step * hits / count).sum(axis=0) / np.maximum(total, 1), np.nan)


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
    average = average_precision(truth, probabilities)
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
    certainty: Mapping[str, np.ndarray],
    resamples: int = 1000,
    progress: Callable[[Any], Any] = iter,
) -> dict[str, Any]:
    """What `movie-genre evaluate` writes.

    Args:
        truth: (films, genres) of 0 and 1.
        chosen: (films, genres) of 0 and 1.
        probabilities: (films, genres).
        genres: names.
        certainty: measures (films,) as `certainties` gives them, greater is surer.
        resamples: bootstrap draws.
        progress: wraps the iterable of draws, to show a bar.

    Returns:
        Rows, scores, their 95 % bootstrap intervals, the table by genre, calibration, uncertainty, and curves.
    """
    return {
        "rows": len(truth),
        **scores(truth, chosen, probabilities),
        "intervals": bootstrap(scores, [truth, chosen, probabilities], resamples=resamples, progress=progress),
        "per_genre": per_genre(truth, chosen, probabilities, genres),
        "calibration": calibration(truth, probabilities, genres),
        "uncertainty": selective(truth, chosen, certainty, resamples=resamples, progress=progress),
        **curves(truth, probabilities, genres),
    }


def calibration_errors(truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """Expected calibration error of each genre over bins of equally many films, (genres,).

    The mean over the bins of |mean probability - share of films that have the genre|, weighted by the bins' films
    (Nguyen and O'Connor 2015 use equal-mass bins for it).
    """
    order = np.argsort(probabilities, axis=0, kind="stable")
    gap = np.take_along_axis(truth - probabilities, order, axis=0)
    edges = np.linspace(0, len(truth), min(bins, len(truth)) + 1).round().astype(int)
    return np.abs(np.add.reduceat(gap, edges[:-1], axis=0)).sum(axis=0) / len(truth)


def calibration_band(probabilities: np.ndarray, bins: int = CALIBRATION_BINS, *, draws: int = 1000) -> np.ndarray:
    """What `calibration_errors` would be for a perfectly calibrated model: 97.5 % quantile of each genre, (genres,).

    Truth is drawn from the probabilities themselves, `draws` times. With finitely many films the error of a perfect
    model is not zero; only what lies above this bound speaks against a model. (Below is never a fault: the band is
    the 95 % one, whose lower end only an error smaller than chance would leave.)
    """
    generator = np.random.default_rng(0)
    errors = [
        calibration_errors((generator.random(probabilities.shape) < probabilities).astype(float), probabilities, bins)
        for _ in range(draws)
    ]
    return np.quantile(errors, 0.975, axis=0)


def calibration(truth: np.ndarray, probabilities: np.ndarray, genres: Sequence[str]) -> dict[str, Any]:
    """Brier score, negative log likelihood (nats) and expected calibration error: their means over genres, and each."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    brier = ((truth - p) ** 2).mean(axis=0)
    nll = -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean(axis=0)
    error, bound = calibration_errors(truth, p), calibration_band(p)
    rows = zip(genres, brier, nll, error, bound, strict=True)
    return {
        "brier": float(brier.mean()),
        "nll": float(nll.mean()),
        "ece": float(error.mean()),
        "ece_within_band": int((error <= bound).sum()),
        "bins": CALIBRATION_BINS,
        "per_genre": {
            genre: {"brier": float(b), "nll": float(n), "ece": float(e), "ece_bound": float(u)}
            for genre, b, n, e, u in rows
        },
    }


def certainties(probabilities: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of how sure a model is of each film, greater is surer, (films,) each.

    `confidence` is the expected F1 of the chosen set, `entropy` the negative sum of the genres' entropies,
    `max_probability` that of the likeliest genre.
    """
    return {
        "confidence": expected_f1(probabilities, chosen.astype(bool)),
        "entropy": -binary_entropy(probabilities).sum(axis=1),
        "max_probability": probabilities.max(axis=1),
    }


def _first(order: np.ndarray, share: float) -> np.ndarray:
    """This share of the rows, one at least."""
    return order[: max(1, round(share * len(order)))]


def risk_coverage(truth: np.ndarray, chosen: np.ndarray, certainty: np.ndarray) -> dict[str, list[float]]:
    """Micro-F1 and subset error of the surest films, at each coverage of `COVERAGES` (Geifman and El-Yaniv 2017)."""
    order = np.argsort(-certainty, kind="stable")
    kept = [_first(order, share) for share in COVERAGES]
    return {
        "coverage": list(COVERAGES),
        "micro_f1": [micro_f1(truth[rows], chosen[rows]) for rows in kept],
        "subset_error": [1 - subset_accuracy(truth[rows], chosen[rows]) for rows in kept],
    }


def selective_gain(truth: np.ndarray, chosen: np.ndarray, certainty: np.ndarray) -> float:
    """Micro-F1 of the 80 % surest films less that of all: setting films aside at random would gain nothing."""
    surest = _first(np.argsort(-certainty, kind="stable"), 0.8)
    return micro_f1(truth[surest], chosen[surest]) - micro_f1(truth, chosen)


def selective(
    truth: np.ndarray,
    chosen: np.ndarray,
    certainty: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    progress: Callable[[Any], Any] = iter,
) -> dict[str, Any]:
    """By each measure of certainty: `selective_gain`, its 95 % bootstrap interval, and `risk_coverage`."""

    def gains(truth: np.ndarray, chosen: np.ndarray, *values: np.ndarray) -> dict[str, float]:
        return {name: selective_gain(truth, chosen, one) for name, one in zip(certainty, values, strict=True)}

    arrays = [truth, chosen, *certainty.values()]
    found, intervals = gains(*arrays), bootstrap(gains, arrays, resamples=resamples, progress=progress)
    return {
        name: {"gain": found[name], "gain_interval": intervals[name], **risk_coverage(truth, chosen, values)}
        for name, values in certainty.items()
    }


def curves(truth: np.ndarray, probabilities: np.ndarray, genres: Sequence[str], points: int = 41) -> dict[str, Any]:
    """What the page draws: precision by recall of each genre, reliability over all pairs, genres' co-occurrence."""
    recall = np.linspace(0, 1, points)
    lines = {}
    for genre, y, p in zip(genres, truth.T, probabilities.T, strict=True):
        if y.any():
            precision, hit = (values[:-1] for values in precision_recall_curve(y, p)[:2])  # the last is of no film
            # Interpolated: the best precision at this recall or a higher one.
            best = np.maximum.accumulate(precision)[::-1]
            lines[genre] = {"recall": recall.tolist(), "precision": best[np.searchsorted(hit[::-1], recall)].tolist()}
    order = np.argsort(probabilities, axis=None)
    bins = [rows for rows in np.array_split(order, CALIBRATION_BINS) if len(rows)]
    return {
        "curves": lines,
        "reliability": {
            "mean_probability": [float(probabilities.ravel()[rows].mean()) for rows in bins],
            "frequency": [float(truth.ravel()[rows].mean()) for rows in bins],
            "count": [len(rows) for rows in bins],
        },
        "cooccurrence": {"genres": list(genres), "matrix": cooccurrence(truth).tolist()},
    }


def cooccurrence(truth: np.ndarray) -> np.ndarray:
    """Of the films of a genre (row), the share that has another too (column); (genres, genres)."""
    together = truth.T @ truth
    return _ratio(together, np.broadcast_to(together.diagonal()[:, None], together.shape))


def disagreements(
    truth: np.ndarray, probabilities: np.ndarray, limit: int
) -> Iterator[tuple[int, float, int, int | None]]:
    """The films whose own genres are least probable under a model, worst first.

    Each as row, `disagreement`, its least probable own genre, and the most probable of the others (None without any).
    """
    losses = disagreement(truth, probabilities)
    for row in np.argsort(-losses, kind="stable")[:limit]:
        p, given = probabilities[row], truth[row] > 0
        surprising = min(np.flatnonzero(given).tolist(), key=p.__getitem__)
        yield (
            int(row),
            float(losses[row]),
            surprising,
            max(np.flatnonzero(~given).tolist(), key=p.__getitem__, default=None),
        )


def disagreement(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How much file and model differ on each film: mean log loss over the genres in nats, (films,)."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean(axis=1)
