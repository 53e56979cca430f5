"""Charts of the page as HTML and SVG, in the theme's colours, without a plotting library.

The page puts these strings into its document as they are: every text in them has gone through `escape`.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from .prediction_movie_genre import GenrePrediction, Rule, thresholds_of
from .verdict import Verdict

SIGNS = {"sure": "✓", "torn": "≈", "lost": "?"}
STRONG_EDGE = 0.25  # conditional probabilities below this are left out of the genres' graph
BINS = 10
STRONGEST = 5  # words named to who does not see their colours

# Gradio scopes each rule to its own container: one with `.dark` in it must not share its braces with another.
CSS = """
.mg-answer { min-height: 7.2rem; }
.mg-chips { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 0 .8rem; padding: 0; list-style: none; }
.mg-chips li { background: var(--primary-600); color: white; border-radius: 999px; padding: .3rem .95rem;
  font-size: 1.05rem; font-weight: 600; margin: 0; }
.mg-note, .mg-verdict { margin: .3rem 0; color: var(--body-text-color); }
.mg-verdict b { display: inline-grid; place-items: center; width: 1.4rem; height: 1.4rem; border-radius: 50%;
  margin-right: .5rem; color: white; line-height: 1; }
.mg-sure b { background: #15803d; } .mg-torn b { background: #b45309; } .mg-lost b { background: #b91c1c; }
.mg-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.mg-quiet { color: var(--body-text-color-subdued); }
.mg-bars { --bar: var(--neutral-400); --track: var(--neutral-100); --mark: #b45309; }
.dark .mg-bars { --bar: var(--neutral-500); --track: var(--neutral-700); --mark: #fbbf24; }
.mg-bars, .mg-figures, .mg-facts { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums;
  margin: 0; }
.mg-bars tr, .mg-figures tr, .mg-facts tr, .mg-bars tbody, .mg-figures tbody, .mg-figures thead, .mg-facts tbody,
table.mg-bars, .mg-figures, .mg-facts { border: 0 !important; }
.mg-bars caption, .mg-figures caption, .mg-facts caption { text-align: left; font-weight: 600; padding-bottom: .5rem;
  color: var(--body-text-color); }
.mg-bars th, .mg-bars td { border: 0 !important; padding: .16rem 0; color: var(--body-text-color-subdued); }
.mg-bars th { font-weight: 400; text-align: right; white-space: nowrap; padding-right: .6rem; width: 1%;
  max-width: 11rem; overflow: hidden; text-overflow: ellipsis; }
.mg-bars tr.on th, .mg-bars tr.on td { font-weight: 600; color: var(--body-text-color); }
.mg-bars td:last-child { width: 1%; white-space: nowrap; text-align: right; padding-left: .6rem; }
.mg-track { position: relative; height: .95rem; background: var(--track); border-radius: .25rem; }
.mg-fill { position: absolute; inset: 0 auto 0 0; border-radius: .25rem; background: var(--bar); }
.on .mg-fill { background: var(--primary-500); }
.mg-plain .mg-fill { background: var(--primary-500); }
.mg-line { position: absolute; top: -.12rem; bottom: -.12rem; width: 2px; margin-left: -1px; background: var(--mark); }
.mg-spread { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--body-text-color); }
.mg-spread::before, .mg-spread::after { content: ""; position: absolute; top: -.2rem; height: calc(.4rem + 2px);
  width: 2px; background: inherit; }
.mg-spread::before { left: 0; } .mg-spread::after { right: 0; }
.mg-key { font-size: .85rem; font-weight: 400; margin: .5rem 0 0; color: var(--body-text-color-subdued);
 }
.mg-bars .mg-key i { display: inline-block; vertical-align: middle; margin: 0 .4rem 0 0; position: relative; top: 0; }
.mg-bars .mg-key i.mg-line { height: .95rem; } .mg-bars .mg-key i.mg-spread { width: 1.3rem; margin-left: 1rem; }
.mg-scroll { overflow-x: auto; }
.mg-figures th, .mg-figures td, .mg-facts th, .mg-facts td { padding: .3rem .7rem; text-align: right;
  white-space: nowrap; border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.mg-figures th:first-child, .mg-figures td:first-child { text-align: left; padding-left: 0; }
.mg-facts th { text-align: left; padding-left: 0; vertical-align: top; width: 1%; font-weight: 400;
  color: var(--body-text-color-subdued); }
.mg-facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.mg-grid { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); margin: 0; }
.mg-grid figure { margin: 0; } .mg-grid figcaption { font-size: .85rem; text-align: center; }
.mg-svg { width: 100%; height: auto; display: block; color: var(--body-text-color); font-family: inherit; }
.mg-svg text { fill: currentColor; }
.mg-wide { max-width: 36rem; margin: 0 auto; } .mg-square { max-width: 22rem; margin: 0 auto; }
.mg-problems { margin: .3rem 0 .8rem; padding-left: 1.2rem; max-height: 14rem; overflow-y: auto; }
.mg-problems li { overflow-wrap: anywhere; }
"""


def answer(
    prediction: GenrePrediction, judged: Verdict, text: str, weights: Sequence[tuple[int, int, float]] = ()
) -> str:
    """The genres chosen, how sure the model is, where the text was cut; and the strongest words, for who sees none."""
    chips = "".join(f"<li>{escape(genre)}</li>" for genre in prediction.genres) or "<li>no genre</li>"
    parts = [
        f'<ul class="mg-chips" aria-label="Genres">{chips}</ul>',
        f'<p class="mg-verdict mg-{judged.level}"><b aria-hidden="true">{SIGNS[judged.level]}</b>'
        f"{escape(judged.sentence)}</p>",
        f'<p class="mg-note mg-quiet">Expected F1 of this choice: {prediction.confidence:.0%}</p>',
    ]
    if prediction.truncated_at is not None:
        parts.append(
            f'<p class="mg-note">✂ Only the first {prediction.truncated_at:,} of {len(text):,} characters were read: '
            "longer texts can be read in windows, see the options.</p>"
        )
    strongest = sorted(weights, key=lambda word: -abs(word[2]))[:STRONGEST]
    if strongest:
        words = ", ".join(f"{text[start:end]}{' (against)' if weight < 0 else ''}" for start, end, weight in strongest)
        parts.append(f'<p class="mg-unseen">Words that spoke most: {escape(words)}.</p>')
    return f'<div class="mg-answer" role="status">{"".join(parts)}</div>'


def refused(why: str) -> str:
    """What stands in the answer's place where there is none."""
    return f'<div class="mg-answer" role="alert"><p class="mg-note">No answer: {escape(why)}.</p></div>'


def invitation() -> str:
    """What stands in the answer's place before there is one."""
    return '<div class="mg-answer mg-quiet" role="status"><p>The genres will stand here.</p></div>'


def probability_bars(
    probabilities: Mapping[str, float] | None,
    genres: Sequence[str],
    rule: Rule,
    chosen: Sequence[str] = (),
    spread: Mapping[str, float] | None = None,
) -> str:
    """Every genre's probability as a bar, with its threshold and its standard deviation where there are such.

    Without probabilities the empty frame is drawn, as large as the chart that will replace it.
    """
    limits = thresholds_of(rule, genres)
    order = sorted(genres, key=lambda genre: -probabilities[genre]) if probabilities else genres
    rows = []
    for genre in order:
        p = probabilities[genre] if probabilities else 0.0
        marks, title = f'<i class="mg-fill" style="width:{p:.2%}"></i>', f"{genre}: {p:.1%}"
        if genre in limits:
            marks += f'<i class="mg-line" style="left:{limits[genre]:.2%}"></i>'
            title += f", threshold {limits[genre]:.1%}"
        figure = f"{p:.0%}" if probabilities else "–"
        if spread:
            low, high = max(p - spread[genre], 0.0), min(p + spread[genre], 1.0)
            marks += f'<i class="mg-spread" style="left:{low:.2%};width:{high - low:.2%}"></i>'
            figure += f" ± {spread[genre] * 100:.0f}"
        rows.append(
            f'<tr class="{"on" if genre in chosen else "off"}" title="{escape(title)}"><th scope="row">{escape(genre)}'
            f'</th><td><div class="mg-track" role="img" aria-label="{escape(title)}">{marks}</div></td>'
            f"<td>{figure}</td></tr>"
        )
    key = '<i class="mg-line"></i>threshold' if limits else "whole sets of genres are compared, not one by one"
    if spread:
        key += '<i class="mg-spread"></i>mean ± standard deviation over the samples'
    return (
        '<div class="mg-bars"><table class="mg-bars"><caption>Probability of each genre</caption>'
        f'<tbody>{"".join(rows)}</tbody></table><p class="mg-key">{key}</p></div>'
    )


def count_bars(counts: Mapping[str, int], caption: str) -> str:
    """Counts as bars."""
    most = max(counts.values(), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><div class="mg-track">'
        f'<i class="mg-fill" style="width:{count / most:.2%}"></i></div></td><td>{count:,}</td></tr>'
        for name, count in counts.items()
    )
    return f'<table class="mg-bars mg-plain"><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>'


def confidence_bars(confidences: Sequence[float]) -> str:
    """Histogram of expected F1."""
    counts, edges = np.histogram(confidences, bins=BINS, range=(0, 1))
    named = {f"{edges[i]:.0%} to {edges[i + 1]:.0%}": int(counts[i]) for i in range(BINS)}
    return count_bars(named, "Films by confidence (expected F1)")


def problems(found: Sequence[str], limit: int = 100) -> str:
    """Rows that could not be read, by line."""
    if not found:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in found[:limit])
    more = f"<li>and {len(found) - limit:,} more</li>" if len(found) > limit else ""
    rows = "1 row was" if len(found) == 1 else f"{len(found):,} rows were"
    return f'<p class="mg-note"><b>{rows} left out:</b></p><ul class="mg-problems">{items}{more}</ul>'


def unknown_genres(found: Mapping[str, int]) -> str:
    """Genres of a file that the model does not know, and of how many films each."""
    if not found:
        return ""
    names = ", ".join(f"{name} ({films:,})" for name, films in found.items())
    return f'<p class="mg-note"><b>Not compared:</b> films of genres that the model does not know, {escape(names)}.</p>'


def figures(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table: text in the first column, figures in the others."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(_figure(value))}</td>" for value in row) + "</tr>" for row in rows)
    return (
        f'<div class="mg-scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="mg-figures">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def scores(values: Mapping[str, Any], caption: str) -> str:
    """Scores with their 95 % intervals, as `movie-genre evaluate` writes them."""
    rows = []
    for name, (lower, upper) in values["intervals"].items():
        rows.append([name.replace("_", " ").replace("f1", "F1"), float(values[name]), f"{lower:.3f} to {upper:.3f}"])
    return figures(caption, ["measure", "value", "95 % interval"], rows)


def genre_table(per_genre: Mapping[str, Mapping[str, Any]]) -> str:
    """Scores by genre, most frequent first."""
    names = ("precision", "recall", "f1", "average_precision", "films")
    rows = [
        [genre, *(row.get(name) for name in names)]
        for genre, row in sorted(per_genre.items(), key=lambda item: -item[1].get("films", 0))
    ]
    return figures("By genre", ["genre", "precision", "recall", "F1", "average precision", "films"], rows)


def _frame(body: str, label: str, x: str, y: str, font: float) -> str:
    """A unit square of 100 by 100 with axes, (0, 0) at the lower left."""
    size = 100
    text = f'font-size="{font}" text-anchor="middle"'
    return (
        f'<svg class="mg-svg" viewBox="-14 -4 {size + 20} {size + 20}" role="img" aria-label="{escape(label)}">'
        f'<path d="M0 0V{size}H{size}" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
        f'<path d="M0 {size / 2}H{size}M{size / 2} 0V{size}" stroke="currentColor" stroke-opacity=".12"/>{body}'
        f'<text x="{size / 2}" y="{size + 11}" {text}>{escape(x)}</text>'
        f'<text transform="translate(-5 {size / 2}) rotate(-90)" {text}>{escape(y)}</text>'
        "</svg>"
    )


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{100 * x:.1f} {100 - 100 * y:.1f}" for x, y in zip(xs, ys, strict=True))


def curves(data: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Precision over recall of each genre, {genre: {"precision": [...], "recall": [...]}}."""
    charts = []
    for genre, curve in data.items():
        line = _path(curve["recall"], curve["precision"])
        body = f'<path d="{line}" fill="none" stroke="var(--primary-500)" stroke-width="2" stroke-linejoin="round"/>'
        svg = _frame(body, f"{genre}: precision over recall", "recall", "precision", 7)
        charts.append(f"<figure>{svg}<figcaption>{escape(genre)}</figcaption></figure>")
    return f'<div class="mg-grid">{"".join(charts)}</div>'


def reliability(data: Mapping[str, Sequence[float]]) -> str:
    """Frequency of genres over the probability given them, from equal-mass bins."""
    xs, ys = data["mean_probability"], data["frequency"]
    points = "".join(
        f'<circle cx="{100 * x:.1f}" cy="{100 - 100 * y:.1f}" r="1.8" fill="var(--primary-500)">'
        f"<title>{int(n):,} pairs: {x:.1%} said, {y:.1%} so</title></circle>"
        for x, y, n in zip(xs, ys, data["count"], strict=True)
    )
    body = (
        '<path d="M0 100L100 0" stroke="currentColor" stroke-opacity=".4" stroke-dasharray="2 2"/>'
        f'<path d="{_path(xs, ys)}" fill="none" stroke="var(--primary-500)" stroke-width="1.2"/>{points}'
    )
    svg = _frame(body, "Reliability diagram: frequency over probability", "probability given", "share that was so", 4.5)
    return f'<div class="mg-square">{svg}</div>'


def genre_graph(genres: Sequence[str], matrix: Sequence[Sequence[float]]) -> str:
    """Genres on a circle; an arrow from A to B, the wider the more often a film of genre A has genre B too."""
    angles = [2 * math.pi * i / len(genres) - math.pi / 2 for i in range(len(genres))]
    places = [(70 * math.cos(angle), 70 * math.sin(angle)) for angle in angles]
    edges, labels = [], []
    for i, row in enumerate(matrix):
        for j, p in enumerate(row):
            if i == j or p < STRONG_EDGE:
                continue
            (x1, y1), (x2, y2) = places[i], places[j]
            length = math.dist(places[i], places[j])
            x2, y2 = x2 - 3 * (x2 - x1) / length, y2 - 3 * (y2 - y1) / length  # the arrow ends at the dot's rim
            # Bent towards the middle, so that the two directions stay apart.
            bend = 0.25
            cx, cy = (x1 + x2) / 2 - bend * (y2 - y1) / 2, (y1 + y2) / 2 + bend * (x2 - x1) / 2
            edges.append(
                f'<path d="M{x1:.1f} {y1:.1f}Q{cx:.1f} {cy:.1f} {x2:.1f} {y2:.1f}" fill="none" '
                f'stroke="var(--primary-500)" stroke-width="{2.2 * p:.2f}" stroke-opacity="{0.2 + 0.6 * p:.2f}" '
                f'marker-end="url(#mg-tip)"><title>{escape(genres[i])} → {escape(genres[j])}: {p:.0%}</title></path>'
            )
    for genre, angle, (x, y) in zip(genres, angles, places, strict=True):
        anchor = "start" if math.cos(angle) > 0.05 else "end" if math.cos(angle) < -0.05 else "middle"
        tx, ty = 76 * math.cos(angle), 76 * math.sin(angle) + 2 + 3 * math.sin(angle)
        labels.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="var(--primary-600)"/>'
            f'<text x="{tx:.1f}" y="{ty:.1f}" font-size="6" text-anchor="{anchor}">{escape(genre)}</text>'
        )
    return (
        '<div class="mg-wide"><svg class="mg-svg" viewBox="-128 -90 256 180" role="img" '
        'aria-label="Which genres go together">'
        '<defs><marker id="mg-tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L6 3L0 6z" fill="var(--primary-500)"/></marker></defs>'
        f"{''.join(edges)}{''.join(labels)}</svg>"
        f'<p class="mg-key">An arrow from A to B: of the films of genre A, at least {STRONG_EDGE:.0%} have genre B '
        "too; the wider, the more.</p></div>"
    )


def training_facts(training: Mapping[str, Any]) -> str:
    """What the model was trained on, and how."""
    data, versions = training.get("data") or {}, training.get("versions") or {}
    films = data.get("films") or {}
    epochs, best = training.get("epochs"), training.get("best_epoch")
    facts = {
        "data": data.get("source"),
        "films": ", ".join(f"{count:,} for {part}" for part, count in films.items()),
        "parameters": training.get("parameters"),
        "epochs": f"{epochs:g}, the weights of epoch {best:g}" if epochs and best and best != epochs else epochs,
        "minutes": None if training.get("seconds") is None else f"{training['seconds'] / 60:.0f}",
        "seed": training.get("seed"),
        "command": training.get("command"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(f"{value:,}" if isinstance(value, int) else str(value))}'
        "</td></tr>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    return f'<table class="mg-facts"><caption>Training</caption><tbody>{rows}</tbody></table>'
