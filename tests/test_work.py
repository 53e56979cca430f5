"""Work counted, not timed: tokens computed for each token needed, and forward passes for each request."""

import csv
import subprocess
import sys

import pytest

from modeling.arguments import MovieGenreTrainingArguments
from modeling.export import export
from modeling.onnx_runtime import MovieGenreOnnx
from modeling.training import build_trainer
from modeling.training_data import Films

from .conftest import MOVIES, ROOT, tiny_model

TEXT = "A retired gunman rides into a border town."
WASTE = 1.05  # tokens computed for each token needed


@pytest.fixture(scope="module")
def films():
    """Every description of the project's own films, in the file's order."""
    with MOVIES.open(encoding="utf-8", newline="") as file:
        return [row["description"] for row in csv.DictReader(file)]


@pytest.fixture(params=["torch", "onnx"])
def counted(request, tokenizer, tmp_path, monkeypatch):
    """A model on either backend, and the shape (batch, seq) of each of its forward passes."""
    network, shapes = tiny_model(max_position_embeddings=256), []
    network._tokenizer = tokenizer
    if request.param == "torch":
        network.embeddings.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
        return network, shapes
    model = MovieGenreOnnx.from_pretrained(export(network, tmp_path), threads=1)
    run = model.session.run

    class Session:
        def run(self, names, inputs):
            shapes.append(inputs["input_ids"].shape)
            return run(names, inputs)

    monkeypatch.setattr(model, "session", Session())
    return model, shapes


def test_hardly_a_token_is_computed_that_is_not_needed(counted, films, tokenizer):
    model, shapes = counted
    model.predict_genres(films)
    needed = sum(len(ids) for ids in tokenizer(films, truncation=True, max_length=256)["input_ids"])
    assert needed <= sum(batch * seq for batch, seq in shapes) < WASTE * needed


@pytest.mark.parametrize(
    ("texts", "options", "passes"),
    [
        ([TEXT], {}, [(1, 11)]),
        ([TEXT] * 32, {}, [(32, 11)]),
        ([TEXT] * 33, {"attribution": "pooling"}, [(32, 11), (1, 11)]),
        ([TEXT], {"mc_samples": 30, "seed": 0}, [(1, 11)]),
        (["The sheriff counts nine horses. " * 100], {}, [(1, 256)]),
    ],
    ids=["one text", "a batch", "a batch and one", "Monte Carlo", "a long text"],
)
def test_a_request_takes_the_passes_it_needs_and_no_more(counted, tokenizer, texts, options, passes):
    model, shapes = counted
    model.predict_genres(texts, **options)
    length = len(tokenizer(TEXT)["input_ids"])
    assert shapes == [(batch, length if seq == 11 else seq) for batch, seq in passes]


def test_the_windows_of_a_text_share_a_pass(counted):
    model, shapes = counted
    model.predict_genres("The sheriff counts nine horses. " * 100, stride=32)
    assert len(shapes) == 1
    assert shapes[0][0] > 2


def test_training_batches_hold_little_padding(films, tokenizer, tmp_path):
    from datasets import Dataset

    rows = Dataset.from_dict({"description": films[:800], "genre": [["Drama"]] * 800})
    arguments = MovieGenreTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, teacher="none", token_dropout=0.0, early_stopping_patience=0
    )
    model = tiny_model(max_position_embeddings=256)
    parts = Films({"train": rows, "validation": rows.select(range(8))}, model.config.genres, {})
    batches = [
        batch["attention_mask"] for batch in build_trainer(model, tokenizer, parts, arguments).get_train_dataloader()
    ]
    assert sum(map(len, batches)) == 800
    # Batches are sorted within stretches of some hundred films, so that epochs differ.
    assert sum(mask.numel() for mask in batches) < 1.15 * sum(int(mask.sum()) for mask in batches)


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("import modeling", {"torch", "transformers", "datasets", "numpy"}),
        ("import modeling.cli", {"torch", "transformers", "datasets", "numpy"}),
        ("import modeling.onnx_runtime", {"torch", "transformers", "datasets", "huggingface_hub", "scipy"}),
        # What PreTrainedModel itself drags in is transformers' affair.
        (
            "import modeling; modeling.MovieGenreModel",
            {"datasets", "evaluate", "matplotlib", "gradio", "typer"},
        ),
    ],
)
def test_an_import_loads_no_more_than_it_needs(program, unwanted):
    code = f"import sys; {program}; print(sorted({unwanted!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_counting_would_see_a_waste(counted):
    """The guard itself: texts of two lengths in one batch are more than the bound allows."""
    model, shapes = counted
    model.predict_genres([TEXT, "Snow " * 200])
    assert sum(batch * seq for batch, seq in shapes) > WASTE * (11 + 202)
