"""From logits to probabilities to genres: calibration and rules, fitted on films the model was not trained on."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logsumexp

from .metrics import f1, macro_f1, micro_f1, samples_f1
from .prediction_movie_genre import SUBSET_ACCURACY, LabelSets, choose

# What thresholds are tuned for; whole sets of genres are what serves subset accuracy.
THRESHOLD_OBJECTIVES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "micro_f1": micro_f1,
    "macro_f1": macro_f1,
    "samples_f1": samples_f1,
}
OBJECTIVES = (*THRESHOLD_OBJECTIVES, SUBSET_ACCURACY)
DEFAULT_OBJECTIVE = "micro_f1"
GRID = np.linspace(0.02, 0.98, 49)
# A genre of n films keeps n / (n + s) of its own threshold's distance from the global one; infinity means one threshold
# for all. Which s is decided by cross-fitting.
SHRINKAGE = (20.0, 100.0, 500.0, np.inf)
FOLDS = 5
MAX_LABEL_SETS = 2000  # the most frequent ones: a configuration should stay readable
MAX_FITTED = 10_000  # films that one number is fitted on: memory is taken for each of them and each set
# Penalties on a genre's distance from the common calibration, in films' worth of log loss; cross-fitting decides.
PENALTIES = (1.0, 10.0, 100.0, np.inf)


def fit_calibration(truth: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias a genre that turn logits into calibrated ones (Platt 1999), shrunk towards common ones.

    One scale and bias for all genres is fitted first; each genre's own is then the maximum of its likelihood less a
    penalty on the squared distance (log scale and bias) from these, so that a rare genre stays near them. How strong
    the penalty is, five-fold cross-fitting over the rows given decides by log loss.

    Args:
        truth: (films, genres) of 0 and 1.
        logits: (films, genres), of films that the model was not trained on.

    Returns:
        scale (genres,), positive, and bias (genres,): calibrated logits are `logits * scale + bias`.

    Raises:
        ValueError: for fewer films than folds.
    """
    if len(truth) < FOLDS:
        raise ValueError(f"{len(truth)} films are too few to calibrate on: at least {FOLDS} are needed")
    folds = np.random.default_rng(0).permutation(len(truth)) % FOLDS
    losses = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        fit, held = folds != fold, folds == fold
        for i, penalty in enumerate(PENALTIES):
            scale, bias = _platt(truth[fit], logits[fit], penalty)
            losses[i] += _log_loss(truth[held], logits[held] * scale + bias)
    return _platt(truth, logits, PENALTIES[int(losses.argmin())])


def _platt(truth: np.ndarray, logits: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias of each genre under one penalty."""
    common = _minimum(truth, logits, np.zeros(2), 1.0)
    if np.isinf(penalty):
        own = np.tile(common, (truth.shape[1], 1))
    else:
        pairs = zip(truth.T, logits.T, strict=True)
        own = np.array([_minimum(y, x, common, penalty) for y, x in pairs])
    return np.exp(own[:, 0]), own[:, 1]


def _minimum(truth: np.ndarray, logits: np.ndarray, centre: np.ndarray, penalty: float) -> np.ndarray:
    """(log scale, bias) of the least penalised log loss."""

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.exp(parameters[0]), parameters[1]
        calibrated = logits * scale + bias
        error = expit(calibrated) - truth
        gradient = np.array([(error * logits).sum() * scale, error.sum()]) + penalty * (parameters - centre)
        return _log_loss(truth, calibrated) + penalty / 2 * ((parameters - centre) ** 2).sum(), gradient

    return minimize(objective, centre, jac=True, method="L-BFGS-B").x


def _log_loss(truth: np.ndarray, logits: np.ndarray) -> float:
    return float((np.logaddexp(0, logits) - truth * logits).sum())


def tune_thresholds(
    truth: np.ndarray,
    probabilities: np.ndarray,
    objective: str = DEFAULT_OBJECTIVE,
    *,
    min_genres: int = 1,
) -> np.ndarray:
    """Thresholds that serve an objective on new films.

    One global threshold is found first, then one a genre by coordinate ascent, shrunk towards the global one the rarer
    the genre is. How strongly is decided by five-fold cross-fitting over the rows given.

    Args:
        truth: (films, genres) of 0 and 1.
        probabilities: (films, genres), of films that the model was not trained on.
        objective: a key of `THRESHOLD_OBJECTIVES`.
        min_genres: genres that every film gets at least.

    Returns:
        (genres,) thresholds, to four digits.

    Raises:
        ValueError: for an unknown objective or fewer films than folds.
    """
    if objective not in THRESHOLD_OBJECTIVES:
        raise ValueError(f"objective={objective!r} is not known; choose from {', '.join(THRESHOLD_OBJECTIVES)}")
    if len(truth) < FOLDS:
        raise ValueError(f"{len(truth)} films are too few to tune thresholds on: at least {FOLDS} are needed")
    score, truth = THRESHOLD_OBJECTIVES[objective], np.asarray(truth, dtype=float)
    folds = np.random.default_rng(0).permutation(len(truth)) % FOLDS
    chosen = [np.zeros(truth.shape, dtype=bool) for _ in SHRINKAGE]
    for fold in range(FOLDS):
        fit, held = folds != fold, folds == fold
        common, own = _fit(truth[fit], probabilities[fit], score, min_genres)
        for candidate, strength in zip(chosen, SHRINKAGE, strict=True):
            candidate[held] = choose(probabilities[held], _shrink(common, own, truth[fit], strength), min_genres)
    best = int(np.argmax([score(truth, candidate) for candidate in chosen]))
    common, own = _fit(truth, probabilities, score, min_genres)
    return _shrink(common, own, truth, SHRINKAGE[best]).round(4)


def tune_profiles(truth: np.ndarray, probabilities: np.ndarray, *, min_genres: int = 1) -> dict[str, list[float]]:
    """Thresholds for every objective that has some, to be kept in the model's configuration under its name."""
    return {
        objective: tune_thresholds(truth, probabilities, objective, min_genres=min_genres).tolist()
        for objective in THRESHOLD_OBJECTIVES
    }


def count_label_sets(truth: np.ndarray) -> dict[str, int]:
    """How many films have exactly the same genres: {"1001": 12, ...}, a digit a genre; the most frequent sets.

    Args:
        truth: (films, genres) of 0 and 1.
    """
    return dict(Counter(map(_key, truth)).most_common(MAX_LABEL_SETS))


def _key(row: np.ndarray) -> str:
    return "".join("1" if value else "0" for value in row)


def fit_label_set_weight(truth: np.ndarray, probabilities: np.ndarray, counts: dict[str, int]) -> float:
    """The weight of `LabelSets` under which the films' own sets are most likely, 0 to 1.

    Args:
        truth: (films, genres) of 0 and 1.
        probabilities: (films, genres), of films that the model was not trained on.
        counts: of `count_label_sets`; films with a set that is not among them say nothing.
    """
    number = {key: i for i, key in enumerate(counts)}
    own = np.array([number.get(_key(row), -1) for row in truth], dtype=int)
    known = np.random.default_rng(0).permutation(np.flatnonzero(own >= 0))[:MAX_FITTED]
    sets = LabelSets.from_counts(counts, 0.0)
    own, scores = own[known], sets.scores(probabilities[known])

    def loss(weight: float) -> float:
        weighted = scores + weight * sets.log_lift
        return float((logsumexp(weighted, axis=1) - weighted[np.arange(len(own)), own]).sum())

    return float(minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x) if len(own) else 0.0


def best_global_threshold(
    truth: np.ndarray, probabilities: np.ndarray, score: Callable = micro_f1, min_genres: int = 1
) -> float:
    """The one threshold of the grid that serves `score` best."""
    genres = truth.shape[1]
    return float(max(GRID, key=lambda value: score(truth, choose(probabilities, np.full(genres, value), min_genres))))


def _fit(truth: np.ndarray, probabilities: np.ndarray, score: Callable, min_genres: int) -> tuple[float, np.ndarray]:
    """Best global threshold, and best one a genre by coordinate ascent from there."""
    common = best_global_threshold(truth, probabilities, score, min_genres)
    own = np.full(truth.shape[1], common)
    for _ in range(2):  # a third round changes nothing worth its time
        for genre, p in enumerate(probabilities.T):
            # What a film gets depends on this threshold by nothing but whether the film reaches it.
            never, always = own.copy(), own.copy()
            never[genre], always[genre] = np.inf, -np.inf
            below, above = (choose(probabilities, thresholds, min_genres) for thresholds in (never, always))
            found = _score_each(truth, below, above, p[:, None] >= GRID, score).round(12)
            # Of equal scores the value nearest the global threshold wins.
            own[genre] = max(zip(found, -abs(GRID - common), GRID, strict=True))[2]
    return common, own


def _score_each(
    truth: np.ndarray, below: np.ndarray, above: np.ndarray, reached: np.ndarray, score: Callable
) -> np.ndarray:
    """The score of every candidate threshold of one genre, (candidates,).

    Args:
        truth: (films, genres) of 0 and 1.
        below: what is chosen for films that do not reach it, (films, genres).
        above: for films that do.
        reached: which films reach each candidate, (films, candidates).
        score: of `THRESHOLD_OBJECTIVES`.
    """

    def counts(chosen: np.ndarray) -> np.ndarray:
        hits = truth * chosen
        if score is macro_f1:
            return np.hstack([hits, chosen])
        hits, given = hits.sum(axis=1), chosen.sum(axis=1)
        return np.stack([hits, given], axis=1) if score is micro_f1 else f1(hits, given, truth.sum(axis=1))[:, None]

    one, other = counts(above), counts(below)
    totals = reached.T.astype(float) @ (one - other) + other.sum(axis=0)
    if score is samples_f1:
        return totals[:, 0] / len(truth)
    real = truth.sum(axis=0)
    if score is micro_f1:
        return f1(totals[:, 0], totals[:, 1], real.sum())
    hits, given = np.hsplit(totals, 2)
    there = ((real > 0) | (given > 0)).sum(axis=1)
    return f1(hits, given, real).sum(axis=1) / np.maximum(there, 1)


def _shrink(common: float, own: np.ndarray, truth: np.ndarray, strength: float) -> np.ndarray:
    """Own thresholds drawn towards the global one, the rarer the genre the more."""
    if np.isinf(strength):
        return np.full(len(own), common)
    films = truth.sum(axis=0)
    return common + films / (films + strength) * (own - common)
