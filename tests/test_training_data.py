"""The films and texts of a run, and how they are read."""

import csv

import numpy as np
import pytest

from modeling.arguments import DataArguments, MovieGenreTrainingArguments
from modeling.data import DataError
from modeling.teacher import READING_SHARE
from modeling.tokenization import load_tokenizer
from modeling.training import build_trainer
from modeling.training_data import Readings, load_films

from .conftest import tiny_model


def test_columns_are_found_by_the_names_given_and_genres_by_their_map(tmp_path):
    path = tmp_path / "films.csv"
    kinds = ["Musical", "War", "War Musical"]
    rows = [f"Film {i},{'|'.join(kinds[i % 3].split())},What number {i} tells." for i in range(60)]
    path.write_text("\n".join(["Name,Kind,Plot", *rows, "Film 60,War,"]) + "\n")
    names = {"text_column": "Plot", "genre_column": "Kind", "title_column": "Name"}
    films = load_films(
        DataArguments(str(path), **names, genre_map='{"Musical": "Music"}', skip_bad_rows=True, split_seed=1)
    )
    assert films.genres == ["Music", "War"]
    train = films.parts["train"]
    i = int(train[0]["movie_name"].split()[1])
    assert train[0]["description"] == f"What number {i} tells."
    assert set(train[0]["genre"]) == {"Music" if kind == "Musical" else kind for kind in kinds[i % 3].split()}


def test_too_few_validation_films_are_named_before_training(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("genre,description,split\n" + "".join(f"Drama,Text {i}.,train\n" for i in range(20)))
    with pytest.raises(DataError, match="has 3 validation films, too few"):
        load_films(DataArguments(train_file=str(path)))


def test_films_that_are_all_kept_aside_are_named_before_training(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("genre,description,split\n" + "".join(f"Drama,Text {i}.,validation\n" for i in range(20)))
    with pytest.raises(DataError, match="has no training film"):
        load_films(DataArguments(train_file=str(path)))


def test_texts_without_genres_are_learned_from_as_the_teacher_labels_them(some_films, tmp_path, caplog):
    told = load_films(DataArguments(train_file=str(some_films)))
    path = tmp_path / "stories.csv"
    held = told.parts["validation"][0]["description"]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["description"], ["A ghost haunts a lighthouse."], [held.upper()], [""]])
        csv.writer(file).writerows([["A ghost haunts a lighthouse!"], ["Two cooks fall in love in Lyon."]])
    films = load_films(DataArguments(train_file=str(some_films), transfer_file=str(path)))
    # Each once, no film kept aside, no empty one.
    assert sorted(films.transfer) == ["A ghost haunts a lighthouse!", "Two cooks fall in love in Lyon."]
    assert f"{path}: 1 bad rows left out" in caplog.text
    more = tmp_path / "more.csv"
    more.write_text("description\nTwo cooks fall in love in Lyon.\nA judge is bought.\n")
    both = load_films(DataArguments(train_file=str(some_films), transfer_file=f"{path},{more}"))
    assert both.transfer == [*films.transfer, "A judge is bought."]
    model, count = tiny_model(), len(films.parts["train"])
    tokenizer = load_tokenizer(None, model.config.max_position_embeddings)
    for teacher, rows in (("linear", count + 2), ("none", count)):
        arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), use_cpu=True, teacher=teacher)
        taught = build_trainer(model, tokenizer, films, arguments).train_dataset
        assert len(taught) == len(taught.labels) == rows
    assert "without a teacher" in caplog.text


def test_what_another_reader_says_of_a_text_is_learned(some_films, tmp_path, caplog):
    genres = load_films(DataArguments(train_file=str(some_films))).genres
    path = tmp_path / "read.csv"

    def load(columns, chance=0.25):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(["description", *columns])
            csv.writer(file).writerow(["A ghost haunts a lighthouse.", *[chance] * len(columns)])
        return load_films(DataArguments(train_file=str(some_films), transfer_file=str(path)))

    columns = [f"p_{genre}" for genre in genres]
    films = load([*columns, "p_Noir"])
    assert films.reading.tolist() == [[0.25] * len(genres)]
    model = tiny_model()
    tokenizer = load_tokenizer(None, model.config.max_position_embeddings)
    last = {}
    for teacher in ("none", "linear"):
        arguments = MovieGenreTrainingArguments(output_dir=str(tmp_path), use_cpu=True, teacher=teacher)
        last[teacher] = build_trainer(model, tokenizer, films, arguments).train_dataset.labels[-1]
    assert last["none"] == pytest.approx([0.25] * len(genres))
    assert (last["linear"] > READING_SHARE * 0.25).all()  # a part of it is what the reader says
    assert last["linear"] != pytest.approx(last["none"])

    assert load(columns[1:]).reading is None  # a list with genres that the reader does not know
    assert f"without the columns {columns[0]}" in caplog.text
    for wrong in ("much", "", 1.5, "nan"):
        with pytest.raises(DataError, match=r"'A ghost haunts a lighthouse\.' are not probabilities"):
            load(columns, wrong)

    load(columns)
    more = tmp_path / "unread.csv"  # all files say genres, or none does
    more.write_text("description\nA judge is bought.\n")
    with pytest.raises(DataError, match=r"unread\.csv: \[None.* of 'A judge is bought\.' are not probabilities"):
        load_films(DataArguments(train_file=str(some_films), transfer_file=f"{path},{more}"))


def readings(*descriptions, **told):
    arguments = MovieGenreTrainingArguments(output_dir="unused", **{"token_dropout": 0.0} | told)
    return Readings(descriptions, np.ones((len(descriptions), 1)), load_tokenizer(None, 512), 512, arguments)


def test_token_dropout_leaves_out_the_share_asked_for_and_keeps_the_ends():
    films = readings("word " * 500, "two words", "", token_dropout=0.3)
    lengths = []
    for epoch in range(50):
        films.set_epoch(epoch)
        lengths.append(len(films[0]["input_ids"]))
    assert np.mean(lengths) == pytest.approx(2 + 350, abs=8)
    assert len(set(lengths)) > 5
    films.arguments.token_dropout = 1.0
    first, *rest, last = films[1]["input_ids"]
    assert len(rest) == 1
    assert films[2]["input_ids"] == [first, last]


def test_a_reading_depends_on_seed_epoch_and_film_alone():
    text = "Mary gave Tom Baker her last bottle of water, and he drank it in the desert of her dreams. " * 3
    told = {"other_people": 0.5, "typos": 0.1, "token_dropout": 0.1}
    one, two = readings(text, text, **told), readings(text, text, **told)
    two[1], two[0]
    read = [one[0]["input_ids"], one[1]["input_ids"]]
    assert read == [two[0]["input_ids"], two[1]["input_ids"]]
    assert read[0] != read[1]
    two.set_epoch(1)
    assert two[0]["input_ids"] != read[0]
    assert readings(text, seed=1, **told)[0]["input_ids"] != read[0]
    plain = readings(text)
    assert plain[0]["input_ids"] == plain.tokenizer(text)["input_ids"]
