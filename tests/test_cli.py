"""movie-genre as a user runs it."""

import csv
import io
import json
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from modeling import MovieGenreModel, __version__
from modeling.backends import locate
from modeling.cli import _seen, main
from modeling.data import file_hash, row_hash
from modeling.decision import fit_label_set_weight, tune_thresholds
from modeling.metrics import SCORES, scores
from modeling.prediction_movie_genre import choose

from .conftest import GENRES, MOVIES, ROOT, tiny_model

TEXT = "A retired gunman rides into a border town."


def movie_genre(*arguments, stdin=None):
    return subprocess.run(
        [sys.executable, "-m", "modeling.cli", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("cli") / "model"
    tiny_model().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory, descriptions):
    """Forty films with genres drawn at random, half of them for testing."""
    path = tmp_path_factory.mktemp("cli") / "films.csv"
    generator = np.random.default_rng(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["movie_name", "genre", "description", "split"])
        for i, text in enumerate(descriptions[:40]):
            genres = generator.choice(GENRES, size=generator.integers(1, 4), replace=False)
            writer.writerow([f"Film {i}", ", ".join(genres), text, "test" if i % 2 else "validation"])
    return path


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, folder, films):
    out = tmp_path_factory.mktemp("cli")
    (out / "other.csv").write_text("kind,text\nrecipe,Boil the eggs.\nrecipe,Chop it.\nnews,Rain in the north.\n")
    done = movie_genre(
        *("evaluate", "--model", folder, "--data", films, "--split", "test", "--resamples", 50),
        *("--mc-samples", 5, "--off-topic", out / "other.csv"),
        *("--output", out / "results.json", "--disagreements", out / "odd.csv"),
        *("--probabilities", out / "new" / "p.npy"),
    )
    assert done.returncode == 0, done.stderr
    return out, done


def truth_of(films, split):
    with films.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return rows, np.array([[genre in row["genre"].split(", ") for genre in GENRES] for row in rows], dtype=float)


def test_evaluate_writes_the_scores_of_exactly_those_films(evaluated, films, folder):
    out, done = evaluated
    results = json.loads((out / "results.json").read_text())
    assert list(results)[: len(SCORES) + 3] == ["rows", *SCORES, "intervals", "per_genre"]
    assert results["rows"] == 20
    rows, truth = truth_of(films, "test")
    model = MovieGenreModel.from_pretrained(folder)
    probabilities = np.array([list(model.predict_genres(row["description"]).probabilities.values()) for row in rows])
    assert np.allclose(np.load(out / "new" / "p.npy"), probabilities, atol=1e-6)
    expected = scores(truth, choose(probabilities, np.full(4, 0.5), 1), probabilities)
    assert {name: results[name] for name in SCORES} == pytest.approx(expected)
    assert "micro f1" in done.stdout
    assert "Western" in done.stdout


def test_an_exported_model_is_scored_as_well(folder, films, tmp_path, evaluated):
    assert movie_genre("export", "--model", folder, "--output", tmp_path / "onnx").returncode == 0
    done = movie_genre(
        *("evaluate", "--model", tmp_path / "onnx", "--backend", "onnx", "--data", films, "--split", "test"),
        *("--resamples", 5, "--mc-samples", 5, "--output", tmp_path / "results.json"),
    )
    assert done.returncode == 0, done.stderr
    expected, results = (json.loads((path / "results.json").read_text()) for path in (evaluated[0], tmp_path))
    assert {name: results[name] for name in SCORES} == pytest.approx({name: expected[name] for name in SCORES})


def test_evaluate_lists_the_films_where_model_and_file_differ_most(evaluated, films):
    out, _ = evaluated
    _, truth = truth_of(films, "test")
    probabilities = np.load(out / "new" / "p.npy")
    losses = -(truth * np.log(probabilities) + (1 - truth) * np.log1p(-probabilities)).mean(1)
    rows = list(csv.DictReader((out / "odd.csv").open(encoding="utf-8", newline="")))
    assert [float(row["log_loss"]) for row in rows] == pytest.approx(sorted(losses, reverse=True), abs=1e-3)
    assert rows[0]["movie_name"] == f"Film {2 * int(losses.argmax()) + 1}"


def test_evaluate_says_what_each_measure_of_certainty_is_worth(evaluated):
    out, done = evaluated
    results = json.loads((out / "results.json").read_text())
    measures = ["confidence", "entropy", "max_probability", "mutual_information"]
    assert list(results["uncertainty"]) == measures
    assert results["uncertainty"]["confidence"]["coverage"][-1] == 1
    assert [name for name in results["off_topic"] if name != "texts"] == measures
    assert results["off_topic"]["texts"] == 3
    for areas in (results["off_topic"][name] for name in measures):
        assert list(areas) == ["all", "news", "recipe"]
        assert areas["all"] == pytest.approx(areas["recipe"] * 2 / 3 + areas["news"] / 3)
    assert "without the 20 % least sure by confidence" in done.stdout
    assert "calibration error" in done.stdout


def test_tune_fits_the_thresholds_and_leaves_the_model_alone(tmp_path, folder, films):
    folder = shutil.copytree(folder, tmp_path / "model")
    before = (folder / "config.json").read_bytes()
    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})  # as the model that ships has them
    (folder / "training.json").write_text('{"of": "this model", "results": {"validation": {"micro_f1": 0.9}}}')
    done = movie_genre(
        *("tune", "--model", folder, "--data", films, "--split", "validation"),
        *("--objective", "macro_f1", "--output", tmp_path / "tuned"),
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "config.json").read_bytes() == before
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "tuned" / name).read_bytes() == (folder / name).read_bytes()
    tuned = MovieGenreModel.from_pretrained(tmp_path / "tuned")
    rows, truth = truth_of(films, "validation")
    probabilities = np.array(
        [list(p.probabilities.values()) for p in tuned.predict_genres([r["description"] for r in rows])]
    )
    expected = tune_thresholds(truth, probabilities, "macro_f1")
    # Scores under other thresholds are none of the tuned model's.
    assert json.loads((tmp_path / "tuned" / "training.json").read_text()) == {"of": "this model"}
    assert tuned.config.default_profile == "macro_f1"
    assert tuned.config.threshold_profiles["macro_f1"] == pytest.approx(expected, abs=1e-3)


def test_tune_for_the_exact_set_weighs_the_sets_that_the_model_was_trained_on(tmp_path, folder, films):
    told = ("tune", "--data", films, "--split", "validation", "--objective", "subset_accuracy")
    done = movie_genre(*told, "--model", folder, "--output", tmp_path / "none")
    assert done.returncode == 2
    assert "does not say which sets of genres it was trained on" in done.stderr
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    counts = {"1000": 4, "0110": 3, "1011": 3, "0001": 1}
    config |= {"label_sets": counts, "label_set_weight": 0.9}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    done = movie_genre(*told, "--model", tmp_path / "model", "--output", tmp_path / "tuned")
    assert done.returncode == 0, done.stderr
    tuned = MovieGenreModel.from_pretrained(tmp_path / "tuned")
    rows, truth = truth_of(films, "validation")
    predictions = tuned.predict_genres([row["description"] for row in rows])
    probabilities = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    expected = fit_label_set_weight(truth, probabilities, counts)
    assert tuned.config.label_set_weight == pytest.approx(expected, abs=1e-3)
    assert (tuned.config.default_profile, tuned.config.label_sets) == ("subset_accuracy", counts)
    assert f"4 sets of genres, weight {expected:.3f}" in done.stdout
    assert expected < 0.8
    known = [{genre for genre, digit in zip(GENRES, key, strict=True) if digit == "1"} for key in counts]
    assert all(set(prediction.genres) in known for prediction in predictions)
    done = movie_genre(
        *("evaluate", "--model", tmp_path / "tuned", "--data", films, "--split", "validation", "--resamples", 2),
        *("--output", tmp_path / "results.json"),
    )
    assert done.returncode == 0, done.stderr
    chosen = np.array([[genre in prediction.genres for genre in GENRES] for prediction in predictions])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["profile"] == "subset_accuracy"
    assert results["subset_accuracy"] == pytest.approx((chosen == truth).all(axis=1).mean())


def test_tune_refuses_to_write_over_this_model_or_another(folder, films, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for output in (folder, tmp_path):
        done = movie_genre("tune", "--model", folder, "--data", films, "--output", output)
        assert done.returncode == 2
        assert "is not an empty folder: name a new one" in done.stderr
    assert (tmp_path / "config.json").read_text() == "{}"


def test_lines_that_cannot_be_read_are_told_by_number_and_those_before_them_answered(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["movie-genre", "predict", "--model", str(folder)])
    for lines, answers, message in (
        (f"{TEXT}\n" * 300 + "\n\u200b\n", 256, "line 302 has no words"),
        (f"{TEXT}\n\udcff\n", 0, "line 2 is not UTF-8"),
        ("\n \n", 0, "standard input is empty"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        with pytest.raises(SystemExit):
            main()
        found = capsys.readouterr()
        assert (found.out.count("genres"), message in found.err) == (answers, True), found.err


def test_a_wrong_option_leaves_the_output_to_the_right_one(folder, films, tmp_path):
    told = ("predict", "--model", folder, "--input", films, "--output", tmp_path / "out.csv", "--threshold")
    assert "no decision profile 'best'" in movie_genre(*told, "best").stderr
    assert [path.name for path in tmp_path.iterdir()] == []
    assert movie_genre(*told, "1e-1").returncode == 0


def test_the_model_that_ships_answers_wherever_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("checkpoint") == str(ROOT / "checkpoint")
    (tmp_path / "checkpoint").mkdir()
    assert locate("checkpoint") == "checkpoint"
    assert locate("you/movies") == "you/movies"


def test_predict_answers_arguments_and_standard_input_alike(folder):
    one = movie_genre("predict", "--model", folder, "--words", TEXT)
    two = movie_genre("predict", "--model", folder, "--words", stdin=f"{TEXT}\n\nSnow falls.\n")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    lines = [json.loads(line) for line in two.stdout.splitlines()]
    assert len(lines) == 2
    assert "1 empty lines passed over" in two.stderr
    assert json.loads(one.stdout)["probabilities"] == pytest.approx(lines[0]["probabilities"], abs=1e-6)
    assert [TEXT[start:end] for start, end, _ in lines[0]["word_weights"]][:2] == ["A", "retired"]


def test_who_does_not_listen_gets_no_traceback(folder):
    command = [sys.executable, "-m", "modeling.cli", "predict", "--model", str(folder), TEXT]
    done = subprocess.run(["sh", "-c", shlex.join(command) + " >&-"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--model", "nowhere/to-be-found", TEXT], "has no copy of it: load it once"),
        (["predict", "--model", "FOLDER", ""], "has no words"),
        (["predict", "--model", "FOLDER", TEXT, "films.csv"], "--input films.csv --output ... reads what is in it"),
        (["predict", "--model", "FOLDER", "--threshold", "best", TEXT], "no decision profile 'best'"),
        (
            ["evaluate", "--model", "FOLDER", "--data", "data/movies.csv", "--output", "data"],
            "data is a folder: name a file",
        ),
        (
            [
                *("evaluate", "--model", "FOLDER", "--data", "data/movies.csv", "--output", "x.json"),
                *("--split-file", "split.json"),
            ],
            "--split-file says which films are of a --split",
        ),
        (
            ["evaluate", "--model", "FOLDER", "--data", "data/movies.csv", "--output", "x.json", "--mc-samples", "1"],
            "one has no spread",
        ),
        (["evaluate", "--model", "FOLDER", "--data", "none.csv", "--output", "x.json"], "none.csv does not exist"),
        (["evaluate", "--model", "FOLDER", "--data", "data/movies.csv", "--output", "x.json"], "with --genre-map"),
        (
            [
                *("evaluate", "--model", "FOLDER", "--data", "data/movies.csv", "--output", "x.json"),
                *("--off-topic", "data/movies.csv"),
            ],
            "--off-topic data/movies.csv must have rows and the columns kind and text",
        ),
        (
            [
                *("evaluate", "--model", "FOLDER", "--data", "data/movies.csv", "--output", "x.json"),
                *("--off-topic", "none.csv"),
            ],
            "'none.csv' does not exist",
        ),
        (
            ["tune", "--model", "FOLDER", "--data", "none.csv", "--output", "x", "--objective", "luck"],
            "'luck' is not known",
        ),
    ],
)
def test_a_mistake_gets_a_sentence_and_code_2(folder, arguments, message, monkeypatch, capsys):
    words = [str(folder) if argument == "FOLDER" else argument for argument in arguments]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")  # main sets it for a process of its own
    monkeypatch.setattr(sys, "argv", ["movie-genre", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (ROOT / "x.json").exists()


def test_a_split_that_the_films_have_not_is_named(folder, films, tmp_path):
    told = ("evaluate", "--model", folder, "--output", tmp_path / "x.json", "--split", "train", "--data")
    assert "has no film of the split 'train'; it has test, validation" in movie_genre(*told, films).stderr
    plain = tmp_path / "plain.csv"
    plain.write_text(f"genre,description\nDrama,{TEXT}\n")
    assert "has no split column: name a --split-file, or leave --split out" in movie_genre(*told, plain).stderr


def test_a_split_file_says_where_films_belong_and_asks_for_no_training_row(folder, tmp_path):
    films, split = tmp_path / "films.csv", tmp_path / "split.json"
    films.write_text(f"genre,description,split\nDrama,{TEXT},val\nWestern,Another one.,\n")
    split.write_text(json.dumps({"validation": [], "test": [row_hash(TEXT)]}))
    told = ("--data", films, "--split", "test", "--split-file", split, "--output", tmp_path / "x.json")
    done = movie_genre("evaluate", "--model", folder, *told, "--resamples", 5)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == 1


def test_no_file_is_written_over_one_that_is_read_or_written(folder, films, tmp_path):
    own = tmp_path / "own.csv"
    shutil.copy(films, own)
    for more in (["--output", own], ["--output", tmp_path / "x", "--disagreements", tmp_path / "x"]):
        done = movie_genre("evaluate", "--model", folder, "--data", own, *more)
        assert (done.returncode, "name another file" in done.stderr) == (2, True)
    assert own.read_bytes() == films.read_bytes()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("row", ["[/b]bold,Chop it.", "The weather is fine.", "all,Chop it."])
def test_kinds_of_other_texts_are_names_and_nothing_else(folder, films, tmp_path, row):
    (tmp_path / "other.csv").write_text(f"kind,text\n{row}\n")
    told = ("--data", films, "--off-topic", tmp_path / "other.csv", "--output", tmp_path / "x.json")
    done = movie_genre("evaluate", "--model", folder, *told, "--resamples", 5, "--mc-samples", 0)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if row.startswith("[") else 2), done.stderr
    assert ("[/b]bold" in done.stdout) == row.startswith("[")


def test_films_that_a_model_was_trained_on_are_called_so(folder, films, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    for fit_all, split, seen in ((False, None, True), (False, "test", False), (True, "test", True)):
        record = {"data": {"sha256": file_hash(films)}, "arguments": {"fit_all": fit_all}}
        (model / "training.json").write_text(json.dumps(record))
        assert _seen(str(model), None, str(films), split) == seen
        assert ("was trained on films of" in capsys.readouterr().err) == seen
    assert not _seen(str(model), None, str(MOVIES), None)
    assert not capsys.readouterr().err


def test_the_version_is_told():
    assert movie_genre("--version").stdout == f"{__version__}\n"
    assert "predict" in movie_genre().stdout  # help


def test_help_answers_without_loading_torch():
    started = time.perf_counter()
    done = movie_genre("--help")
    seconds = time.perf_counter() - started
    assert all(command in done.stdout for command in ("predict", "evaluate", "tune"))
    program = "import sys, modeling.cli; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()", f"--help took {seconds:.1f} s"
