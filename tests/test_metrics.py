"""Our measures against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from modeling.metrics import (
    COVERAGES,
    SCORES,
    average_precision,
    bootstrap,
    calibration,
    calibration_band,
    calibration_errors,
    certainties,
    curves,
    disagreement,
    disagreements,
    evaluation,
    per_genre,
    risk_coverage,
    scores,
    selective,
)
from modeling.multilabel_metric import MultilabelMetric


@pytest.fixture
def arrays():
    generator = np.random.default_rng(3)
    truth = (generator.random((200, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.0]).astype(float)  # the last genre never occurs
    probabilities = np.clip(0.4 * truth + 0.6 * generator.random((200, 6)), 0, 1)
    return truth, probabilities > 0.5, probabilities


def test_scores_equal_those_of_scikit_learn(arrays):
    truth, chosen, probabilities = arrays
    got = scores(truth, chosen, probabilities)
    f1 = {
        kind: reference.f1_score(truth, chosen, average=kind, zero_division=0) for kind in ("micro", "macro", "samples")
    }
    occurring = truth.any(axis=0)
    expected = {
        "micro_precision": reference.precision_score(truth, chosen, average="micro"),
        "micro_recall": reference.recall_score(truth, chosen, average="micro"),
        "micro_f1": f1["micro"],
        "macro_f1": f1["macro"],
        "samples_f1": f1["samples"],
        "subset_accuracy": reference.accuracy_score(truth, chosen),
        "hamming_loss": reference.hamming_loss(truth, chosen),
        "mean_average_precision": reference.average_precision_score(truth[:, occurring], probabilities[:, occurring]),
        "micro_average_precision": reference.average_precision_score(truth, probabilities, average="micro"),
    }
    assert tuple(got) == SCORES == tuple(expected)
    assert got == pytest.approx(expected)


def test_the_evaluate_module_gives_the_same_without_a_network(arrays):
    truth, chosen, probabilities = arrays
    got = MultilabelMetric().compute(
        predictions=chosen.astype(int), references=truth.astype(int), probabilities=probabilities
    )
    assert got == pytest.approx(scores(truth, chosen, probabilities))


def test_nothing_chosen_and_nothing_true_is_no_error():
    nothing = np.zeros((3, 2))
    got = scores(nothing, nothing.astype(bool), nothing)
    assert got["micro_f1"] == 0
    assert got["subset_accuracy"] == 1


def test_the_table_by_genre_equals_scikit_learn(arrays):
    truth, chosen, probabilities = arrays
    table = per_genre(truth, chosen, probabilities, list("abcdef"))
    precision, recall, f1, films = reference.precision_recall_fscore_support(truth, chosen, zero_division=0)
    for i, genre in enumerate("abcdef"):
        row = table[genre]
        assert [row["precision"], row["recall"], row["f1"], row["films"]] == pytest.approx(
            [precision[i], recall[i], f1[i], films[i]]
        )
    assert table["f"]["average_precision"] is None


def test_intervals_cover_a_known_mean_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        sample = generator.normal(1.0, 1.0, size=80)
        lower, upper = bootstrap(lambda x: {"mean": float(x.mean())}, [sample], resamples=200, seed=trial)["mean"]
        hits += lower <= 1.0 <= upper
    assert 0.88 <= hits / 200 <= 0.99


def test_rows_are_resampled_together(arrays):
    truth = arrays[0]

    def difference(a, b):
        return {"difference": float((a - b).sum())}

    assert bootstrap(difference, [truth, truth.copy()], resamples=50) == {"difference": [0.0, 0.0]}


def test_an_evaluation_has_the_promised_keys(arrays):
    certainty = certainties(arrays[2], arrays[1])
    result = evaluation(*arrays, list("abcdef"), certainty=certainty, resamples=20)
    own = ["intervals", "per_genre", "calibration", "uncertainty", "curves", "reliability", "cooccurrence"]
    assert list(result) == ["rows", *SCORES, *own]
    assert all(
        lower <= result[name] <= upper for name, (lower, upper) in result["intervals"].items() if name != "hamming_loss"
    )


def test_the_film_that_contradicts_the_model_most_disagrees_most():
    truth = np.array([[1, 0], [1, 0], [0, 1]])
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.95, 0.05]])
    assert disagreement(truth, probabilities) == pytest.approx(-np.log([0.9, 0.5, 0.05]))
    worst, next_worst = disagreements(truth, probabilities, 2)
    assert worst == (2, pytest.approx(-np.log(0.05)), 1, 0)
    assert next_worst == (1, pytest.approx(-np.log(0.5)), 0, 1)


def test_disagreement_with_a_certain_model_is_finite():
    assert disagreement(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-7))


def test_average_precision_with_many_ties_equals_scikit_learn(arrays):
    truth, _, probabilities = arrays
    coarse = probabilities.round(1)
    expected = [reference.average_precision_score(y, p) for y, p in zip(truth.T[:5], coarse.T[:5], strict=True)]
    assert average_precision(truth, coarse)[:5] == pytest.approx(expected)
    assert np.isnan(average_precision(truth, coarse)[5])


def calibrated(films=4000, sharpness=1.0):
    """Truth drawn from probabilities; those returned are sharper or flatter than that."""
    generator = np.random.default_rng(1)
    logits = generator.normal(-1, 1.5, (films, 3))
    truth = (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    return truth, 1 / (1 + np.exp(-logits * sharpness))


def test_a_calibrated_model_lies_within_the_band_and_an_overconfident_one_does_not():
    truth, honest = calibrated()
    assert (calibration_errors(truth, honest) <= calibration_band(honest, draws=200)).all()
    truth, bold = calibrated(sharpness=2.0)
    assert (calibration_errors(truth, bold) > calibration_band(bold, draws=200)).all()


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    probabilities = np.array([[0.1], [0.3], [0.6], [0.8]])
    truth = np.array([[0.0], [1.0], [0.0], [1.0]])  # too few among the low ones, too many among the high ones
    assert calibration_errors(truth, probabilities, bins=2) == pytest.approx(0.5 * (0.5 - 0.2) + 0.5 * (0.7 - 0.5))


def test_brier_and_log_loss_equal_scikit_learn():
    truth, probabilities = calibrated(500)
    table = calibration(truth, probabilities, list("abc"))
    for i, genre in enumerate("abc"):
        row = table["per_genre"][genre]
        assert row["brier"] == pytest.approx(reference.brier_score_loss(truth[:, i], probabilities[:, i]))
        assert row["nll"] == pytest.approx(reference.log_loss(truth[:, i], probabilities[:, i]))
    assert table["brier"] == pytest.approx(np.mean([row["brier"] for row in table["per_genre"].values()]))


def test_a_certain_model_has_a_finite_log_loss():
    assert calibration(np.array([[1.0], [0.0]]), np.array([[1.0], [1.0]]), ["a"])["nll"] == pytest.approx(
        -np.log(1e-7) / 2, rel=1e-3
    )


def test_setting_the_wrong_films_aside_raises_the_rest():
    """Of ten films the two least sure are wrong: at 80 % coverage nothing is wrong any more."""
    truth = np.tile([1, 0], (10, 1))
    chosen = truth.copy()
    chosen[:2] = [0, 1]
    sure = np.arange(10.0)
    curve = risk_coverage(truth, chosen, sure)
    at = COVERAGES.index(0.8)
    assert curve["micro_f1"][at] == 1
    assert curve["subset_error"][at] == 0
    assert curve["subset_error"][-1] == pytest.approx(0.2)
    result = selective(truth, chosen, {"sure": sure, "unsure": -sure})
    assert result["sure"]["gain"] == pytest.approx(0.2)
    assert result["unsure"]["gain"] < 0
    lower, upper = result["sure"]["gain_interval"]
    assert 0 <= lower < 0.15
    assert upper == pytest.approx(0.2)  # no draw gains more: two of ten are set aside
    same = selective(truth, chosen, {"sure": sure}, resamples=30)["sure"]["gain_interval"]
    assert same == selective(truth, chosen, {"sure": sure}, resamples=30)["sure"]["gain_interval"]


def test_at_the_lowest_coverage_the_surest_film_is_left():
    truth, chosen = np.array([[1, 0], [1, 0]]), np.array([[1, 0], [0, 1]])
    assert risk_coverage(truth, chosen, np.array([2.0, 1.0]))["subset_error"][0] == 0
    assert risk_coverage(truth, chosen, np.array([1.0, 2.0]))["subset_error"][0] == 1


def test_precision_by_recall_is_the_best_at_this_recall_or_a_higher_one(arrays):
    truth, _, probabilities = arrays
    drawn = curves(truth, probabilities, list("abcdef"))["curves"]
    assert set(drawn) == set("abcde")  # the last genre never occurs
    for line, y, p in zip(drawn.values(), truth.T, probabilities.T, strict=False):
        assert line["recall"] == pytest.approx(np.linspace(0, 1, 41))
        points = [(y[p >= limit].sum() / y.sum(), y[p >= limit].mean()) for limit in np.unique(p)]
        for recall, precision in zip(line["recall"], line["precision"], strict=True):
            assert precision == pytest.approx(max(best for reached, best in points if reached >= recall - 1e-9))


def test_reliability_bins_hold_every_pair_and_none_is_empty():
    truth, probabilities = np.array([[1.0], [0.0], [1.0]]), np.array([[0.9], [0.2], [0.7]])
    bins = curves(truth, probabilities, ["a"])["reliability"]
    assert bins == {"mean_probability": [0.2, 0.7, 0.9], "frequency": [0.0, 1.0, 1.0], "count": [1, 1, 1]}


def test_every_measure_of_certainty_prefers_the_clear_film():
    probabilities = np.array([[0.99, 0.01], [0.55, 0.45]])
    for values in certainties(probabilities, probabilities > 0.5).values():
        assert values[0] > values[1]


def test_entropy_of_a_film_is_the_sum_over_its_genres():
    coins = certainties(np.array([[0.5, 0.5, 0.1]]), np.array([[1, 0, 0]]))["entropy"]
    assert coins == pytest.approx(2 * np.log(0.5) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9))
