"""What a network from scratch starts from: the linear teacher and the co-occurrence embeddings."""

import numpy as np
import pytest

from modeling.cooccurrence import cooccurrence_embeddings
from modeling.teacher import linear_model, out_of_fold


def corpus(films=300, seed=0):
    """Texts whose words speak for their genre, with noise."""
    generator = np.random.default_rng(seed)
    truth = (generator.random((films, 2)) < 0.5).astype(float)
    words = [["sheriff", "saloon", "outlaw"], ["alien", "orbit", "robot"]]
    texts = []
    for i, row in enumerate(truth):
        spoken = [str(generator.choice(words[g])) for g in (0, 1) if row[g] for _ in range(2)]
        texts.append(" ".join([*spoken, f"name{i}", "walks", "talks", str(generator.choice(["red", "blue", "green"]))]))
    return texts, truth


def test_out_of_fold_probabilities_know_the_genres():
    texts, truth = corpus()
    soft = out_of_fold(texts, truth)
    assert ((soft > 0.5) == truth).mean() > 0.95


def test_no_teacher_labels_what_it_was_trained_on():
    """Labels that are pure noise can be learned by heart in sample, but not out of fold."""
    generator = np.random.default_rng(0)
    texts = [f"word{i} other{i} third{i} common" for i in range(200)]
    texts = texts + [text.upper() + "!" for text in texts]  # the same description twice, in another dress
    truth = np.tile((generator.random((200, 1)) < 0.5).astype(float), (2, 1))
    inside = linear_model().fit(texts, truth).predict_proba(texts)[:, 1:]
    outside = out_of_fold(texts, truth)
    assert ((inside > 0.5) == truth).mean() > 0.95
    assert 0.35 < ((outside > 0.5) == truth).mean() < 0.65


def test_a_genre_that_a_fold_does_not_know_gets_its_frequency():
    texts, truth = corpus(60)
    truth = np.column_stack([truth, np.eye(60)[0]])  # one film has the third genre
    soft = out_of_fold(texts, truth)
    assert np.isfinite(soft).all()
    assert soft[0, 2] == 0


def test_too_few_films_for_a_teacher_are_named():
    with pytest.raises(ValueError, match="2 different descriptions are too few"):
        out_of_fold(["One.", "Two.", "one"], np.eye(3))


def test_pieces_that_keep_the_same_company_get_similar_vectors():
    generator = np.random.default_rng(0)
    groups = [range(10, 20), range(20, 30)]
    ids = [list(generator.choice(groups[i % 2], size=12)) for i in range(400)]
    vectors = cooccurrence_embeddings(ids, 40, 8, scale=0.1)
    assert vectors.shape == (40, 8)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    within = np.mean([unit[i] @ unit[j] for g in groups for i in g for j in g if i < j])
    across = np.mean([unit[i] @ unit[j] for i in groups[0] for j in groups[1]])
    assert within > across + 0.5
    assert np.sqrt((vectors[10:30] ** 2).mean()) == pytest.approx(0.1, rel=0.01)
    assert np.abs(vectors[:10]).max() > 0  # unseen pieces are not all alike
