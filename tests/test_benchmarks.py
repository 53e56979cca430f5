"""What the benchmarks rely on: runs of today's recipe, figures of today's weights, operations counted right."""

import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from benchmarks import common, quality, recipes
from benchmarks.common import CHECKPOINT, PREDICTIONS, RESULTS, ROOT, TMDB, flops, weights
from modeling.arguments import parse_arguments
from modeling.hub import SPACE_FILES
from modeling.record import given


@pytest.mark.parametrize("name", ["behaviour", "own_films", "attribution"])
def test_figures_are_of_the_weights_that_ship(name):
    figures = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert figures["model"] == weights(CHECKPOINT)


@pytest.mark.parametrize("name", ["quality", "data_efficiency", "recipes", "behaviour", "attribution"])
def test_figures_say_how_they_came_about(name):
    figures = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert figures["command"].startswith(f"python -m benchmarks.{name}")
    assert {"source", "sha256"} <= figures["data"].keys()
    assert figures["machine"]["cores"] > 0
    assert "torch" in figures["versions"]


def test_the_space_that_was_proved_has_the_files_of_todays():
    files = {path.relative_to(ROOT).as_posix() for pattern in SPACE_FILES for path in ROOT.glob(pattern)}
    proved = json.loads((RESULTS / "space.json").read_text(encoding="utf-8"))["files"]
    assert set(proved) == files | {".gitattributes", "README.md"}


def test_a_finished_run_of_another_recipe_is_not_taken_for_one_of_todays(tmp_path, monkeypatch):
    monkeypatch.chdir(quality.ROOT)
    words = quality.recipe(TMDB, tmp_path, 1, "best")
    trained = given(*parse_arguments(words))
    quality.check_recipe("best-1", trained, words)
    for change in ({"learning_rate": 0.5}, {"teacher": None}, {"seed": 2}):
        with pytest.raises(ValueError, match=f"best-1 was trained with {next(iter(change))}"):
            quality.check_recipe("best-1", trained | change, words)
    with pytest.raises(ValueError, match="label_graph"):
        quality.check_recipe("graph-1", trained, quality.recipe(TMDB, tmp_path, 1, "graph"))


@pytest.mark.parametrize("system", quality.NETWORKS)
def test_runs_that_are_kept_are_of_todays_recipe(system, tmp_path, monkeypatch):
    monkeypatch.chdir(quality.ROOT)
    for seed in quality.SEEDS:
        if done := common.kept(f"quality/{system}-{seed}"):
            quality.check_recipe(system, done[0]["arguments"], quality.recipe(TMDB, tmp_path, seed, system))


@pytest.mark.parametrize("idea", recipes.IDEAS)
def test_ideas_that_are_kept_are_beside_todays_recipe(idea, monkeypatch):
    monkeypatch.chdir(quality.ROOT)
    [(run, _)] = [common.kept(f"recipes/{path.stem}") for path in PREDICTIONS.glob(f"recipes/*-{idea}.json")]
    quality.check_recipe(idea, run["arguments"], recipes.recipe(recipes.IDEAS[idea], 4))


def test_a_finished_run_is_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "PREDICTIONS", tmp_path)
    found = np.array([[0.12345, 0.9], [1e-4, 0.5]])
    assert common.kept("quality/best-0") is None
    common.keep("quality/best-0", {"seconds": 2.5}, found)
    run, again = common.kept("quality/best-0")
    assert run == {"seconds": 2.5}
    assert np.allclose(again, found, rtol=1e-3)
    (tmp_path / "quality" / "best-0.json").unlink()  # as if it had been killed between the two files
    assert common.kept("quality/best-0") is None


def test_operations_are_those_that_pytorch_counts():
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "num_hidden_layers": 2}
    config = BertConfig(**sizes, vocab_size=50, attn_implementation="eager")
    network = BertModel(config, add_pooling_layer=False).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.ones(1, 7, dtype=torch.long))
        network(torch.ones(1, 11, dtype=torch.long))
    assert counter.get_total_flops() == flops(config, [7, 11])
