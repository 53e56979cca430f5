"""Pictures that a run leaves behind."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

SHOWN_SHARE = 0.1  # smaller shares get no figure in the genres' picture


def plot_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Loss and micro-F1 by epoch, for training and validation films."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, measure, title in zip(
        figure.subplots(1, 2), ("loss", "micro_f1"), ("loss", "micro-F1 at the best threshold"), strict=True
    ):
        for part in ("train", "validation"):
            points = [
                (entry["epoch"], entry[f"eval_{part}_{measure}"])
                for entry in history
                if f"eval_{part}_{measure}" in entry
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=part)
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    figure.savefig(path, dpi=120)


def plot_genres(genres: Sequence[str], matrix: np.ndarray, path: Path) -> None:
    """The genres' graph: of the films of a genre (row), the share that has another too (column); (genres, genres)."""
    shares = np.where(np.eye(len(genres), dtype=bool), np.nan, np.asarray(matrix, dtype=float))
    figure = Figure(figsize=(8, 7), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if share >= SHOWN_SHARE:
            axis.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", color="white" if share > 0.5 else "black"
            )
    axis.set_xticks(range(len(genres)), genres, rotation=60, ha="right")
    axis.set_yticks(range(len(genres)), genres)
    axis.set(xlabel="have this genre too", ylabel="of the films of this genre", title="Genres that go together, %")
    figure.colorbar(picture, shrink=0.6, format=PercentFormatter(1))
    figure.savefig(path, dpi=90)
