"""How sure a prediction is, in words: sure, torn between genres, or out of its depth."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .prediction_movie_genre import WORD, GenrePrediction, LabelSets, Rule

CLOSE = 0.05  # a probability this near to its threshold, or nearer than its standard deviation, is a close call
SURE_CONFIDENCE = 0.6  # expected F1 from which on a choice without close calls counts as sure
LOST_CONFIDENCE = 0.35  # expected F1 below which no choice means much
FEW_WORDS = 5  # fewer words than this say nothing about a film
RIVAL = 0.5  # a set of genres this many times as probable as the best one, or more, is a close call


@dataclass(frozen=True)
class Verdict:
    """How sure a prediction is, in words.

    Attributes:
        level: "sure", "torn", or "lost" where the model is out of its depth.
        sentence: the same for people, with the genres it is torn between, most probable first.
    """

    level: Literal["sure", "torn", "lost"]
    sentence: str


def verdict(text: str, prediction: GenrePrediction, rule: Rule, foreign: bool = False) -> Verdict:
    """Whether the model is sure of a prediction, torn between genres, or out of its depth.

    Args:
        text: what was read.
        prediction: what came of it; with Monte-Carlo samples their spread widens what counts as a close call.
        rule: the one that the prediction was made with; where it compares whole sets, a second one is the close call.
        foreign: whether the text is not in the language of the training films.
    """
    genres, p = list(prediction.probabilities), np.array(list(prediction.probabilities.values()))
    ranking = np.argsort(-p, kind="stable")
    spread = np.array([value.std for value in (prediction.uncertainty or {}).values()] or [0.0] * len(p))
    if isinstance(rule, LabelSets):
        near, reached = contested(rule, p, spread), bool(prediction.genres)
        none, clear = "no genre fits", "no other set of genres comes near"
    else:
        near, reached = abs(p - rule) <= np.maximum(CLOSE, spread), bool((p >= rule).any())
        none, clear = "no genre reaches its threshold", "every genre stands well clear of its threshold"
    if foreign:
        return Verdict("lost", "Out of its depth: few of these words are of the language that it was trained on.")
    if len(WORD.findall(text)) < FEW_WORDS:
        return Verdict("lost", "Out of its depth: so few words say little about a film.")
    if not reached:
        nearest = f"{genres[ranking[0]]} comes nearest ({p.max():.0%})"
        return Verdict("lost", f"Out of its depth: {none}; {nearest}.")
    if prediction.confidence < LOST_CONFIDENCE:
        return Verdict("lost", "Out of its depth: these genres are little better than a guess.")
    close = [genres[i] for i in ranking if near[i]]
    # Without a close call an unsure choice is one between its own members.
    torn = close or ([] if prediction.confidence >= SURE_CONFIDENCE else list(prediction.genres))
    if len(torn) > 1:
        return Verdict("torn", f"Torn between {', '.join(torn[:-1])} and {torn[-1]}.")
    if torn:
        return Verdict("torn", f"Torn over {torn[0]}: it may belong or not.")
    return Verdict("sure", f"Sure: {clear}.")


def contested(rule: LabelSets, probabilities: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Genres of one film that the second best set has and the best has not, or the other way: (genres,) boolean.

    None where the second is less than `RIVAL` times as probable, and the best further ahead than the standard
    deviation of their distance, which is that of the log-odds of these genres, to first order.

    Args:
        rule: the sets that are compared.
        probabilities: (genres,).
        spread: standard deviation of each, (genres,).
    """
    scores = rule.scores(probabilities[None])[0]
    best, *others = np.argsort(-scores, kind="stable")[:2]
    p = np.clip(probabilities, 1e-6, 1 - 1e-6)
    for rival in others:
        apart = rule.members[rival] != rule.members[best]
        if scores[best] - scores[rival] <= max(-np.log(RIVAL), np.linalg.norm((spread / (p * (1 - p)))[apart])):
            return apart
    return np.zeros(len(p), dtype=bool)
