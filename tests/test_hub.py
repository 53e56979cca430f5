"""Publishing, through the real client, to a Hub on loopback; every command in a process of its own."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from huggingface_hub import DatasetCard

from benchmarks.space import ask_page
from modeling.arguments import MovieGenreTrainingArguments, parse_arguments
from modeling.hub import MODEL_FILES, HubError
from modeling.training import train

from .conftest import ROOT
from .hub_server import Hub

WRITER, READER = "hf_theTokenThatMayWrite", "hf_theTokenThatMayRead"
SHEET = (
    '---\nlicense: cc0-1.0\n---\n\n# Films\n\n    load_dataset("csv", data_files="data/movies.csv", split="train")\n'
)
ROWS = "movie_name,genre,description,split\nOne,Drama|War,A text.,train\nTwo,Crime,Another.,test\n"
SECRETS = (WRITER, READER)


@pytest.fixture
def hub():
    with Hub() as server:
        server.tokens = {WRITER: ("you", "write"), READER: ("you", "read")}
        yield server


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "README.md").write_text(SHEET)
    (folder / "movies.csv").write_text(ROWS)
    (folder / "notes.txt").write_text("not for others")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


@pytest.fixture
def movie_genre(hub, tmp_path):
    """`movie-genre ...` against the Hub; whatever it says, no token may show."""

    def run(*words, token=WRITER, code=0, **variables):
        environment = hub.environment(tmp_path / "home", token, **variables)
        command = [sys.executable, "-m", "modeling.cli", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert not any(secret in said for secret in SECRETS)
        assert done.returncode == code, said
        return said

    return run


def writes(hub):
    """Calls that change something."""
    return [
        call for call in hub.requests if re.match(r"(POST|PUT) .*(create|commit|tag|objects|branch|variables)", call)
    ]


def test_films_are_published_with_their_datasheet_a_tag_and_nothing_else(hub, films, movie_genre):
    said = movie_genre("publish", "data", "--repo", "films", "--folder", films)
    repository = hub.repository("you/films", "datasets")
    assert set(repository.files()) == {".gitattributes", "README.md", "movies.csv"}
    assert repository.files()["movies.csv"] == (films / "movies.csv").read_bytes()
    assert 'load_dataset("you/films", split="train")' in repository.files()["README.md"].decode()
    assert repository.tags == {"v0.1.0": repository.branches["main"]}
    assert "you/films: 2 new; commit" in said
    assert len(repository.commits) == 2  # the Hub's own first one, and ours


def test_published_films_are_read_by_their_id_with_their_splits(hub, films, movie_genre, tmp_path):
    movie_genre("publish", "data", "--repo", "you/films", "--folder", films)
    program = """
import json
from modeling.data import read_films
films, _ = read_films("you/films")
print(json.dumps([[row["movie_name"], row["genre"], row["split"]] for row in films]))
"""
    environment = hub.environment(tmp_path / "reader")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["One", ["Drama", "War"], "train"], ["Two", ["Crime"], "test"]]


def test_a_second_run_uploads_nothing(hub, films, movie_genre):
    movie_genre("publish", "data", "--repo", "you/films", "--folder", films)
    before = writes(hub)
    said = movie_genre("publish", "data", "--repo", "you/films", "--folder", films)
    assert "2 unchanged" in said
    assert writes(hub)[len(before) :] == ["POST /api/repos/create -> 409"]  # it is there, and that is all


def test_a_dry_run_says_what_would_be_uploaded_and_uploads_nothing(hub, films, movie_genre):
    said = movie_genre("publish", "data", "--repo", "you/films", "--folder", films, "--dry-run", token="")
    assert re.search(r"new +\d+  movies.csv", said)
    assert "notes.txt" not in said
    assert not writes(hub)
    hub.put("datasets", "you/films", {"movies.csv": b"older"})
    said = movie_genre("publish", "data", "--repo", "you/films", "--folder", films, "--dry-run", token="")
    assert re.search(r"changed +\d+  movies.csv", said)
    assert not writes(hub)


def test_a_tag_never_comes_to_name_other_content(hub, films, movie_genre):
    command = ("publish", "data", "--repo", "you/films", "--folder", films)
    movie_genre(*command)
    released = hub.repository("you/films", "datasets").tags["v0.1.0"]
    (films / "README.md").write_text(SHEET + "\nA word more.\n")
    assert "1 changed, 1 unchanged" in movie_genre(*command)  # a card may be mended
    (films / "movies.csv").write_text(ROWS + "Three,War,More.,train\n")
    said = movie_genre(*command, code=2)
    assert "the tag v0.1.0 of you/films names other content" in said
    assert "--tag" in said
    movie_genre(*command, "--tag", "v0.2.0")
    movie_genre(*command, "--tag", "none")
    tags = hub.repository("you/films", "datasets").tags
    assert tags == {"v0.1.0": released, "v0.2.0": hub.repository("you/films", "datasets").branches["main"]}


def test_another_branch_leaves_main_alone(hub, films, movie_genre):
    movie_genre("publish", "data", "--repo", "you/films", "--folder", films)
    (films / "movies.csv").write_text(ROWS + "Three,War,More.,train\n")
    movie_genre("publish", "data", "--repo", "you/films", "--folder", films, "--revision", "next", "--tag", "none")
    repository = hub.repository("you/films", "datasets")
    assert repository.files("main")["movies.csv"] == ROWS.encode()
    assert repository.files("next")["movies.csv"] == (films / "movies.csv").read_bytes()


def test_a_private_repository_is_private_from_its_first_commit(hub, films, movie_genre):
    movie_genre("publish", "data", "--repo", "you/films", "--folder", films, "--private")
    assert hub.repository("you/films", "datasets").private
    hub.put("datasets", "you/open", {})
    said = movie_genre("publish", "data", "--repo", "you/open", "--folder", films, "--private", code=2)
    assert "you/open exists and is public" in said
    assert hub.repository("you/open", "datasets").files() == {}


@pytest.mark.parametrize(
    ("token", "repo", "sentence"),
    [
        ("", "you/films", "there is no token"),
        (READER, "you/films", "the token may only read"),
        ("hf_nobodyKnowsThisToken", "you/films", "the Hub does not accept the token (401"),
        (WRITER, "they/films", "the token may not write to they/films (403"),
    ],
)
def test_a_token_that_will_not_do_gets_a_sentence(hub, films, movie_genre, token, repo, sentence):
    said = movie_genre("publish", "data", "--repo", repo, "--folder", films, token=token, code=2)
    assert sentence in said
    assert "https://huggingface.co/settings/tokens" in said
    assert "Traceback" not in said
    assert "hf_nobody" not in said
    assert not hub.repositories


def test_no_token_shows_in_the_clients_debug_log_a_traceback_or_a_file(hub, films, movie_genre, tmp_path, monkeypatch):
    command = ("publish", "data", "--repo", "you/films", "--folder", films)
    assert "POST" in movie_genre(*command, HF_DEBUG="1")  # every request is told
    monkeypatch.setattr(hub, "ROUTES", (("GET", "/api/whoami-v2", lambda *_: {}),))
    assert "Traceback" in movie_genre(*command, code=1, HF_DEBUG="1")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or WRITER.encode() not in path.read_bytes()


def test_an_incomplete_folder_is_refused_by_name(hub, films, movie_genre):
    (films / "movies.csv").unlink()
    said = movie_genre("publish", "data", "--repo", "you/films", "--folder", films, code=2)
    assert "cannot be published, it lacks *.csv" in said
    assert not writes(hub)


def test_an_interrupted_run_leaves_the_branch_as_it_was_and_can_be_repeated(hub, films, tmp_path, movie_genre):
    """Killed while a large file travels, cut off at the commit, then at the tag, then left in peace."""
    (films / "large.csv").write_bytes(b"x" * 11_000_000)  # such as the Hub wants uploaded before the commit
    command = ("publish", "data", "--repo", "you/films", "--folder", films)

    hub.break_off = lambda request: request.startswith("PUT")
    environment = hub.environment(tmp_path / "home", WRITER)
    process = subprocess.Popen(
        [sys.executable, "-m", "modeling.cli", *map(str, command)], env=environment, stderr=subprocess.DEVNULL
    )
    assert hub.broken.wait(120)
    process.kill()
    process.wait()
    repository = hub.repository("you/films", "datasets")
    assert list(repository.files()) == [".gitattributes"]

    hub.break_off = lambda request: "/commit/" in request
    said = movie_genre(*command, code=2)
    assert "broke off" in said
    assert "run the same command again" in said
    assert list(repository.files()) == [".gitattributes"]

    hub.break_off = lambda request: "/tag/" in request
    movie_genre(*command, code=2)
    assert repository.files()["large.csv"] == (films / "large.csv").read_bytes()
    assert len([call for call in hub.requests if re.match("PUT.* 200", call)]) == 1  # it travelled once

    hub.break_off = lambda request: False
    assert "3 unchanged" in movie_genre(*command)
    assert len(repository.commits) == 2
    assert repository.tags == {"v0.1.0": repository.branches["main"]}


def test_a_model_is_published_by_an_allow_list_byte_for_byte(hub, saved, movie_genre):
    (saved / "training_args.bin").write_bytes(b"a pickle")
    (saved / "optimizer.pt").write_bytes(b"another")
    (saved / "notes.txt").write_text("not for others")
    hub.put(
        "models",
        "you/movie-genre",
        {"training_args.bin": b"from an earlier push", "x/y.pt": b"", "picture.png": b"theirs"},
    )
    said = movie_genre("publish", "model", "--repo", "you/movie-genre", "--folder", saved)
    assert re.search(r"removed +\d+  training_args.bin", said)
    files = hub.repository("you/movie-genre").files()
    assert set(files) == {*MODEL_FILES, "README.md", "picture.png"}
    for name in MODEL_FILES:
        assert files[name] == (saved / name).read_bytes()


def test_what_was_said_of_other_weights_or_made_from_them_does_not_stay(hub, saved, films, movie_genre):
    (saved / "onnx").mkdir()
    for name in ("evaluation.json", "onnx/config.json"):
        (saved / name).write_text("{}")
    movie_genre("publish", "model", "--repo", "you/m", "--folder", saved, "--tag", "none")
    assert "onnx/config.json" in hub.repository("you/m").files()
    shutil.rmtree(saved / "onnx")
    (saved / "evaluation.json").unlink()
    movie_genre("publish", "model", "--repo", "you/m", "--folder", saved, "--tag", "none")
    assert set(hub.repository("you/m").files()) == {".gitattributes", *MODEL_FILES, "README.md"}
    movie_genre("publish", "data", "--repo", "films", "--folder", films, "--tag", "none")
    (films / "movies.csv").rename(films / "others.csv")
    hub.put("datasets", "you/films", {"archive/old.csv": b"the owner's", "movies.csv": b"ours"})
    movie_genre("publish", "data", "--repo", "films", "--folder", films, "--tag", "none")
    assert set(hub.repository("you/films", "datasets").files()) == {"README.md", "others.csv", "archive/old.csv"}


def test_no_folder_of_the_machine_is_published(hub, saved, movie_genre):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"base_model": "/home/ada/secret/encoder"}))
    movie_genre("publish", "model", "--repo", "you/m", "--folder", saved)
    files = hub.repository("you/m").files()
    assert json.loads(files["config.json"]) == config | {"base_model": "encoder"}
    assert not any(b"/home/ada" in content for content in files.values())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "training.json", "tokenizer.json"])
def test_a_damaged_folder_is_refused_in_a_sentence(hub, saved, movie_genre, name):
    (saved / name).write_text('{"hidden_size": 38')
    said = movie_genre("publish", "model", "--repo", "you/m", "--folder", saved, code=2)
    assert re.search(f"movie-genre: .*({name}|cannot be loaded|cannot be read|no model in)", said)
    assert "Traceback" not in said
    assert not writes(hub)


# ZeroGPU starts no Space without a function that may borrow its GPU. None does: each call would cost the visitor.
STANDS_IN_FOR_SPACES = """
def GPU(handler):
    print("may borrow", file=open("gpu.txt", "a"))
    def lent(*values, **options):
        print("borrows", file=open("gpu.txt", "a"))
        return handler(*values, **options)
    return lent
"""
# The Space's files alone: neither the checkout nor its installed package is there.
ALONE = """
import os, runpy, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [os.getcwd(), *(path for path in sys.path if path not in ("", sys.argv[1]))]
import modeling
assert modeling.__file__.startswith(os.getcwd()), modeling.__file__
sys.argv = ["app.py"]
runpy.run_path("app.py", run_name="__main__")
"""


def test_a_space_is_complete_and_answers_from_its_own_files(hub, saved, tmp_path, movie_genre, model, tokenizer):
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    commit = hub.put("models", "you/movie-genre", files)
    hub.put("models", "you/movie-genre", files | {"model.safetensors": b"a later, broken push"})
    command = ("publish", "space", "--repo", "you/demo", "--model", "you/movie-genre", "--model-revision", commit[:10])
    movie_genre(*command)
    space = hub.repository("you/demo", "spaces")
    assert space.settings["sdk"] == "gradio"
    assert space.variables == {"MODEL_ID": "you/movie-genre", "MODEL_REVISION": commit, "HOST": "0.0.0.0"}
    before = writes(hub)
    assert "unchanged" in movie_genre(*command)
    assert writes(hub)[len(before) :] == ["POST /api/repos/create -> 409"]

    front = DatasetCard(space.files()["README.md"].decode()).data
    assert front.sdk_version in (ROOT / "requirements.txt").read_text()
    assert front.models == ["you/movie-genre"]
    name, wanted, revision = front.preload_from_hub[0].split()
    assert (name, set(wanted.split(",")), revision) == ("you/movie-genre", set(MODEL_FILES), commit)
    assert len(front.short_description) <= 60

    folder = tmp_path / "space"
    pull = [
        sys.executable,
        "-m",
        "huggingface_hub.cli.hf",
        "download",
        "you/demo",
        "--repo-type",
        "space",
        "--local-dir",
        str(folder),
    ]
    subprocess.run(pull, env=hub.environment(tmp_path / "pull"), check=True, capture_output=True)
    shutil.rmtree(folder / ".cache")
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(space.files())
    (folder / "spaces.py").write_text(STANDS_IN_FOR_SPACES)
    text = "A retired gunman rides into a border town."
    environment = hub.environment(tmp_path / "visitor", **space.variables)
    answer, _ = ask_page([sys.executable, "-c", ALONE, str(ROOT)], folder, environment, text)
    best = max((p := model.predict_genres(text, tokenizer).probabilities), key=p.get)
    assert best in json.dumps(answer)
    assert (folder / "gpu.txt").read_text() == "may borrow\n"


def test_the_model_that_ships_is_published_from_anywhere(movie_genre):
    assert re.search(r"new +[\d,]+  model.safetensors", movie_genre("publish", "model", "--repo", "you/m", "--dry-run"))


def test_a_space_needs_its_model_published_first(movie_genre):
    said = movie_genre("publish", "space", "--repo", "you/demo", "--model", "you/movie-genre", code=2)
    assert "there is no model you/movie-genre at main" in said
    assert "movie-genre publish model --repo you/movie-genre" in said


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "all_checkpoints"])
def test_half_trained_models_are_not_pushed(tmp_path, strategy):
    with pytest.raises(ValueError, match="without their code, on the main branch"):
        MovieGenreTrainingArguments(output_dir=str(tmp_path), push_to_hub=True, hub_strategy=strategy)


def test_a_training_that_shall_be_published_tries_its_token_first(tmp_path):
    words = ["--train_file", "none.csv", "--output_dir", str(tmp_path / "run"), "--push_to_hub", "true"]
    data, network, arguments = parse_arguments([*words, "--hub_token", WRITER])
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):  # before the films are looked for
        train(data, network, arguments)
    assert arguments.hub_token is None  # the Trainer would write it into its checkpoints
    assert not (tmp_path / "run").exists()
