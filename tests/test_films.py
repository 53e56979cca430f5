"""data/check.py finds what it is there to find."""

import csv
import subprocess
import sys

import pytest

from .conftest import MOVIES, ROOT


def check(path):
    done = subprocess.run(
        [sys.executable, "data/check.py", str(path), "--reference", "nowhere.csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.fixture
def rows():
    with MOVIES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["movies.csv", "unmade.csv"])
def test_the_projects_own_texts_keep_every_rule(name):
    assert check(ROOT / "data" / name)[0] == 0


STORIES = ROOT / "data" / "stories.csv"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: None, "960"),
        (lambda rows: rows[5].update(kind="tale"), "kind 'tale' is none of"),
        (lambda rows: rows[5].update(p_Drama="1.5"), "chances ['1.5'] are no numbers from 0 to 1"),
        (lambda rows: rows[5].update({name: "0" for name in rows[5] if name[:2] == "p_"}), "no genre has a chance"),
        (lambda rows: rows[5].update(description="Too short to say."), "description has 4 words"),
        (lambda rows: rows[5].update(description="Ein Mann ging nach Hause. " * 8), "stray white space"),
        (lambda rows: rows[5].update(description=rows[6]["description"]), "nearly the same text as"),
        (
            lambda rows: [
                row.update(description=row["description"] + " They never saw it coming.") for row in rows[:31]
            ],
            "'they never saw it coming' stands in 31 rows",
        ),
    ],
)
def test_the_stories_keep_theirs(tmp_path, spoil, message):
    with STORIES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    spoil(rows)
    code, printed = check(write(tmp_path / "stories.csv", rows))
    assert message in printed
    assert code == (message != "960")


def drama(rows):
    return next(row for row in rows if row["genre"].startswith("Drama"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: drama(rows).update(genre="Drame"), "unknown genre 'Drame'"),
        (lambda rows: drama(rows).update(genre="Drama, Drama"), "repeats a genre"),
        (lambda rows: drama(rows).update(year="1899"), "year '1899' lies outside"),
        (lambda rows: drama(rows).update(split="dev"), "split 'dev' is none of"),
        (lambda rows: drama(rows).update(country=""), "country '' is empty"),
        (lambda rows: drama(rows).update(description="Too short to say."), "description has 4 words"),
        (
            lambda rows: drama(rows).update(description=drama(rows)["description"] + " What a drama."),
            "names its genre: ['drama']",
        ),
        (lambda rows: drama(rows).update(description="Ein Mann geht nach Hause, " * 8), "stray white space"),
        (
            lambda rows: drama(rows).update(description=("Ein Mann geht nach Hause, " * 8).strip()),
            "does not read as English",
        ),
        (lambda rows: rows.append(dict(rows[0])), "stands already at"),
        (lambda rows: rows.append({**rows[0], "year": "1999"}), "nearly the same text as"),
        (
            lambda rows: [
                row.update(description=row["description"] + " They never saw it coming.") for row in rows[:4]
            ],
            "'they never saw it coming' stands in 4 rows",
        ),
        (lambda rows: rows.__delitem__(slice(40, None)), "40 rows, expected at least"),
    ],
)
def test_a_broken_rule_is_found_and_named(tmp_path, rows, spoil, message):
    spoil(rows)
    code, printed = check(write(tmp_path / "films.csv", rows))
    assert code == 1
    assert message in printed


def test_words_taken_from_a_reference_are_found(tmp_path, rows):
    reference = tmp_path / "reference.csv"
    words = rows[0]["description"].split()
    with reference.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["movie_name", "genre", "description"], ["Other", "Drama", f"Once, {' '.join(words[:12])}"]])
    done = subprocess.run(
        [sys.executable, "data/check.py", str(MOVIES), "--reference", str(reference)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "stands in an existing synopsis" in done.stdout
    assert "distance of the genre mix" in done.stdout
