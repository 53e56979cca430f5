"""Models and data sets by repository id, from a Hub on loopback and the real client."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from .conftest import ROOT, tiny_model
from .hub_server import Hub

TEXT = "A retired gunman rides into a border town."


@pytest.fixture
def hub(tmp_path, saved):
    root = tmp_path / "hub"
    shutil.copytree(saved, root / "models" / "you" / "movie-genre")
    other = root / "models" / "you" / "movie-genre@older"
    shutil.copytree(saved, other)
    tiny_model(initializer_range=0.2).save_pretrained(other)
    data = root / "datasets" / "you" / "films"
    data.mkdir(parents=True)
    (data / "train.csv").write_text("title,genres,overview\nOne,Drama|War,A text.\nTwo,Crime,Another.\n")
    (data / "test.csv").write_text("title,genres,overview\nThree,Crime,A third.\n")
    with Hub(root) as server:
        yield server


def run(program, hub, tmp_path, **environment):
    """A program in a process of its own, with an empty cache."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    variables |= {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=home, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stderr}\n{hub.requests}"
    return json.loads(done.stdout.splitlines()[-1])


def predict(revision):
    return f"""
import json
from modeling import MovieGenreModel
model = MovieGenreModel.from_pretrained("you/movie-genre", revision={revision!r})
print(json.dumps(model.predict_genres({TEXT!r}).probabilities))
"""


def test_a_model_and_its_tokenizer_are_found_by_repository_id(hub, tmp_path, model, tokenizer):
    got = run(predict("main"), hub, tmp_path)
    assert got == pytest.approx(model.predict_genres(TEXT, tokenizer).probabilities, abs=1e-6)


def test_a_pinned_revision_gives_its_own_weights_and_tokenizer(hub, tmp_path, tokenizer):
    got = run(predict("older"), hub, tmp_path)
    expected = tiny_model(initializer_range=0.2).predict_genres(TEXT, tokenizer).probabilities
    assert got == pytest.approx(expected, abs=1e-6)
    assert not any("/resolve/main/" in request for request in hub.requests)


def test_the_page_loads_its_model_from_the_hub(hub, tmp_path, tokenizer):
    program = f"import app, json; print(json.dumps(app.load_model().predict_genres({TEXT!r}).probabilities))"
    got = run(program, hub, tmp_path, MODEL_ID="you/movie-genre", MODEL_REVISION="older")
    expected = tiny_model(initializer_range=0.2).predict_genres(TEXT, tokenizer).probabilities
    assert got == pytest.approx(expected, abs=1e-6)


def test_films_are_read_from_a_data_set_on_the_hub_with_its_splits(hub, tmp_path):
    program = """
import json
from modeling.data import read_films
films, _ = read_films("you/films")
print(json.dumps([[row["movie_name"], row["genre"], row["split"]] for row in films]))
"""
    assert run(program, hub, tmp_path) == [
        ["One", ["Drama", "War"], "train"],
        ["Two", ["Crime"], "train"],
        ["Three", ["Crime"], "test"],
    ]
