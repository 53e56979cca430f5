"""Bulk prediction: every row once and in order, whatever kills, splits or dirties the run."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling.bulk import predict_file
from modeling.data import DataError
from modeling.export import export
from modeling.onnx_runtime import MovieGenreOnnx
from modeling.prediction_movie_genre import GenrePrediction

from .conftest import ROOT, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A tiny model for ONNX Runtime, whose processes start fast."""
    model = tiny_model()
    model._tokenizer = tokenizer
    return export(model, tmp_path_factory.mktemp("bulk") / "model")


@pytest.fixture(scope="module")
def onnx_model(folder):
    return MovieGenreOnnx.from_pretrained(folder, threads=1)


@pytest.fixture(scope="module")
def rows(descriptions):
    """Films with a name, a column that a prediction has too, and a column of odd values."""
    return [
        {"title": f"Film {i}", "overview": text, "genres": "old", "notes": [i, None] if i % 2 else None}
        for i, text in enumerate(descriptions[:60])
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory, rows):
    """The same films as CSV, Parquet and JSON lines."""
    path = tmp_path_factory.mktemp("sources")
    with (path / "films.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), path / "films.parquet", row_group_size=7)
    (path / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(source, output, predict, **options):
    return predict_file(str(source), Path(output), predict, about={}, **{"shard_rows": 25, **options})


def read(folder):
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def command(*arguments):
    return [sys.executable, "-m", "modeling.cli", "predict", *map(str, arguments)]


@pytest.mark.parametrize("name", ["films.csv", "films.parquet", "films.jsonl"])
def test_every_row_gets_its_own_prediction_in_order(sources, rows, onnx_model, tmp_path, name):
    assert run(sources / name, tmp_path / "out", onnx_model.predict_genres) == 60
    got = read(tmp_path / "out")
    assert [row["title"] for row in got] == [row["title"] for row in rows]
    for row in got[::7]:
        alone = onnx_model.predict_genres(row["overview"])
        assert row["genres"] == ", ".join(alone.genres)
        assert row["p_Crime"] == pytest.approx(alone.probabilities["Crime"], abs=1e-5)


def test_the_inputs_columns_are_carried_and_one_of_the_same_name_is_renamed(sources, onnx_model, tmp_path):
    run(sources / "films.jsonl", tmp_path / "out", onnx_model.predict_genres)
    first, second = read(tmp_path / "out")[:2]
    assert list(first)[:4] == ["title", "overview", "input_genres", "notes"]
    assert first["input_genres"] == "old"
    assert first["notes"] is None
    assert json.loads(second["notes"]) == [1, None]
    # All shards have one schema, so that the folder reads as one table.
    assert pq.read_table(tmp_path / "out").num_rows == 60


def test_columns_without_a_name_are_carried_by_their_number(onnx_model, tmp_path):
    source = tmp_path / "films.csv"
    source.write_text(",,column_1,description\n7,8,9,A film of snow.\n")
    run(source, tmp_path / "out.jsonl", onnx_model.predict_genres)
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (row["column_1"], row["column_2"], row["column_3"]) == ("9", "7", "8")


def test_dates_are_text_and_nested_values_json(onnx_model, tmp_path):
    values = {"seen": date(2024, 2, 29), "price": Decimal("9.50"), "cast": [{"name": "Ada"}], "plot": "Snow falls."}
    pq.write_table(pa.Table.from_pylist([values]), tmp_path / "films.parquet")
    run(tmp_path / "films.parquet", tmp_path / "out", onnx_model.predict_genres)
    (row,) = read(tmp_path / "out")
    assert (row["seen"], row["price"], json.loads(row["cast"])) == ("2024-02-29", "9.50", [{"name": "Ada"}])


def test_a_run_goes_on_with_the_same_input_only_whatever_its_column(onnx_model, tmp_path):
    source = tmp_path / "films.csv"
    source.write_text("plot,year\nSnow falls.,1950\n", encoding="utf-8")
    run(source, tmp_path / "out", onnx_model.predict_genres)
    source.write_text("plot,year\nSnow falls.,1951\n", encoding="utf-8")
    with pytest.raises(ValueError, match="was begun with input="):
        run(source, tmp_path / "out", onnx_model.predict_genres)


def test_an_input_that_shrinks_while_it_is_read_is_told(sources, onnx_model, tmp_path):
    source = tmp_path / "films.jsonl"
    source.write_bytes((sources / "films.jsonl").read_bytes())

    def predict(texts):
        os.truncate(source, 0)
        return onnx_model.predict_genres(texts)

    with pytest.raises(DataError, match=r"films\.jsonl has changed since its rows were counted"):
        run(source, tmp_path / "out", predict)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet", "out.CSV"])
def test_one_file_is_written_whole_and_nothing_beside_it(sources, onnx_model, tmp_path, name):
    run(sources / "films.csv", tmp_path / name, onnx_model.predict_genres)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    text = "" if name.endswith("parquet") else (tmp_path / name).read_text(encoding="utf-8")
    got = {
        "csv": lambda: list(csv.DictReader(text.splitlines())),
        "jsonl": lambda: [json.loads(line) for line in text.splitlines()],
        "parquet": lambda: pq.read_table(tmp_path / name).to_pylist(),
    }[name.lower().split(".")[1]]()
    assert [row["title"] for row in got] == [f"Film {i}" for i in range(60)]
    assert float(got[5]["p_Crime"]) == pytest.approx(
        onnx_model.predict_genres(got[5]["overview"]).probabilities["Crime"], abs=1e-5
    )


def test_a_csv_holds_no_formula(onnx_model, tmp_path):
    source = tmp_path / "films.csv"
    source.write_text('title,plot,year\n=HYPERLINK("x"),Snow falls.,-5\n＝1+1,Two brothers.,7\n', encoding="utf-8")
    run(source, tmp_path / "out.csv", onnx_model.predict_genres)
    got = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["title"][:2] for row in got] == ["'=", "'＝"]


def test_the_inputs_own_numbers_are_carried_as_they_are(onnx_model, tmp_path):
    source = tmp_path / "films.jsonl"
    rows = [{"plot": "Snow falls.", "score": 1.23456789e-8, "x": 48.85837009999999}]
    rows += [{"plot": "Two brothers.", "score": float("nan"), "x": float("inf")}]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run(source, tmp_path / "out.jsonl", onnx_model.predict_genres)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert (first["score"], first["x"]) == (1.23456789e-8, 48.85837009999999)
    assert (second["score"], second["x"]) == (None, None)
    run(source, tmp_path / "out.csv", onnx_model.predict_genres)
    assert "1.23456789e-08,48.85837009999999," in (tmp_path / "out.csv").read_text(encoding="utf-8")


def test_bad_rows_stop_the_run_before_anything_is_written(onnx_model, tmp_path, capsys):
    source = tmp_path / "films.csv"
    source.write_text("title,plot\nOne,Snow falls.\nTwo,\nThree\nFour,Two brothers.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)2 bad rows.*:3: description is empty.*:4: 1 fields"):
        run(source, tmp_path / "out", onnx_model.predict_genres)
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", onnx_model.predict_genres, skip_bad_rows=True) == 2
    assert f"2 bad rows left out, the first: {source}:3: description is empty" in capsys.readouterr().err
    assert [row["title"] for row in read(tmp_path / "out")] == ["One", "Four"]


def test_a_folder_of_something_else_or_of_another_run_is_left_alone(sources, onnx_model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(ValueError, match="holds something else"):
        run(sources / "films.csv", tmp_path / "mine", onnx_model.predict_genres)
    run(sources / "films.csv", tmp_path / "out", onnx_model.predict_genres)
    with pytest.raises(ValueError, match="was begun with shard_rows=25, and this run has 10"):
        run(sources / "films.csv", tmp_path / "out", onnx_model.predict_genres, shard_rows=10)
    with pytest.raises(ValueError, match=r"write \.parquet, \.csv, \.jsonl or"):
        run(sources / "films.csv", tmp_path / "out.xlsx", onnx_model.predict_genres)
    with pytest.raises(ValueError, match="2 processes cannot write one file"):
        run(sources / "films.csv", tmp_path / "out.csv", onnx_model.predict_genres, world_size=2)
    (tmp_path / "mine.csv").write_text("a letter")
    with pytest.raises(ValueError, match=r"mine\.csv exists: name another file, or remove it"):
        run(sources / "films.csv", tmp_path / "mine.csv", onnx_model.predict_genres)
    assert (tmp_path / "mine.csv").read_text() == "a letter"


def test_a_run_that_is_whole_predicts_nothing_again(sources, onnx_model, tmp_path):
    run(sources / "films.csv", tmp_path / "out", onnx_model.predict_genres)

    def refuse(texts):
        raise AssertionError(f"asked again for {len(texts)} texts")

    assert run(sources / "films.csv", tmp_path / "out", refuse) == 60


@pytest.mark.parametrize(("kind", "output"), [("csv", ""), ("parquet", ".csv"), ("jsonl", ".parquet")])
def test_memory_does_not_grow_with_the_input(tmp_path, kind, output):
    """Neither Python's nor Arrow's, which Python does not see."""

    def peak(count):
        source = tmp_path / f"{count}.{kind}"
        rows = [{"title": f"Film {i}", "plot": "Snow falls on the border town. " * 10} for i in range(count)]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), source, row_group_size=250)
        else:
            lines = [json.dumps(row) if kind == "jsonl" else ",".join(row.values()) for row in rows]
            source.write_text("\n".join([*(["title,plot"] if kind == "csv" else []), *lines]) + "\n")
        del rows

        predict = lambda texts: [GenrePrediction(["A"], {"A": 1.0}, 1.0)] * len(texts)  # noqa: E731
        usual = pa.default_memory_pool()
        pa.set_memory_pool(arrow := pa.proxy_memory_pool(usual))
        tracemalloc.start()
        run(source, tmp_path / f"{count}-out{output}", predict, shard_rows=250)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        pa.set_memory_pool(usual)
        return most + arrow.max_memory()

    peak(100)  # what is loaded once
    assert peak(5_000) < 1.2 * peak(1_000)


def test_a_killed_run_goes_on_without_loss_or_doubles(folder, descriptions, tmp_path):
    """SIGKILL in the middle, then the same command again: the files of an undisturbed run, byte for byte."""
    source = tmp_path / "films.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["title", "plot"], *([str(i), descriptions[i % 200]] for i in range(1000))])
    flags = ["--input", source, "--model", folder, "--backend", "onnx", "--shard-rows", "5"]
    victim = subprocess.Popen(command(*flags, "--output", tmp_path / "killed"), cwd=ROOT, stderr=subprocess.PIPE)
    while len(list((tmp_path / "killed").glob("part-*"))) < 5:
        assert victim.poll() is None, victim.stderr.read()
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    left = sorted((tmp_path / "killed").glob("part-*"))
    assert 5 <= len(left) < 200
    before = {path.name: path.stat().st_mtime_ns for path in left}
    for output in ("killed", "whole"):
        done = subprocess.run(command(*flags, "--output", tmp_path / output), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "rows/s" in done.stderr
        assert "left" in done.stderr
    assert [row["title"] for row in read(tmp_path / "killed")] == [str(i) for i in range(1000)]
    for path in (tmp_path / "whole").glob("part-*"):
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in before} == before


def test_a_run_goes_on_from_another_working_folder(folder, sources, tmp_path):
    flags = ["--input", sources / "films.csv", "--backend", "onnx", "--shard-rows", "25", "--output", tmp_path / "out"]
    for model, place in ((folder.name, folder.parent), (folder, tmp_path)):
        words = [sys.executable, "-m", "modeling.cli", "predict", "--model", model, *flags]
        done = subprocess.run([*map(str, words)], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_two_processes_leave_the_files_of_one(folder, sources, onnx_model, tmp_path):
    flags = ["--input", sources / "films.csv", "--model", folder, "--backend", "onnx", "--shard-rows", "10"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "-m"]
    done = subprocess.run(
        [*launch, *command(*flags, "--output", tmp_path / "two")[2:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "genres of 30 rows" in done.stdout
    assert "process 2 of 2" in done.stdout
    run(sources / "films.csv", tmp_path / "one", onnx_model.predict_genres, shard_rows=10)
    names = sorted(path.name for path in (tmp_path / "one").glob("part-*"))
    assert len(names) == 6
    assert names == sorted(path.name for path in (tmp_path / "two").glob("part-*"))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_pytorch_gives_the_same_file(sources, onnx_model, tokenizer, tmp_path):
    network = tiny_model()
    run(sources / "films.csv", tmp_path / "torch", lambda texts: network.predict_genres(texts, tokenizer))
    run(sources / "films.csv", tmp_path / "onnx", onnx_model.predict_genres)
    for ours, theirs in zip(read(tmp_path / "torch"), read(tmp_path / "onnx"), strict=True):
        assert ours["genres"] == theirs["genres"]
        assert ours["p_Drama"] == pytest.approx(theirs["p_Drama"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "films.csv"], "--input and --output go together"),
        (["--input", "none.csv", "--output", "x"], "none.csv does not exist"),
        (["--backend", "tpu", "text"], "backend 'tpu' is not known"),
    ],
)
def test_a_mistake_gets_a_sentence_and_code_2(folder, arguments, message):
    flags = [] if "--backend" in arguments else ["--model", folder, "--backend", "onnx"]
    done = subprocess.run(command(*arguments, *flags), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_integers_of_any_size_are_carried_exactly(onnx_model, tmp_path):
    source, numbers = tmp_path / "films.jsonl", [1, 2**53 + 1, 2**63, 2**70]
    rows = [
        {"plot": "Snow falls.", "id": n, "long": min(n, 2**60), "mixed": n if i % 2 else 0.5}
        for i, n in enumerate(numbers)
    ]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run(source, tmp_path / "out", onnx_model.predict_genres)
    got = read(tmp_path / "out")
    assert [json.loads(row["id"]) for row in got] == numbers
    assert [row["long"] for row in got] == [1, 2**53 + 1, 2**60, 2**60]
    assert [json.loads(row["mixed"]) for row in got] == [0.5, 2**53 + 1, 0.5, 2**70]


def test_what_killed_runs_left_half_written_is_removed(sources, onnx_model, tmp_path):
    run(sources / "films.csv", tmp_path / "out", onnx_model.predict_genres)
    whole = {path.name for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "part-000001.parquet").unlink()
    (tmp_path / "out" / ".part-000001.parquet.0123abcd.tmp").touch()
    run(sources / "films.csv", tmp_path / "out", onnx_model.predict_genres)
    assert {path.name for path in (tmp_path / "out").iterdir()} == whole
