"""Write the results section of README.md from the results files.

python benchmarks/report.py [--check]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results: written by benchmarks/report.py -->", "<!-- /results -->"
SHOWN = ("micro_f1", "macro_f1", "samples_f1", "subset_accuracy", "mean_average_precision")


def row(name: str, figures: dict[str, Any]) -> str:
    """One line of a table: value and 95 % interval of each score."""
    cells = []
    for score in SHOWN:
        lower, upper = figures["intervals"][score]
        cells.append(f"{figures[score]:.3f} ({lower:.3f}–{upper:.3f})")
    return f"| {name} | {' | '.join(cells)} |"


def table(rows: list[str]) -> str:
    """Rows under a head."""
    head = f"| | {' | '.join(score.replace('_', ' ') for score in SHOWN)} |"
    return "\n".join([head, "|---" * (len(SHOWN) + 1) + "|", *rows])


def quality(results: dict[str, Any]) -> str:
    """The comparison on the TMDB list."""
    films, systems = results["data"]["films"], results["systems"]
    runs = ", ".join(f"{system['name']}: {system['seeds']}" for system in systems.values())
    lines = [
        f"**TMDB's top-rated films**: {films['train']:,} to train on, {films['validation']:,} to tune on,",
        f"{films['test']:,} tested once. Means over training seeds ({runs}),",
        "thresholds tuned for micro-F1, 95 % bootstrap intervals over films.",
        "",
        table([row(system["name"], system) for system in systems.values()]),
        "",
    ]
    if ours := systems.get("best"):
        subset = ours["profiles"]["subset_accuracy"]
        lines += [f"Under the profile tuned for it, ours ({ours['name']}) reaches {subset:.3f} subset accuracy.", ""]
        for name, less in results["ours_less"].items():
            cells = []
            for score in ("micro_f1", "macro_f1", "mean_average_precision"):
                lower, upper = less["intervals"][score]
                difference = f"{less['difference'][score]:+.3f} ({lower:+.3f} to {upper:+.3f})"
                cells.append(f"{score.replace('_', ' ')} {difference}")
            lines.append(f"- Ours less {systems[name]['name']}, on the same films: {', '.join(cells)}.")
        lines.append("")
    lines.append("![Quality of the systems](benchmarks/results/quality.png)")
    return "\n".join(lines)


def own_films(results: dict[str, Any]) -> str:
    """The second, independent test."""
    names = {
        "checkpoint, all": "shipped checkpoint, all",
        "checkpoint, known": "shipped checkpoint, titles that its training list has too",
        "checkpoint, new": "shipped checkpoint, titles that it has not",
        "trained on data/movies.csv": "trained on the train rows of `data/movies.csv` alone",
    }
    rows = [row(f"{names[key]} ({figures['rows']} films)", figures) for key, figures in results["systems"].items()]
    lines = [
        "**The project's own films**, in other words than TMDB's and with no genre named: the test rows of",
        "`data/movies.csv`.",
        "",
        table(rows),
    ]
    return "\n".join(lines)


def render() -> str:
    """The section, as far as its files exist."""
    parts = []
    for name, write in (("quality.json", quality), ("own_films.json", own_films)):
        path = RESULTS / name
        if path.exists():
            parts.append(write(json.loads(path.read_text(encoding="utf-8"))))
    return "\n\n".join([BEGIN, *parts, END])


def main() -> int:
    """Write the section, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if README.md is out of date")
    options = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    new = before + render() + after
    if options.check:
        return new != text
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
