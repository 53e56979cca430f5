"""A file of films through the model: checked by line, predicted, compared with its own genres, written as CSV."""

import csv
import functools
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .prediction_movie_genre import GenrePrediction, length_batches
from .serving import MAX_BODY_MB, MAX_CHARACTERS, MAX_DESCRIPTIONS, MAX_ROWS, RefusedError, Service, validated

if TYPE_CHECKING:
    from datasets import Dataset

RESAMPLES = 300  # of the bootstrap: a person is waiting
UNKNOWN_SHOWN = 10  # genres of the file that the model does not know
DISAGREEMENTS = 20  # films shown where file and model differ most
KEEP_SECONDS = 3600  # results are deleted after that
RESULTS = tempfile.TemporaryDirectory(prefix="movie-genres-")


@dataclass
class Batch:
    """What came of a file.

    Attributes:
        films: rows that could be read, as `read_films` returns them.
        problems: line and reason of those that could not.
        predictions: one a film.
        scored: number of films whose genres are all known to the model.
        metrics: scores and their 95 % intervals over those films; None if there are none.
        unknown_genres: the file's genres that the model does not know, and of how many films each.
        disagreements: films whose own genres are least probable under the model, worst first.
        path: the complete result as CSV.
    """

    films: "Dataset"
    problems: list[str]
    predictions: list[GenrePrediction]
    foreign: int = 0  # films that are not in the language of the model's training films
    scored: int = 0
    metrics: dict[str, Any] | None = None
    unknown_genres: dict[str, int] = field(default_factory=dict)
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    path: Path = Path()

    @property
    def genre_counts(self) -> dict[str, int]:
        """How often the model gave each genre, most frequent first."""
        return dict(Counter(genre for prediction in self.predictions for genre in prediction.genres).most_common())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The films' columns, then the prediction's; a film's column of the same name gets `input_` before it."""
        from .data import carried_names

        lacking = {name for name in ("movie_name", "split") if not any(self.films[name])}
        for film, prediction in zip(self.films, self.predictions, strict=True):
            result = prediction.to_dict(flat=True)
            given = {name: value for name, value in film.items() if name not in {"place", *lacking}}
            given["genre"] = ", ".join(film["genre"])
            names = carried_names(given, result)
            yield {names[name]: value for name, value in given.items()} | result


def predict_file(
    service: Service,
    path: str | Path,
    *,
    threshold: Any = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    gone: Callable[[], bool] = lambda: False,
) -> Batch:
    """Read a CSV file of films and predict each one's genres.

    Args:
        service: the model and its turnstile; a file holds one place and takes a turn for each part of it, so that
            requests for single films get in between.
        path: a .csv file with a description in each row; genres are used if it has them.
        threshold: see `predict_genres`.
        progress: called with the films read so far and in all.
        gone: whether nobody waits for the result any more; asked before each part.

    Raises:
        RefusedError: 422 if nothing can be read or a limit is passed, 499 if nobody waits, 503 when too many do.
    """
    from .data import DataError, read_films  # brings `datasets`: only who sends files waits for it

    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise RefusedError(422, f"{path.name} is no .csv file")
    if path.stat().st_size > MAX_BODY_MB * 1_000_000:
        raise RefusedError(413, f"{path.name} is larger than {MAX_BODY_MB} MB")
    try:
        films, problems = read_films(path, skip_bad_rows=True, require_genre=False, max_rows=MAX_ROWS)
    except DataError as error:
        raise RefusedError(422, _named(str(error), path)) from None
    lengths = [len(text) for text in films["description"]]
    problems += [
        f"{place}: description has {length:,} characters, more than {MAX_CHARACTERS:,}"
        for place, length in zip(films["place"], lengths, strict=True)
        if length > MAX_CHARACTERS
    ]
    problems = [_named(problem, path) for problem in problems]
    films = films.select([i for i, length in enumerate(lengths) if length <= MAX_CHARACTERS])
    if not len(films):
        raise RefusedError(422, f"{path.name} has no usable row: {problems[0]}")

    texts: list[str] = list(films["description"])
    predictions: dict[int, GenrePrediction] = {}
    with service.turnstile.place():
        for chunk in length_batches([len(text) for text in texts], MAX_DESCRIPTIONS):
            request = validated(descriptions=[texts[i] for i in chunk], threshold=threshold)
            predictions |= zip(chunk, service.answer(request, gone), strict=True)
            progress(len(predictions), len(texts))
    result = Batch(films, problems, [predictions[i] for i in range(len(texts))], sum(map(service.foreign, texts)))
    _compare(result, service)
    result.path = _write(result, path)
    return result


def _named(message: str, path: Path) -> str:
    """A message with the file's name where its path on this machine stands, and without the command line's flags."""
    message = message.replace(str(path), path.name)
    return re.sub(r", or name it with --\w+", "", message)


def _compare(batch: Batch, service: Service) -> None:
    """Score the predictions against the file's genres, where the model knows them all, in whatever case."""
    from .data import spellings
    from .metrics import bootstrap, decision_scores, disagreements, ranking_scores

    genres = service.genres
    spelt = spellings(genres)
    told = [[spelt(name) for name in names] for names in batch.films["genre"]]
    unknown = Counter(name for names in told for name in names if name not in genres)
    batch.unknown_genres = dict(unknown.most_common(UNKNOWN_SHOWN))
    known = [i for i, names in enumerate(told) if names and set(names) <= set(genres)]
    batch.scored = len(known)
    if not known:
        return
    truth = np.array([[genre in told[i] for genre in genres] for i in known], dtype=float)
    probabilities = np.array([list(batch.predictions[i].probabilities.values()) for i in known])
    chosen = np.array([[genre in batch.predictions[i].genres for genre in genres] for i in known])
    intervals = bootstrap(decision_scores, [truth, chosen], resamples=RESAMPLES)
    batch.metrics = decision_scores(truth, chosen) | ranking_scores(truth, probabilities) | {"intervals": intervals}
    for k, loss, surprising, missing in disagreements(truth, probabilities, DISAGREEMENTS):
        film, prediction, p = batch.films[known[k]], batch.predictions[known[k]], probabilities[k]
        batch.disagreements.append(
            {
                "line": int(film["place"].rpartition(":")[2]),
                "film": film["movie_name"] or film["description"][:60],
                "file says": ", ".join(film["genre"]),
                "model says": ", ".join(prediction.genres),
                "least likely of these": f"{genres[surprising]} ({p[surprising]:.0%})",
                "likeliest other": "" if missing is None else f"{genres[missing]} ({p[missing]:.0%})",
                "log loss": round(loss, 3),
            }
        )


@functools.cache
def _start_sweeping() -> None:
    """One thread, however many results there are, deletes the old ones; RESULTS itself goes with the program."""
    threading.Thread(target=_sweep, daemon=True).start()


def _sweep() -> None:
    while True:
        with suppress(FileNotFoundError):
            for result in Path(RESULTS.name).iterdir():
                if result.stat().st_mtime < time.time() - KEEP_SECONDS:
                    shutil.rmtree(result, ignore_errors=True)
        time.sleep(KEEP_SECONDS / 10)


def _write(batch: Batch, path: Path) -> Path:
    """The complete result as CSV, with cells that are safe in a spreadsheet."""
    from .data import formula_safe

    _start_sweeping()
    output = Path(tempfile.mkdtemp(dir=RESULTS.name)) / f"{path.stem}-genres.csv"
    rows = list(batch.rows())
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(formula_safe, rows[0]))
        writer.writerows(map(formula_safe, row.values()) for row in rows)
    return output
