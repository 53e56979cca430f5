"""Films from files and data sets: read, checked row by row, and split.

A CSV file is read by the csv module alone: it knows the line of every record, which every complaint here names, and it
does not guess at types, missing values or an index. Parquet and JSON lines are read row by row, Hub data sets come
through `datasets`; films leave this module as a `datasets.Dataset`, texts of any kind as a stream of rows.
"""

import ast
import csv
import functools
import hashlib
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset

from .prediction_movie_genre import SURROGATE, WORD

SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation"}
GENRE_MAP = {"Sci-Fi": "Science Fiction", "SciFi": "Science Fiction", "Science-Fiction": "Science Fiction"}
COLUMN_ALIASES = {
    "movie_name": ("movie_name", "title", "name", "original_title"),
    "genre": ("genre", "genres"),
    "description": ("description", "overview", "plot", "synopsis", "summary"),
}
OWN_COLUMNS = ("movie_name", "genre", "description", "split", "place")  # of every film that leaves this module
MAX_COLUMNS = 1000
MAX_CELL_CHARACTERS = 1_000_000
MAX_LINE_CHARACTERS = 16_000_000
MAX_GENRE_CHARACTERS = 10_000
NOTHING = ("none", "nan", "null", "n a", "na")  # how programs write a missing value, normalised
PROBLEMS_SHOWN = 20
DELIMITERS = ",;\t|"
# What a spreadsheet may take for a formula, full-width forms, leading blanks and a quote included; numbers are none.
# Where another delimiter than the comma is usual, a cell may begin in the middle of a text.
FORMULA = re.compile(r"^[\s\"\ufeff]*[=+\-@＝＋－＠]|^[\t\r\n\0]")
FORMULA_INSIDE = re.compile(r"([;|\t\r\n\0](?:[^\S\t\r\n]|[\"\ufeff])*)([=+\-@＝＋－＠])")
LITERAL = re.compile(r"""^[{(]\s*(['"]|\d+\s*:)""")  # an object, or a set or tuple of names
QUOTES_THAT_MEET = re.compile(r"""(['"])\s+['"][^\s,\])}]""")
SEPARATORS = (r"[|;]", r"[,、\n]", r"\s/\s")  # of genres, the first that a cell has
UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\ufeff"))  # characters that take no room
NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")


class DataError(ValueError):
    """A file that cannot be used, or rows in it; the message names file, line, reason and cure."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns in the user's file; None looks for the usual ones (title, overview, plot, genres, ...)."""

    movie_name: str | None = None
    genre: str | None = None
    description: str | None = None


@dataclass
class Record:
    """One raw row and where it stands."""

    place: str
    values: dict[str, Any]


@dataclass
class Problems:
    """Bad rows, collected so that the first ones can be shown together.

    Attributes:
        source: where they stand.
        limit: how many are described; all if None. A stream should not keep what it has read.
        found: descriptions.
        count: how many there are.
    """

    source: str
    limit: int | None = None
    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: str, reason: str) -> None:
        """Note a bad row."""
        self.count += 1
        if self.limit is None or len(self.found) < self.limit:
            self.found.append(f"{place}: {reason}")

    def report(self) -> str:
        """The first problems and how many there are."""
        lines = [f"{self.source} has {self.count} bad row{'s' * (self.count > 1)}:", *self.found[:PROBLEMS_SHOWN]]
        if self.count > PROBLEMS_SHOWN:
            lines.append(f"... and {self.count - PROBLEMS_SHOWN} more")
        return "\n".join(lines)

    def nothing_left(self) -> str:
        """What to say where no row is good."""
        why = f": {self.found[0]}" if self.found else ""
        return f"{self.source} has no usable row{why}"


def formula_safe(value: Any) -> Any:
    """A cell's value that no spreadsheet takes for a formula: text that looks like one gets `'` before it."""
    if not isinstance(value, str) or NUMBER.match(value):
        return value
    text = FORMULA_INSIDE.sub(r"\1'\2", value)
    return f"'{text}" if FORMULA.search(text) else text


def carried_names(columns: Iterable[str], predicted: Collection[str]) -> dict[str, str]:
    """Name of each of the input's columns in a result: `input_` before one that a prediction, or another, has.

    Names that differ in case alone are the same: to databases they are.
    """
    names, taken = {}, {name.casefold() for name in predicted}
    for column in columns:
        name = column
        while name.casefold() in taken:
            name = f"input_{name}"
        taken.add(name.casefold())
        names[column] = name
    return names


def read_films(
    source: str | Path,
    *,
    columns: Columns = Columns(),
    genre_map: Mapping[str, str] | None = None,
    genres: Sequence[str] | None = None,
    skip_bad_rows: bool = False,
    require_genre: bool = True,
    max_rows: int | None = None,
) -> tuple[Dataset, list[str]]:
    """Read and check films.

    Args:
        source: a .csv, .parquet, .jsonl or .json (lines) file, or the id of a data set on the Hub.
        columns: names of the columns.
        genre_map: other spellings of genres, beside those of `GENRE_MAP`.
        genres: the genres a row may have; any if None.
        skip_bad_rows: leave bad rows out instead of raising.
        require_genre: whether each row must have a genre.
        max_rows: rows, good and bad, that are read at most; any number if None.

    Returns:
        The films, with `movie_name` (str), `genre` (list of str), `description` (str), `split` (str, may be empty),
        `place` (file and line) and the other columns as they stand (one that has such a name as `input_<name>`); and
        the problems of the rows left out.

    Raises:
        DataError: if the file cannot be read, has too many rows, or rows are bad and `skip_bad_rows` is off.
    """
    source = str(source)
    aliases = GENRE_MAP | dict(genre_map or {})
    known = None if genres is None else set(genres)
    spelt = spellings(genres or ())
    problems = Problems(source)
    rows: list[dict[str, Any]] = []
    names_in = _ColumnNames(columns, source, require_genre)
    for record in _records(source, problems):
        if max_rows is not None and len(rows) + problems.count >= max_rows:
            raise DataError(f"{source} has more than {max_rows:,} rows: send it in parts")
        names = names_in(record)
        others = carried_names((name for name in record.values if name not in names.values()), OWN_COLUMNS)
        row = {carried: record.values[name] for name, carried in others.items()}
        told = {name: record.values.get(column) for name, column in names.items()}
        row |= {
            "movie_name": _name(told.get("movie_name")),
            "description": told["description"],
            "split": SPLIT_ALIASES.get(split := _name(told.get("split")).casefold(), split),
            "place": record.place,
        }
        try:
            found = parse_genres(told.get("genre"), aliases)
            row["genre"] = list(dict.fromkeys(spelt(name) for name in found))
            if not require_genre and _stand_for_nothing(found):
                row["genre"] = []
            _check_row(row, known, require_genre)
        except DataError as error:
            problems.add(record.place, str(error))
            continue
        rows.append(row)
    if problems.count and not skip_bad_rows:
        raise DataError(f"{problems.report()}\nmend them, or leave them out with --skip_bad_rows")
    if not rows:
        raise DataError(problems.nothing_left())
    if known is None and require_genre:  # of the spellings that differ in case alone, the most frequent one
        counted = Counter(name for row in rows for name in row["genre"]).most_common()
        usual = {name.casefold(): name for name, _ in reversed(counted)}
        for row in rows:
            row["genre"] = list(dict.fromkeys(usual[name.casefold()] for name in row["genre"]))
    keys = dict.fromkeys(key for row in rows for key in row)
    if len(keys) > MAX_COLUMNS + len(OWN_COLUMNS):  # JSON Lines, each with columns of its own
        raise DataError(f"{source} has {len(keys):,} columns, more than {MAX_COLUMNS:,}")
    table = {key: [row.get(key) for row in rows] for key in keys}
    for key, values in table.items():
        try:
            pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"{source}: a column holds values of different types, or numbers too large for it, {key!r} "
                f"({_short(str(error), 200)}): write them all as text, or leave the column out"
            ) from None
    return Dataset.from_dict(table), problems.found


def stream_rows(
    source: str | Path, problems: Problems, *, text_column: str | None = None
) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows as they stand, each with its description, one at a time; bad ones are noted in `problems` and left out.

    Raises:
        DataError: if the source cannot be read, or has no column of descriptions.
    """
    names_in = _ColumnNames(Columns(description=text_column), str(source), False)
    for record in _records(str(source), problems):
        description = record.values.get(names_in(record)["description"])
        try:
            _check_row({"description": description, "genre": []}, None, False)
        except DataError as error:
            problems.add(record.place, str(error))
            continue
        yield record.values, str(description)


def parse_genres(value: Any, aliases: Mapping[str, str] = GENRE_MAP) -> list[str]:
    """Genre names of one cell.

    Understands `Action, Comedy`, `Action|Comedy`, `Action / Comedy`, `['Action', 'Comedy']`, TMDB's
    `[{"id": 28, "name": "Action"}]`, Freebase's `{"/m/02kdv5l": "Action"}` and real lists of names or such objects.
    Separators may be full-width, names in quotes. Names have one Unicode form and single blanks, aliases any case; what
    stands for nothing is left out beside others.

    Raises:
        DataError: if the cell has another form.
    """
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") or LITERAL.match(text):
            if len(text) > MAX_GENRE_CHARACTERS:  # what Python makes of some texts takes the square of their length
                raise DataError(f"genre has {len(text):,} characters, more than {MAX_GENRE_CHARACTERS:,}")
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                if QUOTES_THAT_MEET.search(text):  # as NumPy writes a list; Python would make one name of two
                    raise DataError(f"genre {_short(text)} lacks commas between its names") from None
                try:
                    value = ast.literal_eval(text)
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    raise DataError(f"genre {_short(text)} is not a list that can be read") from None
        else:
            text = unicodedata.normalize("NFKC", text)  # of ｜ ； ， | ; ,
            separator = next((marks for marks in SEPARATORS if re.search(marks, text)), None)
            value = re.split(separator, text) if separator else [text]
    if isinstance(value, Mapping):
        value = [value] if "name" in value else list(value.values())
    if isinstance(value, (set, str)):  # a string in brackets was one name
        value = sorted(value, key=str) if isinstance(value, set) else [value]
    if not isinstance(value, (list, tuple)):
        raise DataError(f"genre is a {type(value).__name__}, expected text or a list")
    names: list[Any] = [item.get("name") if isinstance(item, Mapping) else item for item in value]
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"genre holds something other than names ({type(name).__name__})")
        if SURROGATE.search(name):
            raise DataError("genre holds half a character (a lone surrogate, \\ud800 to \\udfff)")
    known = {_genre_name(alias).casefold(): name for alias, name in aliases.items()}
    single = [_genre_name(name) for name in names]
    found = [name for name in dict.fromkeys(known.get(name.casefold(), name) for name in single) if name]
    return [name for name in found if normalise(name) not in NOTHING] or found


@functools.lru_cache(maxsize=4096)  # a file has few names, each in many rows
def _genre_name(text: str) -> str:
    """A genre's name without quotes around it, in one Unicode form, with single blanks and plain hyphens."""
    text = " ".join(unicodedata.normalize("NFKC", text).translate(UNSEEN).replace("\u2010", "-").split())
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"" else text


def spellings(genres: Sequence[str]) -> Callable[[str], str]:
    """From a genre's name in any case to the name among `genres`; from any other name to itself."""
    known = {_genre_name(genre).casefold(): genre for genre in genres} | {_genre_name(genre): genre for genre in genres}
    return lambda name: known.get(name, known.get(name.casefold(), name))


def parse_genre_map(text: str | None) -> dict[str, str]:
    """Other spellings of genres from a JSON object, as flags take it.

    Raises:
        DataError: if it is no object of names.
    """
    try:
        mapping = json.loads(text or "{}")
    except ValueError:
        mapping = None
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping.values()):
        raise DataError(f'genre_map {_short(str(text))} is no JSON object of names, as in {{"Musical": "Music"}}')
    return mapping


def read_split(path: str | Path) -> dict[str, list[str]]:
    """Row hashes of a stored split: the split.json that a training run leaves.

    Raises:
        DataError: if there is none.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        return {name: list(stored[name]) for name in ("validation", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no split.json of a training run: {error}") from None


def normalise(description: str) -> str:
    """Description without differences of case, Unicode form, punctuation and white space."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", description).casefold()))


def row_hash(description: str) -> str:
    """Identity of a description in stored splits: 12 hexadecimal digits."""
    return hashlib.sha256(normalise(description).encode()).hexdigest()[:12]


def genre_matrix(films: Dataset, genres: Sequence[str]) -> np.ndarray:
    """0/1 matrix (films, genres)."""
    index = {genre: i for i, genre in enumerate(genres)}
    matrix = np.zeros((len(films), len(genres)), dtype=np.float32)
    for row, names in enumerate(films["genre"]):
        for name in names:
            matrix[row, index[name]] = 1  # a KeyError for a genre that is unknown: none is left out in silence
    return matrix


def assign_splits(
    films: Dataset,
    *,
    stored: Mapping[str, Sequence[str]] | None = None,
    fractions: tuple[float, float] = (0.15, 0.15),
    seed: int = 0,
) -> Dataset:
    """Give each film a `split`: a stored one, else its own column, else a grouped stratified draw.

    Args:
        films: as `read_films` returns them.
        stored: row hashes of "validation" and "test", as `split_hashes` returns them; all others are for training.
        fractions: shares of validation and test, where they are drawn. With a `split` column that names no validation
            rows, they are drawn from its training rows.
        seed: of the draw.

    Raises:
        DataError: for an unknown split name, one description in two splits, or a genre that no training row has.
    """
    hashes = [row_hash(text) for text in films["description"]]
    names = list(films["split"])
    for place, name in zip(films["place"], names, strict=True):
        if name not in ("", *SPLITS):
            raise DataError(f"{place}: split {name!r} is none of {', '.join(SPLITS)}")
    if stored is not None:
        where = {row: name for name in ("validation", "test") for row in stored[name]}
        names = [where.get(row, "train") for row in hashes]
    elif not any(names):
        names = _draw(films, hashes, ["train"] * len(films), "test", fractions[1], seed)
        names = _draw(films, hashes, names, "validation", fractions[0] / (1 - fractions[1]), seed + 1)
    else:
        names = [name or "train" for name in names]
        seen: dict[str, tuple[str, str]] = {}
        for place, row, name in zip(films["place"], hashes, names, strict=True):
            first, other = seen.setdefault(row, (place, name))
            if other != name:
                raise DataError(f"{place}: the description of {first}, which is in another split ({other}, not {name})")
        if "validation" not in names:
            names = _draw(films, hashes, names, "validation", fractions[0], seed)
    films = films.remove_columns("split").add_column("split", names)  # type: ignore[call-arg]
    trained = set(genre_vocabulary(films))
    for place, genres in zip(films["place"], films["genre"], strict=True) if "train" in names else ():
        if missing := set(genres) - trained:
            raise DataError(
                f"{place}: genre {sorted(missing)[0]!r} has no training row: give it some, or map it with --genre_map"
            )
    return films


def _draw(
    films: Dataset, hashes: Sequence[str], names: Sequence[str], target: str, fraction: float, seed: int
) -> list[str]:
    """Move a stratified share of the training rows to `target`, rows of the same description together."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    groups = sorted({row for row, name in zip(hashes, names, strict=True) if name == "train"})
    number = {row: i for i, row in enumerate(groups)}
    genres = sorted({genre for row in films["genre"] for genre in row})
    labels = np.zeros((len(groups), len(genres)), dtype=int)
    for row, wanted in zip(hashes, films["genre"], strict=True):
        if row in number:
            labels[number[row], [genres.index(genre) for genre in wanted]] = 1
    if len(genres) == 1:  # the stratifier takes two columns at least
        labels = np.column_stack([labels, 1 - labels])
    if len(groups) < 4:
        raise DataError(
            f"{len(groups)} different descriptions are too few to set some aside for {target}: at least 4 are needed"
        )
    # What alone has a genre stays: it could not be learned without.
    free = np.flatnonzero(~labels[:, labels.sum(axis=0) == 1].any(axis=1))
    count = min(max(1, round(fraction * len(groups))), len(free) - 1)
    if count < 1:
        raise DataError(f"nearly every description has a genre that no other has: none can be set aside for {target}")
    # Iterative stratification (Sechidis et al. 2011) keeps every genre's share.
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=count, random_state=seed)
    drawn = free[next(splitter.split(labels[free], labels[free]))[1]]
    left = labels.sum(axis=0) - labels[drawn].sum(axis=0)
    chosen = set()
    for i in drawn:
        if (labels[i] * (left == 0)).any():  # the last one after all
            left += labels[i]
        else:
            chosen.add(groups[i])
    return [target if row in chosen and name == "train" else name for row, name in zip(hashes, names, strict=True)]


def split_hashes(films: Dataset) -> dict[str, list[str]]:
    """Row hashes of the validation and test rows, to be stored; all others are for training."""
    result: dict[str, set[str]] = {"validation": set(), "test": set()}
    for text, name in zip(films["description"], films["split"], strict=True):
        if name in result:
            result[name].add(row_hash(text))
    return {name: sorted(rows) for name, rows in result.items()}


def genre_vocabulary(films: Dataset) -> list[str]:
    """Genres of the training rows in alphabetical order."""
    return sorted(
        {
            genre
            for genres, name in zip(films["genre"], films["split"], strict=True)
            if name == "train"
            for genre in genres
        }
    )


def file_hash(source: str | Path) -> str | None:
    """SHA-256 of a file; None for a data set on the Hub."""
    if not Path(source).is_file():
        return None
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stand_for_nothing(genres: Sequence[str]) -> bool:
    return len(genres) == 1 and normalise(genres[0]) in NOTHING


def _check_row(row: Mapping[str, Any], known: set[str] | None, require_genre: bool) -> None:
    description = row["description"]
    if description is None:
        raise DataError("description is missing")
    if not isinstance(description, str):
        raise DataError(f"description is a {type(description).__name__}, expected text")
    if not WORD.search(description):
        raise DataError("description is empty" if not description.strip() else "description has no words")
    if normalise(description) in NOTHING:
        raise DataError(f"description is {description!r}, which stands for nothing")
    if len(description) > MAX_CELL_CHARACTERS:
        raise DataError(f"description has {len(description):,} characters, more than {MAX_CELL_CHARACTERS:,}")
    if require_genre and not row["genre"]:
        raise DataError("genre is empty")
    if _stand_for_nothing(row["genre"]):
        raise DataError(f"genre is {row['genre'][0]!r}, which stands for nothing")
    if known is not None and (unknown := [genre for genre in row["genre"] if genre not in known]):
        raise DataError(f"unknown genre {unknown[0]!r}, not one of {', '.join(sorted(known))}: map it with --genre_map")


class _ColumnNames:
    """Names of the contract's columns in each row: the lines of JSON Lines need not have the same."""

    def __init__(self, columns: Columns, source: str, require_genre: bool) -> None:
        self.wanted = columns, source, require_genre
        self.first: dict[str, str] = {}
        self.keys: Any = None
        self.names = self.first

    def __call__(self, record: Record) -> dict[str, str]:
        """Name in the file of each column; the first row's, for a row that lacks one.

        Raises:
            DataError: if the first row lacks one.
        """
        if record.values.keys() != self.keys:
            self.keys = record.values.keys()
            try:
                self.names = _find_columns(record, *self.wanted)
            except DataError:
                if not self.first:
                    raise
                self.names = self.first
            self.first = self.first or self.names
        return self.names


def _find_columns(record: Record, columns: Columns, source: str, require_genre: bool) -> dict[str, str]:
    """Name in the file of each column of the contract."""
    present = {name.strip().lower(): name for name in reversed(record.values)}
    found = {"split": present["split"]} if "split" in present else {}
    for name, aliases in COLUMN_ALIASES.items():
        asked = getattr(columns, name)
        if asked is not None and asked not in record.values:
            raise DataError(f"{source} has no column {asked!r}; it has {_short(', '.join(record.values))}")
        match = asked or next((present[alias] for alias in aliases if alias in present), None)
        if match is not None:
            found[name] = match
        elif name == "description" or (name == "genre" and require_genre):
            flag = {"genre": "--genre_column", "description": "--text_column"}[name]
            raise DataError(
                f"{source} has no {name} column; it has {_short(', '.join(record.values))}: rename it, or name it with "
                f"{flag}"
            )
    return found


def _records(source: str, problems: Problems) -> Iterator[Record]:
    """Raw rows of any kind of source."""
    path = Path(source)
    if not path.exists():
        if path.suffix in (".csv", ".parquet", ".jsonl", ".json", ".ndjson") or source.count("/") != 1:
            raise DataError(f"{source} does not exist")
        yield from _hub_records(source)
        return
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise DataError(f"{source} is {kind}, expected a .csv, .parquet, .jsonl or .json file")
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from None
    if not head:
        raise DataError(f"{source} is empty")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_records(source)
    elif head.startswith((b"\x1f\x8b", b"BZh")) or head in (b"PK\x03\x04", b"\xfd7zX", b"\x28\xb5\x2f\xfd"):
        raise DataError(f"{source} is compressed, or a spreadsheet: unpack it, or save it as CSV, first")
    elif head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{source} is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    elif suffix in (".jsonl", ".json", ".ndjson"):
        yield from _json_records(path, problems)
    else:
        yield from _csv_records(path, problems)


def _hub_records(source: str) -> Iterator[Record]:
    try:
        loaded = load_dataset(source)
    except Exception as error:  # the client's many errors all mean that there is no data
        raise DataError(
            f"{source} is neither a file nor a data set that the Hub gives: {_short(str(error), 200)}"
        ) from error
    parts = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    for name, part in parts.items():
        # Posters and the like are no plain values, and have no part in a result.
        media = [column for column, feature in part.features.items() if hasattr(feature, "decode_example")]
        for number, row in enumerate(part.remove_columns(media)):
            own = {"split": row.get("split") or (name if len(parts) > 1 else "")}
            yield Record(f"{source}[{name}]:{number}", row | own)


def _parquet_records(source: str) -> Iterator[Record]:
    try:
        file = pq.ParquetFile(source, pre_buffer=False)  # or what has been read would stay in memory
        _check_header(file.schema_arrow.names, source)
        batches = file.iter_batches(batch_size=1024)  # a row group at a time
        for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
            yield Record(f"{source}:row {number}", row)
    except DataError:
        raise
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:  # a date beyond the year 9999
        raise DataError(f"{source} is no Parquet file that can be read: {_short(str(error), 200)}") from error


def _json_records(path: Path, problems: Problems) -> Iterator[Record]:
    one_list = f"{path}:1: this is one JSON list; write one object a line (JSON Lines)"
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == 1 and line.lstrip().startswith("["):
                raise DataError(one_list) from None
            problems.add(f"{path}:{number}", f"not JSON: {error}")
            continue
        if "\\ud" in line.lower() and SURROGATE.search(json.dumps(values, ensure_ascii=False)):
            problems.add(f"{path}:{number}", "half a character (a lone surrogate, \\ud800 to \\udfff)")
            continue
        if number == 1 and isinstance(values, list):
            raise DataError(one_list)
        if not isinstance(values, dict):
            problems.add(f"{path}:{number}", f"a {type(values).__name__}, expected an object")
            continue
        yield Record(f"{path}:{number}", values)


def _csv_records(path: Path, problems: Problems) -> Iterator[Record]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    lines, before, delimiter = _lines(path), 0, ""
    for first in lines:
        if asked := re.fullmatch(r"(?i)sep=([,;\t|])\s*", first):  # a spreadsheet's own way of saying so
            delimiter = asked[1]
        elif first.strip():
            break
        before += 1
    else:
        raise DataError(f"{path} has no line with text")
    line = ""

    def remembered() -> Iterator[str]:
        nonlocal line
        for line in itertools.chain([first], lines):  # noqa: UP028  # kept, too
            yield line

    reader = csv.reader(remembered(), delimiter=delimiter or max(DELIMITERS, key=first.count), strict=True)
    start, header = before + 1, None
    while True:
        place = f"{path}:{start}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            message = str(error)
            if "expected after" in message:
                message = "a quote inside a quoted cell must be doubled"
                # The reader leaves the rest of the line out: no other line may belong to the row.
                if header and before + reader.line_num == start and line.count('"') % 2 == 0:
                    problems.add(place, message)
                    start += 1
                    continue
            if "unexpected end of data" in message:
                message = "a quote that is opened here is never closed"
            elif "field larger" in message:
                message = f"a cell has more than {MAX_CELL_CHARACTERS:,} characters: is a quote left open?"
            raise DataError(f"{place}: {message}") from None
        start = before + reader.line_num + 1
        if values is None:
            return
        if header is None:
            header = values
            _check_header(header, place)
            free = (name for name in map("column_{}".format, itertools.count(1)) if name not in header)
            names = [name or next(free) for name in header]
        elif not values:
            continue
        elif len(values) != len(header):
            problems.add(place, f"{len(values)} fields, expected {len(header)} as in the header")
        elif values == header:
            problems.add(place, "the header stands here again")
        else:
            yield Record(place, dict(zip(names, values, strict=True)))


def _check_header(header: Sequence[str], place: str) -> None:
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{place}: {len(header):,} columns, more than {MAX_COLUMNS:,}")
    doubled = [name for name, count in Counter(header).items() if count > 1 and name]
    if doubled:
        raise DataError(f"{place}: column {doubled[0]!r} stands more than once in the header")


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file with their ends."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS), ""), 1):
                if number == 1:
                    line = line.lstrip("\ufeff")  # more than one mark
                if len(line) == MAX_LINE_CHARACTERS:
                    raise DataError(f"{path}:{number}: a line has more than {MAX_LINE_CHARACTERS:,} characters")
                if "\0" in line:
                    raise DataError(f"{path}:{number}: a NUL character: this is not a text file, or it is damaged")
                yield line
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{path}: near line {number + 1}: byte 0x{byte:02x} is not UTF-8: "
            "save the file as UTF-8 (in Excel: CSV UTF-8; of a Windows file: iconv -f CP1252 -t UTF-8)"
        ) from None


def _name(value: Any) -> str:
    """A title or the like; nothing for a missing value, of which Parquet has several."""
    return "" if value is None or value != value else str(value)


def _short(text: str, limit: int = 80) -> str:
    """Repr of a text cut to a bearable length."""
    return repr(text if len(text) <= limit else f"{text[:limit]}...")
