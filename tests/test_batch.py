"""A file of films: checked, predicted, compared, and written so that no spreadsheet runs it."""

import csv
import time

import pytest

from modeling import batch
from modeling.batch import predict_file
from modeling.data import formula_safe
from modeling.page import report
from modeling.serving import RefusedError, Service, Turnstile

from .conftest import tiny_model

FILM = "A retired gunman rides into a border town where the sheriff owes him a horse."


@pytest.fixture(scope="module")
def service(tokenizer):
    model = tiny_model()
    model._tokenizer = tokenizer
    return Service(model, name="tiny")


@pytest.fixture
def films(tmp_path):
    def write(*rows, header=("movie_name", "genre", "description"), name="films.csv"):
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\rx",
        "\nx",
        "\0x",
        "  =1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        "\u3000=1",
        '"=1"',
        "\ufeff=1",
    ],
)
def test_cells_that_a_spreadsheet_would_run_are_disarmed(text):
    assert formula_safe(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Bar;=1+1", "Bar;'=1+1"),
        ("Bar; \t@SUM(A1);-2+3", "Bar; \t'@SUM(A1);'-2+3"),
        ("Bar\n＝1", "Bar\n'＝1"),
        ("a|+1", "a|'+1"),
        ("=1;=2", "'=1;'=2"),
        ("\t=1", "'\t'=1"),
        ('a;"=1+1&";b', 'a;"\'=1+1&";b'),
        ("a\t\ufeff=1", "a\t\ufeff'=1"),
    ],
)
def test_nor_one_that_begins_behind_another_delimiter(text, safe):
    assert formula_safe(text) == safe
    assert formula_safe(safe) == safe


@pytest.mark.parametrize("value", ["Drama", "-5", "+1.5e3", "", "a=b", "3 - 2", -0.5, None, 7])
def test_other_cells_are_left_alone(value):
    assert formula_safe(value) == value


def test_a_result_carries_the_files_own_columns_in_the_files_order(service, films):
    path = films(
        ("Short", "Western", "He rides.", "1950", "x"),
        ("=Long()", "Crime, Drama", f"{FILM} {FILM}", "1951", "y"),
        header=("movie_name", "genre", "description", "year", "confidence"),
    )
    done = []
    result = predict_file(service, path, progress=lambda *step: done.append(step))
    assert done == [(2, 2)]
    with result.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["movie_name"] for row in rows] == ["Short", "'=Long()"]
    assert [row["year"] for row in rows] == ["1950", "1951"]
    assert [row["input_confidence"] for row in rows] == ["x", "y"]
    expected = service.model.predict_genres("He rides.")
    assert rows[0]["genres"] == ", ".join(expected.genres)
    assert float(rows[0]["confidence"]) == pytest.approx(expected.confidence, abs=1e-6)


def test_films_of_another_language_are_counted(service, films, monkeypatch):
    monkeypatch.setattr(service.model.config, "max_fertility", 1.0)
    one_piece = next(word for word in service.model.tokenizer.vocab if word.isalpha() and len(word) > 3)
    result = predict_file(service, films((one_piece,), ("Qzx vbnwk",), header=("description",)))
    assert result.foreign == 1
    assert "1 of them are not in the language" in report(result)
    monkeypatch.setattr(service.model.config, "max_fertility", None)  # nothing is known of its training
    result = predict_file(service, films(("Qzx vbnwk",), header=("description",)))
    assert result.foreign == 0
    assert "language" not in report(result)


def test_no_column_of_the_file_is_lost_not_even_where_a_result_is_read_again(service, films):
    header = ("place", "confidence", "input_confidence", "description")
    path = films(("Tonga", "mine", "older", FILM), header=header)
    for turn in range(2):
        path = predict_file(service, path).path
        with path.open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["input_place"] == "Tonga"
        assert not {"movie_name", "split"} & row.keys()  # which the file lacks
        assert {"mine", "older"} <= set(row.values())
        assert sum(name.endswith("input_confidence") for name in row) == 2 + turn


def test_genres_that_the_model_does_not_know_are_counted_and_told(service, films):
    rows = [("A", "western", FILM), ("B", "Opera, Drama", FILM), ("C", "<b>Opera", FILM), ("D", "Opera", FILM)]
    result = predict_file(service, films(*rows))
    assert result.scored == 1
    assert result.unknown_genres == {"Opera": 2, "<b>Opera": 1}
    assert "does not know, Opera (2), &lt;b&gt;Opera (1)." in report(result)


def test_problems_are_told_by_line_of_the_file(service, films):
    result = predict_file(service, films(("A", "", FILM), ("B", "", ""), ("C", "", "___"), ("D", "", "x" * 20_001)))
    assert len(result.films) == 1
    assert result.problems == [
        "films.csv:3: description is empty",
        "films.csv:4: description has no words",
        "films.csv:5: description has 20,001 characters, more than 20,000",
    ]


def test_genres_of_the_file_are_scored_and_surprises_come_first(service, films):
    p = service.model.predict_genres(FILM).probabilities
    order = sorted(p, key=p.__getitem__)
    result = predict_file(
        service,
        films(("Right", order[-1], FILM), ("Wrong", order[0], FILM), ("Opera", "Opera", FILM), ("None", "", FILM)),
    )
    assert result.scored == 2
    assert set(result.metrics["intervals"]) >= {"micro_f1", "subset_accuracy"}
    first = result.disagreements[0]
    assert (first["film"], first["line"]) == ("Wrong", 3)
    assert first["least likely of these"].startswith(order[0])
    assert first["likeliest other"].startswith(order[-1])


def test_a_file_without_genres_has_no_scores(service, films):
    result = predict_file(service, films((FILM,), header=("plot",)))
    assert (result.scored, result.metrics, result.disagreements) == (0, None, [])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([("1", "2")], {"header": ("a", "b")}, "films.csv has no description column; it has 'a, b': rename it$"),
        ([("A", "", "")], {}, "films.csv has no usable row"),
        ([("A", "", FILM)], {"name": "films.parquet"}, "films.parquet is no .csv file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_without_the_servers_paths(service, films, rows, options, message):
    with pytest.raises(RefusedError, match=message) as refused:
        predict_file(service, films(*rows, **options))
    assert refused.value.status == 422
    assert "/" not in str(refused.value)


@pytest.mark.parametrize("cell", ["\t" * 200_000, "1" * 200_000 + "x", "; " * 100_000])
def test_a_long_cell_is_made_safe_at_once(cell):
    started = time.perf_counter()
    formula_safe(cell)
    assert time.perf_counter() - started < 1  # quadratic, it would take minutes


def test_genres_that_no_film_has_or_is_given_do_not_lower_macro_f1(service, films):
    given = predict_file(service, films(("A", "", FILM))).predictions[0].genres
    assert predict_file(service, films(("A", ", ".join(given), FILM))).metrics["macro_f1"] == 1


def test_a_result_is_deleted_after_its_time(service, films, monkeypatch):
    monkeypatch.setattr(batch, "KEEP_SECONDS", 1)
    batch._start_sweeping.cache_clear()
    path = predict_file(service, films(("A", "", FILM))).path
    for _ in range(50):
        if not path.parent.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} is still there")


def test_a_file_has_a_greatest_number_of_films(service, films):
    with pytest.raises(RefusedError, match=r"films\.csv has more than 2,000 rows: send it in parts"):
        predict_file(service, films(*[("A", "", FILM)] * 2001))
    with pytest.raises(RefusedError, match="more than 2,000 rows"):
        predict_file(service, films(*[("A", "", "")] * 2001))  # bad rows count too


def test_a_file_has_a_greatest_size(service, films, monkeypatch):
    monkeypatch.setattr(batch, "MAX_BODY_MB", 0)
    with pytest.raises(RefusedError, match=r"films\.csv is larger than") as refused:
        predict_file(service, films(("A", "", FILM)))
    assert refused.value.status == 413


def test_a_file_that_nobody_waits_for_is_read_no_further(service, films):
    read = []
    with pytest.raises(RefusedError, match="nobody waits") as refused:
        predict_file(
            service,
            films(*[("A", "", f"{FILM} {i}") for i in range(100)]),
            progress=lambda done, total: read.append(done),
            gone=lambda: bool(read),
        )
    assert refused.value.status == 499
    assert len(read) == 1


def test_a_file_needs_a_place_in_the_queue(service, films, monkeypatch):
    monkeypatch.setattr(service, "turnstile", Turnstile(concurrency=1, queue=0))
    with service.turnstile.place(), pytest.raises(RefusedError, match="too many requests") as refused:
        predict_file(service, films(("A", "", FILM)))
    assert refused.value.status == 503
