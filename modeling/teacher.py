"""The linear teacher: TF-IDF of words and word pairs, and a logistic regression a genre.

What it knows, single words that speak for a genre, a small Transformer is slow to learn from a few thousand films.
Trained on its soft labels beside the true ones (Hinton et al. 2015), the network starts from that knowledge.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from .data import row_hash

FOLDS = 5


def linear_model() -> Pipeline:
    """The untrained teacher; also the baseline that the network is measured against."""
    return make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, strip_accents="unicode"),
        OneVsRestClassifier(LogisticRegression(C=8.0, solver="liblinear")),
    )


def out_of_fold(descriptions: Sequence[str], truth: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Probabilities of each film by a teacher that was not trained on it.

    Films of the same description share a fold.

    Args:
        descriptions: of the training films.
        truth: (films, genres) of 0 and 1.
        seed: of the folds.

    Returns:
        (films, genres) probabilities.

    Raises:
        ValueError: if there are fewer different descriptions than folds.
    """
    groups, number = np.unique([row_hash(text) for text in descriptions], return_inverse=True)
    if len(groups) < FOLDS:
        raise ValueError(f"{len(groups)} different descriptions are too few for a teacher: at least {FOLDS} are needed")
    folds = (np.random.default_rng(seed).permutation(len(groups)) % FOLDS)[number]
    texts = np.array(descriptions, dtype=object)
    probabilities = np.zeros(truth.shape)
    for fold in range(FOLDS):
        fit, held = folds != fold, folds == fold
        # A genre that the other folds do not know, or that all their films have, is beyond a regression: its frequency
        # stands in.
        known = (truth[fit].min(axis=0) == 0) & (truth[fit].max(axis=0) == 1)
        probabilities[held] = truth[fit].mean(axis=0)
        if known.any():
            model = linear_model().fit(texts[fit], truth[fit][:, known])
            # For a single genre scikit-learn gives the complement's column too, and first.
            probabilities[np.ix_(held, known)] = model.predict_proba(texts[held])[:, -known.sum() :]
    return probabilities
