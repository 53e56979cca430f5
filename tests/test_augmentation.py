"""What may change in a description without changing its genres, and what must not."""

import csv
import random

import pytest

from modeling.augmentation import _FEMALE, _LAST, _MALE, mistyped, other_people

from .conftest import MOVIES, ROOT


class Always(random.Random):
    """Draws that always turn "he" into "she", or never."""

    def __init__(self, turn):
        super().__init__(0)
        self.turn = turn

    def random(self):
        return 0.0 if self.turn else 0.9


def test_a_person_keeps_one_new_name_throughout():
    told = other_people(
        "Mary Baker hides. Tom waits. When Mary returns, Tom's gun is gone and so is Baker.", Always(False)
    )
    mary, baker, tom = told.split()[0], told.split()[1], told.split()[3]
    assert mary in _FEMALE
    assert tom in _MALE
    assert baker in _LAST
    assert told == f"{mary} {baker} hides. {tom} waits. When {mary} returns, {tom}'s gun is gone and so is Baker."


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("He gave her his coat and she thanked him.", "She gave him her coat and he thanked her."),
        ("Her brother hurt himself; she saw her and left.", "His brother hurt herself; he saw him and left."),
        ("The choice is hers. HER own.", "The choice is his. His own."),
        ("The heroine of the theatre there, this and sheep.", "The heroine of the theatre there, this and sheep."),
    ],
)
def test_he_and_she_change_places(text, turned):
    assert other_people(text, Always(True)) == turned
    assert other_people(text, Always(False)) == text


def test_places_keep_their_names():
    text = "From San Antonio to Santa Monica the desert is full of gold."
    assert other_people(text, Always(True)) == text


def test_letters_are_mistyped_at_the_rate_asked_for():
    text = "abcdefghij " * 1000
    assert mistyped(text, 0.0, random.Random(0)) == text
    slips = mistyped(text, 0.05, random.Random(0))
    spoilt = sum(word != "abcdefghij" for word in slips.split()) / 1000
    assert 1 - 0.95**10 - 0.06 < spoilt < 1 - 0.95**10 + 0.06
    assert slips.count(" ") >= 990  # words stay apart


def test_the_projects_own_films_survive():
    with MOVIES.open(encoding="utf-8", newline="") as file:
        texts = [row["description"] for row in csv.DictReader(file)]
    draw = random.Random(0)
    changed = [other_people(text, draw) for text in texts]
    assert sum(new != text for new, text in zip(changed, texts, strict=True)) > 500
    assert all(len(new.split()) == len(text.split()) for new, text in zip(changed, texts, strict=True))


def test_no_name_is_both_taught_and_tested():
    with (ROOT / "benchmarks" / "behaviour" / "names.csv").open(encoding="utf-8", newline="") as file:
        tested = {row["name"] for row in csv.DictReader(file)}
    assert not tested & {*_FEMALE, *_MALE, *_LAST}
    for names in (_FEMALE, _MALE, _LAST):
        assert names == list(dict.fromkeys(names))
