"""Our measures against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from modeling.metrics import SCORES, bootstrap, disagreement, evaluation, per_genre, scores
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
    result = evaluation(*arrays, list("abcdef"), resamples=20)
    assert list(result) == ["rows", *SCORES, "intervals", "per_genre"]
    assert all(
        lower <= result[name] <= upper for name, (lower, upper) in result["intervals"].items() if name != "hamming_loss"
    )


def test_the_film_that_contradicts_the_model_most_disagrees_most():
    truth = np.array([[1, 0], [1, 0], [0, 1]])
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.95, 0.05]])
    assert np.argsort(disagreement(truth, probabilities)).tolist() == [0, 1, 2]
