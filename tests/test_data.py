"""Files of every allowed form, and of many that are not."""

import json
import os
import sys
import time

import iterstrat.ml_stratifiers  # noqa: F401  # before anything is timed
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value

from modeling import data
from modeling.data import (
    Columns,
    DataError,
    assign_splits,
    carried_names,
    genre_matrix,
    genre_vocabulary,
    normalise,
    parse_genre_map,
    parse_genres,
    read_films,
    read_split,
    row_hash,
    split_hashes,
)

from .conftest import MOVIES
from .malformed import CASES, HEADER


def write(folder, content, name="films.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Forms that are read


@pytest.mark.parametrize(
    "cell",
    [
        "Action, Comedy",
        "Action|Comedy",
        "Action;Comedy",
        "['Action', 'Comedy']",
        '["Action", "Comedy"]',
        '[{"id": 28, "name": "Action"}, {"id": 35, "name": "Comedy"}]',
        "[{'id': 28, 'name': 'Action'}, {'id': 35, 'name': 'Comedy'}]",
        ["Action", "Comedy"],
        [{"id": 28, "name": "Action"}, {"id": 35, "name": "Comedy"}],
        " Action ,, Comedy, Action ",
        "Action\nComedy",
        "Action,\r\nComedy",
        "['Action', ' ', 'Comedy']",
        "('Action', 'Comedy')",
        "{'Comedy', 'Action'}",
        '{"/m/02kdv5l": "Action", "/m/05p553": "Comedy"}',
        "Action, None, Comedy, N/A",
        " Action, Comedy,\t",
        "\"Action\", 'Comedy'",
        "Action，Comedy",
        "Action、Comedy",
        "Action；Comedy",
        "Action / Comedy",
        "Ａｃｔｉｏｎ|\u200bCome\u00addy",
    ],
)
def test_genres_are_understood_however_they_are_written(cell):
    assert parse_genres(cell) == ["Action", "Comedy"]


def test_aliases_are_mapped_and_others_can_be_added():
    assert parse_genres("Sci-Fi, Drama") == ["Science Fiction", "Drama"]
    assert parse_genres("Musical", {"Musical": "Music"}) == ["Music"]
    assert parse_genres("sci-fi, Science  Fiction, drama") == ["Science Fiction", "drama"]
    assert parse_genres("TV Movie, Drama", {"TV Movie": ""}) == ["Drama"]
    assert parse_genres('{"id": 28, "name": "Action"}') == parse_genres("{28: 'Action'}") == ["Action"]
    assert parse_genres("(no genres listed)") == ["(no genres listed)"]
    assert parse_genres("('Action')") == ["Action"]
    assert parse_genres('"Action"') == ["Action"]
    assert parse_genres("Sci\u2011Fi, Kom\u00f6die, Komo\u0308die") == ["Science Fiction", "Kom\u00f6die"]
    assert parse_genres("Komo\u0308die", {"Komo\u0308die": "Comedy"}) == ["Comedy"]
    assert parse_genres("Crime / Noir, Rock'n'Roll, AC/DC") == ["Crime / Noir", "Rock'n'Roll", "AC/DC"]


def test_spellings_that_differ_in_case_alone_are_one_genre(tmp_path):
    films, _ = read_films(write(tmp_path, 'genre,description\ndrama,One.\nDrama,Two.\n"Drama, DRAMA",Three.\n'))
    assert films["genre"] == [["Drama"]] * 3


def test_a_column_that_is_called_pk_makes_no_archive(tmp_path):
    assert read_films(write(tmp_path, "PK,genre,description\n1,Drama,One.\n"))[0]["PK"] == ["1"]


def test_no_draw_takes_a_genres_last_training_row(tmp_path):
    generator, lines = np.random.default_rng(11), []
    for number in range(120):  # many genres, most of them rare
        names = {f"G{rank}" for rank in generator.zipf(1.3, generator.integers(1, 4)) if rank < 300} or {"G1"}
        lines.append(f"{'|'.join(sorted(names))},Text number {number}.\n")
    films, _ = read_films(write(tmp_path, f"genre,description\n{''.join(lines)}"))
    drawn = assign_splits(films)
    assert genre_vocabulary(drawn) == sorted({genre for row in films["genre"] for genre in row})
    assert set(drawn["split"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("cell", ["[Action", "[1, 2]", 7, [{"id": 28}], "[{[1]: 2}]"])
def test_genres_of_another_form_are_refused(cell):
    with pytest.raises(DataError, match="genre"):
        parse_genres(cell)


def test_a_csv_file_is_read_with_its_line_numbers(tmp_path):
    path = write(tmp_path, HEADER + 'One,Drama,"two\nlines"\n\nTwo,"War, Drama",None left\n')
    films, problems = read_films(path)
    assert not problems
    assert films["place"] == [f"{path}:2", f"{path}:5"]
    assert films["genre"] == [["Drama"], ["War", "Drama"]]
    assert films["description"] == ["two\nlines", "None left"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(tmp_path, delimiter):
    path = write(
        tmp_path, delimiter.join(["title", "genres", "overview"]) + f"\nOne{delimiter}Drama{delimiter}A text.\n"
    )
    films, _ = read_films(path)
    assert films["movie_name"] == ["One"]
    assert films["description"] == ["A text."]


@pytest.mark.parametrize(
    "content", ["\ufeff" + HEADER + "One,Drama,A text.\n", HEADER.replace("\n", "\r") + "One,Drama,A text.\r"]
)
def test_byte_order_marks_and_old_line_ends_are_read(tmp_path, content):
    assert read_films(write(tmp_path, content))[0]["description"] == ["A text."]


def test_parquet_and_json_lines_hold_the_same_films_as_csv(tmp_path):
    films, _ = read_films(write(tmp_path, HEADER + 'One,"Drama, War",A text.\nTwo,Crime,Another.\n'))
    rows = [{"title": r["movie_name"], "genres": r["genre"], "plot": r["description"]} for r in films]
    lines = write(tmp_path, "\n".join(map(json.dumps, rows)), "films.jsonl")
    films.select_columns(["movie_name", "genre", "description"]).to_parquet(tmp_path / "films.parquet")
    for source in (lines, tmp_path / "films.parquet"):
        again, problems = read_films(source)
        assert not problems
        for column in ("movie_name", "genre", "description"):
            assert again[column] == films[column]


@pytest.mark.parametrize("before", ["\n\n", "sep=;\r\n", " \nsep=;\n"])
def test_what_stands_before_the_header_is_passed_over(tmp_path, before):
    path = write(tmp_path, before + "genre;description\nDrama;A text, and more.\n;None\n")
    films, problems = read_films(path, skip_bad_rows=True)
    assert films["description"] == ["A text, and more."]
    line = before.count("\n") + 2
    assert films["place"] == [f"{path}:{line}"]
    assert problems == [f"{path}:{line + 1}: description is 'None', which stands for nothing"]


def test_a_stray_quote_in_a_line_spoils_its_own_row_alone(tmp_path):
    path = write(tmp_path, HEADER + 'One,Drama,"He said "hi" and left."\nTwo,War,"Two\nlines."\nThree,War,Good.\n')
    films, problems = read_films(path, skip_bad_rows=True)
    assert films["place"] == [f"{path}:3", f"{path}:5"]
    assert problems == [f"{path}:2: a quote inside a quoted cell must be doubled"]


@pytest.mark.parametrize("cell", ['"He said "hi"\nand left."', '"Two\nlines and "hi"."', '"He said "hi and left."'])
def test_where_a_row_with_a_stray_quote_ends_is_not_guessed(tmp_path, cell):
    path = write(tmp_path, f"description\nGood.\n{cell}\nGood, too.\n")
    with pytest.raises(DataError, match=r"csv:3: a quote inside a quoted cell must be doubled"):
        list(data.stream_rows(path, data.Problems(str(path))))


def test_genres_are_known_in_any_case_and_none_is_no_genre_where_none_is_needed(tmp_path):
    path = write(tmp_path, HEADER + "One,western,A text.\nTwo,None,Another.\n")
    films, _ = read_films(path, genres=["Western"], require_genre=False)
    assert films["genre"] == [["Western"], []]


def test_missing_titles_of_parquet_are_none(tmp_path):
    table = pa.table({"title": [float("nan"), None], "genre": ["War"] * 2, "description": ["A text.", "Another."]})
    pq.write_table(table, tmp_path / "films.PARQUET")
    assert read_films(tmp_path / "films.PARQUET")[0]["movie_name"] == ["", ""]


def test_a_file_without_a_good_row_says_why(tmp_path):
    path = write(tmp_path, HEADER + "One,Drama,None\n")
    with pytest.raises(DataError, match=r"has no usable row: .*films\.csv:2: description is 'None'"):
        read_films(path, skip_bad_rows=True)


def test_no_column_is_lost_to_one_of_our_own_names(tmp_path):
    path = write(tmp_path, "Genre,genre,overview,description,place,input_place\nDrama,mine,A text.,other,here,there\n")
    films, _ = read_films(path, columns=Columns(description="overview"))
    assert (films["genre"], films["description"]) == ([["Drama"]], ["A text."])
    carried = {name: films[name][0] for name in films.column_names if name.startswith("input_")}
    assert sorted(carried.values()) == ["here", "mine", "other", "there"]


def test_names_that_differ_in_case_alone_are_one_to_databases():
    assert carried_names(["Genres", "title", "Title"], ["genres"]) == {
        "Genres": "input_Genres", "title": "title", "Title": "input_Title",
    }  # fmt: skip


def test_each_line_of_json_lines_may_have_columns_of_its_own(tmp_path):
    rows = [
        {"genre": "Drama", "overview": "A text."},
        {"description": "Another.", "genre": "War", "split": "test", "title": "Two", "year": 1999},
        {"genre": "War"},
    ]
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "films.jsonl")
    films, problems = read_films(path, skip_bad_rows=True)
    assert films["description"] == ["A text.", "Another."]
    assert (films["split"], films["movie_name"], films["year"]) == (["", "test"], ["", "Two"], [None, 1999])
    assert problems == [f"{path}:3: description is missing"]
    found = data.Problems(str(path))
    assert [text for _, text in data.stream_rows(path, found)] == ["A text.", "Another."]
    assert len(found.found) == 1


def test_parts_of_a_data_set_are_its_splits(monkeypatch):
    rows = [{"genre": "Drama", "description": f"Text {i}."} for i in range(3)]
    parts = {"train": Dataset.from_list(rows[:2]), "test": Dataset.from_list(rows[2:])}
    monkeypatch.setattr(data, "load_dataset", lambda source: DatasetDict(parts))
    assert read_films("someone/films")[0]["split"] == ["train", "train", "test"]
    monkeypatch.setattr(data, "load_dataset", lambda source: DatasetDict(train=parts["train"]))
    assert read_films("someone/films")[0]["split"] == ["", ""]  # one part says nothing


def test_pictures_of_a_data_set_are_left_out(monkeypatch):
    features = Features({"overview": Value("string"), "poster": Image()})
    rows = Dataset.from_dict({"overview": ["One."], "poster": [{"bytes": b"no picture", "path": None}]}, features)
    monkeypatch.setattr(data, "load_dataset", lambda source: DatasetDict(train=rows))
    assert [record for record, _ in data.stream_rows("someone/films", data.Problems(""))] == [
        {"overview": "One.", "split": ""}
    ]


def test_escaped_characters_beyond_the_first_plane_are_read(tmp_path):
    line = '{"genre": "Drama", "description": "Love \\ud83d\\ude00."}\n'
    assert read_films(write(tmp_path, line, "films.jsonl"))[0]["description"] == ["Love \U0001f600."]


def test_a_thousand_columns_are_read(tmp_path):
    others = "".join(f",c{i}" for i in range(998))
    films, _ = read_films(write(tmp_path, f"genre,description{others}\nDrama,A text.{',' * 998}\n"))
    assert films["description"] == ["A text."]


def test_a_column_without_a_name_is_no_title(tmp_path):
    films, _ = read_films(write(tmp_path, ",genre,description\n7,Drama,A text.\n"))
    assert films["movie_name"] == [""]


def test_columns_can_be_named_and_others_are_carried_through(tmp_path):
    path = write(tmp_path, "id,Kind,Text\n7,Drama,A text.\n")
    films, _ = read_films(path, columns=Columns(genre="Kind", description="Text"))
    assert films[0]["id"] == "7"
    assert films[0]["genre"] == ["Drama"]


def test_the_projects_own_films_are_clean():
    films, problems = read_films(MOVIES)
    assert not problems
    assert len(films) >= 300
    assert len({genre for row in films["genre"] for genre in row}) == 18


# Files that are refused: file, line where there is one, and the cure


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_malformed_file_gets_a_sentence_in_less_than_a_second(tmp_path, case):
    path = case.write(tmp_path)
    started = time.process_time()
    with pytest.raises(DataError, match=case.says) as error:
        assign_splits(read_films(path)[0])
    assert time.process_time() - started < (3 if sys.gettrace() else 1)  # counting branches takes its time
    assert len(str(error.value)) < 5000
    if "different descriptions" not in case.says:
        assert str(path) in str(error.value)


def test_there_are_sixty_of_them():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_places_that_are_neither_file_nor_data_set_get_a_sentence():
    with pytest.raises(DataError, match="neither a file nor a data set"):
        read_films("nobody/nothing")
    for missing in ("folder/films.csv", "nothing", "a/b/c"):  # none of them is an id on the Hub
        with pytest.raises(DataError, match=f"^{missing} does not exist"):
            read_films(missing)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_gets_a_sentence(tmp_path):
    path = write(tmp_path, HEADER)
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        read_films(path)


def test_unknown_genres_are_named_with_the_known_ones(tmp_path):
    path = write(tmp_path, HEADER + "One,Opera,A text.\n")
    with pytest.raises(DataError, match=r":2: unknown genre 'Opera', not one of Drama, War: map it with --genre_map"):
        read_films(path, genres=["War", "Drama"])


def test_the_first_twenty_bad_rows_are_listed_and_the_rest_counted(tmp_path):
    path = write(tmp_path, HEADER + "One,Drama,A text.\n" + "Bad,Drama,\n" * 25)
    with pytest.raises(DataError) as error:
        read_films(path)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("has 25 bad rows:")
    assert sum("description is empty" in line for line in lines) == 20
    assert lines[21] == "... and 5 more"


def test_twenty_bad_rows_are_listed_with_nothing_behind_them(tmp_path):
    with pytest.raises(DataError) as error:
        read_films(write(tmp_path, HEADER + "One,Drama,A text.\n" + "Bad,Drama,\n" * 20))
    assert "more" not in str(error.value)


def test_bad_rows_can_be_left_out(tmp_path):
    films, problems = read_films(write(tmp_path, HEADER + "One,Drama,A text.\nBad,Drama,\nBad\n"), skip_bad_rows=True)
    assert films["movie_name"] == ["One"]
    assert len(problems) == 2


@pytest.mark.parametrize("text", ["{broken", "[1]", '{"Musical": 3}'])
def test_a_genre_map_that_is_none_gets_a_sentence(text):
    with pytest.raises(DataError, match="is no JSON object of names"):
        parse_genre_map(text)


def test_splits_have_their_usual_names_in_any_case(tmp_path):
    path = write(tmp_path, "genre,description,split\nWar,One.,Train\nWar,Two.,val\nWar,Three.,TEST\nWar,Four.,dev\n")
    films, _ = read_films(path)
    assert films["split"] == ["train", "validation", "test", "validation"]


def test_a_models_own_spelling_is_found_whatever_its_unicode_form(tmp_path):
    path = write(tmp_path, "genre,description\nKom\u00f6die,One.\n")
    films, _ = read_films(path, genres=["Komo\u0308die"])
    assert films["genre"] == [["Komo\u0308die"]]


def test_a_stored_split_that_is_none_gets_a_sentence(tmp_path):
    for content in (None, "{}", "[]", "nonsense"):
        path = tmp_path / "split.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(DataError, match=r"split\.json is no split\.json of a training run"):
            read_split(path)


# Splits


def test_normalising_hides_case_form_and_punctuation():
    assert normalise("  A Café — at NIGHT!") == normalise("a cafe\u0301, at night")
    assert row_hash("A b.") == row_hash("a  B") == "c8687a08aa5d"  # stored splits rely on it


def make_films(tmp_path, count=200):
    generator = np.random.default_rng(0)
    lines, genres = [], []
    for i in range(count):
        drawn = [genre for genre, p in (("Drama", 0.6), ("War", 0.2), ("Crime", 0.1)) if generator.random() < p] or [
            "Music"
        ]
        genres = genres if i % 2 else drawn
        lines.append(f'Film {i},"{", ".join(genres)}",Text number {i // 2} of many.\n')  # each description twice
    return read_films(write(tmp_path, HEADER + "".join(lines)))[0]


def test_rows_of_one_description_stay_on_one_side(tmp_path):
    films = assign_splits(make_films(tmp_path))
    sides = {}
    for text, split in zip(films["description"], films["split"], strict=True):
        sides.setdefault(normalise(text), set()).add(split)
    assert all(len(splits) == 1 for splits in sides.values())


def test_a_drawn_split_is_stratified_and_seeded(tmp_path):
    films = make_films(tmp_path, 1000)
    one, two, other = (assign_splits(films, seed=seed)["split"] for seed in (0, 0, 1))
    assert one == two
    assert one != other
    split = np.array(one)
    with pytest.raises(KeyError, match="War"):
        genre_matrix(films, ["Crime", "Drama", "Music"])
    matrix = genre_matrix(films, ["Crime", "Drama", "Music", "War"])
    for name, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        assert (split == name).mean() == pytest.approx(share, abs=0.03)
        assert np.abs(matrix[split == name].mean(0) - matrix.mean(0)).max() < 0.03


def test_each_part_has_its_own_share(tmp_path):
    drawn = assign_splits(make_films(tmp_path, 400), fractions=(0.1, 0.3))["split"]
    assert drawn.count("validation") == pytest.approx(40, abs=4)
    assert drawn.count("test") == pytest.approx(120, abs=4)
    rows = [f"{'Drama' if i % 2 else 'War'},Text {i}.,{'test' if i % 5 == 0 else 'train'}\n" for i in range(100)]
    named = read_films(write(tmp_path, "genre,description,split\n" + "".join(rows)))[0]
    assert assign_splits(named, fractions=(0.25, 0.1))["split"].count("validation") == 20


def test_four_descriptions_are_enough_to_draw_from(tmp_path):
    films = read_films(write(tmp_path, HEADER + "".join(f"Film {i},Drama,Text {i}.\n" for i in range(5))))[0]
    assert sorted(assign_splits(films)["split"]) == ["test", "train", "train", "train", "validation"]


def test_films_of_one_genre_are_drawn_too(tmp_path):
    lines = "".join(f"Film {i},Drama,Text number {i}.\n" for i in range(40))
    drawn = assign_splits(read_films(write(tmp_path, HEADER + lines))[0])["split"]
    assert [drawn.count(name) for name in ("train", "validation", "test")] == [28, 6, 6]


def test_a_stored_split_is_honoured_exactly(tmp_path):
    films = assign_splits(make_films(tmp_path), seed=3)
    again = assign_splits(make_films(tmp_path), stored=split_hashes(films))
    assert again["split"] == films["split"]


def test_the_split_column_is_honoured_and_validation_drawn_where_it_names_none(tmp_path):
    header = "genre,description,split\n"
    rows = [f"{'Drama' if i % 2 else 'War'},Text {i}.,{'test' if i % 5 == 0 else 'train'}\n" for i in range(60)]
    films = assign_splits(read_films(write(tmp_path, header + "".join(rows)))[0])
    assert [name == "test" for name in films["split"]] == [i % 5 == 0 for i in range(60)]
    assert films["split"].count("validation") == 7


def test_the_split_column_is_found_however_it_is_written_and_keeps_one_description_on_one_side(tmp_path):
    path = write(tmp_path, "genre,description,Split\nDrama,One.,train\nDrama,Two.,test\n")
    films, _ = read_films(path)
    assert films["split"] == ["train", "test"]
    assert "Split" not in films.column_names
    path = write(tmp_path, "genre,description,split\nDrama,One.,train\nDrama,Two.,test\nDrama,ONE!,test\n")
    with pytest.raises(DataError, match=r":4: the description of .*:2, which is in another split \(train, not test\)"):
        assign_splits(read_films(path)[0])


def test_a_later_line_need_not_have_a_title(tmp_path):
    lines = ['{"title": "A", "genre": "Drama", "overview": "One."}', '{"genre": "Drama", "overview": "Two."}']
    assert read_films(write(tmp_path, "\n".join(lines), "films.jsonl"))[0]["movie_name"] == ["A", ""]


def test_the_id_of_a_data_set_may_have_a_dot(monkeypatch):
    rows = Dataset.from_list([{"genre": "Drama", "description": "One."}])
    monkeypatch.setattr(data, "load_dataset", lambda source: DatasetDict(train=rows))
    assert read_films("someone/films-1.0")[0]["description"] == ["One."]


def test_an_unknown_split_and_a_genre_without_training_rows_are_named(tmp_path):
    header = "genre,description,split\n"
    path = write(tmp_path, header + "Drama,One.,train\nDrama,Two.,holdout\n")
    with pytest.raises(DataError, match=":3: split 'holdout' is none of train, validation, test"):
        assign_splits(read_films(path)[0])
    path = write(tmp_path, header + "Drama,One.,train\nOpera,Two.,validation\n")
    with pytest.raises(DataError, match=":3: genre 'Opera' has no training row"):
        assign_splits(read_films(path)[0])
    films, _ = read_films(write(tmp_path, header + "Drama,One.,test\nOpera,Two.,test\n"))
    kept_aside = {"validation": [], "test": [row_hash("One."), row_hash("Two.")]}
    assert assign_splits(films, stored=kept_aside)["split"] == ["test", "test"]  # nothing is trained on it


def test_the_vocabulary_is_that_of_the_training_rows(tmp_path):
    path = write(tmp_path, "genre,description,split\nWar,One.,train\nDrama,Two.,train\nWar,Three.,validation\n")
    assert genre_vocabulary(assign_splits(read_films(path)[0])) == ["Drama", "War"]


def test_the_greatest_number_of_rows_counts_each_once(tmp_path):
    path = write(tmp_path, HEADER + "One,Drama,Snow falls.\nTwo,Drama,\n" * 20)
    films, problems = read_films(path, skip_bad_rows=True, max_rows=40)
    assert (len(films), len(problems)) == (20, 20)
    with pytest.raises(DataError, match="has more than 39 rows"):
        read_films(path, skip_bad_rows=True, max_rows=39)


def test_a_column_that_no_table_holds_is_named(tmp_path):
    lines = [json.dumps({"genre": "Drama", "overview": f"Film {i}.", "size": size}) for i, size in enumerate((1, "a"))]
    with pytest.raises(DataError, match=r"'size' \(.*\): write them all as text, or leave the column out"):
        read_films(write(tmp_path, "\n".join(lines), "films.jsonl"))


def test_what_a_stream_left_out_is_counted_and_not_kept():
    problems = data.Problems("films.csv", limit=1)
    for line in range(3):
        problems.add(f"films.csv:{line}", "description is empty")
    assert (problems.count, problems.found) == (3, ["films.csv:0: description is empty"])
    assert "3 bad rows" in problems.report()


def test_a_date_that_python_does_not_know_is_no_crash(tmp_path):
    table = pa.table({"overview": ["Snow falls."], "genre": ["Drama"], "day": pa.array([4_000_000], pa.date32())})
    pq.write_table(table, tmp_path / "films.parquet")
    with pytest.raises(DataError, match=r"films\.parquet is no Parquet file that can be read: "):
        read_films(tmp_path / "films.parquet")
