"""train.py as a user runs it: in its own process, on the project's own films."""

import copy
import csv
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import expit
from transformers import (
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaModel,
    TrainerControl,
    TrainerState,
    set_seed,
)
from transformers.trainer_utils import PredictionOutput

from modeling import MovieGenreModel, hub, training
from modeling.arguments import DataArguments, ModelArguments, MovieGenreTrainingArguments, parse_arguments
from modeling.checkpoints import checkpoints, resume_point, seal
from modeling.data import DataError
from modeling.decision import count_label_sets, fit_calibration, fit_label_set_weight, tune_profiles
from modeling.metrics import micro_f1
from modeling.prediction_movie_genre import choose
from modeling.record import command, given
from modeling.tokenization import load_tokenizer
from modeling.training import (
    EarlyStopping,
    _best_epoch,
    _claim,
    _decide,
    _warn_of_unknown,
    build_trainer,
    train,
)
from modeling.training_data import load_films

from .conftest import ROOT, SMOKE, tiny_model

ACCELERATE = ("-m", "accelerate.commands.launch", "--num_processes", "1")


def launch(*arguments, launcher=()):
    command = [sys.executable, *launcher, ROOT / "train.py", *arguments, "--cpu_threads", "1"]
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, some_films):
    """A finished run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("run") / "model"
    flags = ("--train_file", some_films, "--output_dir", folder, "--weights_dtype", "float16")
    done = launch(SMOKE, *flags, launcher=ACCELERATE)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_shows_progress_a_table_and_where_the_model_is(run):
    folder, done = run
    assert "100%" in done.stderr
    for word in ("train", "validation", "micro f1", "subset accuracy", "hamming loss", str(folder.name)):
        assert word in done.stdout
    # Figures for both columns, none of them missing.
    row = next(line for line in done.stdout.splitlines() if "micro f1" in line)
    assert len([cell for cell in row.replace("│", " ").split() if cell.startswith("0.")]) == 2


def test_a_run_leaves_a_folder_that_loads_and_answers(run):
    folder, _ = run
    model = MovieGenreModel.from_pretrained(folder)
    prediction = model.predict_genres("A retired gunman rides into a border town.")
    assert prediction.genres
    assert len(prediction.probabilities) == 18
    assert set(model.config.threshold_profiles) == {"micro_f1", "macro_f1", "samples_f1"}
    record = json.loads((folder / "training.json").read_text())
    assert sum(model.config.label_sets.values()) == record["data"]["films"]["train"]
    assert 1 < model.config.max_fertility < 3
    whole = model.predict_genres("A retired gunman rides into a border town.", threshold="subset_accuracy")
    assert "".join(str(int(genre in whole.genres)) for genre in model.config.genres) in model.config.label_sets
    assert model.config.default_profile == "micro_f1"


def test_a_run_leaves_its_record_its_split_and_its_curves_but_no_pickle(run, some_films):
    folder, _ = run
    record = json.loads((folder / "training.json").read_text())
    assert record["data"]["films"]["train"] > record["data"]["films"]["validation"] > 0
    assert (record["data"]["transfer"], record["data"]["transfer_has_genres"]) == (0, False)
    assert record["seed"] == 42
    assert record["best_epoch"] in (1.0, 2.0)
    assert set(record["results"]) == {"train", "validation"}
    split = json.loads((folder / "split.json").read_text())
    with some_films.open(encoding="utf-8", newline="") as file:
        assert len(split["test"]) == sum(row["split"] == "test" for row in csv.DictReader(file))
    for picture in ("curves.png", "genres.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert not [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert json.loads((folder / "tokenizer.json").read_text())["truncation"] is None


def test_the_best_epoch_by_f1_is_the_one_kept(run):
    folder, _ = run
    record = json.loads((folder / "training.json").read_text())
    f1 = {e["epoch"]: e["eval_validation_micro_f1"] for e in record["history"] if "eval_validation_micro_f1" in e}
    assert len(f1) == 2
    assert record["best_epoch"] == max(f1, key=f1.get)
    newest, first = checkpoints(folder)
    best = load_file((first if record["best_epoch"] == 1 else newest) / "model.safetensors")
    kept = load_file(folder / "model.safetensors")
    assert all(torch.equal(kept[name], best[name].half()) for name in kept if not name.startswith("logit_"))


def test_a_best_score_without_a_checkpoint_is_not_the_epoch_that_is_kept():
    history = [{"step": 50, "epoch": 1.0, "f1": 0.5}, {"step": 75, "epoch": 1.5, "f1": 0.9}]
    args = SimpleNamespace(load_best_model_at_end=True, metric_for_best_model="f1")
    for best, epoch in (("runs/x/checkpoint-50", 1.0), (None, 2.0)):
        state = SimpleNamespace(best_model_checkpoint=best, epoch=2.0, log_history=history)
        assert _best_epoch(SimpleNamespace(args=args, state=state)) == epoch


def test_an_earlier_run_is_not_overwritten_unasked(run, some_films):
    folder, _ = run
    done = launch(SMOKE, "--train_file", some_films, "--output_dir", folder)
    assert "holds checkpoints of an earlier run" in done.stderr
    assert done.returncode != 0


def test_starting_anew_takes_the_earlier_checkpoints_away_once_all_else_is_well(tmp_path):
    path = tmp_path / "checkpoint-500"
    path.mkdir()
    arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), overwrite_output_dir=True, cpu_threads=1)
    assert resume_point(arguments, tmp_path) == (None, [path])
    assert path.exists()
    with pytest.raises(DataError, match=r"none\.csv does not exist"):
        train(DataArguments(train_file="none.csv"), ModelArguments(), arguments)
    assert path.exists()


def test_going_on_from_an_older_checkpoint_gives_up_the_newer_ones_only_when_told(tmp_path):
    old, new = tmp_path / "checkpoint-100", tmp_path / "checkpoint-200"
    for path in (old, new):
        path.mkdir()
        (path / "trainer_state.json").write_text('{"best_model_checkpoint": null}')
        seal(path)

    def resume(of: Path, overwrite: bool) -> tuple[str | None, list[Path]]:
        return resume_point(
            MovieGenreTrainingArguments(
                output_dir=str(tmp_path), resume_from_checkpoint=str(of), overwrite_output_dir=overwrite
            ),
            tmp_path,
        )

    assert resume(new, False) == (str(new), [])
    with pytest.raises(ValueError, match=r"do not lead to .*checkpoint-100, the newest checkpoint-200: --overwrite"):
        resume(old, False)
    assert resume(old, True) == (str(old), [new])


def test_bad_films_end_a_run_with_a_sentence_and_code_2(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("movie_name,genre,description\nOne,Drama,\n")
    done = launch(SMOKE, "--train_file", path, "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert f"{path}:2: description is empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_going_on_from_a_model_with_other_genres_rebuilds_the_last_layer_and_says_so(tmp_path, run, some_films):
    folder, _ = run
    films = tmp_path / "opera.csv"
    films.write_text(some_films.read_text(encoding="utf-8").replace("Western", "Opera"), encoding="utf-8")
    output = tmp_path / "out"
    done = launch(
        *("--train_file", films, "--output_dir", output, "--init_from", folder),
        *("--num_train_epochs", "1", "--learning_rate", "1e-12"),
    )
    assert done.returncode == 0, done.stderr
    assert "the last layer is rebuilt for 18 genres: 17 keep their weights, 1 start anew (Opera)" in done.stderr
    before, after = MovieGenreModel.from_pretrained(folder), MovieGenreModel.from_pretrained(output)
    assert "Opera" in after.config.genres
    old, new = (model.classifier.output.weight for model in (before, after))
    i, j = (model.config.genres.index("Drama") for model in (before, after))
    assert torch.allclose(old[i], new[j], atol=1e-6)
    assert torch.allclose(before.get_input_embeddings().weight, after.get_input_embeddings().weight, atol=1e-6)


def test_a_learned_tokenizer_says_its_size(tmp_path, some_films):
    done = launch(SMOKE, "--train_file", some_films, "--output_dir", tmp_path / "out", "--train_tokenizer", "true")
    assert done.returncode == 0, done.stderr
    size = MovieGenreModel.from_pretrained(tmp_path / "out").config.vocab_size
    assert f"learned a tokenizer: {size:,} word pieces" in done.stderr
    assert size < 10_000


def test_every_row_is_trained_on_for_the_model_that_ships(tmp_path, run, some_films):
    twin, _ = run
    output = tmp_path / "out"
    done = launch(
        SMOKE, "--train_file", some_films, "--output_dir", output, "--fit_all", "true", "--decision_from", twin
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((output / "training.json").read_text())
    assert record["data"]["films"] == {"train": sum(1 for _ in csv.DictReader(some_films.open(encoding="utf-8")))}
    ours, theirs = (MovieGenreModel.from_pretrained(path).config for path in (output, twin))
    assert ours.threshold_profiles == theirs.threshold_profiles
    assert ours.label_set_weight == theirs.label_set_weight
    assert sum(ours.label_sets.values()) == record["data"]["films"]["train"] > sum(theirs.label_sets.values())
    ours, theirs = (MovieGenreModel.from_pretrained(path) for path in (output, twin))
    assert torch.equal(ours.logit_scale, theirs.logit_scale)
    assert torch.equal(ours.logit_bias, theirs.logit_bias)


def test_a_twin_without_label_sets_keeps_its_thresholds_for_the_exact_set():
    values = {"threshold_profiles": {"subset_accuracy": [0.4] * 4}, "default_profile": "subset_accuracy"}
    truth = np.array([[1, 0, 0, 1], [0, 1, 0, 0]])
    scored = {"train": PredictionOutput(np.zeros((2, 4)), truth, {})}
    model = tiny_model()
    _decide(model, scored, tiny_model(**values))
    assert (model.config.threshold_profiles, model.config.label_sets) == (values["threshold_profiles"], None)
    sets = {"label_sets": {"1000": 7}, "label_set_weight": 0.7, "default_profile": "subset_accuracy"}
    _decide(model, scored, tiny_model(**sets, min_genres=0))
    assert model.config.min_genres == 0  # which its thresholds were tuned for
    assert (model.config.label_sets, model.config.label_set_weight) == ({"1001": 1, "0100": 1}, 0.7)


def test_calibration_and_rules_come_from_the_validation_films():
    draw = np.random.default_rng(0)
    scored = {
        part: PredictionOutput(draw.normal(size=(60, 4)).astype(np.float32), draw.integers(0, 2, (60, 4)), {})
        for part in ("train", "validation")
    }
    truth, logits = scored["validation"].label_ids, scored["validation"].predictions
    scale, bias = fit_calibration(truth, logits)
    probabilities = expit(logits * scale + bias)
    model = tiny_model()
    results = _decide(model, scored, None)
    assert np.allclose(model.logit_scale, scale)
    assert np.allclose(model.logit_bias, bias)
    assert model.config.threshold_profiles == tune_profiles(truth, probabilities)
    sets = count_label_sets(scored["train"].label_ids)
    assert model.config.label_sets == sets
    assert model.config.label_set_weight == round(fit_label_set_weight(truth, probabilities, sets), 4)
    chosen = choose(probabilities, np.array(model.config.threshold_profiles["micro_f1"]), 1)
    assert results["validation"]["micro_f1"] == micro_f1(truth, chosen)


def test_a_run_scores_as_its_model_does_on_the_films_that_it_kept_aside(run, some_films, tmp_path):
    folder, _ = run
    record = json.loads((folder / "training.json").read_text())
    words = ["--model", folder, "--data", some_films, "--split", "validation", "--output", tmp_path / "found.json"]
    words += ["--split-file", folder / "split.json"]
    command = [sys.executable, "-m", "modeling.cli", "evaluate", *words]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"] == record["data"]["films"]["validation"]
    for name, value in record["results"]["validation"].items():
        assert found[name] == pytest.approx(value, abs=1e-3), name  # its weights are stored in 16 bits


def test_a_model_trained_anew_has_nothing_of_the_one_before(tmp_path, some_films):
    output = tmp_path / "out"
    for name in ("onnx", "checkpoint-500"):
        (output / name).mkdir(parents=True)
    for name in ("model.safetensors", "evaluation.json", "onnx/model.onnx"):
        (output / name).write_text("of the model before")
    words = ["--train_file", some_films, "--output_dir", output, "--overwrite_output_dir", "true"]
    done = launch(SMOKE, *words, "--teacher", "none", "--num_train_epochs", "1")
    assert done.returncode == 0, done.stderr
    assert (output / "model.safetensors").stat().st_size > 1000
    assert not (output / "evaluation.json").exists()
    assert not (output / "onnx").exists()
    assert not (output / "checkpoint-500").exists()  # which a run that goes on would take for the newest


def test_a_twin_of_other_genres_is_refused(tmp_path, some_films):
    tiny_model().save_pretrained(tmp_path / "twin")
    words = ["--train_file", some_films, "--output_dir", tmp_path / "out"]
    done = launch(SMOKE, *words, "--fit_all", "true", "--decision_from", tmp_path / "twin")
    assert done.returncode == 2
    assert "has other genres than the films: Action, " in done.stderr


def test_a_run_is_calibrated_on_the_validation_films(run):
    folder, _ = run
    model = MovieGenreModel.from_pretrained(folder)
    assert model.logit_scale.min() > 0
    assert not torch.equal(model.logit_scale, torch.ones(18))
    assert load_file(folder / "model.safetensors")["logit_scale"].dtype == torch.float32


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_run_starts_from_a_pretrained_encoder_that_also_teaches(tmp_path, some_films, tokenizer, kind):
    set_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    encoder = tmp_path / "encoder"
    if kind == "bert":
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(encoder)
    else:  # the Trainer writes such a tokenizer's special tokens into the configuration
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
        config = RobertaConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes)
        RobertaModel(config).save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    flags = {
        "init_from": encoder,
        "init_layers": "0,2",
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "label_graph": "gcn",
        "teacher": f"linear,{encoder}",
        "teacher_cache": tmp_path / "teachers",
        "hint_weight": 1,
        "num_train_epochs": 1,
        "train_file": some_films,
        "output_dir": tmp_path / "out",
    }
    done = launch(*(word for name, value in flags.items() for word in (f"--{name}", value)))
    assert done.returncode == 0, done.stderr
    model = MovieGenreModel.from_pretrained(tmp_path / "out")
    config = model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.head_dim) == (2, 2, 8)
    assert config.base_model == str(encoder)
    assert not torch.equal(model.classifier.output.adjacency, torch.eye(18))
    assert [path.name for path in (tmp_path / "teachers").iterdir()] == ["encoder.safetensors"]
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "hint" in name]
    assert model.predict_genres("A retired gunman rides into a border town.").genres


def test_one_process_for_several_gpus_is_refused(tmp_path):
    arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments._n_gpu = 4
    with pytest.raises(ValueError, match="sees 4 GPUs: accelerate launch --multi_gpu --num_processes 4"):
        train(DataArguments(), ModelArguments(), arguments)


def test_a_recorded_command_can_be_given_again():
    words = ["--genre_map", '{"Musical": "Music"}', "--train_file", "my films.csv"]
    assert shlex.split(command(words, None)) == ["train.py", *words]


def test_a_token_never_reaches_the_record():
    for words in (["--hub_token", "hf_secret"], ["--hub_token=hf_secret"], ["--hub-token", "hf_secret"]):
        _, _, arguments = parse_arguments(["--train_file", "films.csv", *words])
        assert command([*words, "--seed", "1"], arguments.hub_token).endswith("--seed 1")
        assert "hf_secret" not in command([*words, "--seed", "1"], arguments.hub_token)
        assert hub.from_training(arguments) is None
        assert arguments.hub_token is None  # nor a checkpoint


def test_folders_that_cannot_be_written_or_are_not_shared_are_told_first(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        _claim(tmp_path / "file" / "run")
    _claim(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == []
    # As on another machine, where what the first process wrote is not seen.
    monkeypatch.setattr(training, "_by_one_process", lambda work: Path(".begun-there"))
    with pytest.raises(ValueError, match="run is not one folder to all machines: name one that they share"):
        _claim(tmp_path / "run")


def test_patience_begins_when_the_warm_up_ends(tmp_path, caplog):
    """Until then a model that chooses every genre scores the same each time, however it gets on."""
    arguments = parse_arguments(["--output_dir", str(tmp_path), "--warmup_steps", "6", "--num_train_epochs", "9"])[2]
    state, control = TrainerState(max_steps=9), TrainerControl()
    with caplog.at_level("INFO"):
        for step in range(1, 9):
            state.log_history.append({"step": step, "epoch": float(step), arguments.metric_for_best_model: 0.4})
            EarlyStopping(2).on_evaluate(arguments, state, control)
            assert control.should_training_stop == (step == 8)
    assert "stops after epoch 8 of 9: micro_f1 was best after epoch 1" in caplog.text


def test_who_interrupts_is_told_how_to_go_on(tmp_path, some_films):
    flags = ("--train_file", str(some_films), "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "500")
    command = [sys.executable, "train.py", SMOKE, *flags, "--cpu_threads", "1", "--early_stopping_patience", "0"]
    options = {
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
        **{"cwd": ROOT, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True},
    }
    with subprocess.Popen(command, **options) as process:
        said = ""
        while "it/s" not in said:  # the bar moves
            one = process.stderr.read(1)
            assert one, said  # it has ended
            said += one
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted: the same command with --resume_from_checkpoint true goes on\n" in said
    assert "Traceback" not in said


def test_words_of_another_script_are_told(caplog):
    tokenizer = load_tokenizer(None, 64)
    _warn_of_unknown(tokenizer, ["A film of snow and silence."] * 9)
    assert not caplog.records
    _warn_of_unknown(tokenizer, ["นักสืบเกษียณกลับมาทำงานครั้งสุดท้าย", "A film of snow."])
    assert "--train_tokenizer true" in caplog.text


def test_the_record_holds_settings_of_every_kind(tmp_path):
    told = ["--output_dir", str(tmp_path), "--lr_scheduler_kwargs", '{"min_lr": 1e-5}']
    assert given(*parse_arguments(told))["lr_scheduler_kwargs"] == {"min_lr": 1e-5}


# Pieces


@pytest.fixture
def trainer(some_films, tmp_path):
    films = load_films(DataArguments(train_file=str(some_films)))
    arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), use_cpu=True, teacher="none")
    model = tiny_model()
    return build_trainer(model, load_tokenizer(None, model.config.max_position_embeddings), films, arguments)


def test_collating_pads_to_the_longest_text_of_the_batch(trainer):
    films = [{"input_ids": [1, 2, 3], "labels": [1.0, 0.0]}, {"input_ids": [4], "labels": [0.0, 0.5]}]
    batch = trainer.data_collator(films)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[1.0, 0.0], [0.0, 0.5]]


def test_the_data_loader_says_which_epoch_is_read(trainer):
    loader = trainer.get_train_dataloader()
    loader.set_epoch(3)
    assert trainer.train_dataset.epoch == 3
