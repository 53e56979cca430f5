"""Write the results section of README.md from the results files.

python -m benchmarks.report [--check]
"""

import argparse
import json
import sys
from typing import Any

from benchmarks.common import CHECKPOINT, RESULTS, ROOT, STORIES, movies, weights

BEGIN, END = "<!-- results: written by benchmarks/report.py -->", "<!-- /results -->"
SHOWN = ("micro_f1", "macro_f1", "samples_f1", "subset_accuracy", "mean_average_precision")


def with_interval(figures: dict[str, Any], score: str) -> str:
    """A value and its 95 % interval."""
    lower, upper = figures["intervals"][score]
    return f"{figures[score]:.3f} ({lower:.3f}–{upper:.3f})"


def row(name: str, figures: dict[str, Any], *more: str) -> str:
    """One line of a table: value and 95 % interval of each score, and further cells."""
    return f"| {' | '.join([name, *(with_interval(figures, score) for score in SHOWN), *more])} |"


def table(rows: list[str], *more: str) -> str:
    """Rows under a head."""
    names = ["", *(score.replace("_", " ") for score in SHOWN), *more]
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *rows])


def cost(system: dict[str, Any]) -> list[str]:
    """Size, work, time, calibration, selective gain; no work of what is no encoder, no time of runs that paused."""
    runs = list(zip(system["training_seconds"], system["bf16"], strict=True))
    seconds = [run for run, bf16 in runs if run is not None and bf16 == runs[-1][1]]  # of one arithmetic
    work = system["flops_per_token"]
    return [
        f"{system['parameters'] / 1e6:.1f}",
        f"{work / 1e6:.1f}" if work else "",
        f"{sum(seconds) / len(seconds) / 60:.1f}" if seconds else "",
        f"{system['calibration_error']:.3f}",
        f"{system['calibration_error_calibrated']:.3f}",
        with_interval(system["selective"], "gain"),
        with_interval(system["label_sets"]["selective"], "gain"),
    ]


def difference(less: dict[str, Any], score: str) -> str:
    """What is more or less, and its interval."""
    lower, upper = less["intervals"][score]
    return f"{less['difference'][score]:+.3f} ({lower:+.3f} to {upper:+.3f})"


def quality(results: dict[str, Any]) -> str:
    """The comparison on the TMDB list."""
    films, systems = results["data"]["films"], results["systems"]
    readers = "; ".join(system["name"] for system in systems.values() if system["stories"])
    stories = len(movies(path=STORIES))
    lines = [
        f"**TMDB's top-rated films**: {films['train']:,} to train on, {films['validation']:,} to tune on,",
        f"{films['test']:,} to score on, by which one setting was chosen: the label graph, which makes no difference",
        "there, is left out. Means over runs of different seeds, whose number stands behind the name; thresholds tuned",
        "for micro-F1, 95 % bootstrap intervals over films. In the last column whole sets of genres are chosen",
        "instead, and one number, the weight of what goes together, is fitted on four fifths of these films for the",
        "remaining one.",
        f"Beside the films, these read the {stories:,} stories of `data/stories.csv`, whose genres a language model",
        f"says: {readers}. The others have the films alone.",
        "",
        table(
            [
                row(
                    f"{system['name']} ({system['seeds']})",
                    system,
                    with_interval(system["label_sets"], "subset_accuracy"),
                )
                for system in systems.values()
            ],
            "subset accuracy, whole sets",
        ),
        "",
        "What that takes (minutes with the scoring, and without the reading of an encoder that teaches, whose",
        "vectors are kept; on two cores, or on one with other work beside it); the expected calibration error (mean",
        "over genres) of the probabilities as they come, ours being calibrated on the films to tune on, and of all",
        "when calibrated alike, on four fifths of these films for the remaining one; and what setting the fifth of",
        "the films aside that a system is least sure of, by expected F1, brings the others' micro-F1, under these",
        "thresholds and under whole sets:",
        "",
        "| | parameters, millions | operations a token, millions | training, minutes a run | calibration error "
        "| calibrated alike | selective gain | selective gain, whole sets |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {system['name']} | {' | '.join(cost(system))} |" for system in systems.values()),
        "",
    ]
    if (ours := systems.get("best")) and results["ours_less"]:
        figure = with_interval(ours["label_sets"], "micro_f1")
        lines += [
            f"Where it chooses whole sets, the best of ours ({ours['name']}) has a micro-F1 of {figure}.",
            "On the same films, by the thresholds for micro-F1, the best of ours scores higher (+) or lower (-), with",
            "95 % intervals, than",
            "",
        ]
        scores = ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision")
        rare = next(iter(results["ours_less"].values()))["rare_genres"]["genres"]
        names = [*(score.replace("_", " ") for score in scores), f"macro f1 of {', '.join(rare)}"]
        names += ["subset accuracy, whole sets", "micro f1 of the half least like a story"]
        lines += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for name, less in results["ours_less"].items():
            cells = [difference(less, score) for score in scores] + [difference(less["rare_genres"], "macro_f1")]
            cells += [difference(less["label_sets"], "subset_accuracy")]
            cells += [difference(less["unlike_stories"], "micro_f1")]
            lines.append(f"| {systems[name]['name']} | {' | '.join(cells)} |")
        lines.append("")
    lines.append("![Quality of the systems](benchmarks/results/quality.png)")
    return "\n".join(lines)


def data_efficiency(results: dict[str, Any]) -> str:
    """How many films it takes."""
    sizes = sorted({size for system in results["systems"].values() for size in system}, key=int)
    rows = []
    for system, figures in results["systems"].items():
        cells = [f"{figures[size]['micro_f1']:.3f}" if size in figures else "" for size in sizes]
        rows.append(f"| {results['names'][system]} | {' | '.join(cells)} |")
    head = [
        f"| micro-F1 by training films | {' | '.join(f'{int(size):,}' for size in sizes)} |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    picture = "![Quality by training films](benchmarks/results/data_efficiency.png)"
    told = (
        "**Fewer films**, one seed; ours has the stories beside them, the others have the films alone; all are tuned\n"
        f"on the same {results['data']['films']['validation']:,} validation films:"
    )
    return "\n".join([told, "", *head, *rows, "", picture])


def recipes(results: dict[str, Any]) -> str:
    """What was tried in training."""
    rows = []
    for idea in results["ideas"].values():
        cells = []
        for score in ("micro_f1", "macro_f1", "mean_average_precision"):
            more = idea.get("more_than_base")
            cells.append(difference(more, score) if more else f"{idea[score]:.3f}")
        rows.append(f"| {idea['name']} | {' | '.join(cells)} |")
    data = results["data"]
    lines = [
        "**What was tried**: each idea alone beside the best recipe without hint and stories",
        f"on {data['films']:,} training films and {data['epochs']:g} epochs, one seed, on the validation films;",
        "differences with 95 % intervals.",
        "",
        "| | micro f1 | macro f1 | mean average precision |",
        "|---|---|---|---|",
        *rows,
        "",
        "![What was tried](benchmarks/results/recipes.png)",
    ]
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


def speed(results: dict[str, Any]) -> str:
    """Rates and waiting times beside the alternatives."""
    from benchmarks.speed import NAMES, UNLOADED

    bulk, one, cold = results["bulk"], results["one"]["1 threads"]["milliseconds"], results["cold"]
    rows = []
    for name, rate in bulk["rows_a_second"].items():
        start, memory = cold["seconds"].get(name), cold["peak_mb"].get(name)
        if name in UNLOADED:
            start = memory = None
        cells = [f"{rate['median']:,.0f} ({rate['least']:,.0f}–{rate['most']:,.0f})"]
        cells += [f"{one[name]['p50']:.1f} / {one[name]['p99']:.1f}" if name in one else ""]
        cells += [f"{start['median']:.1f}" if start else "", f"{memory:,.0f}" if memory else ""]
        rows.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    machine, share = results["machine"], bulk["share_of_peak"]
    names = NAMES | {"imports": "`import torch, transformers`", "ours": "ours", "notebook": "the notebook's loop"}
    compared = [
        f"| {what}: {names[ratio['of']]} to {names[ratio['to']]} | {ratio['wanted']:.2f} | "
        f"{ratio['median']:.2f} ({ratio['least']:.2f}–{ratio['most']:.2f}) |"
        for what, ratios in (
            ("rows a second", bulk["ratios"]),
            ("one description, 1 thread", results["one"]["1 threads"]["ratios"]),
            ("first answer", cold["ratios"]),
            ("training, the seed's sizes", results["training"]["ratios"]),
        )
        for ratio in ratios
    ]
    shipped = results["model"] == weights(CHECKPOINT)
    lines = [
        f"**Speed**, on {machine['cores']} cores of {machine['processor']}; ours has the shape of the model that ships"
        + (" and its weights," if shipped else ","),
        f"in bulk {bulk['texts']:,} descriptions of {bulk['tokens_a_text']:.0f} tokens (the notebook and MiniLM-L6",
        f"read {min(rate['texts'] for rate in bulk['rows_a_second'].values()):,} of them), contenders taking turns;",
        "medians and ranges.",
        "",
        "| | rows a second | ms for one, 1 thread, p50 / p99 | s to the first answer | peak memory, MB |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "| how many times as fast | aim | measured |",
        "|---|---|---|",
        *compared,
        "",
        f"Padding adds {bulk['padding_waste']:.1%} of the tokens. The machine's matrix products reach",
        f"{bulk['peak_gflops']['median']:,.0f} GFLOP/s; of that ours uses {share['ours']['median']:.0%} (PyTorch) and",
        f"{share['ours_onnx']['median']:.0%} (ONNX): all of it would be {1 / share['ours']['median']:.2f} times",
        "PyTorch's rate."
        + (" Processors with 8-bit products (VNNI) go further in int8." if "vnni" not in machine["processor"] else ""),
        "The first answer takes what transformers takes to import `PreTrainedModel` "
        f"({cold['seconds']['model_class']['median']:.1f} s).",
        "",
        "![Speed](benchmarks/results/speed.png)",
    ]
    return "\n".join(lines)


def bulk(results: dict[str, Any]) -> str:
    """Files of any size."""
    rows = [
        f"| {run['rows']:,.0f} | {run['seconds']:,.0f} | {run['rows_a_second']:,.0f} | {run['peak_mb']:,.0f} |"
        for run in results["runs"]
    ]
    lines = [
        "**Bulk**, with a tiny network, so that reading and writing are what is measured:",
        "",
        "| rows | seconds | rows a second | peak memory, MB |",
        "|---|---|---|---|",
        *rows,
    ]
    speeds = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))["bulk"]
    rate = speeds["rows_a_second"]["ours_int8"]["median"] / speeds["threads"]
    hours = 1e9 / rate / 3600
    lines += [
        "",
        f"At the network's rate above (ONNX int8, {rate:,.0f} rows a second and",
        f"core), a billion rows take {hours:,.0f} core hours:",
        f"{hours / 1000:,.1f} hours on 1,000 cores.",
    ]
    lines += ["", "![Bulk](benchmarks/results/bulk.png)"]
    return "\n".join(lines)


def reliability(results: dict[str, Any]) -> str:
    """What was promised under faults, and what was counted."""
    rows = []
    if kills := results.get("kills"):
        rows += [
            f"| training killed at random moments before its end | {kills['kills']} kills, {kills['in_a_save']} of "
            f"them in a save; {kills['damaged']} checkpoints damaged besides | {kills['identical']} of {kills['runs']} "
            "runs end bit for bit as an undisturbed one |"
        ]
    if files := results.get("files"):
        rows += [
            f"| malformed files | {files['files']} kinds | {files['refused_with_code_2']} refused with a sentence and "
            "code 2, nothing written |"
        ]
    if fuzz := results.get("fuzz"):
        rows += [
            f"| made-up files | {fuzz['minutes']:.0f} minutes: {fuzz['read']:,} read, {fuzz['refused']:,} refused | "
            f"{fuzz['unhandled']} unhandled errors |"
        ]
    if load := results.get("load"):
        statuses = ", ".join(f"{count:,} x {status}" for status, count in load["statuses"].items())
        rows += [
            f"| {load['users']} users at once | {load['minutes']:.0f} minutes, {load['requests']:,} requests | "
            f"{statuses}; 95 % of single predictions within {load['seconds_p50_p95_p99']['single'][1]:.2f} s |",
            f"| {load['calls']:,} calls beside Monte-Carlo requests | "
            f"memory {load['resident_mb_before']:,.0f} to {load['resident_mb_after']:,.0f} MB | "
            f"{load['bit_identical']:,} answers bit for bit those made alone |",
        ]
    if branches := results.get("branches"):
        rows += [
            f"| branches of `modeling/` | {branches['branches']:,} | tests take {branches['share']:.0%} |",
        ]
    if mutants := results.get("mutants"):
        rows += [
            "| faults put into reading, deciding, scoring, pooling and Monte Carlo "
            f"| {mutants['sampled']} of {mutants['possible']} | tests see {mutants['share']:.0%} |"
        ]
    commits = sorted({part.get("commit", "an earlier state") for part in results.values()})
    told = f"**Reliability**, measured at {' and '.join(commits)} of the code:"
    head = [told, "", "| what | how much | what came of it |", "|---|---|---|"]
    return "\n".join([*head, *rows])


def count(result: dict[str, Any], name: str) -> str:
    """How many of how many; a share would round to all or none."""
    return f"{round(result[name] * result['cases']):,} of {result['cases']:,}"


def attribution(results: dict[str, Any]) -> str:
    """Whether the words that are said to have spoken did."""
    rows = []
    for name, lost in sorted(results["probability_lost"].items(), key=lambda item: -item[1]["mean"]):
        lower, upper = lost["interval"]
        rows.append(f"| {name} | {lost['mean']:.3f} ({lower:.3f} to {upper:.3f}) |")
    share, films = results["share_of_words_deleted"], results["data"]["films"]
    lines = [
        f"**Which words spoke**: of {films} test texts of `data/movies.csv` {share:.0%} of the words are deleted each,",
        "those first that a method ranks highest (Samek et al. 2017). The most probable genre's probability of",
        f"{results['probability_before']:.3f} falls by, with 95 % intervals,",
        "",
        "| words ranked by | fall |",
        "|---|---|",
        *rows,
        "",
        'Integrated gradients (`attribution="gradient"`) say what carries a genre; the pooling\'s weights say what the',
        "network looked at, which carries far less of it.",
    ]
    return "\n".join(lines)


def behaviour(results: dict[str, Any]) -> str:
    """What the shipped model does when what should not matter changes."""
    plain, gender = results["plain"], results["gender"]
    form = max(results["form"].values(), key=lambda change: change["changed"])
    rows = [
        f"| a plain text's genre is named | {count(plain, 'right')} |",
        f"| one typo changes the set of genres | {count(results['typo'], 'changed')} |",
        f"| 5 % of letters wrong: loss of macro-F1 | {results['noise']['macro_f1_cost']:.3f} |",
        f"| another name changes the set of genres | {count(results['names'], 'changed')} |",
        f"| she for he, with a woman's name: largest mean change of a genre's probability | {gender['largest']:.3f} |",
        f"| case, white space, Unicode form change the set | {count(form, 'changed')} |",
        f"| a sentence that speaks for a genre raises it | {count(results['added_sentence'], 'risen')} |",
        f"| a negation lowers what it denies | {count(results['negation'], 'lowered')} |",
        f"| a text in another language is told to be in one | {count(results['language']['others'], 'told')} |",
        f"| a film of `data/movies.csv` is | {count(results['language']['films'], 'told')} |",
        f"| company in a batch changes a probability by at most | {results['company']['largest_difference']:.0e} |",
    ]
    head = [
        "**Behaviour** of the shipped model (after CheckList, Ribeiro et al. 2020), on texts written for it and on",
        "the test rows of `data/movies.csv`:",
        "",
    ]
    return "\n".join([*head, "| | |", "|---|---|", *rows])


def render() -> str:
    """The section, as far as its files exist."""
    parts = []
    for name, write in (
        ("quality.json", quality),
        ("data_efficiency.json", data_efficiency),
        ("recipes.json", recipes),
        ("own_films.json", own_films),
        ("attribution.json", attribution),
        ("behaviour.json", behaviour),
        ("reliability.json", reliability),
        ("speed.json", speed),
        ("bulk.json", bulk),
    ):
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
