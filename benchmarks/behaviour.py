"""What the model does, not only how often it is right; writes results/behaviour.json.

    python -m benchmarks.behaviour [--model checkpoint]

After CheckList (Ribeiro et al. 2020): texts written for one property each (behaviour/*.csv), and the project's own test
films under changes that should not matter. Every share comes with the number of cases it is a share of.
"""

import argparse
import csv
import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.common import CHECKPOINT, MOVIES, RESULTS, ROOT, about, movies, weights, write
from modeling import MovieGenreModel
from modeling.metrics import macro_f1
from modeling.serving import Service

TEXTS = ROOT / "benchmarks" / "behaviour"
HE = {"he": "he", "him": "him", "his": "his", "himself": "himself", "He": "He", "His": "His"}
SHE = {"he": "she", "him": "her", "his": "her", "himself": "herself", "He": "She", "His": "Her"}
NOISE_DRAWS = 10  # a single one says little: its macro-F1 on so few films moves by some .02
FORMS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "lower case": str.lower,
    "white space": lambda text: "  " + text.replace(" ", " \t ").replace(". ", ".\n\n") + "\n",
    "decomposed Unicode": lambda text: unicodedata.normalize("NFD", text),
    "composed Unicode": lambda text: unicodedata.normalize("NFC", text),
}


def rows(name: str) -> list[dict[str, str]]:
    """A file of behaviour/."""
    with (TEXTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Model:
    """Probabilities (texts, genres) and chosen genres of many texts."""

    def __init__(self, name: str) -> None:
        self.network = MovieGenreModel.from_pretrained(name).eval()
        self.genres = self.network.config.genres

    def __call__(self, texts: Sequence[str]) -> "Answers":
        """(texts, genres) and one set a text."""
        found = self.network.predict_genres(list(texts))
        return np.array([[one.probabilities[g] for g in self.genres] for one in found]), [
            frozenset(one.genres) for one in found
        ]


Answers = tuple[np.ndarray, list[frozenset[str]]]


def changed(before: Answers, after: Answers) -> dict[str, Any]:
    """Share of label sets that differ, and how far a genre's probability moves on average."""
    return {
        "changed": float(np.mean([a != b for a, b in zip(before[1], after[1], strict=True)])),
        "mean_probability_change": float(np.abs(before[0] - after[0]).mean()),
        "cases": len(before[1]),
    }


def typo(text: str, draw: np.random.Generator) -> str:
    """Two neighbouring letters inside one word change places."""
    places = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha() and text[i] != text[i + 1]]
    i = int(draw.choice(places))
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def noise(text: str, draw: np.random.Generator, share: float = 0.05) -> str:
    """A share of the letters replaced by others, left out or doubled."""
    letters = []
    for letter in text:
        if letter.isalpha() and draw.random() < share:
            letter = draw.choice(["", letter * 2, draw.choice(list("abcdefghijklmnopqrstuvwxyz"))])
        letters.append(letter)
    return "".join(letters)


def plain(model: Model) -> dict[str, Any]:
    """Is the genre named that a plain text is written for?"""
    cases = rows("plain")
    _, sets = model([case["description"] for case in cases])
    right = {genre: [] for genre in dict.fromkeys(case["genre"] for case in cases)}
    for case, chosen in zip(cases, sets, strict=True):
        right[case["genre"]].append(case["genre"] in chosen)
    return {
        "right": float(np.mean([value for values in right.values() for value in values])),
        "cases": len(cases),
        "per_genre": {genre: float(np.mean(values)) for genre, values in right.items()},
    }


def names(model: Model, draws: int = 5) -> dict[str, Any]:
    """Does another name change the genres?"""
    people, draw = rows("names"), np.random.default_rng(0)
    first = [p["name"] for p in people if p["kind"] == "male"]
    last = [p["name"] for p in people if p["kind"] == "surname"]
    fills = [
        [case["description"].format(first=draw.choice(first), last=draw.choice(last), **HE) for _ in range(draws + 1)]
        for case in rows("templates")
    ]
    base = [texts[0] for texts in fills] * draws
    return changed(model(base), model([texts[i] for i in range(1, draws + 1) for texts in fills]))


def gender(model: Model, draws: int = 5) -> dict[str, Any]:
    """How far does "she" for "he", with a woman's name, move each genre's probability, on average?"""
    people = rows("names")
    last = [p["name"] for p in people if p["kind"] == "surname"]
    pairs = []
    for i, case in ((i + turn, case) for turn in range(draws) for i, case in enumerate(rows("templates"))):
        for pronouns, kind in ((HE, "male"), (SHE, "female")):
            first = [p["name"] for p in people if p["kind"] == kind]
            name = {"first": first[i % len(first)], "last": last[i % len(last)]}
            pairs.append(case["description"].format(**name, **pronouns))
    probabilities = model(pairs)[0]
    shift = (probabilities[1::2] - probabilities[::2]).mean(axis=0)
    return {
        "largest": float(np.abs(shift).max()),
        "cases": len(pairs) // 2,
        "she_less_he": {genre: float(value) for genre, value in zip(model.genres, shift, strict=True)},
    }


def added(model: Model, texts: Sequence[str], bases: int = 5) -> dict[str, Any]:
    """Does a sentence that speaks for a genre raise its probability?"""
    draw, cases = np.random.default_rng(0), []
    for case in rows("added"):
        cases += [
            (case["genre"], text, f"{text} {case['sentence']}") for text in draw.choice(texts, bases, replace=False)
        ]
    before, after = model([case[1] for case in cases])[0], model([case[2] for case in cases])[0]
    places = [model.genres.index(case[0]) for case in cases]
    return {
        "risen": float(np.mean([after[i, g] > before[i, g] for i, g in enumerate(places)])),
        "cases": len(cases),
    }


def negation(model: Model) -> dict[str, Any]:
    """Does "no ghosts" lower what "ghosts" raised? Reported, not promised."""
    cases = rows("negation")
    positive, negative = model([c["positive"] for c in cases])[0], model([c["negative"] for c in cases])[0]
    places = [model.genres.index(case["genre"]) for case in cases]
    fall = np.array([positive[i, g] - negative[i, g] for i, g in enumerate(places)])
    return {"lowered": float((fall > 0).mean()), "mean_fall": float(fall.mean()), "cases": len(cases)}


def company(model: Model, texts: Sequence[str]) -> dict[str, Any]:
    """Largest difference in probability between a text alone, among others, and in another order."""
    together = model(texts)[0]
    turned = model(texts[::-1])[0][::-1]
    alone = np.concatenate([model([text])[0] for text in texts])
    return {
        "largest_difference": float(max(np.abs(together - alone).max(), np.abs(together - turned).max())),
        "cases": len(texts),
    }


def language(model: Model) -> dict[str, Any]:
    """How many texts in other languages, and how many films in its own, are told to be in another language."""
    service = Service(model.network)
    others = [row["text"] for row in rows("off_topic") if row["kind"] == "other_language"]
    told = {"others": others, "films": [film["description"] for film in movies()]}
    return {
        name: {"told": float(np.mean([service.foreign(text) for text in texts])), "cases": len(texts)}
        for name, texts in told.items()
    }


def measure(model: Model) -> dict[str, Any]:
    """Every figure."""
    films = movies("test")
    texts = [film["description"] for film in films]
    truth = np.array([[g in film["genre"].split(", ") for g in model.genres] for film in films], dtype=float)
    written = [case["description"] for case in rows("plain")]
    both = [*texts, *written]
    clean_both = model(both)
    clean = clean_both[1][: len(texts)]

    def macro(sets: Sequence[frozenset[str]]) -> float:
        return macro_f1(truth, np.array([[g in chosen for g in model.genres] for chosen in sets], dtype=float))

    draw, noisy = np.random.default_rng(0), np.random.default_rng(0)
    costs = [macro(clean) - macro(model([noise(t, noisy) for t in texts])[1]) for _ in range(NOISE_DRAWS)]
    return {
        "plain": plain(model),
        "typo": changed(clean_both, model([typo(text, draw) for text in both])),
        "noise": {
            "macro_f1_cost": float(np.mean(costs)),
            "standard_deviation": float(np.std(costs, ddof=1)),
            "draws": NOISE_DRAWS,
            "cases": len(texts),
        },
        "names": names(model),
        "gender": gender(model),
        "form": {name: changed(clean_both, model([form(t) for t in both])) for name, form in FORMS.items()},
        "added_sentence": added(model, texts),
        "negation": negation(model),
        "language": language(model),
        "company": company(model, texts[:60]),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(CHECKPOINT))
    options = parser.parse_args()
    result = about("behaviour", MOVIES) | {"model": weights(options.model), **measure(Model(options.model))}
    write(RESULTS / "behaviour.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
