import numpy as np
import pytest
from scipy.optimize import minimize

from modeling import decision
from modeling.decision import (
    GRID,
    THRESHOLD_OBJECTIVES,
    best_global_threshold,
    count_label_sets,
    fit_calibration,
    fit_label_set_weight,
    tune_profiles,
    tune_thresholds,
)
from modeling.metrics import macro_f1, micro_f1, subset_accuracy
from modeling.prediction_movie_genre import LabelSets, choose


def simulate(films, seed=0, shift=0.0):
    """Probabilities that are right, then distorted a genre by `shift`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal([0.5, -1.0, -2.0, -3.0], 1.5, size=(films, 4))
    truth = (generator.random((films, 4)) < 1 / (1 + np.exp(-logits))).astype(float)
    return truth, 1 / (1 + np.exp(-(logits + shift)))


def test_the_global_threshold_is_the_best_of_the_grid():
    truth, probabilities = simulate(300)
    best = best_global_threshold(truth, probabilities)
    assert micro_f1(truth, choose(probabilities, np.full(4, best), 1)) == max(
        micro_f1(truth, choose(probabilities, np.full(4, value), 1)) for value in GRID
    )


@pytest.mark.parametrize("objective", THRESHOLD_OBJECTIVES)
def test_tuned_thresholds_beat_one_half_on_new_films(objective):
    shift = np.array([-2.0, 1.5, -1.0, 0.0])
    score = THRESHOLD_OBJECTIVES[objective]
    gains = []
    for seed in range(4):
        thresholds = tune_thresholds(*simulate(800, 2 * seed, shift), objective)
        truth, probabilities = simulate(800, 2 * seed + 1, shift)
        half = score(truth, choose(probabilities, np.full(4, 0.5), 1))
        gains.append(score(truth, choose(probabilities, thresholds, 1)) - half)
    assert np.mean(gains) > 0.01


def test_thresholds_of_a_genre_pay_where_genres_are_distorted_differently():
    shift = np.array([-2.0, 2.0, -1.0, 1.0])
    thresholds = tune_thresholds(*simulate(2000, 0, shift), "macro_f1")
    truth, probabilities = simulate(2000, 1, shift)
    common = np.full(4, best_global_threshold(*simulate(2000, 0, shift), macro_f1))
    own, shared = (macro_f1(truth, choose(probabilities, t, 1)) for t in (thresholds, common))
    assert own > shared + 0.02


def test_a_rare_genre_stays_near_the_global_threshold():
    truth, probabilities = simulate(600, 0, np.array([-2.0, 2.0, -1.0, 1.0]))
    truth[:, 3] = 0
    truth[0, 3] = 1  # one film
    thresholds = tune_thresholds(truth, probabilities, "macro_f1")
    common = best_global_threshold(truth, probabilities, macro_f1)
    assert abs(thresholds[3] - common) < 0.06
    assert np.abs(thresholds[:3] - common).max() > 0.1


def test_of_equal_thresholds_the_one_nearest_the_global_one_is_taken():
    p = np.linspace(0.01, 0.99, 99)
    truth = np.stack([p > 0.6, p > 0.6], axis=1).astype(float)
    probabilities = np.stack([p, np.where(p > 0.6, 0.9, 0.1)], axis=1)  # any threshold between separates the second
    common = best_global_threshold(truth, probabilities, min_genres=0)
    assert common == pytest.approx(0.6, abs=0.03)
    assert tune_thresholds(truth, probabilities, min_genres=0)[1] == pytest.approx(common)


@pytest.mark.parametrize("objective", THRESHOLD_OBJECTIVES)
@pytest.mark.parametrize("min_genres", [0, 1, 2])
def test_thresholds_are_those_that_trying_each_finds(objective, min_genres):
    """Coordinate ascent by the book: every value of every genre, scored with all the others as they stand."""
    score = THRESHOLD_OBJECTIVES[objective]
    for seed in range(3):
        truth, probabilities = simulate(150, seed, np.array([-2.0, 1.5, -1.0, 0.0]))
        truth[:, 3] *= seed > 0  # a genre that no film has
        common, found = decision._fit(truth, probabilities, score, min_genres)
        own = np.full(4, common)
        for genre in [*range(4)] * 2:
            tried = []
            for value in GRID:
                trial = own.copy()
                trial[genre] = value
                reached = round(score(truth, choose(probabilities, trial, min_genres)), 12)
                tried.append((reached, -abs(value - common), value))
            own[genre] = max(tried)[2]
        assert found.tolist() == own.tolist()


def test_cross_fitting_decides_how_far_thresholds_may_differ():
    """Calibrated genres need no thresholds of their own, and what a few films suggest is noise."""
    spreads = [float(np.ptp(tune_thresholds(*simulate(60, seed), "micro_f1"))) for seed in range(8)]
    assert sum(spread < 0.1 for spread in spreads) >= 6
    shift = np.array([-2.0, 2.0, -1.0, 1.0])
    assert all(np.ptp(tune_thresholds(*simulate(600, seed, shift), "micro_f1")) > 0.25 for seed in range(3))


def test_min_genres_is_part_of_what_is_tuned():
    truth, probabilities = simulate(300)
    free = tune_thresholds(truth, probabilities, "samples_f1", min_genres=0)
    bound = tune_thresholds(truth, probabilities, "samples_f1", min_genres=1)
    assert not np.array_equal(free, bound)


def test_profiles_are_made_for_every_objective_and_fit_the_configuration():
    profiles = tune_profiles(*simulate(100))
    assert list(profiles) == list(THRESHOLD_OBJECTIVES)
    assert all(len(values) == 4 and all(0 <= value <= 1 for value in values) for values in profiles.values())


def together(films, seed):
    """Truth whose genres come in sets, and calibrated probabilities of each genre from what a noisy reader saw."""
    generator = np.random.default_rng(seed)
    kinds = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]])
    truth = kinds[generator.choice(len(kinds), films, p=[0.3, 0.25, 0.2, 0.15, 0.1])]
    odds = np.log(truth.mean(axis=0) / (1 - truth.mean(axis=0)))
    # Of a normal reading x with means -1 and 1 and deviation s, the log odds are the prior's plus 2 x / s^2.
    return truth.astype(float), 1 / (1 + np.exp(-(odds + 2 * generator.normal(2 * truth - 1, 1.5) / 1.5**2)))


def test_films_are_counted_by_their_sets_the_rarest_left_out(monkeypatch):
    truth = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 0, 0]])
    assert count_label_sets(truth) == {"101": 2, "010": 1, "000": 1}
    monkeypatch.setattr(decision, "MAX_LABEL_SETS", 1)
    assert count_label_sets(truth) == {"101": 2}


def test_sets_weigh_in_full_where_readings_are_independent_and_little_where_genres_are():
    truth, probabilities = together(3000, 0)
    counts = count_label_sets(together(5000, 1)[0])
    assert fit_label_set_weight(truth, probabilities, counts) == pytest.approx(1, abs=0.1)
    truth, probabilities = together(3000, 2)
    logits = np.random.default_rng(3).normal(-1, 2, (3000, 4))
    independent = np.random.default_rng(4).random((3000, 4)) < 1 / (1 + np.exp(-logits))
    counts = count_label_sets(independent[:1500])
    assert fit_label_set_weight(independent[1500:], 1 / (1 + np.exp(-logits[1500:])), counts) < 0.1
    assert fit_label_set_weight(truth[:0], probabilities[:0], counts) == 0
    assert fit_label_set_weight(np.ones((2, 4)), probabilities[:2], {"1000": 1}) == 0  # of sets that nobody has seen


def test_whole_sets_are_right_more_often_than_genres_put_together():
    truth, probabilities = together(1000, 0)
    counts = count_label_sets(together(2000, 1)[0])
    rule = LabelSets.from_counts(counts, fit_label_set_weight(truth, probabilities, counts))
    truth, probabilities = together(2000, 2)
    whole = subset_accuracy(truth, choose(probabilities, rule, 1))
    apart = max(subset_accuracy(truth, choose(probabilities, np.full(4, value), 1)) for value in GRID)
    assert whole > apart + 0.05


def test_tuning_is_repeatable():
    truth, probabilities = simulate(200)
    assert tune_thresholds(truth, probabilities).tolist() == tune_thresholds(truth, probabilities).tolist()


def test_an_unknown_objective_and_too_few_films_are_named():
    truth, probabilities = simulate(10)
    with pytest.raises(ValueError, match="objective='f2' is not known; choose from micro_f1"):
        tune_thresholds(truth, probabilities, "f2")
    with pytest.raises(ValueError, match="3 films are too few"):
        tune_thresholds(truth[:3], probabilities[:3])


def logits_and_truth(films=3000, scale=(0.5, 2.0, 1.0), bias=(0.7, -1.0, 0.0), seed=0):
    """Logits whose calibration is `logit * scale + bias`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 2, (films, len(scale)))
    probability = 1 / (1 + np.exp(-(logits * scale + bias)))
    return (generator.random(logits.shape) < probability).astype(float), logits


def test_calibration_finds_scale_and_bias_of_each_genre():
    truth, logits = logits_and_truth()
    scale, bias = fit_calibration(truth, logits)
    assert scale == pytest.approx([0.5, 2.0, 1.0], rel=0.15)
    assert bias == pytest.approx([0.7, -1.0, 0.0], abs=0.2)


def test_a_rare_genre_stays_near_the_common_calibration():
    """Two films of a genre, both given low logits, would send an unshrunk fit far away."""
    truth, logits = logits_and_truth(600, scale=(1.5,) * 4, bias=(0.3,) * 4)
    truth[:, 3] = 0
    truth[:2, 3] = 1
    logits[:, 3] = np.random.default_rng(1).normal(-4, 0.3, 600)
    scale, bias = fit_calibration(truth, logits)
    assert abs(np.log(scale[3] / 1.5)) < 0.4
    assert abs(bias[3] - 0.3) < 1.5


def test_cross_fitting_decides_how_far_genres_may_differ():
    """Few films of genres that are alike: one calibration for all; many of genres that differ: each its own."""
    alike = [fit_calibration(*logits_and_truth(60, scale=(1.0,) * 8, bias=(0.0,) * 8, seed=seed)) for seed in range(8)]
    assert sum(float(scale.std() + bias.std()) < 0.1 for scale, bias in alike) >= 6
    differing = [fit_calibration(*logits_and_truth(300, seed=seed)) for seed in range(8)]
    assert all(scale[1] > 1.8 * scale[0] and bias[0] - bias[1] > 1 for scale, bias in differing)


def test_a_genres_calibration_is_the_minimum_of_the_penalised_log_loss():
    truth, logits = logits_and_truth(40)
    common, own = decision._platt(truth, logits, np.inf), decision._platt(truth, logits, 10.0)
    centre = np.array([np.log(common[0][0]), common[1][0]])

    def penalised(parameters):
        calibrated = logits[:, 1] * np.exp(parameters[0]) + parameters[1]
        loss = np.log1p(np.exp(calibrated)) - truth[:, 1] * calibrated
        return loss.sum() + 5 * ((parameters - centre) ** 2).sum()

    best = minimize(penalised, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    assert [np.log(own[0][1]), own[1][1]] == pytest.approx(best, abs=1e-4)
    assert not np.allclose(best, centre, atol=0.05)


def test_calibration_never_turns_an_order_round():
    truth, logits = logits_and_truth(200)
    scale, _ = fit_calibration(1 - truth, logits)
    assert (scale > 0).all()


def test_too_few_films_to_calibrate_on_are_named():
    with pytest.raises(ValueError, match="4 films are too few to calibrate on"):
        fit_calibration(np.ones((4, 2)), np.zeros((4, 2)))


def test_as_many_films_as_folds_are_enough():
    truth, logits = logits_and_truth(5)
    assert np.isfinite(fit_calibration(truth, logits)).all()
    assert tune_thresholds(truth, 1 / (1 + np.exp(-logits))).shape == (3,)
