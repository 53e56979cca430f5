"""Checkpoints that are whole, and runs that stop before a sick step is kept."""

import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling import MovieGenreConfig
from modeling.arguments import DataArguments, MovieGenreTrainingArguments
from modeling.checkpoints import (
    FILMS,
    SEAL,
    best_checkpoint,
    check_same,
    check_space,
    checkpoints,
    flaw,
    last_whole_checkpoint,
    resume_point,
    seal,
)
from modeling.data import read_split, row_hash
from modeling.training import build_trainer
from modeling.training_data import load_films

from .conftest import ROOT, tiny_model

TRAIN = [sys.executable, str(ROOT / "train.py"), str(ROOT / "configs" / "smoke.yaml"), "--teacher", "none"]
# Saves in mid-epoch too; the best of three epochs need not be the newest.
FLAGS = ["--save_strategy", "steps", "--eval_strategy", "steps", "--save_steps", "2", "--eval_steps", "2"]
FLAGS += ["--num_train_epochs", "3", "--per_device_train_batch_size", "16", "--typos", "0.05", "--other_people", "0.5"]
FLAGS += ["--early_stopping_patience", "0"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A file of 80 films: four steps an epoch."""
    path = tmp_path_factory.mktemp("data") / "films.csv"
    rows = [
        f"Film {i},{'Drama' if i % 3 else 'War'},Mary told him of number {i} and {'love' if i % 3 else 'tanks'}.\n"
        for i in range(80)
    ]
    path.write_text("movie_name,genre,description\n" + "".join(rows))
    return path


def train(films, folder, *flags, **options):
    command = [*TRAIN, *FLAGS, "--train_file", films, "--output_dir", folder, *flags]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, **options)


@pytest.fixture(scope="module")
def whole(films, tmp_path_factory):
    """A run that nothing disturbed, with all its checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = train(films, folder, "--save_total_limit", "9")
    assert done.returncode == 0, done.stderr
    assert len(checkpoints(folder)) >= 4
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it to damage, without the finished model."""
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "model.safetensors").unlink()
    return folder


def same_weights(one, two):
    ours, theirs = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def same_end(one, two):
    """After the last step too, which need not be in the finished model: that is the best epoch's."""
    last, other = checkpoints(one)[0], checkpoints(two)[0]
    return last.name == other.name and same_weights(last, other) and same_weights(one, two)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.pt", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("rng_state.pth", lambda path: path.unlink()),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3")),
        (SEAL, lambda path: path.unlink()),
        (SEAL, lambda path: path.write_bytes(b"")),
    ],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(run, whole, films, caplog, name, damage):
    newest, second, *_ = checkpoints(run)
    damage(newest / name)
    with caplog.at_level(logging.WARNING):
        found = last_whole_checkpoint(run)
    assert found is not None
    assert found != newest
    assert f"{newest} is passed over" in caplog.text
    assert flaw(second) is None


@pytest.mark.parametrize("step", [2, 4, 6, 8, 10])  # of twelve, four an epoch
def test_a_run_goes_on_to_the_same_weights(run, whole, films, step):
    """It reads again what the undisturbed run read, bit for bit, wherever in an epoch it was cut short."""
    for folder in checkpoints(run):
        if int(folder.name.removeprefix("checkpoint-")) > step:
            (folder / "optimizer.pt").write_bytes(b"")
    done = train(films, run, "--resume_from_checkpoint", "true", "--save_total_limit", "9")
    assert done.returncode == 0, done.stderr
    assert f"going on from {run / f'checkpoint-{step}'}" in done.stderr
    assert same_end(run, whole)
    seconds = [json.loads((folder / "training.json").read_text())["seconds"] for folder in (run, whole)]
    assert seconds[0] is None  # of the last part alone they would say nothing
    assert seconds[1] > 0


def test_figures_stay_with_the_weights_that_they_are_of(whole, films, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    goes_on = ("--resume_from_checkpoint", "true", "--save_total_limit", "9", "--load_best_model_at_end", "false")
    train(films, folder, *goes_on)  # ends with the last epoch's, not the best's
    for epochs, stays in (("3", True), ("4", False)):
        (folder / "evaluation.json").write_text("{}")
        done = train(films, folder, *goes_on, "--num_train_epochs", epochs)
        assert done.returncode == 0, done.stderr
        assert (folder / "evaluation.json").exists() == stays


def test_a_run_that_was_moved_ends_with_its_best_epoch(run, whole, films, tmp_path):
    newest = checkpoints(run)[0]
    best = Path(json.loads((newest / "trainer_state.json").read_text())["best_model_checkpoint"])
    assert best.parent == whole
    assert not same_weights(newest, best)
    shutil.move(whole, tmp_path / "away")  # where the best epoch is said to be
    try:
        done = train(films, run, "--resume_from_checkpoint", "true", "--save_total_limit", "9")
    finally:
        shutil.move(tmp_path / "away", whole)
    assert done.returncode == 0, done.stderr
    assert same_end(run, whole)


def test_a_run_that_went_on_in_another_folder_can_go_on_again(whole, films, tmp_path):
    elsewhere = shutil.copytree(whole, tmp_path / "elsewhere")
    _, begun, *_, best = checkpoints(elsewhere)
    told = {"best_global_step": 2, "best_metric": 2.0, "best_model_checkpoint": str(best)}  # no score is better
    state = begun / "trainer_state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | told))
    seal(begun)
    done = train(films, tmp_path / "run", "--resume_from_checkpoint", begun)
    assert done.returncode == 0, done.stderr
    (ours,) = checkpoints(tmp_path / "run")
    assert best_checkpoint(ours) == best
    assert last_whole_checkpoint(tmp_path / "run") == ours


def test_a_best_score_that_no_checkpoint_has_is_no_obstacle(run, films):
    """Scored more often than saved: the best step so far need not have been saved."""
    begun = checkpoints(run)[2]
    for folder in checkpoints(run)[:2]:
        shutil.rmtree(folder)
    state = begun / "trainer_state.json"
    told = json.loads(state.read_text()) | {"best_global_step": 7, "best_metric": 2.0, "best_model_checkpoint": None}
    state.write_text(json.dumps(told))
    seal(begun)
    done = train(films, run, "--resume_from_checkpoint", "true", "--save_total_limit", "9")
    assert done.returncode == 0, done.stderr
    assert last_whole_checkpoint(run) == checkpoints(run)[0] != begun


def test_a_run_that_goes_on_stops_as_early(films, tmp_path):
    """With nothing learned the first epoch stays the best: three later it stops, however often it was cut short."""

    def epochs(*flags):
        told = {"learning_rate": 0, "num_train_epochs": 9, "early_stopping_patience": 3, "token_dropout": 0}
        words = [str(word) for name, value in told.items() for word in (f"--{name}", value)]
        done = subprocess.run(
            [*map(str, [*TRAIN, "--train_file", films, "--output_dir", tmp_path]), *words, *flags],
            capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "training.json").read_text())["epochs"]

    goes_on = ("--resume_from_checkpoint", "true", "--save_total_limit", "9")
    assert epochs("--save_total_limit", "9") == 4
    assert epochs(*goes_on) == 4  # it had stopped
    for folder in checkpoints(tmp_path)[:2]:
        shutil.rmtree(folder)
    assert epochs(*goes_on) == 4


def test_a_run_goes_on_with_its_own_films_and_sizes_alone(run, films, tmp_path):
    done = train(films, run, "--resume_from_checkpoint", "true", "--hidden_size", "64")
    assert done.returncode == 2
    assert "hidden_size 32, not 64" in done.stderr
    aside = read_split(run / "split.json")
    rows = films.read_text().splitlines()[1:]
    validated = next(row for row in rows if row_hash(row.split(",")[2]) in aside["validation"])
    trained = next(row for row in rows if row_hash(row.split(",")[2]) not in [*aside["validation"], *aside["test"]])
    other = {"Drama": "War", "War": "Drama"}
    corrected = [(row, re.sub("Drama|War", lambda name: other[name[0]], row)) for row in (trained, validated)]
    for change, said in (
        (("tanks", "ships"), "other descriptions or genres"),
        *((change, "other descriptions or genres") for change in corrected),
        (("War", "Crime"), "genres ['Drama', 'War'], not"),
    ):
        other = tmp_path / "other.csv"
        other.write_text(films.read_text().replace(*change))
        assert other.read_text() != films.read_text()
        done = train(other, run, "--resume_from_checkpoint", "true", "--split_file", run / "split.json")
        assert done.returncode == 2
        assert f"was trained with {said}" in done.stderr, done.stderr


def test_a_checkpoint_from_before_films_were_noted_is_gone_on_with(run):
    newest = checkpoints(run)[0]
    (newest / FILMS).unlink()
    seal(newest)
    check_same(newest, MovieGenreConfig.from_pretrained(newest), "any")


def test_a_finished_model_is_not_replaced_unasked(tmp_path, whole):
    (tmp_path / "model.safetensors").touch()
    for asked in (None, str(checkpoints(whole)[0]), "true"):
        arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), resume_from_checkpoint=asked)
        with pytest.raises(ValueError, match="holds a finished model: name another --output_dir, or --overwrite"):
            resume_point(arguments, tmp_path)
    arguments.overwrite_output_dir = True
    assert resume_point(arguments, tmp_path) == (None, [])


def test_a_run_without_a_whole_checkpoint_starts_anew(run, whole, films):
    for folder in checkpoints(run):
        (folder / SEAL).unlink()
    done = train(films, run, "--resume_from_checkpoint", "true", "--save_total_limit", "9")
    assert done.returncode == 0, done.stderr
    assert "has no whole checkpoint: starting anew" in done.stderr
    assert same_end(run, whole)


def test_a_checkpoint_whose_best_epoch_is_lost_is_passed_over(run, caplog):
    newest = checkpoints(run)[0]
    best = run / os.path.basename(json.loads((newest / "trainer_state.json").read_text())["best_model_checkpoint"])
    for folder in checkpoints(run):
        if folder != newest and folder != best:
            shutil.rmtree(folder)
    (best / "model.safetensors").unlink()
    assert last_whole_checkpoint(run) is None
    assert best != newest
    assert f"of its best epoch, {best.name}" in caplog.text


def test_a_checkpoint_that_is_named_must_be_whole(run, films):
    newest = checkpoints(run)[0]
    best = run / Path(json.loads((newest / "trainer_state.json").read_text())["best_model_checkpoint"]).name
    for folder, why in ((best, f"of its best epoch, {best.name}, "), (newest, "")):
        (folder / "scheduler.pt").unlink()
        done = train(films, run, "--resume_from_checkpoint", newest)
        assert done.returncode == 2
        assert f"from: {why}scheduler.pt is missing or damaged; --resume_from_checkpoint true finds" in done.stderr


def test_a_full_disk_ends_a_run_with_a_sentence_and_leaves_no_half_checkpoint(films, tmp_path):
    """A limit on the size of a file stands for the disk: weights fit, the optimizer's moments do not."""

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

    done = train(films, tmp_path / "run", preexec_fn=small_files)
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not checkpoints(tmp_path / "run")


def test_too_little_disk_is_said_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"needs .* MB for its checkpoints, and its disk has"):
        check_space(tmp_path / "not" / "yet", 10**15, 2)
    check_space(tmp_path, 1000, 2)


@pytest.mark.parametrize("sick", ["loss", "gradient"])
def test_a_sick_run_stops_before_anything_is_saved(films, tmp_path, sick):
    arguments = MovieGenreTrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        teacher="none",
        num_train_epochs=2,
        per_device_train_batch_size=16,
        disable_tqdm=True,
    )
    model = tiny_model(id2label={0: "Drama", 1: "War"}, vocab_size=30_522)
    from modeling.tokenization import load_tokenizer

    trainer = build_trainer(model, load_tokenizer(None, 64), load_films(DataArguments(str(films))), arguments)
    healthy, steps = trainer.compute_loss_func, 0

    def compute_loss_func(*args, **kwargs):
        nonlocal steps
        steps += 1
        loss = healthy(*args, **kwargs)
        if steps < 3:
            return loss
        # The square root's slope at nought is infinite: a loss that looks well, and gradients that are not.
        return loss * float("nan") if sick == "loss" else loss + (model.classifier.output.bias * 0).sum().abs().sqrt()

    trainer.compute_loss_func = compute_loss_func
    with pytest.raises(FloatingPointError, match=r"in step 3 of \d+: training stops.*--learning_rate"):
        trainer.train()
    assert not checkpoints(tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_learning_rate_out_of_all_reason_ends_with_a_sentence_and_code_1(films, tmp_path):
    done = train(films, tmp_path / "run", "--learning_rate", "1e30", "--max_grad_norm", "0")
    assert done.returncode == 1, done.stderr
    assert "train.py: " in done.stderr
    assert "training stops" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
