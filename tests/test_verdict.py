"""How sure a prediction is, in words."""

import numpy as np
import pytest

from modeling.prediction_movie_genre import GenrePrediction, GenreUncertainty, LabelSets
from modeling.verdict import FEW_WORDS, SURE_CONFIDENCE, verdict

GENRES = ["Comedy", "Crime", "Drama"]
COUNTS = {"100": 5, "101": 3, "011": 2}
FILM = "Two brothers rob a bank and quarrel over the car."


def judged(*probabilities, text=FILM, confidence=0.8, std=0.0, thresholds=(0.5, 0.5, 0.5)):
    chosen = [genre for genre, p, limit in zip(GENRES, probabilities, thresholds, strict=True) if p >= limit]
    spread = {genre: GenreUncertainty(std, 0.5, 0.1) for genre in GENRES} if std else None
    prediction = GenrePrediction(chosen, dict(zip(GENRES, probabilities, strict=True)), confidence, spread)
    return verdict(text, prediction, np.array(thresholds))


def test_the_model_is_sure_where_every_genre_stands_clear_of_its_threshold():
    assert judged(0.9, 0.1, 0.2).level == "sure"
    assert judged(0.9, 0.1, 0.2, thresholds=(0.5, 0.11, 0.5)).level == "torn"
    assert judged(0.5, 0.1, 0.2).level == "torn"  # a threshold that is reached is enough


def test_the_model_is_torn_between_genres_near_their_thresholds_most_probable_first():
    result = judged(0.46, 0.9, 0.54)
    assert result.level == "torn"
    assert result.sentence == "Torn between Drama and Comedy."
    assert judged(0.46, 0.53, 0.54).sentence == "Torn between Drama, Crime and Comedy."
    assert judged(0.46, 0.9, 0.1).sentence == "Torn over Comedy: it may belong or not."


def test_spread_over_the_samples_widens_what_is_a_close_call():
    assert judged(0.65, 0.1, 0.1).level == "sure"
    assert judged(0.65, 0.1, 0.1, std=0.2).sentence == "Torn over Comedy: it may belong or not."
    assert judged(0.75, 0.1, 0.1, std=0.25).sentence == "Torn over Comedy: it may belong or not."  # the bound too


def test_an_unsure_choice_without_a_close_call_is_torn_between_its_own_genres():
    assert judged(0.9, 0.6, 0.1, confidence=0.5).sentence == "Torn between Comedy and Crime."
    assert judged(0.9, 0.6, 0.1, confidence=SURE_CONFIDENCE).level == "sure"


def test_a_language_that_the_model_does_not_know_is_beyond_its_depth():
    prediction = GenrePrediction(["Drama"], {"Drama": 0.9}, 0.9)
    sentence = "Out of its depth: few of these words are of the language that it was trained on."
    assert verdict(FILM, prediction, np.array([0.5]), foreign=True).sentence == sentence


def test_five_words_are_enough_to_be_judged():
    assert judged(0.9, 0.1, 0.1, text="word " * FEW_WORDS).level == "sure"
    assert judged(0.9, 0.1, 0.1, text="word " * (FEW_WORDS - 1)).level == "lost"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"text": "Hello there."}, "so few words"),
        ({"confidence": 0.2}, "little better than a guess"),
        ({"thresholds": (0.95, 0.95, 0.95)}, "no genre reaches its threshold; Comedy comes nearest (90%)"),
    ],
)
def test_the_model_is_out_of_its_depth(case, reason):
    result = judged(0.9, 0.1, 0.1, **case)
    assert result.level == "lost"
    assert reason in result.sentence


def judged_whole(*probabilities, counts=COUNTS, text=FILM, confidence=0.8, std=0.0):
    rule = LabelSets.from_counts(counts, 0.0)
    (chosen,) = rule.choose(np.array([probabilities]))
    genres = [genre for genre, taken in zip(GENRES, chosen, strict=True) if taken]
    spread = {genre: GenreUncertainty(std, 0.5, 0.1) for genre in GENRES} if std else None
    prediction = GenrePrediction(genres, dict(zip(GENRES, probabilities, strict=True)), confidence, spread)
    return verdict(text, prediction, rule)


def test_a_second_set_nearly_as_probable_is_a_close_call():
    assert judged_whole(0.9, 0.1, 0.2).sentence == "Sure: no other set of genres comes near."
    assert judged_whole(0.9, 0.1, 0.32).level == "sure"  # Comedy alone is 2.1 times as probable as with Drama
    assert judged_whole(0.9, 0.1, 0.34).sentence == "Torn over Drama: it may belong or not."
    assert judged_whole(0.5, 0.4, 0.9).sentence == "Torn between Comedy and Crime."
    assert judged_whole(0.9, 0.1, 0.2, counts={"100": 1}).level == "sure"  # there is no second one
    # log(0.75 / 0.25) = 1.10 lie between the two, and Monte-Carlo samples are 0.1 / (0.25 x 0.75) = 0.53 or 1.28 apart.
    assert judged_whole(0.9, 0.1, 0.25, std=0.1).level == "sure"
    assert judged_whole(0.9, 0.1, 0.25, std=0.24).sentence == "Torn over Drama: it may belong or not."


def test_a_whole_set_is_judged_by_its_expected_f1_too():
    assert judged_whole(0.9, 0.1, 0.8, confidence=0.5).sentence == "Torn between Comedy and Drama."
    assert judged_whole(0.9, 0.1, 0.2, confidence=0.2).level == "lost"
    assert judged_whole(0.9, 0.1, 0.2, text="Hello there.").level == "lost"
    nothing = judged_whole(0.1, 0.1, 0.2, counts={"000": 3, "100": 1})
    assert nothing.sentence == "Out of its depth: no genre fits; Drama comes nearest (20%)."
