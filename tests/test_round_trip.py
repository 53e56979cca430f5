"""From training to every way of loading what it pushed, each in a process that never saw this repository.

Training pushes to a Hub on loopback; each way of loading then runs in a process, a cache and a working directory of
its own, and its answers are compared with those that the trainer gave, from the weights in its memory, before it saved
them. One thread everywhere: sums are rounded in the order they are taken.
"""

import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load, save

from benchmarks.space import ask_page
from modeling.hub import MODEL_FILES

from .conftest import MOVIES, ROOT
from .hub_server import Hub

TOKEN = "hf_plantedInTheTraining"
REPO, SECRET = "you/movie-genre", "you/secret"
TEXT = "A retired gunman rides into a border town, and the sheriff who hanged his brother is waiting."
IDS = [[101, 2003, 2004, 102, 0, 0], [101, 3000, 3001, 3002, 3003, 102]]

ANSWER = f"""
def answer(model, tokenizer=None):
    import numpy as np, torch
    ids = torch.tensor({IDS})
    with torch.no_grad():
        arrays = {{"logits": model(ids, attention_mask=(ids != 0).long()).logits}}
    arrays |= dict(model.named_buffers())
    probabilities = model.predict_genres({TEXT!r}, tokenizer).probabilities
    arrays |= {{"probabilities": torch.tensor(list(probabilities.values()))}}
    np.savez("answer.npz", **{{name: value.numpy() for name, value in arrays.items()}})
    return model.predict_genres({TEXT!r}, tokenizer, mc_samples=3, seed=0).to_dict()
"""
TRAIN = f"""{ANSWER}
import json, sys
from modeling import training
from modeling.arguments import parse_arguments
save_model = training.save_model
def answer_first(model, tokenizer, *rest):
    with open("answer.json", "w") as file:
        json.dump(answer(model.eval(), tokenizer), file)
    save_model(model, tokenizer, *rest)
training.save_model = answer_first
training.train(*parse_arguments(sys.argv[1:]))
"""
ELSEWHERE = f"""{ANSWER}
import importlib.util, json, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [path for path in sys.path if path != {str(ROOT)!r}]
assert importlib.util.find_spec("modeling") is None
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
REPO, TEXT, options = {REPO!r}, {TEXT!r}, dict(trust_remote_code=True)
def say(value):
    print(json.dumps(value))
"""
STEPS = {
    "config": "say(AutoConfig.from_pretrained(REPO, **options).genres)",
    "tokenizer": "say(AutoTokenizer.from_pretrained(REPO, **options)(TEXT).input_ids)",
    "model": "say(answer(AutoModel.from_pretrained(REPO, **options)))",
    "classification": "say(answer(AutoModelForSequenceClassification.from_pretrained(REPO, **options)))",
    "pipeline": "say(pipeline('text-classification', REPO, top_k=None, **options)([TEXT])[0])",
}
ALL = """
config = AutoConfig.from_pretrained(REPO, **options)
tokenizer = AutoTokenizer.from_pretrained(REPO, **options)
first = answer(AutoModelForSequenceClassification.from_pretrained(REPO, **options), tokenizer)
assert first == answer(AutoModel.from_pretrained(REPO, **options))
pipe = pipeline("text-classification", REPO, top_k=None, **options)
assert {row["label"] for row in pipe([TEXT])[0]} == set(config.genres)
say(first)
"""
PRIVATE = f"""
REPO = {SECRET!r}
try:
    AutoConfig.from_pretrained(REPO, token=False, **options)
    raise AssertionError("a stranger could read it")
except OSError as error:
    assert "private" in str(error), error
{ALL}"""
INSTALLED = f"""{ANSWER}
import json
from transformers import AutoModel
try:
    AutoModel.from_pretrained({REPO!r})
except ValueError as error:
    print(json.dumps(str(error)))
from modeling import MovieGenreModel
loaded = AutoModel.from_pretrained({REPO!r})
assert type(loaded) is MovieGenreModel
print(json.dumps(answer(loaded)))
"""


class Trip:
    """What the trainer answered, and every step after it."""

    def __init__(self, root, hub):
        self.root, self.hub, self.steps = root, hub, {}
        self.training = self.process("training", TRAIN, *self.flags(), cwd="training")
        assert self.training.returncode == 0, self.training.stderr
        self.trained = np.load(root / "training" / "answer.npz")
        self.answered = json.loads((root / "training" / "answer.json").read_text())

    def flags(self):
        films = self.root / "films.csv"
        with MOVIES.open(encoding="utf-8", newline="") as source, films.open("w", encoding="utf-8") as target:
            rows = list(csv.reader(source))
            csv.writer(target).writerows([rows[0], *rows[1::12]])
        values = {"train_file": films, "output_dir": self.root / "run", "push_to_hub": "true", "cpu_threads": 1}
        values |= {"hub_model_id": REPO, "hub_token": TOKEN, "num_train_epochs": 1, "teacher": "none"}
        words = [str(word) for name, value in values.items() for word in (f"--{name}", value)]
        return [str(ROOT / "configs" / "smoke.yaml"), *words]

    def process(self, home, program, *words, cwd=None, token="", **variables):
        folder = self.root / (cwd or home)
        folder.mkdir(exist_ok=True)
        environment = self.hub.environment(self.root / f"home of {home}", token, OMP_NUM_THREADS="1", **variables)
        return subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def run(self, steps):
        """Steps by name: the program, and options of `process`; two at a time."""
        with ThreadPoolExecutor(2) as pool:
            started = {name: pool.submit(self.process, o.pop("home", name), p, cwd=name, **o) for name, (p, o) in steps}
        self.steps |= {name: future.result() for name, future in started.items()}

    def ask_page(self, **variables):
        """Every number in the answer of app.py, which serves the repository."""
        environment = self.hub.environment(self.root / "home of app", OMP_NUM_THREADS="1", MODEL_ID=REPO, **variables)
        answer, _ = ask_page([sys.executable, str(ROOT / "app.py")], self.root, environment, TEXT)
        return np.array(numbers(answer))

    def said(self, name):
        done = self.steps[name]
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def same_bits(self, name):
        """Whether logits and every buffer are the trainer's."""
        arrays = np.load(self.root / name / "answer.npz")
        assert set(arrays) == set(self.trained)
        return all(np.array_equal(arrays[key], self.trained[key]) for key in arrays)


def numbers(answer):
    if isinstance(answer, dict):
        answer = list(answer.values())
    return [n for a in answer for n in numbers(a)] if isinstance(answer, list) else [answer] * isinstance(answer, float)


@pytest.fixture(scope="module")
def trip(tmp_path_factory):
    with Hub() as hub:
        hub.tokens = {TOKEN: ("you", "write")}
        trip = Trip(tmp_path_factory.mktemp("trip"), hub)
        repository = hub.repository(REPO)
        trip.pushed = repository.branches["main"]
        files = repository.files()
        hub.put("models", SECRET, files, private=True)
        steps = [(name, (ELSEWHERE + program, {})) for name, program in STEPS.items()]
        steps += [
            ("private", (ELSEWHERE + PRIVATE, {"token": TOKEN})),
            ("installed", (INSTALLED, {})),
        ]
        trip.run(steps)
        trip.page = trip.ask_page()

        weights = {name: value * 2 for name, value in load(files["model.safetensors"]).items()}
        later = files | {"model.safetensors": save(weights, metadata={"format": "pt"})}
        hub.put("models", REPO, later)
        pin = f"options['revision'] = {trip.pushed!r}\n"
        trip.run([("pinned", (ELSEWHERE + pin + ALL, {}))])

    offline = {"HF_HUB_OFFLINE": "1"}  # and the server is stopped
    trip.run([("offline", (ELSEWHERE + ALL, {"home": "pipeline", **offline}))])
    trip.page_offline = trip.ask_page(**offline)
    return trip


def test_training_publishes_the_allow_list_in_one_commit(trip):
    repository = trip.hub.repository(REPO)
    assert set(repository.commits[trip.pushed]) == {
        *MODEL_FILES,
        *(".gitattributes", "README.md", "training.json", "curves.png", "genres.png"),
    }
    ours = [oid for oid, message in repository.messages.items() if message not in ("initial commit", "put")]
    assert ours == [trip.pushed]
    assert f"you/movie-genre: 11 new; commit {trip.pushed[:7]}" in trip.training.stdout


def test_its_card_says_that_the_figures_are_those_of_validation_films(trip):
    card = trip.hub.repository(REPO).commits[trip.pushed]["README.md"].decode()
    record = json.loads((trip.root / "run" / "training.json").read_text())
    assert f"| micro f1 | {record['results']['validation']['micro_f1']:.3f} |" in card
    assert "chosen by these very films" in card
    assert "TMDB" not in card


def test_the_token_of_a_training_stays_secret(trip):
    assert TOKEN not in trip.training.stdout + trip.training.stderr
    assert "HTTP Request" not in trip.training.stderr  # of addresses that are signed
    written = [path for folder in ("run", "training") for path in (trip.root / folder).rglob("*") if path.is_file()]
    assert any(path.name == "training_args.bin" for path in written)  # a pickle of all arguments
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
    assert not any(TOKEN.encode() in content for content in trip.hub.repository(REPO).commits[trip.pushed].values())


def test_the_record_says_nothing_of_the_machines_folders(trip):
    published = trip.hub.repository(REPO).commits[trip.pushed]
    assert "films.csv" in published["training.json"].decode()
    for name in ("training.json", "README.md"):
        assert str(trip.root) not in published[name].decode()


def test_the_configuration_loads(trip):
    assert trip.said("config") == list(trip.answered["probabilities"])


def test_the_tokenizer_loads(trip):
    assert trip.said("tokenizer")[:1] + trip.said("tokenizer")[-1:] == [101, 102]


@pytest.mark.parametrize(
    "step",
    [
        *("model", "classification", "private", "pinned", "offline"),  # where the package is not to be found
        "installed",
    ],
)
def test_it_answers_as_the_trainer_did_bit_for_bit(trip, step):
    assert trip.said(step) == trip.answered
    assert trip.same_bits(step)


def test_the_pipeline_gives_the_probabilities(trip):
    got = {row["label"]: row["score"] for row in trip.said("pipeline")}
    assert [got[genre] for genre in trip.said("config")] == pytest.approx(trip.trained["probabilities"].tolist())


def test_the_page_answers_with_the_trainers_probabilities_online_and_offline(trip):
    for answer in (trip.page, trip.page_offline):
        for probability in trip.trained["probabilities"]:
            assert np.isclose(answer, probability, atol=1e-6).any()


def test_the_pinned_revision_was_no_longer_the_newest(trip):
    repository = trip.hub.repository(REPO)
    assert repository.branches["main"] != trip.pushed
    assert repository.files()["model.safetensors"] != repository.files(trip.pushed)["model.safetensors"]


def test_without_trust_or_package_the_error_says_what_to_do(trip):
    assert "`trust_remote_code=True`" in json.loads(trip.steps["installed"].stdout.splitlines()[-2].partition("] ")[2])
