"""The Hub away: offline by choice, not answering, or never seen; each in a process and with a cache of its own."""

import json
import os
import subprocess
import sys

import pytest

from modeling.export import export

from .conftest import ROOT
from .hub_server import Hub

REPO = "you/movie-genre"
# What a process says of itself: the connections it tried, and its answer.
WATCHED = """
import json, socket, sys, time
tried, connect, look_up = [], socket.socket.connect, socket.getaddrinfo
socket.socket.connect = lambda self, address: (tried.append(address), connect(self, address))[1]
socket.getaddrinfo = lambda *args, **kwargs: (tried.append(args[:2]), look_up(*args, **kwargs))[1]
started = time.monotonic()
"""
ANSWERS = {
    "torch": "from modeling import MovieGenreModel as Model\n",
    "onnx": "from modeling.onnx_runtime import MovieGenreOnnx as Model\n",
}
ASK = f"""
started = time.monotonic()
genres = Model.from_pretrained({REPO!r}).predict_genres("A gunman rides into town.").genres
print(json.dumps([genres, len(tried), time.monotonic() - started]))
"""


@pytest.fixture(scope="module")
def away(tmp_path_factory):
    """Environments: a filled cache and an empty one, with the address of a Hub that is no more."""
    from modeling.tokenization import train_tokenizer

    from .conftest import MOVIES, tiny_model

    folder, home = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("home")
    model = tiny_model()
    model.save_pretrained(folder)
    tokenizer = train_tokenizer([MOVIES.read_text(encoding="utf-8")[:50_000]], max_length=64, vocabulary_size=1500)
    tokenizer.save_pretrained(folder)
    loaded = type(model).from_pretrained(folder)
    export(loaded, folder / "onnx")
    with Hub() as hub:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        hub.put("models", REPO, files)
        filled = hub.environment(home, None) | {"PYTHONPATH": str(ROOT)}
        expected = {backend: ask(backend, filled)[0] for backend in ANSWERS}
    return expected, filled, filled | {"HF_HOME": str(tmp_path_factory.mktemp("empty"))}


def run(program, environment):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)


def ask(backend, environment):
    done = run(WATCHED + ANSWERS[backend] + ASK, environment)
    assert done.returncode == 0, done.stderr
    return [*json.loads(done.stdout.splitlines()[-1]), done.stderr]


def test_a_tokenizer_that_was_pushed_since_is_not_taken_for_the_weights_own(saved, tokenizer, tmp_path):
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    other = json.loads(files["tokenizer.json"])
    vocabulary = other["model"]["vocab"]
    one, two = [word for word in vocabulary if word.isalpha() and len(word) > 3][:2]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    program = f"""
from modeling import MovieGenreModel
model = MovieGenreModel.from_pretrained({REPO!r})
print("loaded", flush=True)
input()
print(model.tokenizer({one!r})["input_ids"])
"""
    with Hub() as hub:
        hub.put("models", REPO, files)
        environment = hub.environment(tmp_path, None) | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", program], env=environment, cwd="/", **pipes) as process:
            assert process.stdout.readline() == "loaded\n"
            hub.put("models", REPO, files | {"tokenizer.json": json.dumps(other).encode()})
            said, _ = process.communicate("\n")
    assert json.loads(said) == tokenizer(one)["input_ids"]


@pytest.mark.parametrize("backend", ANSWERS)
def test_offline_there_is_no_connection_attempt(away, backend):
    expected, filled, _ = away
    genres, tried, _, _ = ask(backend, filled | {"HF_HUB_OFFLINE": "1"})
    assert genres == expected[backend]
    assert tried == 0


def test_who_asks_for_the_cache_alone_waits_for_no_hub(away):
    expected, filled, _ = away
    asked = ASK.replace(f"({REPO!r})", f"({REPO!r}, local_files_only=True)")
    done = run(WATCHED + ANSWERS["torch"] + asked, filled)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[:2] == [expected["torch"], 0]
    assert "does not answer" not in done.stderr


@pytest.mark.parametrize("backend", ANSWERS)
def test_a_cache_that_is_named_is_the_one_that_has_no_copy(away, backend, tmp_path):
    _, filled, _ = away
    asked = ASK.replace(f"({REPO!r})", f"({REPO!r}, cache_dir={str(tmp_path)!r})")
    done = run(WATCHED + ANSWERS[backend] + asked, filled)
    assert f"the cache ({tmp_path}) has no copy of it" in done.stderr


@pytest.mark.parametrize("backend", ANSWERS)
def test_a_hub_that_does_not_answer_costs_a_warning_and_no_time(away, backend):
    expected, filled, _ = away
    genres, tried, seconds, said = ask(backend, filled)
    assert genres == expected[backend]
    assert 1 <= tried <= 4
    assert seconds < 15
    assert said.count(f"does not answer ([Errno 111] Connection refused): {REPO} is read from the cache") == 1
    assert "Retrying" not in said


@pytest.mark.parametrize("backend", ANSWERS)
@pytest.mark.parametrize("offline", ["", "1"])
def test_nothing_cached_gets_one_sentence(away, backend, offline):
    _, _, empty = away
    command = f"import sys; sys.argv = ['', 'predict', '--model', {REPO!r}, '--backend', {backend!r}, 'A text.']\n"
    done = run(command + "from modeling.cli import main; main()", empty | {"HF_HUB_OFFLINE": offline})
    assert done.returncode == 2
    why = "HF_HUB_OFFLINE is set" if offline else "does not answer"
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith(f"movie-genre: '{REPO}' is no folder, ")
    assert why in sentence
    assert sentence.endswith("load it once while the Hub can be reached, or name a folder")
    assert "Traceback" not in done.stderr
    assert "Retrying" not in done.stderr


def test_what_lies_beside_a_model_costs_no_time_either(away):
    _, filled, _ = away
    program = f"from modeling.backends import *; print(model_record({REPO!r}, None, 'training.json'))\n" * 2
    done = run(program, filled)
    assert done.stdout == "None\nNone\n", done.stderr
    assert "Retrying" not in done.stderr
    assert done.stderr.count("does not answer") == 1


def test_the_page_starts_from_the_cache_and_says_so_where_it_cannot(away):
    _, filled, empty = away
    program = f"from modeling.serving import Service; print(Service(name={REPO!r}).genres)"
    done = run(program, filled)
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr
    command = [sys.executable, "app.py"]
    environment = os.environ | empty | {"MODEL_ID": REPO}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"app.py: '{REPO}' is no folder")
