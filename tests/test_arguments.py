"""What train.py is told, on the command line and in files of settings."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
import torch
from transformers import TrainingArguments

from modeling.arguments import DataArguments, ModelArguments, MovieGenreTrainingArguments, parse_arguments

from .conftest import MOVIES, ROOT, SMOKE


def test_settings_that_are_no_yaml_are_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: [1")
    with pytest.raises(ValueError, match=r"mine\.yaml is no YAML"):
        parse_arguments([str(path)])


def test_flags_win_over_the_file_and_the_file_over_defaults():
    _, network, training = parse_arguments([SMOKE, "--hidden_size", "48"])
    assert network.hidden_size == 48
    assert network.intermediate_size == 64
    assert training.num_train_epochs == 2
    assert training.learning_rate == 1e-3


@pytest.mark.parametrize("name", ["best", "seed", "scratch", "smoke"])
def test_every_file_of_settings_is_valid(name):
    parse_arguments([str(ROOT / "configs" / f"{name}.yaml")])


def test_an_unknown_key_of_the_file_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("hiden_size: 3\n")
    with pytest.raises(
        ValueError, match=r"mine\.yaml: 'hiden_size' is not a flag of train\.py; is --hidden_size meant"
    ):
        parse_arguments([str(path)])
    path.write_text("1: 2\nfoo: 3\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: '1' is not a flag of train\.py; see train\.py --help"):
        parse_arguments([str(path)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning_rat", "3"], "'--learning_rat' is not a flag of train.py; is --learning_rate meant?"),
        (["--epochs=3"], "'--epochs=3' is not a flag of train.py; is --num_train_epochs meant?"),
        (["--seed", "3", "films.yaml"], "'films.yaml' stands behind flags: a file of settings comes first"),
        (["--learning_rate", "high"], "argument --learning_rate/--learning-rate: invalid float value: 'high'"),
    ],
)
def test_what_is_no_flag_or_no_value_gets_one_sentence(words, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        parse_arguments(words)


def test_a_wrong_value_of_the_file_is_told_to_be_the_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("learning_rate: high\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: argument --learning_rate.*invalid float value: 'high'"):
        parse_arguments([str(path)])
    path.write_bytes(b"seed: \xff")
    with pytest.raises(ValueError, match=r"mine\.yaml is no YAML"):
        parse_arguments([str(path)])


@pytest.mark.parametrize("text", ["- seed: 1", "5", "hello"])
def test_a_file_that_holds_no_settings_is_named(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml holds no settings"):
        parse_arguments([str(path)])


def test_a_file_of_settings_may_hold_lists_and_names(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("genre_map: {Musical: Music}\nreport_to: [none]\ntransfer_file: [one.csv, two.csv]\n")
    data, _, training = parse_arguments([str(path), "--output_dir", str(tmp_path)])
    assert json.loads(data.genre_map) == {"Musical": "Music"}
    assert training.report_to == []
    assert data.transfer_files == ["one.csv", "two.csv"]


def test_a_plain_no_of_yaml_is_a_strategy(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("save_strategy: no\neval_strategy: no\nload_best_model_at_end: no\n")
    arguments = parse_arguments([str(path), "--output_dir", str(tmp_path), "--early_stopping_patience", "0"])[2]
    assert (arguments.save_strategy, arguments.eval_strategy, arguments.load_best_model_at_end) == ("no", "no", False)


def test_settings_name_the_projects_own_files_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, _, _ = parse_arguments([str(ROOT / "configs" / "scratch.yaml"), "--output_dir", "x"])
    assert (data.train_file, data.transfer_file) == (str(MOVIES), str(ROOT / "data" / "stories.csv"))
    monkeypatch.chdir(ROOT)
    assert parse_arguments(["--output_dir", "x"])[0].train_file == "data/movies.csv"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "mse"}, "loss='mse' is not known"),
        ({"token_dropout": 1.5}, "token_dropout=1.5"),
        ({"typos": -0.1}, "typos=-0.1"),
        ({"teacher": "linear,none"}, "teacher='linear,none'"),
        ({"teacher_weight": 2.0}, "teacher_weight=2.0"),
        ({"weights_dtype": "int4"}, "weights_dtype='int4'"),
        ({"metric_for_best_model": "f1"}, "metric_for_best_model='f1' is not measured; choose from loss, micro_prec"),
        (
            {"dataloader_persistent_workers": True, "dataloader_num_workers": 1},
            "dataloader_persistent_workers would read every epoch as the first",
        ),
        ({"save_only_model": True}, "save_only_model leaves checkpoints that no run can go on from"),
        ({"hint_weight": -1.0, "teacher": "encoder"}, "hint_weight=-1.0 must not be negative"),
        ({"early_stopping_patience": -1}, "early_stopping_patience=-1 must not be negative"),
        ({"focal_gamma": -0.5, "loss": "focal"}, "focal_gamma=-0.5 must not be negative"),
        ({"hint_weight": 1.0, "teacher": "linear"}, "hint_weight=1.0 needs an encoder that teaches, not 'linear'"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        MovieGenreTrainingArguments(output_dir=str(tmp_path), **values)


def test_arguments_that_contradict_each_other_are_named():
    with pytest.raises(ValueError, match="init_from brings its own tokenizer"):
        ModelArguments(init_from="checkpoint", train_tokenizer=True)
    with pytest.raises(ValueError, match="fit_all and decision_from go together"):
        DataArguments(fit_all=True)
    with pytest.raises(ValueError, match="fit_all keeps no rows aside: leave split_file out"):
        DataArguments(fit_all=True, decision_from="twin", split_file="split.json")


def test_a_comma_too_many_is_named():
    with pytest.raises(ValueError, match=r"transfer_file='one\.csv,' must be names with commas between them"):
        DataArguments(transfer_file="one.csv,")
    assert DataArguments(transfer_file="one.csv, two.csv").transfer_files == ["one.csv", "two.csv"]


@pytest.mark.parametrize(
    ("name", "greater"), [("macro_f1", True), ("validation_loss", False), ("eval_validation_hamming_loss", False)]
)
def test_the_best_epoch_may_be_best_in_any_measure(tmp_path, name, greater):
    arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), metric_for_best_model=name)
    assert (
        arguments.metric_for_best_model == f"eval_validation_{name.removeprefix('eval_').removeprefix('validation_')}"
    )
    assert arguments.greater_is_better == greater


def test_bfloat16_is_taken_by_a_processor_too(tmp_path):
    arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), bf16=True)
    assert arguments.device.type == "cpu" or torch.accelerator.is_available()


def test_help_explains_every_flag_of_our_own():
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--resume_from_checkpoint" in done.stdout
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    for group in (DataArguments, ModelArguments, MovieGenreTrainingArguments):
        for field in dataclasses.fields(group):
            if field.init and field.name not in inherited:
                assert f"--{field.name}" in done.stdout
                assert field.metadata.get("help"), field.name
