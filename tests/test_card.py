"""The model card: every number comes from a results file, every section from data that exist."""

import json
import re
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard

from modeling.card import EXAMPLES, LICENSE, TMDB_LIST, render_card
from modeling.data import file_hash
from modeling.metrics import certainties
from modeling.metrics import evaluation as evaluate

from .conftest import GENRES, ROOT, tiny_model

CHECKPOINT, RESULTS = ROOT / "checkpoint", ROOT / "benchmarks" / "results"
SCORES = ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision")
# Numbers that are no figures: the intervals' level, years, a licence's version, names (SHA, MiniLM), bins.
CONSTANTS = {"95", "2018", "2019", "2.0", "0.5", "256", "6", "10"}


@pytest.fixture(scope="module")
def shipped():
    return render_card(CHECKPOINT, "checkpoint", license=LICENSE, results=RESULTS)


def body(card):
    """What is read, without front matter and code."""
    return re.sub(r"```.*?```|`[^`]*`", "", card.split("---\n", 2)[2], flags=re.S)


def other(value):
    """The same file with another number in every place; what was larger stays larger."""
    if isinstance(value, dict):
        return {name: other(item) for name, item in value.items()}
    if isinstance(value, list):
        return [other(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return value + value // 7 + 1 if isinstance(value, int) else 1.07 * value + 0.0171


def figures(seed=1):
    """An evaluation whose every number is another."""
    fresh = iter((seed + i) / 997 for i in range(997))
    scores = {name: next(fresh) for name in SCORES}
    row = ("precision", "recall", "f1", "average_precision")
    genres = {genre: {name: next(fresh) for name in row} | {"films": 100 + i} for i, genre in enumerate(GENRES)}
    intervals = {name: [next(fresh), next(fresh)] for name in SCORES}
    return {"rows": 4321, **scores, "intervals": intervals, "per_genre": genres}


def record(**values):
    films = {"train": 1234, "validation": 321}
    data = {"source": "films.csv", "sha256": "ab" * 32, "films": films}
    results = {"validation": {name: value for name, value in figures(200).items() if name in SCORES}}
    plain = {
        "command": "train.py --train_file ../elsewhere/films.csv --transfer_file=/home/ada/stories.csv",
        "data": data,
        "arguments": {},
        "seed": 7,
        "epochs": 3.0,
    }
    hardware = {"device": "CPU", "cores": 6, "processes": 1}
    return plain | {"results": results, "seconds": 754.0, "hardware": hardware} | values


@pytest.fixture
def folder(saved):
    (saved / "training.json").write_text(json.dumps(record()))
    (saved / "evaluation.json").write_text(json.dumps(figures()))
    return saved


def test_the_shipped_card_is_the_one_that_the_files_give(shipped):
    ours, theirs = ModelCard(shipped), ModelCard((CHECKPOINT / "README.md").read_text(encoding="utf-8"))
    assert ours.text == theirs.text
    mine, there = ours.data.to_dict(), theirs.data.to_dict()
    for example, other in zip(mine.pop("widget"), there.pop("widget"), strict=True):
        assert example["text"] == other["text"]
        scores = [row["score"] for row in other["output"]]
        assert [row["score"] for row in example["output"]] == pytest.approx(scores, abs=2e-3)  # on another processor
    assert mine == there


def test_every_number_of_the_shipped_card_comes_from_a_file(shipped, tmp_path):
    model, results = tmp_path / "checkpoint", tmp_path / "results"
    shutil.copytree(CHECKPOINT, model)
    results.mkdir()
    for path in [model / "training.json", model / "evaluation.json", *RESULTS.glob("*.json")]:
        changed = json.dumps(other(json.loads(path.read_text(encoding="utf-8"))))
        ((results if path.parent == RESULTS else model) / path.name).write_text(changed)
    number = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?:e-\d+)?(?![\w])")
    one, two = body(shipped), body(render_card(model, "checkpoint", license=LICENSE, results=results))
    assert number.sub("#", one) == number.sub("#", two)
    pairs = list(zip(number.findall(one), number.findall(two), strict=True))
    assert len(pairs) > 100
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    thresholds = {f"{value:.3f}" for value in config["threshold_profiles"][config["default_profile"]]}
    shape = {f"{value:,}" for value in config.values() if isinstance(value, (int, float))}
    shape |= {f"{config['max_position_embeddings'] - 2:,}", str(len(config["id2label"]))}
    shape.add(f"{len(config.get('label_sets') or ()):,}")
    shape.add(f"{json.loads((CHECKPOINT / 'training.json').read_text(encoding='utf-8'))['parameters']:,}")
    assert {a.rstrip(",") for a, b in pairs if a == b} <= thresholds | shape | CONSTANTS
    assert sum(a != b for a, b in pairs) > 100


def test_scores_intervals_and_genres_are_those_of_the_evaluation(folder):
    card, evaluation = render_card(folder, "you/movies"), figures()
    for name in SCORES:
        lower, upper = evaluation["intervals"][name]
        assert f"| {name.replace('_', ' ')} | {evaluation[name]:.3f} | {lower:.3f} to {upper:.3f} |" in card
    for genre, row in evaluation["per_genre"].items():
        cells = [f"{row[name]:.3f}" for name in ("precision", "recall", "f1", "average_precision")]
        assert f"| {' | '.join([genre, *cells, str(row['films'])])} | 0.500 |" in card
    results = {result.metric_type: result.metric_value for result in ModelCard(card).data.eval_results}
    assert results == {name: round(evaluation[name], 4) for name in SCORES}
    assert "On 4,321 films that the model was not trained on." in card


def test_command_time_hardware_and_data_are_those_of_the_training(folder):
    card = render_card(folder, "you/movies")
    assert "train.py --train_file films.csv --transfer_file=stories.csv" in card
    assert "13 minutes on CPU, 6 cores, 3 epochs, seed 7, 1,234 films." in card
    assert "`films.csv` (SHA-256 `abab" in card
    assert "TMDB" not in card
    (folder / "training.json").write_text(json.dumps(record(seconds=None)))  # of a run that was gone on with
    assert "\nTrained on CPU, 6 cores, 3 epochs, seed 7, 1,234 films." in render_card(folder, "you/movies")
    (folder / "training.json").write_text(json.dumps(record(best_epoch=2.0)))
    assert "3 epochs, the weights of epoch 2, seed 7" in render_card(folder, "you/movies")
    data = record()["data"] | {"sha256": TMDB_LIST}
    (folder / "training.json").write_text(json.dumps(record(data=data)))
    assert "contributors of TMDB" in render_card(folder, "you/movies")


def test_without_an_evaluation_the_scores_are_called_those_of_validation(folder):
    (folder / "evaluation.json").unlink()
    card = render_card(folder, "you/movies")
    for name, value in record()["results"]["validation"].items():
        assert f"| {name.replace('_', ' ')} | {value:.3f} |" in card
    assert "On 321 validation films" in card
    assert ModelCard(card).data.eval_results[0].dataset_name == "films.csv, validation part"


def test_a_folder_without_records_says_that_there_are_none(saved):
    card = render_card(saved, "you/movies")
    assert "No record of the training lies with this model." in card
    assert "## Figures" not in card
    assert ModelCard(card).data.eval_results is None


def test_a_licence_is_the_publishers_to_state(folder):
    card = render_card(folder, "you/movies")
    assert ModelCard(card).data.license is None
    assert "The publisher states none for the weights." in card
    assert "The licence above (mit)" in render_card(folder, "you/movies", license="mit")


def test_its_metadata_are_what_the_hub_reads(folder):
    data = ModelCard(render_card(folder, "you/movies", dataset="you/films", license="mit")).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert (data.license, data.datasets, data.base_model) == ("mit", ["you/films"], None)
    assert "custom_code" in data.tags
    assert data.model_name == "movies"


def test_a_language_is_named_where_it_is_known(folder):
    card = render_card(folder, "you/movies")
    assert ModelCard(card).data.language is None
    assert "English only" not in body(card)
    ours = record()
    ours["data"]["sha256"] = file_hash(ROOT / "data" / "movies.csv")
    (folder / "training.json").write_text(json.dumps(ours))
    card = render_card(folder, "you/movies")
    assert ModelCard(card).data.language == "en"
    assert "English only" in body(card)


def test_its_examples_carry_the_models_own_answers(folder, model, tokenizer):
    widget = ModelCard(render_card(folder, "you/movies")).data.widget
    assert [example["text"] for example in widget] == [EXAMPLES["Western"]]  # the only one of a genre it knows
    for example, prediction in zip(widget, model.predict_genres([EXAMPLES["Western"]], tokenizer), strict=True):
        assert example["output"][0]["label"] == max(prediction.probabilities, key=prediction.probabilities.get)
        for row in example["output"]:
            assert row["score"] == pytest.approx(prediction.probabilities[row["label"]], abs=1e-3)


def test_a_section_appears_when_its_results_do(folder, tmp_path):
    plain = render_card(folder, "you/movies")
    for name in ("Calibration", "Uncertainty", "Behaviour", "Words", "Speed", "In other words"):
        assert f"# {name}" not in plain
    generator = np.random.default_rng(0)
    p = generator.random((50, len(GENRES)))
    truth = (generator.random(p.shape) < p).astype(int)
    measured = evaluate(truth, p > 0.5, p, GENRES, certainty=certainties(p, p > 0.5), resamples=2)
    measured["off_topic"] = {"texts": 77, "confidence": {"all": 0.731, "recipe": 0.834}}
    (folder / "evaluation.json").write_text(json.dumps(measured))
    results = tmp_path / "results"
    results.mkdir()
    speed = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    speed["bulk"]["rows_a_second"]["ours_int8"]["median"] = 1234.4
    (results / "speed.json").write_text(json.dumps(speed))
    card = render_card(folder, "you/movies", results=results)
    assert f"calibration error is {measured['calibration']['ece']:.3f}" in card
    for name, curve in measured["uncertainty"].items():
        lower, upper = curve["gain_interval"]
        gain = f"{curve['gain']:.3f} ({lower:.3f} to {upper:.3f})"
        cells = [gain, *(f"{value:.3f}" for value in curve["micro_f1"][3::4])]
        assert f"\n| {' | '.join([name.replace('_', ' '), *cells])} |\n" in card
    assert "told from 77 texts that describe none" in card
    assert "\n| confidence | 0.731 | 0.834 |\n" in card
    assert "\n| a model of this shape, ONNX Runtime, 8 bits | 1234 |" in card
    assert "# Behaviour" not in card


def test_a_model_that_started_from_another_names_it(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"base_model": "someone/encoder"}))
    card = render_card(folder, "you/movies")
    assert ModelCard(card).data.base_model == "someone/encoder"
    assert "starts from someone/encoder" in card
    assert "from scratch" not in card
    (folder / "config.json").write_text(json.dumps(config | {"base_model": "/home/someone/encoder"}))
    assert ModelCard(render_card(folder, "you/movies")).data.base_model is None  # nothing that the Hub could link to


def test_teachers_from_outside_are_named(folder):
    assert "from scratch: no outside weights" in render_card(folder, "you/movies")
    (folder / "training.json").write_text(json.dumps(record(arguments={"teacher": "linear,someone/encoder"})))
    card = render_card(folder, "you/movies")
    assert "no outside weights" not in card
    assert "teachers: linear,someone/encoder" in card
    assert "texts that are no films" not in card
    told = record(arguments={"transfer_file": "stories.csv"})
    told["data"]["transfer"] = 2345
    (folder / "training.json").write_text(json.dumps(told))
    assert "It also learned from 2,345 texts that are no films of that list (`stories.csv`)" in render_card(
        folder, "me/it"
    )


def test_calibrated_weights_are_called_so(folder, tokenizer):
    assert "Probabilities are not calibrated" in render_card(folder, "you/movies")
    model = tiny_model()
    model.logit_bias.add_(0.5)
    model.save_pretrained(folder)
    assert "Probabilities are not calibrated" not in render_card(folder, "you/movies")


def test_a_model_that_compares_whole_sets_has_no_column_of_thresholds(folder):
    assert "None is tuned" in render_card(folder, "you/movies")
    values = {"label_sets": {"1010": 3, "0101": 1}, "default_profile": "subset_accuracy"}
    tiny_model(**values).config.save_pretrained(folder)
    card = render_card(folder, "you/movies")
    assert "of the 2 sets of genres that training films have" in card
    assert "`predict_genres` uses subset_accuracy unless" in card
    assert "\n| genre | precision | recall | F1 | average precision | films |\n|---|---|---|---|---|---|\n| " in card
    assert "One threshold" not in card
    tiny_model(**values, threshold_profiles={"micro_f1": [0.25] * 4}).config.save_pretrained(folder)
    assert "in a profile for each purpose: micro_f1." in render_card(folder, "you/movies")


def test_a_release_is_pinned_in_every_example_of_use(folder):
    card = render_card(folder, "you/movies", tag="v9.9.9")
    assert card.count('"you/movies", revision="v9.9.9", trust_remote_code=True') == 2
    assert "--model you/movies --revision v9.9.9" in card


@pytest.mark.parametrize(("split", "seen"), [(None, True), ("train", True), ("validation", True), ("test", False)])
def test_films_that_were_trained_on_are_not_called_kept_aside(folder, split, seen):
    data = record()["data"] | {"split": split}
    (folder / "evaluation.json").write_text(json.dumps(figures() | {"data": data}))
    card = render_card(folder, "you/movies")
    assert ("among them such as it was trained or tuned on" in card) == seen
    assert ("that the model was not trained on" in card) != seen
    (folder / "evaluation.json").write_text(json.dumps(figures() | {"data": data | {"sha256": "cd" * 32}}))
    assert "that the model was not trained on" in render_card(folder, "you/movies")
    (folder / "training.json").write_text(json.dumps(record(arguments={"fit_all": True})))
    assert "twin" not in render_card(folder, "you/movies")  # which has not seen this file
    (folder / "evaluation.json").write_text(json.dumps(figures() | {"data": data}))
    assert ("by a twin of this model" in render_card(folder, "you/movies")) != seen
    # By the very model that was trained on them, whatever its split kept aside before.
    (folder / "evaluation.json").write_text(json.dumps(figures() | {"data": data | {"seen": True}}))
    assert "twin" not in render_card(folder, "you/movies")


def test_an_epoch_that_was_not_chosen_is_not_called_so(folder):
    (folder / "evaluation.json").unlink()
    assert "Epoch and decision profiles were chosen" in render_card(folder, "you/movies")
    told = record(arguments={"load_best_model_at_end": False}, epochs=0.5)
    (folder / "training.json").write_text(json.dumps(told))
    card = render_card(folder, "you/movies")
    assert "Decision profiles were chosen" in card
    assert ", 0.5 epochs" in card
