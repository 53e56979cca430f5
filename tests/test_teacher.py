"""What a network from scratch starts from: the linear teacher and the co-occurrence embeddings."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, set_seed

from modeling import teacher
from modeling.cooccurrence import cooccurrence_embeddings
from modeling.teacher import (
    READING_SHARE,
    embed,
    encoder_teacher,
    linear_model,
    linear_teacher,
    out_of_fold,
    predicted,
    soft_labels,
)


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
    soft = soft_labels(["linear"], texts, truth)
    assert ((soft > 0.5) == truth).mean() > 0.95


def test_no_teacher_labels_what_it_was_trained_on():
    """Labels that are pure noise can be learned by heart in sample, but not out of fold."""
    generator = np.random.default_rng(0)
    texts = [f"word{i} other{i} third{i} common" for i in range(200)]
    texts = texts + [text.upper() + "!" for text in texts]  # the same description twice, in another dress
    truth = np.tile((generator.random((200, 1)) < 0.5).astype(float), (2, 1))
    inside = predicted(linear_model().fit(texts, truth), np.array(texts, dtype=object))
    outside = soft_labels(["linear"], texts, truth)
    assert ((inside > 0.5) == truth).mean() > 0.95
    assert 0.35 < ((outside > 0.5) == truth).mean() < 0.65


def test_texts_without_genres_are_labelled_by_teachers_that_know_the_films(encoder):
    texts, truth = corpus()
    new, their_genres = corpus(40, seed=1)
    for teachers in (["linear"], ["linear", encoder]):
        soft = soft_labels(teachers, texts, truth, new)
        assert soft.shape == (340, 2)
        assert ((soft[300:] > 0.5) == their_genres).mean() > 0.95
        assert soft[:300] == pytest.approx(soft_labels(teachers, texts, truth), abs=1e-3)  # films do not notice


def test_teachers_learn_from_another_reader_what_no_film_tells():
    texts, truth = corpus()
    asked = ["a gunslinger walks", "a gunslinger talks", "a starship walks", "a starship talks"] * 20
    new = [f"{text} name{i + 1000}" for i, text in enumerate(asked)]
    reading = np.tile([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]], (20, 1))
    alone, taught = (soft_labels(["linear"], texts, truth, new, said)[300:] for said in (None, reading))
    assert np.abs(alone - alone.mean(axis=0)).max() < 0.1  # no film has these words
    assert ((taught > 0.5) == (reading > 0.5)).all()
    # A part of a text's label is what the reader says itself.
    noise = np.random.default_rng(0).random((80, 2))
    mixed = soft_labels(["linear"], texts, truth, new, noise)[300:]
    teachers = (mixed - READING_SHARE * noise) / (1 - READING_SHARE)
    assert ((teachers >= 0) & (teachers <= 1)).all()
    assert np.corrcoef(mixed.ravel(), noise.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("teach", [linear_teacher, encoder_teacher])
def test_a_row_of_little_weight_teaches_little(encoder, teach):
    texts, truth = corpus(300)
    features = np.array(texts, dtype=object) if teach is linear_teacher else embed(encoder, texts)
    wrong = np.vstack([truth, 1 - truth])
    both, groups = np.concatenate([features, features]), [str(i % 300) for i in range(600)]
    alone, trusted, doubted = (
        out_of_fold(teach, both, wrong, groups, np.repeat([1.0, weight], 300))[:300] for weight in (1e-9, 1e-6, 1.0)
    )
    assert ((trusted > 0.5) == truth).mean() > 0.9
    assert trusted == pytest.approx(alone, abs=1e-3)
    if teach is linear_teacher:
        assert doubted == pytest.approx(0.5, abs=1e-3)  # half say yes, half say no
    assert np.abs(doubted - 0.5).mean() < 0.1


def test_an_encoder_teacher_learns_chances_and_disturbs_no_other_draw(encoder):
    texts, truth = corpus(300)
    features, chances = embed(encoder, texts), 0.2 + 0.4 * truth
    set_seed(3)
    expected = torch.rand(1)
    set_seed(3)
    learned = encoder_teacher(features, chances, np.ones(300), seed=0)
    assert torch.rand(1) == expected
    assert np.abs(learned(features) - chances).mean() < 0.1
    assert np.array_equal(encoder_teacher(features, chances, np.ones(300), seed=0)(features), learned(features))


def test_a_genre_that_a_fold_does_not_know_gets_its_frequency():
    texts, truth = corpus(60)
    truth = np.column_stack([truth, np.eye(60)[0]])  # one film has the third genre
    soft = soft_labels(["linear"], texts, truth)
    assert np.isfinite(soft).all()
    assert soft[0, 2] < 0.01
    features = np.array(texts, dtype=object)
    assert out_of_fold(linear_teacher, features, truth, texts, np.ones(60))[0, 2] == 0


def test_a_language_without_spaces_is_learned_by_its_characters(caplog):
    texts, truth = corpus(100)
    said = ["".join(text.split()) for text in texts]
    soft = soft_labels(["linear"], said, truth)
    assert ((soft > 0.5) == truth).mean() > 0.9
    assert "counts characters" in caplog.text


def test_a_genre_that_all_films_have_is_certain():
    assert (soft_labels(["linear"], corpus(20)[0], np.ones((20, 1)), ["Another text."]) == 1).all()


def test_too_few_films_for_a_teacher_are_named():
    with pytest.raises(ValueError, match="2 different descriptions are too few"):
        soft_labels(["linear"], ["One.", "Two.", "one"], np.eye(3))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("encoder") / "reader"
    set_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_frozen_encoder_teaches_out_of_fold_too(encoder):
    """Noise is not learned: a film's label never comes from a network that saw it."""
    texts = [f"word {i} and {i * 7} others" for i in range(100)]
    truth = (np.random.default_rng(0).random((100, 1)) < 0.5).astype(float)
    features = embed(encoder, texts)
    assert features.shape == (100, 128)
    assert np.allclose(np.linalg.norm(features[:, :64], axis=1), 1, atol=1e-5)
    inside = encoder_teacher(np.tile(features, (60, 1)), np.tile(truth, (60, 1)), np.ones(6000), seed=0)(features)
    outside = soft_labels([encoder], texts, truth)
    assert ((inside > 0.5) == truth).mean() > 0.8
    assert ((outside > 0.5) == truth).mean() < 0.7


def test_the_better_teacher_counts_for_more(monkeypatch):
    """One says the truth with some noise, the other noise alone: together they say the truth."""
    texts, truth = corpus(100)
    generator = np.random.default_rng(0)
    said = iter([generator.random(truth.shape), np.clip(truth + generator.normal(0, 0.3, truth.shape), 0.05, 0.95)])
    monkeypatch.setattr("modeling.teacher.embed", lambda *told, **more: None)
    monkeypatch.setattr("modeling.teacher.out_of_fold", lambda *told, **more: next(said))
    soft = soft_labels(["one", "other"], texts, truth)
    assert ((soft > 0.5) == truth).mean() > 0.9


def test_in_bfloat16_an_encoder_reads_next_to_the_same(encoder, tmp_path):
    exact, fast = (embed(encoder, ["One film.", "Another."], bf16=bf16) for bf16 in (False, True))
    assert fast.dtype == np.float32
    assert not np.array_equal(fast, exact)
    assert fast == pytest.approx(exact, abs=0.02)
    for bf16, vectors in ((True, fast), (False, exact)):  # one does not pass for the other
        assert np.array_equal(embed(encoder, ["One film.", "Another."], tmp_path, bf16=bf16), vectors)


def read_by(monkeypatch, killed_after=None):
    """What encoders read from now on, part by part, and as often as is said before a kill."""
    parts, reader = [], teacher._reader

    def told(name, bf16):
        read = reader(name, bf16)

        def reading(texts):
            if len(parts) == killed_after:
                raise KeyboardInterrupt
            parts.append(texts)
            return read(texts)

        return reading

    monkeypatch.setattr(teacher, "_reader", told)
    return parts


def test_a_text_that_was_read_is_not_read_again(encoder, tmp_path, monkeypatch):
    first = embed(encoder, ["One film.", "Another."], tmp_path)
    read = read_by(monkeypatch)
    again = embed(encoder, ["Another.", "One film."], tmp_path)
    assert np.array_equal(again, first[::-1])
    assert not read
    known, new = embed(encoder, ["Another.", "New."], tmp_path)
    assert read == [["New."]]
    assert np.array_equal(known, first[1])
    assert np.array_equal(new, embed(encoder, ["New."])[0])


def test_a_reading_that_is_cut_short_goes_on(encoder, tmp_path, monkeypatch):
    """Killed in its third part: the first two are not read again."""
    texts = ["A film.", "Two films.", "A third.", "Four.", "The last one."]
    monkeypatch.setattr("modeling.teacher.TEXTS_AT_ONCE", 2)
    whole = embed(encoder, texts)
    read = read_by(monkeypatch, killed_after=2)
    monkeypatch.setattr("modeling.teacher.SECONDS_UNSAVED", -1)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, texts, tmp_path)
    read[:] = []
    assert np.array_equal(embed(encoder, texts, tmp_path), whole)
    assert read == [["The last one."]]


def test_a_damaged_cache_is_filled_anew_and_a_changed_encoder_reads_again(encoder, tmp_path, tokenizer):
    first = embed(encoder, ["One film."], tmp_path)
    cache = tmp_path / "reader.safetensors"
    cache.write_bytes(cache.read_bytes()[:40])
    assert np.array_equal(embed(encoder, ["One film."], tmp_path), first)
    assert [path.name for path in tmp_path.iterdir()] == [cache.name]
    folder = tmp_path / "reader"
    set_seed(1)
    for _ in range(2):  # another encoder under the same name
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        now = embed(str(folder), ["One film."], tmp_path)
        assert not np.allclose(now, first)
        first = now


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
    assert len(np.unique(vectors[:10], axis=0)) == 10  # unseen pieces are not alike
