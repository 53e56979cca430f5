"""The films and further texts of a run, and how each is read in training."""

import hashlib
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from .arguments import DataArguments, MovieGenreTrainingArguments
from .augmentation import mistyped, other_people
from .data import (
    Columns,
    DataError,
    Problems,
    assign_splits,
    genre_matrix,
    genre_vocabulary,
    parse_genre_map,
    read_films,
    read_split,
    row_hash,
    split_hashes,
    stream_rows,
)
from .decision import FOLDS

logger = logging.getLogger(__name__)


@dataclass
class Films:
    """The films of a run, split, and their genres.

    Attributes:
        parts: rows to "train" and to "validation"; the latter are none with `fit_all`.
        genres: names, in the order of the labels.
        split: row hashes of the validation and test films.
        transfer: texts of no film, for the teachers to label.
        reading: (texts, genres), what another reader says of them; none where nobody does.
    """

    parts: dict[str, Dataset]
    genres: list[str]
    split: dict[str, list[str]]
    transfer: list[str] = field(default_factory=list)
    reading: np.ndarray | None = None

    def truth(self, part: str) -> np.ndarray:
        """(films, genres) of 0 and 1."""
        return genre_matrix(self.parts[part], self.genres)

    def digest(self) -> str:
        """SHA-256 of all that is learned from, and of what the best epoch is chosen by."""
        digest = hashlib.sha256("\n".join(self.transfer).encode())
        for part, rows in self.parts.items():
            digest.update("\n".join(rows["description"]).encode())
            digest.update(self.truth(part).tobytes())
        digest.update(b"" if self.reading is None else self.reading.tobytes())
        return digest.hexdigest()


def load_films(data: DataArguments) -> Films:
    """Read, check and split the films.

    Raises:
        DataError: if they cannot be used.
    """
    columns = Columns(data.title_column, data.genre_column, data.text_column)
    genre_map = parse_genre_map(data.genre_map)
    films, problems = read_films(
        data.train_file, columns=columns, genre_map=genre_map, skip_bad_rows=data.skip_bad_rows
    )
    if problems:
        logger.warning("%d bad rows left out, the first: %s", len(problems), problems[0])
    if data.fit_all:
        films = films.remove_columns("split").add_column("split", ["train"] * len(films))  # type: ignore[call-arg]
    else:
        stored = read_split(data.split_file) if data.split_file else None
        films = assign_splits(films, stored=stored, seed=data.split_seed)
    rows = {name: [i for i, split in enumerate(films["split"]) if split == name] for name in ("train", "validation")}
    if not rows["train"]:
        raise DataError(f"{data.train_file} has no training film: its split, or --split_file, keeps all of them aside")
    if not data.fit_all and len(rows["validation"]) < FOLDS:
        raise DataError(
            f"{data.train_file} has {len(rows['validation'])} validation films, too few to choose an epoch and "
            f"thresholds by: at least {FOLDS} are needed"
        )
    parts = {name: films.select(indices) for name, indices in rows.items() if indices}
    genres = genre_vocabulary(films)
    transfer = _read_transfer(data.transfer_files, films, genres)
    return Films(parts, genres, split_hashes(films), *transfer)


def _read_transfer(
    sources: Sequence[str], films: Dataset, genres: Sequence[str]
) -> tuple[list[str], np.ndarray | None]:
    """Texts, each once, none of them a film's, of which a teacher knows more than it should, or less; and their genres.

    The latter are the probabilities of the columns `p_<Genre>`, as `movie-genre predict` writes them.
    """
    columns = [f"p_{genre}" for genre in genres]
    texts: dict[str, tuple[str, str, list[Any]]] = {}
    names: set[str] = set()
    for source in sources:
        problems = Problems(source, limit=1)
        for values, text in stream_rows(source, problems):
            names |= values.keys()
            texts[row_hash(text)] = (source, text, [values.get(column) for column in columns])
        if problems.count:
            logger.warning("%s: %d bad rows left out, the first: %s", source, problems.count, problems.found[0])
    known = {row_hash(text) for text in films["description"]}
    stay = [of for row, of in texts.items() if row not in known]
    transfer, said = [text for _, text, _ in stay], [chances for *_, chances in stay]
    missing = [column for k, column in enumerate(columns) if all(chances[k] is None for chances in said)]
    if missing:
        if any(name.startswith("p_") for name in names):
            found, lacking = ", ".join(sources), ", ".join(missing)
            logger.warning("%s: without the columns %s its genres are not used", found, lacking)
        return transfer, None
    for source, text, chances in stay:
        if not all(_is_probability(value) for value in chances):
            raise DataError(
                f"{source}: {chances} of {text[:40]!r} are not probabilities from 0 to 1 ({columns[0]}, ...)"
            )
    return transfer, np.array(said, dtype=float)


def _is_probability(value: Any) -> bool:
    try:
        return 0 <= float(value) <= 1
    except (TypeError, ValueError):
        return False


class Readings(torch.utils.data.Dataset):
    """Training films, read a little differently in every epoch.

    What differs: the people's names, slips of the keyboard, and word pieces left out (the special tokens and at least
    one word piece stay). Each reading is drawn from seed, epoch and film alone, so that a resumed run, or one on
    several machines, reads what any other would.
    """

    def __init__(
        self,
        descriptions: Sequence[str],
        labels: np.ndarray,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        arguments: MovieGenreTrainingArguments,
    ) -> None:
        self.descriptions, self.labels, self.epoch = descriptions, labels.astype(np.float32), 0
        self.tokenizer, self.max_length, self.arguments = tokenizer, max_length, arguments

    def __len__(self) -> int:
        """Films."""
        return len(self.descriptions)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One film's `input_ids` and `labels`."""
        told, text = self.arguments, self.descriptions[index]
        draw = random.Random(f"{told.seed} {self.epoch} {index}")  # noqa: S311  # no secret
        if draw.random() < told.other_people:
            text = other_people(text, draw)
        if told.typos and draw.random() < 0.5:
            text = mistyped(text, draw.uniform(0, told.typos), draw)
        ids = self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
        inner = ids[1:-1]
        stay = [token for token in inner if draw.random() >= told.token_dropout] or draw.choices(
            inner, k=min(1, len(inner))
        )
        return {"input_ids": [ids[0], *stay, ids[-1]], "labels": self.labels[index]}


def encode_films(films: Dataset, labels: np.ndarray, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """`input_ids`, `labels` and `length` of each film."""
    texts = list(films["description"])
    ids = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
    return Dataset.from_dict({"input_ids": ids, "labels": labels.tolist(), "length": [len(row) for row in ids]})
