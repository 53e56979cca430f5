"""Pictures that a run leaves behind."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.ticker import PercentFormatter

logger = logging.getLogger(__name__)

FONT = "DejaVu Sans"  # which comes with matplotlib
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
    size = max(1.0, len(genres) / 20)
    figure = Figure(figsize=(8 * size, 7 * size), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if share >= SHOWN_SHARE:
            axis.text(
                column, row, f"{100 * share:.0f}", ha="center", va="center", color="white" if share > 0.5 else "black"
            )
    families = _families("".join(genres))
    axis.set_xticks(range(len(genres)), genres, rotation=60, ha="right", family=families)
    axis.set_yticks(range(len(genres)), genres, family=families)
    axis.set(xlabel="have this genre too", ylabel="of the films of this genre", title="Genres that go together, %")
    figure.colorbar(picture, shrink=0.6, format=PercentFormatter(1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of each letter; `_families` has told
        figure.savefig(path, dpi=90)


def _families(text: str) -> list[str]:
    """Fonts for a text: matplotlib's own and, where that lacks letters, an installed one that has them."""
    lacking = {ord(letter) for letter in text} - get_font(findfont(FONT)).get_charmap().keys()
    if not lacking:
        return [FONT]
    for font in sorted(fontManager.ttflist, key=lambda font: (font.weight != 400, "Sans" not in font.name)):
        if font.name.startswith("Last Resort"):  # which has a box for every letter
            continue
        if lacking <= get_font(font.fname).get_charmap().keys():
            return [FONT, font.name]
    logger.warning("no font of this machine has all letters of the genres: some are boxes in the picture")
    return [FONT]
