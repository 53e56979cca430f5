"""What the benchmarks share: places, the project's own films, whose weights were measured, and what a token costs."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CHECKPOINT = ROOT / "checkpoint"
MOVIES = ROOT / "data" / "movies.csv"


def movies(split: str | None = None) -> list[dict[str, str]]:
    """Rows of data/movies.csv, of one split or all."""
    with MOVIES.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if split in (None, row["split"])]


def weights(folder: str | Path) -> dict[str, str]:
    """Name and hash of the weights that a figure belongs to."""
    from modeling.data import file_hash

    return {"name": Path(folder).name, "sha256": file_hash(Path(folder) / "model.safetensors")}


def flops(config: Any, lengths: Sequence[int]) -> float:
    """Operations of the matrix products that an encoder needs for texts of these lengths, padding not counted."""
    tokens, squares = float(np.sum(lengths)), float(np.sum(np.square(lengths)))
    width = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    heads = config.num_attention_heads * width
    token = config.hidden_size * (4 * heads + 2 * config.intermediate_size)
    return 2 * config.num_hidden_layers * (tokens * token + 2 * squares * heads)
