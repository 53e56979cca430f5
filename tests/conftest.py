import csv
import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported: no test may need the network
# Tests share the cores: a second thread would wait for one that another test holds.
os.environ["OMP_NUM_THREADS"] = os.environ["CPU_CORES"] = "1"

import pytest
from transformers import set_seed

from modeling import MovieGenreConfig, MovieGenreModel
from modeling.tokenization import train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
MOVIES = ROOT / "data" / "movies.csv"
SMOKE = str(ROOT / "configs" / "smoke.yaml")
GENRES = ["Comedy", "Crime", "Drama", "Western"]


@pytest.fixture(scope="session")
def descriptions():
    with MOVIES.open(encoding="utf-8", newline="") as file:
        return [row["description"] for row in csv.DictReader(file)][:200]


@pytest.fixture(scope="session")
def tokenizer(descriptions):
    return train_tokenizer(descriptions, max_length=64, vocabulary_size=1500)


@pytest.fixture(scope="session")
def some_films(tmp_path_factory):
    """Every fourth film of the project's own."""
    path = tmp_path_factory.mktemp("data") / "films.csv"
    with MOVIES.open(encoding="utf-8", newline="") as source, path.open("w", encoding="utf-8", newline="") as target:
        rows = list(csv.reader(source))
        csv.writer(target).writerows([rows[0], *rows[1::4]])
    return path


def tiny_config(**values):
    sizes = {"vocab_size": 1500, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 64}
    return MovieGenreConfig(**{**sizes, "id2label": dict(enumerate(GENRES)), **values})


def tiny_model(**values):
    """A network whose random weights are large enough for its answers to differ visibly."""
    set_seed(0)
    model = MovieGenreModel(tiny_config(**{"initializer_range": 0.3, **values}))
    return model.eval()


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def saved(tmp_path, model, tokenizer):
    """A folder that from_pretrained loads."""
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def outgoing(tmp_path_factory):
    """File of the addresses beyond this machine that the demo turned to."""
    path = tmp_path_factory.mktemp("outgoing") / "addresses.txt"
    path.touch()
    return path


@pytest.fixture(scope="session")
def address(outgoing):
    """Where the demo serves the shipped checkpoint."""
    from .app_server import serve

    paths = [str(ROOT / "tests" / "outgoing"), *filter(None, [os.environ.get("PYTHONPATH")])]
    watched = {"PYTHONPATH": os.pathsep.join(paths), "OUTGOING": str(outgoing), "HF_HUB_OFFLINE": ""}
    program = "import socket; socket.getaddrinfo('example.invalid', 80)"  # the watch is awake
    subprocess.run([sys.executable, "-c", program], env=os.environ | watched, stderr=subprocess.DEVNULL)
    assert outgoing.read_text() == "socket.getaddrinfo example.invalid\n"
    outgoing.write_text("")
    process, url = serve(**watched)
    yield url
    process.terminate()
    process.wait(timeout=30)
