"""Files that no film can be read from, each with what must be said about it.

`CASES` name a file's ending, its bytes (or how to make it) and a pattern of the sentence. Tests and benchmarks share
them.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HEADER = "movie_name,genre,description\n"
ROW = "One,Drama,A text.\n"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Case:
    """A malformed file."""

    name: str
    content: bytes | Callable[[Path], object]
    says: str
    suffix: str = ".csv"

    def write(self, folder: Path) -> Path:
        """Make it."""
        path = folder / f"films{self.suffix}"
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


def _parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("films.csv", HEADER + ROW)
    return buffer.getvalue()


def _lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def _film(**values: object) -> dict[str, object]:
    return {"movie_name": "One", "genre": "Drama", "description": "A text."} | values


def _rows(*rows: str) -> bytes:
    return (HEADER + "".join(row + "\n" for row in rows)).encode()


def _splits(*rows: str) -> bytes:
    return ("genre,description,split\n" + "".join(row + "\n" for row in rows)).encode()


FILM = _parquet(movie_name=["One"], genre=["Drama"], description=["A text."])
TWINS = _parquet(genre=["Drama"], description=["A text."], x=[1], y=[2]).replace(b"\1y", b"\1x")
BINARY = random.Random(0).randbytes(5000)

# Nothing in it
NOTHING = [
    Case("empty", b"", "is empty"),
    Case("only a byte order mark", b"\xef\xbb\xbf", "has no line with text"),
    Case("only line ends", b"\n\n\n", "has no line with text"),
    Case("only blanks", b"   \n", "has no line with text"),
    Case("header only", HEADER.encode(), "has no usable row"),
    Case("header only, Windows line ends", HEADER.replace("\n", "\r\n").encode(), "has no usable row"),
    Case("Parquet without rows", _parquet(genre=pa.array([], "string")), "has no usable row", ".parquet"),
    Case("JSON lines, all empty", b"\n\n \n", "has no usable row", ".jsonl"),
]
# No film file at all
COMPRESSED = "is compressed, or a spreadsheet: unpack it, or save it as CSV, first"
OTHER = [
    Case("binary", BINARY, "UTF-8|NUL"),
    Case("gzip", gzip.compress((HEADER + ROW).encode()), COMPRESSED),
    Case("gzip bomb", gzip.compress(bytes(100 * MEGABYTE), 1), COMPRESSED),
    Case("zip, or a spreadsheet", _zip(), COMPRESSED),
    Case("spreadsheet by name", _zip(), COMPRESSED, ".xlsx"),
    Case("bzip2", bz2.compress(HEADER.encode()), COMPRESSED),
    Case("xz", lzma.compress(HEADER.encode()), COMPRESSED),
    Case("Zstandard", b"\x28\xb5\x2f\xfd" + BINARY, COMPRESSED),
    Case("old spreadsheet", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "UTF-8|NUL"),
    Case("PDF", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "UTF-8"),
    Case("web page", b"<!DOCTYPE html>\n<title>Not found</title>\n", "has no genre column"),
    Case("zeros", bytes(10_000), ":1: a NUL character"),
    Case("folder", lambda path: path.mkdir(), "is a folder"),
    Case("missing", lambda path: None, "does not exist"),
    Case("link to nowhere", lambda path: path.symlink_to("nowhere"), "does not exist"),
    Case("pipe", lambda path: os.mkfifo(path), "is no regular file"),
    Case("device", lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
    Case("Parquet by name alone", b"PAR1 not really", "no Parquet file", ".parquet"),
    Case("Parquet, truncated", FILM[:-20], "no Parquet file", ".parquet"),
    Case("Parquet, damaged", FILM[:8] + bytes(60) + FILM[68:], "no Parquet file|description", ".parquet"),
    Case("CSV by another name", (HEADER + ROW).encode(), "no Parquet file", ".parquet"),
]
# Text that is not UTF-8
ENCODED = [
    Case("UTF-16", (HEADER + ROW).encode("utf-16"), "is UTF-16: save it as UTF-8"),
    Case("UTF-16, big end first", b"\xfe\xff" + HEADER.encode("utf-16-be"), "is UTF-16: save it as UTF-8"),
    Case("UTF-16 without a mark", HEADER.encode("utf-16-le"), ":1: a NUL character"),
    Case("UTF-32", HEADER.encode("utf-32"), "is UTF-16|is UTF-32"),
    Case("Latin-1", _rows("One,Drama,Zoë.").decode().encode("latin-1"), "0xeb is not UTF-8"),
    Case("Windows-1252", _rows("One,Drama,“Zoe”.").decode().encode("cp1252"), "0x93 is not UTF-8"),
    Case("cut in a character", _rows("One,Drama,Zoë")[:-2], "0xc3 is not UTF-8"),
    Case("overlong UTF-8", HEADER.encode() + b"One,Drama,A\xc0\xaftext.\n", "0xc0 is not UTF-8"),
    Case("a surrogate in UTF-8", HEADER.encode() + b"One,Drama,A\xed\xa0\x80text.\n", "0xed is not UTF-8"),
    Case("NUL in a cell", _rows("One,Drama,A\0text."), ":2: a NUL character"),
]
# Columns and quotes
FORM = [
    Case("no genre column", b"movie_name,description\nOne,A text.\n", "has no genre column.*--genre_column"),
    Case("no description column", b"movie_name,genre\nOne,Drama\n", "has no description column.*--text_column"),
    Case("no known column", b"a,b,c\n1,2,3\n", "has no genre column.*--genre_column"),
    Case("no header", b"One,Drama,A text.\nTwo,War,Another.\n", "has no genre column"),
    Case("doubled column", b"genre,genre,description\nDrama,Drama,A text.\n", "'genre' stands more than once"),
    Case("header twice", (HEADER + ROW + HEADER + ROW).encode(), ":3: the header stands here again"),
    Case("too many columns", (",".join(map(str, range(100_000))) + "\n1\n").encode(), ":1: 100,000 columns"),
    Case("unclosed quote", _rows('One,Drama,"A text.'), ":2: a quote that is opened here is never closed"),
    Case("unclosed quote in the header", b'movie_name,"genre,description\nOne,Drama,A text.\n', ":1: a quote"),
    Case("letters behind a quote", _rows('One,"Drama"x,A text.'), ":2: a quote inside a quoted cell must be doubled"),
    Case("short row", _rows("One,Drama"), ":2: 2 fields, expected 3"),
    Case("long row", _rows("One,Drama,A text.,more"), ":2: 4 fields, expected 3"),
    Case("ragged rows", _rows("One", "Two,Drama", "Three,Drama,A text.,x,y"), "has 3 bad rows"),
    Case("comma in an unquoted text", _rows("One,Drama,A text, and more."), ":2: 4 fields, expected 3"),
    Case("50 MB in a cell", _rows(f"One,Drama,{'x' * 50 * MEGABYTE}"), ":2: a (cell|line) has more than"),
    Case("50 MB in a quoted cell", _rows('One,Drama,"' + "y\n" * 25 * MEGABYTE + '"'), ":2: a cell has more"),
    Case("50 MB without a line end", b"x" * 50 * MEGABYTE, ":1: a line has more than"),
    Case("50 MB in a JSON line", _lines(_film(description="x" * 50 * MEGABYTE)), ":1: a line has more", ".jsonl"),
]
# Rows
ROWS = [
    Case("empty description", _rows("One,Drama,"), ":2: description is empty"),
    Case("blank description", _rows("One,Drama,   "), ":2: description is empty"),
    Case("description of signs", _rows("One,Drama,?!... —"), ":2: description has no words"),
    Case("empty genre", _rows("One,,A text."), ":2: genre is empty"),
    Case("genre of commas", _rows('One,", ,",A text.'), ":2: genre is empty"),
    Case("None as a description", _rows("One,Drama,None"), ":2: description is 'None', which stands for nothing"),
    Case("nan as a description", _rows("One,Drama,nan"), ":2: description is 'nan', which stands for nothing"),
    Case("None as a genre", _rows("One,None,A text."), ":2: genre is 'None', which stands for nothing"),
    Case("a list that is none", _rows('One,"[Drama",A text.'), ":2: genre .* is not a list"),
    Case("half a character in a genre", _rows(r'One,"[""\ud800""]",A text.'), ":2: genre holds half a character"),
    Case(
        "an endless number for a genre",
        _rows(f"One,[0x{'F' * 6000}],A text."),
        ":2: genre holds something other than names",
    ),
    Case("a list of numbers", _rows('One,"[1, 2]",A text.'), ":2: genre holds something other than names"),
    Case("objects without names", _rows('One,"[{""id"": 18}]",A text.'), ":2: genre .* other than names"),
    Case("a very deep list", _rows(f'One,"{"[" * 9_000}",A text.'), ":2: genre .* is not a list"),
    Case("a deeper list", _rows(f'One,"{"[" * 100_000}",A text.'), ":2: genre has 100,000 characters"),
    Case("a very long list", _rows(f"One,\"[f'{'{x}' * 300_000}']\",A text."), ":2: genre has 900,005 characters"),
    Case("a list of NumPy's", _rows("One,['Drama' 'War'],A text."), ":2: genre .* lacks commas between its names"),
    Case("an unknown split", _splits("Drama,One.,train", "Drama,Two.,holdout"), ":3: split 'holdout' is none of"),
    Case(
        "a genre in validation alone",
        _splits("Drama,One.,train", "Opera,Two.,validation"),
        ":3: genre 'Opera' has no training row",
    ),
    Case("one row", _rows("One,Drama,A text."), "1 different descriptions are too few"),
    Case("all rows the same", _rows(*["One,Drama,A text."] * 50), "1 different descriptions are too few"),
    Case("twenty thousand bad rows", _rows(*["One,Drama,"] * 20_000), "... and 19980 more"),
]
# JSON lines and Parquet
TYPED = [
    Case("broken JSON", b"{broken\n", ":1: not JSON", ".jsonl"),
    Case("one JSON list", b"[\n{}\n]\n", "one JSON list", ".json"),
    Case("one JSON list on a line", b"[{}]\n", "one JSON list", ".json"),
    Case("Parquet, two columns of a name", TWINS, "column 'x' stands more than once", ".parquet"),
    Case("a JSON number", b"3\n", "a int, expected an object", ".jsonl"),
    Case("JSON null", _lines(_film(description=None)), ":1: description is missing", ".jsonl"),
    Case("JSON list for a text", _lines(_film(description=["A"])), ":1: description is a list", ".jsonl"),
    Case("JSON number for a genre", _lines(_film(genre=7)), ":1: genre is a int", ".jsonl"),
    Case("very deep JSON", b"[" * 100_000 + b"\n", "JSON", ".jsonl"),
    Case("half a character", _lines(_film(description="A \ud800 text.")), ":1: half a character", ".jsonl"),
    Case("half a character elsewhere", _lines(_film(note="\udfff")), ":1: half a character", ".jsonl"),
    Case("too large a number", _lines(_film(n=1), _film(n=10**30)), "a column holds values", ".jsonl"),
    Case("a column of two kinds", _lines(_film(n=1), _film(n="x")), "a column holds values", ".jsonl"),
    Case("Parquet without genres", _parquet(description=["A text."]), "has no genre column", ".parquet"),
    Case(
        "Parquet, numbers for texts",
        _parquet(genre=["Drama"], description=[7]),
        ":row 0: description is a int, expected text",
        ".parquet",
    ),
    Case(
        "Parquet, no text",
        _parquet(genre=["Drama"], description=pa.array([None], "string")),
        ":row 0: description is missing",
        ".parquet",
    ),
]
CASES = [*NOTHING, *OTHER, *ENCODED, *FORM, *ROWS, *TYPED]
