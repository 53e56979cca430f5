"""predict_genres on odd input, and its options."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from modeling import GenrePrediction, MovieGenreModel

from .conftest import GENRES, tiny_model

TEXT = "A retired gunman rides into a border town."


def test_a_string_gives_one_prediction_and_a_list_a_list_in_order(model, tokenizer):
    texts = ["Snow falls.", "Two brothers rob a bank and quarrel over the car. " * 3, TEXT]
    one_by_one = [model.predict_genres(text, tokenizer) for text in texts]
    together = model.predict_genres(texts, tokenizer, batch_size=2)
    assert all(isinstance(prediction, GenrePrediction) for prediction in one_by_one)
    for alone, among in zip(one_by_one, together, strict=True):
        assert among.genres == alone.genres
        assert among.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_genres_are_the_most_probable_first(model, tokenizer):
    prediction = model.predict_genres(TEXT, tokenizer, threshold=0.0)
    assert sorted(prediction.genres) == GENRES
    values = [prediction.probabilities[genre] for genre in prediction.genres]
    assert values == sorted(values, reverse=True)
    assert 0 <= prediction.confidence <= 1


def test_an_empty_list_gives_an_empty_list(model, tokenizer):
    assert model.predict_genres([], tokenizer) == []


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b"])
def test_a_text_without_words_is_refused_with_its_place(model, tokenizer, text):
    with pytest.raises(ValueError, match=r"texts\[1\] has no words"):
        model.predict_genres([TEXT, text], tokenizer)


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["nested"], float("nan")])
def test_a_non_string_is_refused_with_its_place(model, tokenizer, value):
    with pytest.raises(TypeError, match=r"texts\[1\] is a \w+, expected a string"):
        model.predict_genres([TEXT, value], tokenizer)


def test_neither_half_a_character_nor_nothing_is_a_text(model, tokenizer):
    with pytest.raises(ValueError, match=r"texts\[1\] holds half a character"):
        model.predict_genres([TEXT, "Snow \ud83d falls."], tokenizer)
    with pytest.raises(TypeError, match="texts is a bytes, expected a string or a sequence of them"):
        model.predict_genres(TEXT.encode(), tokenizer)
    with pytest.raises(TypeError, match="texts is a NoneType"):
        model.predict_genres(None, tokenizer)


def test_only_unknown_words_get_an_answer(model, tokenizer):
    prediction = model.predict_genres("字字 🙂 漢字", tokenizer, attribution="pooling")
    assert prediction.genres
    assert prediction.truncated_at is None


def test_a_hundred_thousand_characters_are_cut_where_the_result_says(model, tokenizer):
    text = ("The sheriff counts nine horses. " * 4000)[:100_000]
    prediction = model.predict_genres(text, tokenizer, attribution="pooling")
    assert 0 < prediction.truncated_at < 64 * 12
    # What was read alone gives the same answer.
    short = model.predict_genres(text[: prediction.truncated_at], tokenizer)
    assert short.truncated_at is None
    assert prediction.probabilities == pytest.approx(short.probabilities, abs=1e-6)
    assert max(start for start, _, _ in prediction.word_weights) < prediction.truncated_at


def test_truncation_is_that_of_the_tokenizer(model, tokenizer):
    text = "The sheriff counts nine horses. " * 40
    ids = torch.tensor([tokenizer(text, truncation=True, max_length=64)["input_ids"]])
    with torch.no_grad():
        expected = model(ids).logits.sigmoid()[0]
    assert list(model.predict_genres(text, tokenizer).probabilities.values()) == pytest.approx(
        expected.tolist(), abs=1e-6
    )


def test_windows_read_a_long_text_to_its_end(model, tokenizer):
    text = "The sheriff counts nine horses. " * 40 + "A wedding, a van and forty pies."
    cut = model.predict_genres(text, tokenizer)
    read = model.predict_genres(text, tokenizer, stride=16, attribution="pooling")
    assert cut.truncated_at is not None
    assert read.truncated_at is None
    assert read.probabilities != cut.probabilities
    start, end, weight = read.word_weights[-1]
    assert text[start:end] == "pies"
    assert weight > 0
    assert sum(weight for _, _, weight in read.word_weights) == pytest.approx(1)


def test_windows_leave_a_short_text_as_it_is(model, tokenizer):
    assert model.predict_genres(TEXT, tokenizer, stride=16) == model.predict_genres(TEXT, tokenizer)


def test_pooling_weights_of_words_are_those_of_their_pieces(model, tokenizer):
    encoded = tokenizer(TEXT, return_offsets_mapping=True)
    with torch.no_grad():
        weights = model(torch.tensor([encoded["input_ids"]])).pooling_weights[0]
    words = model.predict_genres(TEXT, tokenizer, attribution="pooling").word_weights
    assert [TEXT[start:end] for start, end, _ in words] == [
        "A",
        "retired",
        "gunman",
        "rides",
        "into",
        "a",
        "border",
        "town",
    ]
    raw = [
        sum(float(w) for (s, e), w in zip(encoded["offset_mapping"], weights, strict=True) if start <= s < e <= end)
        for start, end, _ in words
    ]
    assert [weight for _, _, weight in words] == pytest.approx([value / sum(raw) for value in raw], abs=1e-5)


def test_thresholds_are_a_number_a_dict_or_a_profile(tokenizer):
    model = tiny_model(threshold_profiles={"none": [1.0] * 4, "all": [0.0] * 4}, default_profile="none", min_genres=0)
    assert model.predict_genres(TEXT, tokenizer).genres == []
    assert len(model.predict_genres(TEXT, tokenizer, threshold="all").genres) == 4
    assert len(model.predict_genres(TEXT, tokenizer, threshold=0).genres) == 4
    assert model.predict_genres(TEXT, tokenizer, threshold={"Crime": 0.0}).genres == ["Crime"]


def test_at_least_min_genres_are_given(tokenizer):
    model = tiny_model(min_genres=2)
    prediction = model.predict_genres(TEXT, tokenizer, threshold=1.0)
    best = sorted(prediction.probabilities, key=lambda genre: -prediction.probabilities[genre])[:2]
    assert prediction.genres == best


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": "nope"}, ValueError, "no decision profile 'nope'; this model has none"),
        ({"threshold": {"Opera": 0.5}}, ValueError, "no genre 'Opera'"),
        ({"threshold": 1.5}, ValueError, "threshold=1.5 lies outside"),
        ({"threshold": [0.5]}, TypeError, "threshold is a list"),
        ({"threshold": {"Crime": "0.5"}}, TypeError, r"threshold\['Crime'\]='0.5' is a str, expected a number"),
        ({"threshold": {"Crime": True}}, TypeError, r"threshold\['Crime'\]=True is a bool"),
        ({"threshold": {1: 0.5, "x": 0.4}}, ValueError, "no genre 1, 'x'"),
        ({"mc_samples": -1}, ValueError, "mc_samples=-1"),
        ({"mc_samples": 1}, ValueError, "one has no spread"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"stride": 62}, ValueError, "stride=62 must lie between 0 and 61"),
        ({"stride": 2.5}, TypeError, "stride=2.5 is a float, expected a whole number"),
        ({"batch_size": None}, TypeError, "batch_size=None is a NoneType"),
        ({"mc_samples": 2.5}, TypeError, "mc_samples=2.5 is a float"),
        ({"seed": "1"}, TypeError, "seed='1' is a str"),
        ({"seed": -1}, ValueError, "seed=-1 must lie between"),
        ({"seed": 2**70}, ValueError, "must lie between"),
        ({"attribution": "tea leaves"}, ValueError, "attribution='tea leaves' is not known"),
    ],
)
def test_an_option_out_of_range_is_named(model, tokenizer, options, error, message):
    with pytest.raises(error, match=message):
        model.predict_genres(TEXT, tokenizer, **options)


def test_a_model_in_training_mode_refuses(model, tokenizer):
    with pytest.raises(RuntimeError, match=r"call model.eval\(\) first"):
        model.train().predict_genres(TEXT, tokenizer)


def test_the_tokenizer_is_found_beside_the_weights(saved, model, tokenizer):
    loaded = MovieGenreModel.from_pretrained(saved)
    expected = model.predict_genres(TEXT, tokenizer).probabilities
    assert loaded.predict_genres(TEXT).probabilities == pytest.approx(expected, abs=1e-6)


def test_what_is_saved_again_has_its_tokenizer_too(saved, tmp_path):
    loaded = MovieGenreModel.from_pretrained(saved)
    loaded.save_pretrained(tmp_path)
    again = MovieGenreModel.from_pretrained(tmp_path)
    assert again.predict_genres(TEXT).probabilities == loaded.predict_genres(TEXT).probabilities


def test_a_pickle_holds_no_token(saved, tokenizer):
    loaded = MovieGenreModel.from_pretrained(saved, token="hf_planted")
    assert b"hf_planted" not in pickle.dumps(loaded)
    assert copy.deepcopy(loaded).predict_genres(TEXT).genres == loaded.predict_genres(TEXT).genres


def test_numpys_whole_numbers_are_seeds(model, tokenizer):
    one, two = (model.predict_genres(TEXT, tokenizer, mc_samples=2, seed=seed) for seed in (3, np.int64(3)))
    assert one.probabilities == two.probabilities


def test_a_model_without_a_home_asks_for_a_tokenizer(model):
    with pytest.raises(ValueError, match="pass tokenizer="):
        model.predict_genres(TEXT)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_answers_in_bf16_as_the_cpu_does(model, tokenizer):
    expected = np.array(list(model.predict_genres(TEXT, tokenizer).probabilities.values()))
    model = model.to("cuda", torch.bfloat16)
    got = np.array(list(model.predict_genres(TEXT, tokenizer).probabilities.values()))
    assert np.abs(got - expected).max() < 0.02


def test_gradient_weights_add_up_to_what_the_text_changes(model, tokenizer, monkeypatch):
    monkeypatch.setattr(f"{type(model).__module__}.GRADIENT_STEPS", 512)
    ids = [tokenizer.cls_token_id, *tokenizer(TEXT, add_special_tokens=False)["input_ids"], tokenizer.sep_token_id]
    blank = [ids[0], *[model.config.pad_token_id] * (len(ids) - 2), ids[-1]]
    with torch.no_grad():
        change = (model(torch.tensor([ids])).logits - model(torch.tensor([blank])).logits)[0]
    for genre in range(len(GENRES)):  # completeness: Sundararajan et al. 2017, proposition 1
        assert model._integrated_gradients(ids, genre).sum() == pytest.approx(float(change[genre]), abs=0.02)


def test_gradients_speak_of_the_genre_asked_for_and_of_words(model, tokenizer):
    weights = {
        genre: model.predict_genres(TEXT, tokenizer, attribution="gradient", genre=genre).word_weights
        for genre in GENRES
    }
    assert weights["Crime"] != weights["Comedy"]
    assert [TEXT[start:end] for start, end, _ in weights["Crime"]] == TEXT.rstrip(".").split()
    assert sum(abs(weight) for _, _, weight in weights["Crime"]) == pytest.approx(1)


def test_gradients_speak_in_16_bits_too(tokenizer):
    model = tiny_model()
    exact = model.predict_genres(TEXT, tokenizer, attribution="gradient", genre="Drama").word_weights
    found = model.bfloat16().predict_genres(TEXT, tokenizer, attribution="gradient", genre="Drama").word_weights
    assert [w[:2] for w in found] == [w[:2] for w in exact]
    assert [w[2] for w in found] == pytest.approx([w[2] for w in exact], abs=0.03)


def test_gradients_leave_no_trace_and_do_not_disturb_other_threads(model, tokenizer):
    expected = model.predict_genres(TEXT, tokenizer, attribution="gradient", genre="Crime")
    with ThreadPoolExecutor(4) as pool:
        explained = [
            pool.submit(model.predict_genres, TEXT, tokenizer, attribution="gradient", genre="Crime") for _ in range(8)
        ]
        plain = [pool.submit(model.predict_genres, TEXT, tokenizer) for _ in range(8)]
        assert all(future.result() == expected for future in explained)
        assert all(future.result().probabilities == expected.probabilities for future in plain)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


def test_gradients_work_where_the_caller_has_switched_them_off(model, tokenizer):
    expected = model.predict_genres(TEXT, tokenizer, attribution="gradient", genre="Crime")
    with torch.inference_mode():
        assert model.predict_genres(TEXT, tokenizer, attribution="gradient", genre="Crime") == expected
