"""Genres for files of any size: read as a stream, predicted in shards, gone on with after a kill.

Every `shard_rows` rows of the input make one Parquet file of the output, which appears whole or not at all. What a
shard holds depends on the input and the model alone, so that a run can be killed and started again, or split over
processes and machines (process r of n takes the shards r, r + n, ...), and leaves the same files.
"""

import collections
import csv
import glob
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .data import PROBLEMS_SHOWN, DataError, Problems, carried_names, formula_safe, stream_rows
from .prediction_movie_genre import GenrePrediction

SINGLE_FILES = (".parquet", ".csv", ".jsonl")
MANIFEST = "_manifest.json"  # readers of Parquet folders pass over names that begin with _ or .

Predict = Callable[[list[str]], list[GenrePrediction]]


@dataclass
class Scan:
    """What a first pass over the input finds.

    Attributes:
        rows: usable ones.
        columns: of the input, and the Arrow type that holds all their values.
        digest: of all values of the usable rows.
        problems: rows that cannot be used, the first ones described.
    """

    problems: Problems
    rows: int = 0
    columns: dict[str, pa.DataType] = field(default_factory=dict)
    digest: str = ""


def scan(source: str, text_column: str | None) -> Scan:
    """Read the input once: bad rows are known, and the time left, before the first prediction."""
    result, digest = Scan(Problems(source, limit=PROBLEMS_SHOWN)), hashlib.sha256()
    kinds: dict[str, set[str]] = {}
    for values, text in stream_rows(source, result.problems, text_column=text_column):
        result.rows += 1
        digest.update(json.dumps([text, values], default=str).encode())
        for name, value in values.items():
            kinds.setdefault(name, set()).add(_kind(value))
    result.columns = {name: _arrow_type(found - {"NoneType"}) for name, found in kinds.items()}
    result.digest = digest.hexdigest()
    return result


def predict_file(
    source: str,
    output: Path,
    predict: Predict,
    *,
    about: dict[str, Any],
    shard_rows: int,
    text_column: str | None = None,
    skip_bad_rows: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> int:
    """Predict every row of a file or data set.

    Args:
        source: a .csv, .parquet or .jsonl file, or the id of a data set on the Hub.
        output: a folder for Parquet shards, or one .parquet, .csv or .jsonl file.
        predict: from descriptions to predictions.
        about: model and options; a run goes on only where they are the same.
        shard_rows: rows of a shard.
        text_column: of the descriptions; usual names are found.
        skip_bad_rows: leave rows without a description out instead of stopping.
        rank: number of this process.
        world_size: processes that share the work; each reads the whole input and predicts its shards.

    Returns:
        Rows of the whole input that were predicted, now or before, by this process.

    Raises:
        DataError: if the input cannot be used.
        ValueError: if the output holds something else.
    """
    single = output.suffix.lower() in SINGLE_FILES
    if single and world_size > 1:
        raise ValueError(f"{world_size} processes cannot write one file: name a folder, not {output}")
    if single and output.exists():
        raise ValueError(f"{output} exists: name another file, or remove it")
    if not single and output.suffix:
        raise ValueError(f"{output}: write {', '.join(SINGLE_FILES)} or, with a name without a dot, a folder of shards")
    found = scan(source, text_column)
    if found.problems.count and not skip_bad_rows:
        raise DataError(f"{found.problems.report()}\nmend them, or leave them out with --skip-bad-rows")
    if not found.rows:
        raise DataError(found.problems.nothing_left())
    if found.problems.count and rank == 0:
        print(f"{found.problems.count} bad rows left out, the first: {found.problems.found[0]}", file=sys.stderr)
    folder = output.with_name(f".{output.name}.shards") if single else output
    _open_folder(folder, about | {"input": found.digest, "rows": found.rows, "shard_rows": shard_rows})

    sizes = [min(shard_rows, found.rows - start) for start in range(0, found.rows, shard_rows)]
    shards = [folder / f"part-{number:06d}.parquet" for number in range(len(sizes))]
    mine = {number for number in range(rank, len(shards), world_size) if not shards[number].exists()}
    rows = stream_rows(source, Problems(source, limit=0), text_column=text_column)
    with _progress(sum(sizes[number] for number in mine)) as advance:
        for number, path in enumerate(shards):
            chunk = itertools.islice(rows, shard_rows)
            if number not in mine:
                collections.deque(chunk, maxlen=0)  # read, for another process or an earlier run has taken them
                continue
            read = list(chunk)
            if len(read) != sizes[number]:
                raise DataError(f"{source} has changed since its rows were counted: start anew, with another output")
            values, texts = zip(*read, strict=True)
            table = _table(values, predict(list(texts)), found.columns)
            _clear_up(path)
            with _atomic(path) as temporary:
                pq.write_table(table, temporary)
            advance(len(texts))
    if single:
        _join(shards, output)
        shutil.rmtree(folder)
    return sum(sizes[rank::world_size])


def _kind(value: Any) -> str:
    """Its Python type; of an integer "long" where floating-point numbers have gaps, and "huge" beyond 64 bits."""
    if type(value) is int and abs(value) > 2**53:
        return "long" if -(2**63) <= value < 2**63 else "huge"
    return type(value).__name__


def _arrow_type(kinds: set[str]) -> pa.DataType:
    """Type of a column whose values are of these kinds; what is mixed, nested or huge becomes JSON text."""
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds and kinds <= {"int", "long"}:
        return pa.int64()
    if kinds and kinds <= {"int", "float"}:
        return pa.float64()
    return pa.string()


def _table(
    rows: Sequence[dict[str, Any]], predictions: Sequence[GenrePrediction], columns: dict[str, pa.DataType]
) -> pa.Table:
    """The input's columns, then the prediction's; an input column of the same name is carried as input_<name>."""
    flat = [prediction.to_dict(flat=True) for prediction in predictions]
    predicted = {name: pa.float32() for name in flat[0]} | {"genres": pa.string(), "truncated_at": pa.int64()}
    arrays = [_array([row.get(name) for row in rows], kind) for name, kind in columns.items()]
    arrays += [pa.array([row[name] for row in flat], kind) for name, kind in predicted.items()]
    return pa.table(arrays, names=[*carried_names(columns, predicted).values(), *predicted])


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A column of the input."""
    if kind == pa.string():
        values = [None if value is None else _text(value) for value in values]
    return pa.array(values, kind)


def _text(value: Any) -> str:
    """A value in a column of text: what JSON knows as JSON, anything else (a date, a decimal) as it is written."""
    known = isinstance(value, (bool, int, float, list, dict))
    return json.dumps(value, ensure_ascii=False, default=str) if known else str(value)


def _open_folder(folder: Path, about: dict[str, Any]) -> None:
    """Make the folder of a run, or see that it is the same run's.

    Raises:
        ValueError: if it is another's.
    """
    manifest = folder / MANIFEST
    if manifest.exists():
        before = json.loads(manifest.read_text(encoding="utf-8"))
        for name in before.keys() | about.keys():
            if before.get(name) != about.get(name):
                raise ValueError(
                    f"{folder} was begun with {name}={before.get(name)!r}, and this run has {about.get(name)!r}: "
                    "name another output, or remove it"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(not path.name.startswith(f".{MANIFEST}") for path in folder.iterdir()) and not manifest.exists():
        raise ValueError(f"{folder} holds something else: name a new folder")
    with _atomic(manifest) as temporary:
        temporary.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _clear_up(path: Path) -> None:
    """Remove what a killed run of the one process that writes this file left half written."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """A file to write that takes the name `path` when it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        for name, flags in ((temporary, os.O_RDWR), (path.parent, os.O_RDONLY)):
            descriptor = os.open(name, flags)
            os.fsync(descriptor)
            os.close(descriptor)
            if name == temporary:
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Rows done, rate and time left: a bar on a terminal, a line a shard in a log."""
    started, done = time.monotonic(), 0

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        rate = done / (time.monotonic() - started)
        bar.update(task, completed=done, rate=f"{rate:,.0f} rows/s")
        if bar.disable:
            left = timedelta(seconds=round((total - done) / rate))
            print(f"{done:,} of {total:,} rows, {rate:,.0f} rows/s, {left} left", file=sys.stderr, flush=True)

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("rows", total=total, rate="")
        yield report


def _join(shards: Sequence[Path], output: Path) -> None:
    """One file of all shards, read one at a time."""
    _clear_up(output)
    suffix = output.suffix.lower()
    with _atomic(output) as temporary:
        if suffix == ".parquet":
            with pq.ParquetWriter(temporary, pq.read_schema(shards[0])) as writer:
                for shard in shards:
                    writer.write_table(pq.read_table(shard))
            return
        schema = pq.read_schema(shards[0])
        predicted = {field.name for field in schema if field.type == pa.float32()}
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            if suffix == ".csv":
                table.writerow(map(formula_safe, schema.names))
            for row in (row for shard in shards for row in pq.read_table(shard).to_pylist()):
                for name, value in row.items():
                    if isinstance(value, float) and not math.isfinite(value):  # JSON knows none
                        row[name] = None
                    elif name in predicted and value is not None:
                        row[name] = round(value, 6)
                if suffix == ".csv":
                    table.writerow(map(formula_safe, row.values()))
                else:
                    file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
