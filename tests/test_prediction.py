"""The NumPy half of a prediction."""

import itertools

import numpy as np
import pytest

from modeling import MovieGenreConfig, prediction_movie_genre
from modeling.prediction_movie_genre import (
    LabelSets,
    assemble,
    binary_entropy,
    check_attribution,
    choose,
    expected_f1,
    fertility,
    length_batches,
    profile_names,
    resolve_rule,
    split_windows,
    word_weights,
)

GENRES = ["Comedy", "Crime", "Drama"]


def test_expected_f1_equals_the_sum_over_all_outcomes():
    generator = np.random.default_rng(0)
    probabilities, chosen = generator.random((20, 5)), generator.random((20, 5)) < 0.4
    chosen[0] = False
    expected = []
    for p, picked in zip(probabilities, chosen, strict=True):
        total = 0.0
        for outcome in itertools.product([0, 1], repeat=5):
            y = np.array(outcome)
            size = picked.sum() + y.sum()
            f1 = 2 * (picked & (y == 1)).sum() / size if size else 1.0
            total += np.prod(np.where(y == 1, p, 1 - p)) * f1
        expected.append(total)
    assert expected_f1(probabilities, chosen) == pytest.approx(expected)


def test_a_threshold_that_is_reached_is_enough():
    assert choose(np.array([[0.5, 0.49]]), np.array([0.5, 0.5]), 0).tolist() == [[True, False]]


def test_min_genres_takes_the_most_probable_only_where_thresholds_give_fewer():
    probabilities = np.array([[0.3, 0.2, 0.1], [0.9, 0.8, 0.7], [0.9, 0.2, 0.3]])
    chosen = choose(probabilities, np.full(3, 0.6), 2)
    assert chosen.tolist() == [[True, True, False], [True, True, True], [True, False, True]]
    reached = choose(np.array([[0.4, 0.2, 0.3]]), np.array([0.5, 0.1, 0.5]), 2)  # a threshold reached is never given up
    assert reached.tolist() == [[True, True, False]]


def test_entropy_is_that_of_a_coin_in_nats():
    assert binary_entropy(np.array([0.5, 0.0, 1.0])) == pytest.approx([np.log(2), 0, 0], abs=1e-9)
    assert binary_entropy(np.array([0.2])) == pytest.approx([-0.2 * np.log(0.2) - 0.8 * np.log(0.8)])


def test_uncertainty_follows_its_formulas():
    samples = np.array([[[0.1, 0.5, 0.9]], [[0.3, 0.5, 0.7]], [[0.8, 0.5, 0.2]]])
    windows = split_windows([[7]], [[(0, 4)]], [1, 2], 8, None)
    prediction = assemble(["Snow"], windows, samples, None, GENRES, np.full(3, 0.5), 1)[0]
    for i, genre in enumerate(GENRES):
        values, mean = samples[:, 0, i], samples[:, 0, i].mean()
        uncertainty = prediction.uncertainty[genre]
        assert prediction.probabilities[genre] == pytest.approx(mean)
        assert uncertainty.std == pytest.approx(values.std())
        assert uncertainty.entropy == pytest.approx(binary_entropy(mean))
        assert uncertainty.mutual_information == pytest.approx(
            binary_entropy(mean) - binary_entropy(values).mean(), abs=1e-9
        )
    assert prediction.uncertainty["Crime"].mutual_information == pytest.approx(0, abs=1e-9)


def test_windows_of_a_text_count_alike():
    windows = split_windows([[7, 8, 9], [7]], [[(0, 1), (1, 2), (2, 3)], [(0, 1)]], [1, 2], 4, 1)
    samples = np.array([[[0.1, 0.5, 0.9], [0.3, 0.5, 0.2], [1.0, 0.0, 0.0]]])  # two windows, and one
    found = assemble(["abc", "a"], windows, samples, None, GENRES, np.full(3, 0.5), 1)
    assert list(found[0].probabilities.values()) == pytest.approx([0.2, 0.5, 0.55])
    assert list(found[1].probabilities.values()) == [1.0, 0.0, 0.0]


def test_two_samples_have_a_spread():
    samples = np.array([[[0.1, 0.5, 0.9]], [[0.3, 0.5, 0.7]]])
    found = assemble(
        ["Snow"], split_windows([[7]], [[(0, 4)]], [1, 2], 8, None), samples, None, GENRES, np.full(3, 0.5), 1
    )
    assert found[0].uncertainty["Comedy"].std == pytest.approx(0.1)


def test_the_flat_form_has_a_column_a_genre():
    samples = np.array([[[0.1, 0.5, 0.9]]])
    windows = split_windows([[7]], [[(0, 4)]], [1, 2], 8, None)
    prediction = assemble(["Snow"], windows, samples, None, GENRES, np.full(3, 0.4), 1)[0]
    assert prediction.uncertainty is None  # one sample has no spread
    flat = prediction.to_dict(flat=True)
    assert flat["genres"] == "Drama, Crime"
    assert flat["p_Crime"] == 0.5
    assert prediction.to_dict()["probabilities"] == {"Comedy": 0.1, "Crime": 0.5, "Drama": 0.9}


@pytest.mark.parametrize("pieces", range(1, 40))
@pytest.mark.parametrize("stride", [0, 1, 3, 5])
def test_windows_cover_every_piece_and_overlap_by_the_stride(pieces, stride):
    ids, offsets = list(range(100, 100 + pieces)), [(i, i + 1) for i in range(pieces)]
    windows = split_windows([ids], [offsets], [1, 2], 8, stride)
    inner = [window.ids[1:-1] for window in windows]
    assert all(len(window.ids) <= 8 and window.ids[0] == 1 and window.ids[-1] == 2 for window in windows)
    assert sorted(set().union(*inner)) == ids
    for one, two in itertools.pairwise(inner):
        assert one[-stride:] == two[:stride] if stride else one[-1] + 1 == two[0]
    assert len(inner[-1]) > stride or len(inner) == 1  # the last window brings something new
    assert all(window.truncated_at is None for window in windows)


def test_the_cut_is_behind_the_last_piece_read():
    windows = split_windows([[5, 6, 7, 8]], [[(0, 2), (3, 5), (6, 8), (9, 11)]], [1, 2], 5, None)
    assert [(window.ids, window.truncated_at) for window in windows] == [([1, 5, 6, 7, 2], 8)]


def test_batches_hold_every_text_once_and_similar_lengths():
    lengths = list(np.random.default_rng(0).integers(3, 200, size=101))
    batches = length_batches(lengths, 8)
    assert sorted(i for batch in batches for i in batch) == list(range(101))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_words_gather_the_weights_of_their_pieces():
    text = "Don't re-heat, Zoë!"
    offsets = [(0, 0), (0, 3), (3, 4), (4, 5), (6, 8), (8, 9), (9, 13), (13, 14), (15, 18), (18, 19), (0, 0)]
    weights = [9, 1, 1, 2, 1, 1, 1, 5, 1, 5, 9]
    words = word_weights(text, offsets, weights)
    assert [text[start:end] for start, end, _ in words] == ["Don't", "re-heat", "Zoë"]
    assert [weight for _, _, weight in words] == pytest.approx([0.5, 0.375, 0.125])


def test_text_without_words_has_no_word_weights():
    assert word_weights("!?", [(0, 1), (1, 2)], [0.5, 0.5]) == []


def test_a_dict_of_thresholds_keeps_the_default_profile_elsewhere():
    got = resolve_rule({"Crime": 0.9}, config(threshold_profiles={"p": [0.1, 0.2, 0.3]}, default_profile="p"))
    assert got.tolist() == [0.1, 0.9, 0.3]
    assert resolve_rule(None, config()).tolist() == [0.5] * 3
    got = resolve_rule({"Crime": 0.9}, config(label_sets=COUNTS, default_profile="subset_accuracy"))
    assert got.tolist() == [0.5, 0.9, 0.5]


def test_the_default_profile_is_named_first_and_whole_sets_are_one():
    values = {"threshold_profiles": {"b": [0.1] * 3, "a": [0.2] * 3}, "label_sets": COUNTS, "label_set_weight": 0.25}
    assert profile_names(config(**values, default_profile="b")) == ["b", "a", "subset_accuracy"]
    assert profile_names(config(**values, default_profile="subset_accuracy")) == ["subset_accuracy", "a", "b"]
    assert profile_names(config()) == []
    rule = resolve_rule("subset_accuracy", config(**values))
    assert (len(rule.members), rule.weight) == (3, 0.25)
    with pytest.raises(ValueError, match="no decision profile 'subset_accuracy'; this model has none"):
        resolve_rule("subset_accuracy", config())


COUNTS = {"100": 5, "101": 3, "011": 2}


def config(**values):
    return MovieGenreConfig(id2label=dict(enumerate(GENRES)), **values)


def test_a_set_is_scored_by_its_formula():
    generator = np.random.default_rng(0)
    probabilities = generator.random((20, 3))
    shares = np.array([8, 2, 5]) / 10
    for weight in (0.0, 0.3, 1.0):
        scores = LabelSets.from_counts(COUNTS, weight).scores(probabilities)
        for p, row in zip(probabilities, scores, strict=True):
            expected = []
            for key, films in COUNTS.items():
                inside = np.array(list(key)) == "1"
                lift = films / 10 / np.where(inside, shares, 1 - shares).prod()
                expected.append(np.log(np.where(inside, p, 1 - p).prod()) + weight * np.log(lift))
            assert np.diff(row) == pytest.approx(np.diff(expected))


def test_sets_weigh_from_not_at_all_to_all_that_is_known():
    shares = np.array([[0.8, 0.2, 0.5]])  # what is known of a film of which nothing is known
    assert LabelSets.from_counts(COUNTS, 1.0).choose(shares).tolist() == [[True, False, False]]
    likely = np.array([[0.9, 0.1, 0.4], [0.9, 0.1, 0.8], [0.4, 0.9, 0.9], [0.1, 0.9, 0.1]])
    chosen = LabelSets.from_counts(COUNTS, 0.0).choose(likely)
    assert chosen.tolist() == [[True, False, False], [True, False, True], [False, True, True], [False, True, True]]


def test_certain_probabilities_decide_alone():
    certain = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    chosen = LabelSets.from_counts({"100": 10**6, "011": 1}, 1.0).choose(certain)
    assert chosen.tolist() == [[False, True, True], [True, False, False]]


def test_films_are_compared_with_sets_some_at_a_time(monkeypatch):
    probabilities = np.random.default_rng(0).random((50, 3))
    rule = LabelSets.from_counts(COUNTS, 0.5)
    expected = rule.choose(probabilities)
    monkeypatch.setattr(prediction_movie_genre, "FILMS_AT_ONCE", 7)
    assert np.array_equal(rule.choose(probabilities), expected)
    assert rule.choose(probabilities[:0]).shape == (0, 3)


def test_a_set_that_is_too_small_is_filled_up():
    rule = LabelSets.from_counts(COUNTS, 0.0)
    assert choose(np.array([[0.9, 0.1, 0.4]]), rule, 2).tolist() == [[True, False, True]]


def test_words_of_another_language_fall_to_pieces():
    assert fertility("He rides.", [(0, 2), (3, 8), (8, 9)]) == 1.0  # a full stop is no piece of a word
    assert fertility("Er reitet davon.", [(0, 1), (1, 2), (3, 5), (5, 7), (7, 9)]) == 2.5  # of what was read
    assert fertility("", []) == 0.0


@pytest.mark.parametrize(
    ("attribution", "genre", "message"),
    [
        ("tea leaves", None, "attribution='tea leaves' is not known"),
        ("gradient", None, "name it with genre="),
        ("gradient", "Opera", "no genre 'Opera'"),
        ("pooling", "Crime", "genre='Crime' is for attribution='gradient' alone"),
    ],
)
def test_attribution_and_genre_must_fit_each_other(attribution, genre, message):
    with pytest.raises(ValueError, match=message):
        check_attribution(attribution, genre, GENRES)
