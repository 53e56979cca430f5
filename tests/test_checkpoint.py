"""The model that ships."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from modeling import MovieGenreModel
from modeling.export import export
from modeling.metrics import micro_f1
from modeling.onnx_runtime import MovieGenreOnnx
from modeling.serving import Service

from .conftest import MOVIES, ROOT

CHECKPOINT = ROOT / "checkpoint"
PLAIN = {
    "Crime": "A detective hunts the gang that robbed the bank, while a corrupt cop sells them out to the mob boss.",
    "Science Fiction": "The crew of a spaceship wakes from sleep in orbit of a planet and finds an alien signal.",
    "Horror": "A demon haunts the old house, and one night the teenagers in the cellar hear something scratching.",
    "War": "In 1944 a platoon of soldiers is cut off behind German lines and fights its way back to the army.",
    "Romance": "She falls in love with the man she met in Paris, and must choose between him and her fiancé.",
    "Animation": "A little mouse and a talking toy go in search of the magical kingdom of the animals.",
}


@pytest.fixture(scope="module")
def shipped():
    return MovieGenreModel.from_pretrained(CHECKPOINT)


def test_it_is_complete_and_holds_no_pickle():
    names = {path.name for path in CHECKPOINT.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "configuration_movie_genre.py",
        "evaluation.json",
        "genres.png",
        "model.safetensors",
        "modeling_movie_genre.py",
        "prediction_movie_genre.py",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }
    with safe_open(CHECKPOINT / "model.safetensors", "numpy") as weights:
        assert len(list(weights.keys())) > 50


def test_its_code_is_that_of_the_package():
    for name in ("configuration_movie_genre.py", "modeling_movie_genre.py", "prediction_movie_genre.py"):
        assert (CHECKPOINT / name).read_bytes() == (ROOT / "modeling" / name).read_bytes()


@pytest.mark.parametrize("genre", PLAIN)
def test_it_knows_a_plain_description(shipped, genre):
    assert genre in shipped.predict_genres(PLAIN[genre]).genres


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_it_tells_its_language_from_others(shipped, tmp_path, backend):
    """No film is taken for a text of another language, and most texts in other languages are found out."""
    model = shipped if backend == "torch" else MovieGenreOnnx.from_pretrained(export(shipped, tmp_path / "onnx"))
    service = Service(model, name="checkpoint")
    with MOVIES.open(encoding="utf-8", newline="") as file:
        assert not any(service.foreign(film["description"]) for film in csv.DictReader(file))
    with (ROOT / "benchmarks" / "behaviour" / "off_topic.csv").open(encoding="utf-8", newline="") as file:
        others = [text["text"] for text in csv.DictReader(file) if text["kind"] == "other_language"]
    assert np.mean([service.foreign(text) for text in others]) > 0.8


def test_it_answers_the_projects_own_films_better_than_their_commonest_genres(shipped):
    with MOVIES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    genres = shipped.config.genres
    truth = np.array([[genre in row["genre"].split(", ") for genre in genres] for row in rows])
    chosen = np.array(
        [[g in p.genres for g in genres] for p in shipped.predict_genres([r["description"] for r in rows])]
    )
    commonest = np.argsort(-truth.sum(axis=0))
    guesses = [np.isin(np.arange(18), commonest[:k])[None].repeat(len(rows), 0) for k in range(1, 6)]
    assert micro_f1(truth, chosen) > max(micro_f1(truth, guess) for guess in guesses) + 0.05


def test_its_card_states_the_figures_of_its_evaluation():
    evaluation = json.loads((CHECKPOINT / "evaluation.json").read_text())
    card = (CHECKPOINT / "README.md").read_text(encoding="utf-8")
    for name in ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision"):
        lower, upper = evaluation["intervals"][name]
        line = f"| {name.replace('_', ' ')} | {evaluation[name]:.3f} | {lower:.3f} to {upper:.3f} |"
        assert line in card


def test_it_computes_in_float32(shipped):
    assert {str(tensor.dtype) for tensor in shipped.state_dict().values()} == {"torch.float32"}


def test_in_bfloat16_it_answers_nearly_the_same(shipped):
    with MOVIES.open(encoding="utf-8", newline="") as file:
        texts = [row["description"] for row in csv.DictReader(file) if row["split"] == "test"][:40]
    coarse = MovieGenreModel.from_pretrained(CHECKPOINT, dtype=torch.bfloat16)
    pairs = zip(shipped.predict_genres(texts), coarse.predict_genres(texts), strict=True)
    apart = [abs(one.probabilities[genre] - two.probabilities[genre]) for one, two in pairs for genre in PLAIN]
    assert 0 < max(apart) < 0.02
