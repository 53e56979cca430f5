"""Charts: what they draw, and that no text becomes markup."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from modeling import charts
from modeling.prediction_movie_genre import GenrePrediction, LabelSets
from modeling.verdict import Verdict

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def parsed(markup):
    """The chart as a tree: it is well formed, and everything hostile stayed text."""
    tree = ET.fromstring(f"<div>{markup}</div>")
    assert not list(tree.iter("img"))
    return tree


@pytest.mark.parametrize(
    "markup",
    [
        charts.answer(GenrePrediction([HOSTILE], {HOSTILE: 0.9}, 0.9), Verdict("torn", HOSTILE), HOSTILE, [(0, 9, -1)]),
        charts.refused(HOSTILE),
        charts.probability_bars({HOSTILE: 0.5}, [HOSTILE], np.array([0.4]), [HOSTILE], {HOSTILE: 0.1}),
        charts.count_bars({HOSTILE: 3}, HOSTILE),
        charts.problems([HOSTILE]),
        charts.figures(HOSTILE, [HOSTILE], [[HOSTILE]]),
        charts.scores({HOSTILE: 0.5, "intervals": {HOSTILE: [0.4, 0.6]}}, HOSTILE),
        charts.genre_table({HOSTILE: {"f1": 0.5, "films": 3}}),
        charts.curves({HOSTILE: {"precision": [1, 0.5], "recall": [0, 1]}}),
        charts.genre_graph([HOSTILE, "Drama"], [[1, 0.5], [0.5, 1]]),
        charts.training_facts({"command": HOSTILE, "data": {"source": HOSTILE}, "versions": {HOSTILE: HOSTILE}}),
    ],
)
def test_text_stays_text(markup):
    assert "onerror" in "".join(parsed(markup).itertext()) + markup


def test_bars_stand_in_order_with_threshold_and_spread():
    markup = charts.probability_bars(
        {"Comedy": 0.2, "Drama": 0.8},
        ["Comedy", "Drama"],
        np.array([0.3, 0.25]),
        ["Drama"],
        {"Comedy": 0.3, "Drama": 0.1},
    )
    rows = list(parsed(markup).iter("tr"))
    assert [row.find("th").text for row in rows] == ["Drama", "Comedy"]
    assert [row.get("class") for row in rows] == ["on", "off"]
    fill, line, spread = rows[0].iter("i")
    assert (fill.get("style"), line.get("style")) == ("width:80.00%", "left:25.00%")
    assert spread.get("style") == "left:70.00%;width:20.00%"
    assert list(rows[1].iter("i"))[2].get("style") == "left:0.00%;width:50.00%"  # no probability below zero


def test_where_whole_sets_are_compared_no_genre_has_a_threshold():
    rule = LabelSets.from_counts({"10": 2, "11": 1}, 0.5)
    markup = charts.probability_bars({"Comedy": 0.2, "Drama": 0.8}, ["Comedy", "Drama"], rule, ["Drama"])
    assert [icon.get("class") for icon in parsed(markup).iter("i")] == ["mg-fill", "mg-fill"]
    assert "whole sets of genres are compared" in markup
    assert "threshold" not in markup


def test_the_empty_frame_is_as_large_as_the_chart():
    empty = charts.probability_bars(None, ["Comedy", "Drama"], np.array([0.3, 0.25]))
    assert len(list(parsed(empty).iter("tr"))) == 2


def test_a_cut_text_is_told():
    cut = GenrePrediction(["Drama"], {"Drama": 0.9}, 0.9, truncated_at=1200)
    assert "first 1,200 of 5,000 characters" in charts.answer(cut, Verdict("sure", "Sure."), "x" * 5000)


def test_the_reliability_diagram_has_a_point_a_bin():
    markup = charts.reliability({"mean_probability": [0.1, 0.9], "frequency": [0.2, 0.8], "count": [50, 50]})
    points = list(parsed(markup).iter("circle"))
    assert [(point.get("cx"), point.get("cy")) for point in points] == [("10.0", "80.0"), ("90.0", "20.0")]


def test_the_graph_draws_strong_ties_alone_and_their_direction():
    markup = charts.genre_graph(["War", "Drama", "Music"], [[1, 0.9, 0], [0.1, 1, 0.2], [0, 0.3, 1]])
    titles = [title.text for title in parsed(markup).iter("title")]
    assert titles == ["War → Drama: 90%", "Music → Drama: 30%"]


def test_what_is_drawn_is_said_too():
    row = charts.probability_bars({"Crime": 0.25, "Drama": 0.5}, ["Crime", "Drama"], np.array([0.3, 0.4]))
    assert 'aria-label="Drama: 50.0%, threshold 40.0%"' in row
    assert 'role="status"' in charts.invitation()


def test_the_strongest_words_are_told_without_their_colours():
    text, prediction = "A sheriff laughs in the snow.", GenrePrediction(["Western"], {"Western": 0.9}, 0.9)
    weights = [(0, 1, 0.01), (2, 9, 0.5), (10, 16, -0.3), (17, 19, 0.02), (20, 23, 0.02), (24, 28, 0.1)]
    markup = charts.answer(prediction, Verdict("sure", "Sure."), text, weights)
    assert "Words that spoke most: sheriff, laughs (against), snow, in, the." in markup
    assert "Words that spoke" not in charts.answer(prediction, Verdict("sure", "Sure."), text)
