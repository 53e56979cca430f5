"""Prove that the film descriptions keep the rules of their datasheet.

    python data/check.py                      # movies.csv, stories.csv and unmade.csv beside it, all rules
    python data/check.py --draft new.jsonl    # films on their way into the set: all rules but the counts

Every problem is printed with its file and line; the exit code is 1 if there was one. Where the TMDB list that the
model is measured on lies beside the checkout, word overlaps with it and the distance of the genre mix are checked too.
"""

import argparse
import csv
import itertools
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TMDB_LIST = HERE.parent.parent / "shared" / "data" / "top_movies.csv"

COLUMNS = ["movie_name", "year", "country", "genre", "description", "split"]
STORY_KINDS = {
    *("banners", "chases", "comics", "dark", "elsewhere", "everyday", "futures", "hearts", "history", "laughs"),
    *("nightmares", "novels", "suspense", "television", "wonders", "world"),
}
# The 18 genres, each with the words that would name it in a description of a film that has it.
GENRE_WORDS = {
    "Action": {"action"},
    "Adventure": {"adventure", "adventures", "adventurous", "adventurer", "adventurers"},
    "Animation": {"animation", "animated", "animator", "cartoon", "cartoons", "anime"},
    "Comedy": {"comedy", "comedies", "comic", "comedic", "hilarious"},
    "Crime": {"crime", "crimes", "crime's"},
    "Drama": {"drama", "dramas", "dramatic", "melodrama"},
    "Family": {"family"},
    "Fantasy": {"fantasy", "fantasies", "fantastical"},
    "History": {"history", "historical", "historic"},
    "Horror": {"horror", "horrors", "horrific", "horrifying"},
    "Music": {"music", "musical", "musicals"},
    "Mystery": {"mystery", "mysteries", "mysterious"},
    "Romance": {"romance", "romances", "romantic"},
    "Science Fiction": {"sci-fi", "scifi", "science-fiction"},
    "Thriller": {"thriller", "thrillers", "thrilling"},
    "TV Movie": {"tv", "television", "telefilm", "televised"},
    "War": {"war", "wars", "wartime", "war's"},
    "Western": {"western", "westerns"},
}
STORY_COLUMNS = ["kind", "description", *(f"p_{genre}" for genre in sorted(GENRE_WORDS))]
SPLITS = {"train", "validation", "test"}
YEARS = range(1920, 2027)
WORDS_PER_DESCRIPTION = range(25, 91)
WORDS_PER_STORY = range(12, 101)
MINIMUM_ROWS, MINIMUM_PER_GENRE, MINIMUM_COUNTRIES = 1500, 60, 40
PHRASE_WORDS, PHRASE_ROWS = 5, 3  # no 5-word phrase in more than 3 films
PHRASE_STORIES = 30  # nor in more stories, of which there are many more
OVERLAP_WORDS = 8
NEAR_DUPLICATE_JACCARD = 0.5
# The commonest function words of English: they make up about 40 % of its running text.
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "to",
        "in",
        "on",
        "at",
        "by",
        "for",
        "with",
        "from",
        "and",
        "or",
        "but",
        "not",
        "no",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "has",
        "have",
        "had",
        "do",
        "does",
        "did",
        "he",
        "she",
        "it",
        "they",
        "his",
        "her",
        "its",
        "their",
        "him",
        "them",
        "who",
        "whom",
        "whose",
        "which",
        "that",
        "this",
        "these",
        "those",
        "as",
        "into",
        "over",
        "after",
        "before",
        "until",
        "while",
        "when",
        "where",
        "out",
        "up",
        "down",
        "off",
        "about",
        "than",
        "then",
        "there",
        "what",
        "if",
        "so",
        "only",
        "one",
        "two",
        "all",
        "some",
        "any",
        "each",
        "every",
        "own",
        "i",
        "my",
        "me",
        "we",
        "our",
        "you",
        "your",
    ]
)
MINIMUM_FUNCTION_WORD_SHARE = 0.2

WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


class Row(NamedTuple):
    """One film and where it stands."""

    place: str
    fields: dict[str, str]

    @property
    def genres(self) -> list[str]:
        """Names in the order given."""
        return [genre.strip() for genre in self.fields["genre"].split(",")]

    @property
    def words(self) -> list[str]:
        """Words of the description."""
        return words_of(self.fields["description"])


def words_of(text: str) -> list[str]:
    """Lower-case words with straight apostrophes; what all rules count."""
    return WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))


def ngrams(words: list[str], size: int) -> set[tuple[str, ...]]:
    """All runs of `size` words."""
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def read(path: Path) -> Iterator[Row]:
    """Rows of a CSV or JSON Lines file; numbers become strings."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            reader = csv.DictReader(file)
            for record in reader:
                yield Row(f"{path}:{reader.line_num}", record)
        else:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Row(f"{path}:{number}", {key: str(value) for key, value in json.loads(line).items()})


def check_row(row: Row, *, draft: bool) -> Iterator[str]:
    """Rules that one row keeps or breaks by itself."""
    expected = COLUMNS[:-1] if draft else COLUMNS
    if list(row.fields) != expected or None in row.fields.values():
        yield f"columns are {list(row.fields)}, expected {expected}"
        return
    yield from check_text(row, WORDS_PER_DESCRIPTION)
    for genre in row.genres:
        if genre not in GENRE_WORDS:
            yield f"unknown genre {genre!r}"
    if len(set(row.genres)) != len(row.genres) or len(row.genres) > 5:
        yield f"genre {row.fields['genre']!r} repeats a genre or has more than five"
    year = row.fields["year"]
    if not year.isdecimal() or int(year) not in YEARS:
        yield f"year {year!r} lies outside {YEARS.start} to {YEARS.stop - 1}"
    if not draft and row.fields["split"] not in SPLITS:
        yield f"split {row.fields['split']!r} is none of {sorted(SPLITS)}"
    words = row.words
    named = set(words) & set().union(*(GENRE_WORDS.get(genre, set()) for genre in row.genres))
    if "Science Fiction" in row.genres and "science fiction" in " ".join(words):
        named.add("science fiction")
    if named:
        yield f"description names its genre: {sorted(named)}"
    title = words_of(row.fields["movie_name"])
    if len(title) > 2 and tuple(title) in ngrams(words, len(title)):
        yield "description contains the title"


def check_story(row: Row) -> Iterator[str]:
    """Rules that one story keeps or breaks by itself."""
    if list(row.fields) != STORY_COLUMNS or None in row.fields.values():
        yield f"columns are {list(row.fields)}, expected {STORY_COLUMNS}"
        return
    yield from check_text(row, WORDS_PER_STORY)
    if row.fields["kind"] not in STORY_KINDS:
        yield f"kind {row.fields['kind']!r} is none of {sorted(STORY_KINDS)}"
    chances = [row.fields[column] for column in STORY_COLUMNS[2:]]
    if wrong := [chance for chance in chances if not re.fullmatch(r"0|0\.\d+|1", chance)]:
        yield f"chances {wrong} are no numbers from 0 to 1"
    elif not any(map(float, chances)):
        yield "no genre has a chance"


def check_text(row: Row, lengths: range) -> Iterator[str]:
    """Every cell is clean, and the description English and of a length among `lengths`, in words."""
    for name, value in row.fields.items():
        if value != value.strip() or not value or re.search(r"\s\s|[\n\r\t]", value):
            yield f"{name} {value!r} is empty or has stray white space"
    words = row.words
    if len(words) not in lengths:
        yield f"description has {len(words)} words, expected {lengths.start} to {lengths.stop - 1}"
    if sum(word in FUNCTION_WORDS for word in words) < MINIMUM_FUNCTION_WORD_SHARE * len(words):
        yield "description does not read as English"


def check_titles(rows: list[Row]) -> Iterator[str]:
    """A title stands once a year."""
    seen: dict[tuple[str, str], str] = {}
    for row in rows:
        key = (" ".join(words_of(row.fields["movie_name"])), row.fields["year"])
        if key in seen:
            yield f"{row.place}: {row.fields['movie_name']!r} ({key[1]}) stands already at {seen[key]}"
        seen.setdefault(key, row.place)


def check_phrases(rows: list[Row], limit: int = PHRASE_ROWS) -> Iterator[str]:
    """No phrase becomes a habit of the set: none stands in more than `limit` rows."""
    places = defaultdict(list)
    for row in rows:
        for phrase in ngrams(row.words, PHRASE_WORDS):
            places[phrase].append(row.place)
    for phrase, where in sorted(places.items()):
        if len(where) > limit:
            yield f"{where[-1]}: {' '.join(phrase)!r} stands in {len(where)} rows: {', '.join(where)}"


def check_near_duplicates(rows: list[Row]) -> Iterator[str]:
    """No two descriptions share half of their three-word shingles (MinHash with locality-sensitive hashing)."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=NEAR_DUPLICATE_JACCARD, num_perm=128)
    for number, row in enumerate(rows):
        signature = MinHash(num_perm=128)
        signature.update_batch([" ".join(shingle).encode() for shingle in ngrams(row.words, 3)])
        for other in index.query(signature):
            yield f"{row.place}: nearly the same text as {rows[int(other)].place}"
        index.insert(str(number), signature)


def check_counts(rows: list[Row]) -> Iterator[str]:
    """The set is large and broad enough."""
    if len(rows) < MINIMUM_ROWS:
        yield f"{len(rows)} rows, expected at least {MINIMUM_ROWS}"
    counts = genre_counts(rows)
    for genre in GENRE_WORDS:
        if counts[genre] < MINIMUM_PER_GENRE:
            yield f"{genre} stands {counts[genre]} times, expected at least {MINIMUM_PER_GENRE}"
    countries = {row.fields["country"] for row in rows}
    if len(countries) < MINIMUM_COUNTRIES:
        yield f"{len(countries)} countries, expected at least {MINIMUM_COUNTRIES}"
    decades = {int(row.fields["year"]) // 10 * 10 for row in rows}
    if missing := set(range(1920, 2021, 10)) - decades:
        yield f"no film of the decades {sorted(missing)}"
    for split in SPLITS:
        missing_genres = set(GENRE_WORDS) - set(genre_counts([row for row in rows if row.fields["split"] == split]))
        if missing_genres:
            yield f"split {split} lacks {sorted(missing_genres)}"


def check_overlap(rows: list[Row], reference: list[Row]) -> Iterator[str]:
    """No run of eight words stands in the reference's descriptions."""
    known = set(itertools.chain.from_iterable(ngrams(row.words, OVERLAP_WORDS) for row in reference))
    for row in rows:
        for phrase in sorted(ngrams(row.words, OVERLAP_WORDS) & known):
            yield f"{row.place}: {' '.join(phrase)!r} stands in an existing synopsis"


def genre_counts(rows: Iterable[Row]) -> Counter[str]:
    """Films a genre."""
    return Counter(itertools.chain.from_iterable(row.genres for row in rows))


def mix_distance(rows: list[Row], reference: list[Row]) -> dict[str, float]:
    """Total variation distance (0 to 1) of genres, genres a film and pairs of genres between two lists."""

    def distance(count: "Counter", other: "Counter") -> float:
        total, other_total = max(sum(count.values()), 1), max(sum(other.values()), 1)
        return sum(abs(count[key] / total - other[key] / other_total) for key in count | other) / 2

    def pairs(of: list[Row]) -> "Counter[tuple[str, ...]]":
        return Counter(pair for row in of for pair in itertools.combinations(sorted(row.genres), 2))

    def sizes(of: list[Row]) -> "Counter[int]":
        return Counter(len(row.genres) for row in of)

    return {
        "genres": distance(genre_counts(rows), genre_counts(reference)),
        "genres_per_film": distance(sizes(rows), sizes(reference)),
        "genre_pairs": distance(pairs(rows), pairs(reference)),
    }


def main() -> int:
    """Check the files and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [HERE / name for name in ("movies.csv", "stories.csv", "unmade.csv")]
    parser.add_argument("files", nargs="*", type=Path, default=default, help="CSV or JSON Lines files")
    parser.add_argument(
        "--draft", action="store_true", help="rows to be added: no split column, no counts over the set"
    )
    parser.add_argument("--reference", type=Path, default=TMDB_LIST, help="list to compare with, where it exists")
    options = parser.parse_args()

    everything = list(itertools.chain.from_iterable(read(path) for path in options.files))
    stories = [row for row in everything if "kind" in row.fields]
    rows = [row for row in everything if "kind" not in row.fields]
    problems = [f"{row.place}: {problem}" for row in rows for problem in check_row(row, draft=options.draft)]
    problems += [f"{row.place}: {problem}" for row in stories for problem in check_story(row)]
    if not problems or options.draft:
        whole = [row for row in rows if row.fields.keys() >= {"movie_name", "year", "genre", "description"}]
        problems += [*check_titles(whole), *check_phrases(whole), *check_phrases(stories, PHRASE_STORIES)]
        problems += check_near_duplicates(whole + stories)
        if rows and not options.draft:
            problems += check_counts(rows)
        if options.reference.exists():
            reference = list(read(options.reference))
            problems += check_overlap(whole + stories, reference)
            print(
                "distance of the genre mix from the reference:",
                {k: round(v, 3) for k, v in mix_distance(whole, reference).items()},
            )
        counts = genre_counts(whole)
        print(
            "films a genre:",
            ", ".join(f"{genre} {counts[genre]}" for genre in sorted(GENRE_WORDS, key=lambda g: -counts[g])),
        )
        print(f"{len(rows)} films, {len({row.fields.get('country') for row in rows})} countries")
        kinds = Counter(row.fields["kind"] for row in stories)
        print(f"{len(stories)} stories:", ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    print("\n".join(problems) or "no problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
