"""The page: four tabs around a service, and Gradio's endpoints behind the last one."""

import csv
import functools
import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NoReturn

try:
    import spaces  # only there on ZeroGPU; must come before torch
except ImportError:
    pass
else:
    spaces.GPU(lambda: None)  # no Space starts there in which nothing borrows the GPU; a model this small needs none

import gradio as gr
from gradio import processing_utils, routes
from gradio.context import LocalContext
from starlette.exceptions import HTTPException

from . import charts, serving
from .backends import ROOT
from .batch import Batch, predict_file
from .card import public_record, were_seen
from .serving import PredictRequest, RefusedError, Service, validated
from .verdict import verdict

EXAMPLES = 6
PREVIEW = 200  # rows of a file's result shown on the page
MAX_LINK = 2_000  # characters of a deep link; browsers and mail programs cut longer ones
ONE_THRESHOLD = "one threshold for all"
PROFILES = {
    "micro_f1": "most decisions right (micro F1)",
    "macro_f1": "rare genres too (macro F1)",
    "samples_f1": "each film well (samples F1)",
    "subset_accuracy": "the exact set (subset accuracy)",
}
POOLING, GRADIENT = "what the model looked at", "what speaks for one genre"
MOST_PROBABLE = "the most probable"
GENRES_GIVEN = "Films given each genre"
# Names of the options in a deep link, in the order of the components.
FIELDS = ["text", "rule", "threshold", "uncertain", "samples", "words", "genre", "windows"]
LINK, COPIED, NOTHING = "Copy the link to this result", "The link is copied", "No result yet to link to"
NO_LINK = f"No link: with its text it would be longer than {MAX_LINK:,} characters"
# The options as they were asked with: when the answer comes, the fields may hold others.
REMEMBER = "(...now) => { window.asked = now; return now; }"
ASK_LINK = "() => new URLSearchParams(location.search).get('text') && document.querySelector('#submit').click()"
WRITE_LINK = f"""() => {{
    const now = window.asked;
    const query = new URLSearchParams(location.search);
    {FIELDS}.forEach((field, i) => query.set(field, now[i]));
    const short = query.toString().length <= {MAX_LINK};
    if (!short) {FIELDS}.forEach((field) => query.delete(field));
    history.replaceState(null, "", "?" + query);
    return short ? "{LINK}" : "{NO_LINK}";
}}"""
COPY_LINK = f"""async (label) => {{
    if (!new URLSearchParams(location.search).get("text")) return label === "{LINK}" ? "{NOTHING}" : label;
    try {{
        await navigator.clipboard.writeText(location.href);
        return "{COPIED}";
    }} catch {{  // a page that did not come by https may not write to the clipboard
        prompt("The link to this result:", location.href);
        return label;
    }}
}}"""
SPOKE = "Words that spoke"
NOTHING_READ = '<div role="status">Nothing read yet.</div>'
CSS = """
.gradio-container { width: 100% !important; max-width: 72rem !important; margin: 0 auto !important; }
.gradio-container .main, .gradio-container .contain { min-width: 0; }
.mg-words { min-height: 5.5rem; }
.mg-words .textfield { max-height: 26rem; overflow-y: auto; }
#preview, #disagreements { max-width: 100%; min-width: 0; overflow-x: auto; }
footer { margin-top: 1rem; }
"""


def theme() -> gr.themes.Base:
    """Gradio's soft theme with a font of its own and enough contrast in the small print."""
    font = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
    return gr.themes.Soft(font=[font, "system-ui", "sans-serif"], neutral_hue="slate").set(
        body_background_fill="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        # Frames of fields and boxes stand out from the page (WCAG 1.4.11).
        checkbox_border_color="*neutral_500",
        input_border_color="*neutral_500",
        input_border_width="1px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def examples() -> dict[str, str]:
    """Titles and descriptions of a few of the project's own test films."""
    path = ROOT / "data" / "movies.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        films = [row for row in csv.DictReader(file) if row["split"] == "test"]
    step = max(1, len(films) // EXAMPLES)
    return {film["movie_name"]: film["description"] for film in films[step // 2 :: step][:EXAMPLES]}


def open_link(choices: Mapping[str, Sequence[str]], ranges: Mapping[str, tuple[float, float]], whole: str) -> str:
    """JavaScript that takes the options from the address, as far as they are among `choices` or within `ranges`.

    The option `whole` is a whole number.
    """
    return f"""(...now) => {{
        const query = new URLSearchParams(location.search), fields = {FIELDS};
        const choices = {json.dumps(choices)}, ranges = {json.dumps(ranges)};
        if (!query.get("text")) return now;
        return now.map((value, i) => {{
            const field = fields[i], given = query.get(field);
            if (given === null || choices[field]?.includes(given) === false) return value;
            const number = given.trim() && Number(given), [least, most] = ranges[field] ?? [];
            const fits = number !== "" && number >= least && number <= most;
            if (field in ranges) return fits && (field !== "{whole}" || number % 1 === 0) ? number : value;
            return typeof value === "boolean" ? given === "true" : given;
        }});
    }}"""


def refusal(error: RefusedError) -> gr.Error:
    """An error of the service as Gradio's clients raise it."""
    return gr.Error(str(error), print_exception=False)


def shown(error: RefusedError) -> gr.Error:
    """The same as the page shows it, which would take its text, a visitor's in part, for HTML."""
    return gr.Error(escape(str(error), quote=False), title="Cannot answer", print_exception=False)


def in_words(error: RefusedError) -> str:
    """What an error says, to a visitor who sees one field for one description."""
    return re.sub(r"^descriptions\[0\]:?", "the description", str(error))


def gone(page: gr.Blocks) -> Callable[[], bool]:
    """For the event that is being answered: whether its visitor has left, or has asked for something else."""
    event_id, queue = LocalContext.event_id.get(None), page._queue

    def left() -> bool:
        return not any(event._id == event_id and event.alive for job in queue.active_jobs for event in job or ())

    return left if event_id else lambda: False


def highlighted(text: str, weights: Sequence[tuple[int, int, float]]) -> list[tuple[str, str | float | None]]:
    """A text in pieces, words with their weight between -1 and 1, for `gr.HighlightedText`."""
    strongest = max((abs(weight) for _, _, weight in weights), default=0) or 1
    pieces: list[tuple[str, str | float | None]] = []
    position = 0
    for start, end, weight in weights:
        pieces += [(text[position:start], None), (text[start:end], weight / strongest)]
        position = end
    return [piece for piece in [*pieces, (text[position:], None)] if piece[0]]


def profile_choices(service: Service) -> list[tuple[str, str]]:
    """The model's decision profiles to choose from, the default one first; where it has none, 0.5 for every genre."""
    default = [] if service.model.config.default_profile else [("0.5 for every genre", "")]
    return default + [(PROFILES.get(name, name), name) for name in service.profiles]


def classify_tab(service: Service, page: gr.Blocks) -> None:
    """A description, its options and what comes of them."""
    rules, explained = [*profile_choices(service), (ONE_THRESHOLD, ONE_THRESHOLD)], [MOST_PROBABLE, *service.genres]
    ways = [POOLING] if service.backend == "onnx" else [POOLING, GRADIENT]

    def decision(rule: str, threshold: float) -> float | str | None:
        return threshold if rule == ONE_THRESHOLD else rule or None

    def empty(rule: str, threshold: float) -> str:
        """The bars' frame, before there is something to read."""
        return charts.probability_bars(None, service.genres, service.rule(decision(rule, threshold)))

    def classify(
        text: str, rule: str, threshold: float, uncertain: bool, samples: int, words: str, genre: str, windows: bool
    ) -> tuple[str, str, gr.HighlightedText]:
        if not (text and text.strip()):
            return charts.invitation(), empty(rule, threshold), gr.HighlightedText([], label=SPOKE)
        nobody_waits = gone(page)
        stride = service.model.config.max_position_embeddings // 4 if windows else None

        def explain(genre: str) -> PredictRequest:
            return validated(descriptions=[text], stride=stride, attribution="gradient", genre=genre)

        try:
            if len(text) > serving.MAX_CHARACTERS:
                told = f"the description has {len(text):,} characters, more than {serving.MAX_CHARACTERS:,}: shorten it"
                raise RefusedError(422, told)
            if words == GRADIENT:
                service.check(explain(service.genres[0]))  # what is too long to explain is not read first
            request = validated(
                descriptions=[text],
                threshold=decision(rule, threshold),
                mc_samples=samples if uncertain else 0,
                attribution="pooling",
                stride=stride,
                seed=0,  # the same link shows the same result
            )
            (prediction,) = service.predict(request, nobody_waits)
            weights = prediction.word_weights
            if words == GRADIENT:
                if genre == MOST_PROBABLE:
                    genre = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
                weights = service.predict(explain(genre), nobody_waits)[0].word_weights
            decided = service.rule(decision(rule, threshold))
        except RefusedError as error:  # the answer before was to something else
            return charts.refused(in_words(error)), empty(rule, threshold), gr.HighlightedText([], label=SPOKE)
        spread = {name: value.std for name, value in (prediction.uncertainty or {}).items()}
        return (
            charts.answer(prediction, verdict(text, prediction, decided, service.foreign(text)), text, weights or []),
            charts.probability_bars(prediction.probabilities, service.genres, decided, prediction.genres, spread),
            gr.HighlightedText(
                highlighted(text, weights or []),
                label=f"{SPOKE} for {genre}, or against it" if words == GRADIENT else SPOKE,
            ),
        )

    with gr.Row():
        with gr.Column():
            text = gr.Textbox(
                label="Description",
                info="What happens in the film, in English, in a sentence or two. Enter submits.",
                lines=1,  # so that Enter submits; the box grows with its text
                max_lines=12,
                autofocus=True,
                elem_id="description",
            )
            button = gr.Button("Say genres", variant="primary", elem_id="submit")
            if films := examples():
                gr.Examples(
                    [[description] for description in films.values()],
                    text,
                    label="Films to try",
                    example_labels=list(films),
                    cache_examples=False,
                )
            with gr.Accordion("Options", open=False, elem_id="options"):
                rule = gr.Dropdown(
                    rules, value=rules[0][1], label="Decide for", filterable=False, elem_id="rule",
                    info="Rules tuned for one goal or another.",
                )  # fmt: skip
                threshold = gr.Slider(0, 1, 0.5, step=0.01, label="Threshold", interactive=rule.value == ONE_THRESHOLD)
                uncertain = gr.Checkbox(
                    label="Show uncertainty", elem_id="uncertain",
                    info="Asks the network several times, with other parts of it switched off each time.",
                )  # fmt: skip
                samples = gr.Slider(2, serving.MAX_SAMPLES, min(20, serving.MAX_SAMPLES), step=1, label="Samples")
                words = gr.Radio(
                    ways,
                    value=POOLING,
                    label=SPOKE,
                    info="By attention pooling; or by integrated gradients, which tell more: what adds to a genre.",
                    elem_id="words-by",
                )
                genre = gr.Dropdown(explained, value=MOST_PROBABLE, label="Genre to explain")
                windows = gr.Checkbox(label="Read long texts to the end", info="In overlapping windows, averaged.")
        with gr.Column():
            answer = gr.HTML(charts.invitation(), container=True, padding=True, elem_id="answer")
            bars = gr.HTML(empty(rules[0][1], 0.5), container=True, padding=True, elem_id="bars")
            spoke = gr.HighlightedText(label=SPOKE, elem_id="words", elem_classes="mg-words", show_legend=False)
            link = gr.Button(LINK, size="sm", variant="secondary", elem_id="link")

    options = [text, rule, threshold, uncertain, samples, words, genre, windows]
    results = [answer, bars, spoke]
    hidden: dict[str, Any] = {"api_visibility": "private"}
    rule.change(lambda rule: gr.Slider(interactive=rule == ONE_THRESHOLD), rule, threshold, queue=False, **hidden)
    # One event, however it is asked: of several, an earlier one's answer might come last.
    asked = gr.on(
        [
            *(text.submit, button.click, rule.input, threshold.release, uncertain.input, samples.release),
            *(words.input, genre.input, windows.input),
        ],
        classify, options, results, js=REMEMBER, show_progress="minimal", trigger_mode="always_last",
        concurrency_limit=serving.CONCURRENCY, concurrency_id="model", **hidden,
    )  # fmt: skip
    opened = open_link(
        {"rule": [value for _, value in rules], "words": ways, "genre": explained},
        {"threshold": (0, 1), "samples": (2, serving.MAX_SAMPLES)},
        whole="samples",
    )
    page.load(None, options, options, js=opened, **hidden).then(None, js=ASK_LINK, **hidden)
    asked.success(None, None, link, js=WRITE_LINK, **hidden)
    link.click(None, link, link, js=COPY_LINK, **hidden)


def batch_tab(service: Service, page: gr.Blocks) -> None:
    """A file of films and what comes of it."""
    rules = profile_choices(service)
    size = f"{serving.MAX_BODY_MB} MB, {serving.MAX_ROWS:,} films"

    def read(path: str | None, rule: str, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        if path is None:
            raise gr.Error("Choose a CSV file first.", title="Nothing to read", print_exception=False)
        try:
            batch = predict_file(
                service,
                path,
                threshold=rule or None,
                progress=lambda *done: progress(done, desc="Reading films"),
                gone=gone(page),
            )
        except RefusedError as error:
            raise shown(error) from None
        rows, odd = preview(batch), [list(row.values()) for row in batch.disagreements]
        return (
            report(batch),
            charts.count_bars(batch.genre_counts, GENRES_GIVEN),
            charts.confidence_bars([prediction.confidence for prediction in batch.predictions]),
            gr.Dataframe([list(row.values()) for row in rows], headers=list(rows[0])),
            gr.DownloadButton(value=str(batch.path), interactive=True),
            gr.Dataframe(odd, headers=list(batch.disagreements[0]), visible=True)
            if odd
            else gr.Dataframe(visible=False),
        )

    with gr.Row():
        with gr.Column():
            file = gr.File(label=f"CSV of films (up to {size})", file_types=[".csv"], height=140, elem_id="file")
            gr.Markdown(
                "One film a row, with a header: `description` (or overview, plot, ...), and if there are any "
                "`movie_name` and `genre`. With genres in it, the file is compared with the model."
            )
            rule = gr.Dropdown(rules, value=rules[0][1], label="Decide for", filterable=False)
            with gr.Row():
                button = gr.Button("Read the file", variant="primary", elem_id="read")
                download = gr.DownloadButton("Download the result", interactive=False, elem_id="download")
            told = gr.HTML(NOTHING_READ, container=True, padding=True, elem_id="report")
        with gr.Column():
            nothing = charts.count_bars(dict.fromkeys(service.genres, 0), GENRES_GIVEN)
            given = gr.HTML(nothing, container=True, padding=True)
            confidence = gr.HTML(charts.confidence_bars([]), container=True, padding=True)
    table = gr.Dataframe(
        label=f"Result (the first {PREVIEW}; click a header to sort)", interactive=False, wrap=True, max_height=420,
        headers=["line", "film", "genres", "confidence", "file says"],
        column_widths=["70px", "300px", "310px", "115px", "310px"], elem_id="preview",
    )  # fmt: skip
    odd = gr.Dataframe(
        label="Where file and model disagree most: films that may be mislabelled", interactive=False, wrap=True,
        visible=False, max_height=420, elem_id="disagreements",
        column_widths=["70px", "220px", "240px", "240px", "150px", "150px", "90px"],
    )  # fmt: skip
    results = [told, given, confidence, table, download, odd]
    reading = button.click(
        read,
        [file, rule],
        results,
        concurrency_limit=serving.CONCURRENCY,
        concurrency_id="batch",
        api_visibility="private",
    )
    # Another file's result is not this one's, whether it stands there or is still to come. In the browser: a server's
    # answer might come after the new result.
    blank = [
        *(NOTHING_READ, nothing, charts.confidence_bars([])),
        {"__type__": "update", "value": {"headers": table.headers, "data": [], "metadata": None}},
        {"__type__": "update", "value": None, "interactive": False},
        {"__type__": "update", "visible": False},
    ]
    file.change(None, None, results, js=f"() => {json.dumps(blank)}", cancels=[reading], api_visibility="private")


def preview(batch: Batch) -> list[dict[str, Any]]:
    """The first rows of a result, as far as they are read on a screen."""
    return [
        {
            "line": int(film["place"].rpartition(":")[2]),
            "film": film["movie_name"] or film["description"][:80],
            "genres": ", ".join(prediction.genres),
            "confidence": round(prediction.confidence, 3),
            "file says": ", ".join(film["genre"]),
        }
        for film, prediction in zip(batch.films.select(range(min(PREVIEW, len(batch.films)))), batch.predictions)  # noqa: B905
    ]


def report(batch: Batch) -> str:
    """How many films were read, which were not, and the scores where the file has genres."""
    text = f'<p class="mg-note"><b>{len(batch.films):,} films read.</b></p>{charts.problems(batch.problems)}'
    if batch.foreign:
        text += (
            f'<p class="mg-note">{batch.foreign:,} of them are not in the language that the model was trained on: its '
            "genres for these mean little.</p>"
        )
    if batch.metrics:
        text += charts.scores(batch.metrics, f"Against the file's own genres ({batch.scored:,} films)")
    text += charts.unknown_genres(batch.unknown_genres)
    return f'<div role="status">{text}</div>'


def model_tab(service: Service) -> None:
    """What the model's own files say about it; what they do not say is left out."""
    figures = service.evaluation or {}
    with gr.Row():
        if "intervals" in figures:
            source = (figures.get("data") or {}).get("source", "a test set")
            kept = "" if were_seen(service.training or {}, figures) else " that were kept aside"
            caption = f"Quality, on {figures['rows']:,} films of {source}{kept}"
            with gr.Column(min_width=320):  # one below the other on a phone
                gr.HTML(charts.scores(figures, caption), container=True, padding=True, elem_id="quality")
        if service.training:
            facts = charts.training_facts(public_record(service.training))
            with gr.Column(min_width=320):
                gr.HTML(facts, container=True, padding=True, elem_id="training")
    if "per_genre" in figures:
        gr.HTML(charts.genre_table(figures["per_genre"]), container=True, padding=True)
    if "curves" in figures:
        gr.Markdown("## Precision and recall of each genre")
        gr.HTML(charts.curves(figures["curves"]), container=True, padding=True, elem_id="curves")
    if "reliability" in figures:
        gr.Markdown("## Reliability: of the genres given 30 %, are 30 % so?")
        gr.HTML(charts.reliability(figures["reliability"]), container=True, padding=True, elem_id="reliability")
    if "cooccurrence" in figures:
        gr.Markdown("## Which genres go together")
        gr.HTML(charts.genre_graph(**figures["cooccurrence"]), container=True, padding=True, elem_id="graph")
    limits = (service.card or "").partition("\n## Limits and biases\n")[2].partition("\n## ")[0].strip()
    if limits:
        gr.Markdown(f"## Limits and biases\n\n{limits}")
    if not (service.training or figures or limits):
        gr.Markdown("This model came without a record of its training or figures.")


def api_tab(service: Service, page: gr.Blocks) -> None:
    """How to ask without the page, and the endpoints themselves."""
    told = gr.Markdown()
    here = '(location.origin + location.pathname).replace(/\\/$/, "")'  # where the visitor found the page
    page.load(None, None, told, js=f"() => {json.dumps(API)}.replaceAll('{{base}}', {here})", api_visibility="private")

    def predict(
        description: str,
        threshold: float | str | dict[str, float] | None = None,
        mc_samples: int = 0,
        attribution: str | None = None,
        genre: str | None = None,
        stride: int | None = None,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """Genres of a film from its description, with the probability of every genre.

        Args:
            description: what happens in the film, in English, in a sentence or two.
            threshold: a number between 0 and 1 for all genres, an object by genre, or the name of a decision profile.
            mc_samples: Monte-Carlo dropout samples, for the uncertainty of every probability; 0 for none.
            attribution: "pooling" for the weight of each word, "gradient" for what each word adds to one genre.
            genre: the genre that "gradient" explains.
            stride: reads long texts to the end, in windows that overlap by this many tokens.
            seed: makes Monte-Carlo results repeatable.

        Returns:
            genres chosen, probabilities, confidence (expected F1), uncertainty, word_weights, truncated_at.
        """
        values = {name: value for name, value in locals().items() if name not in ("description", "service", "page")}
        try:
            (prediction,) = service.predict(validated(descriptions=[description], **values), gone(page))
        except RefusedError as error:
            raise refusal(error) from None
        return prediction.to_dict()

    def predict_batch(file: str, threshold: str = "") -> tuple[dict[str, Any], str]:
        """Genres of the films in a CSV file with a header and a description in each row.

        Args:
            file: the CSV file, uploaded or as "data:text/csv;base64,..."; never an address, which is not fetched.
            threshold: name of a decision profile; the model's default if empty.

        Returns:
            Films read, problems by line, counts of genres, metrics, genres not known, disagreements; the complete CSV.
        """
        try:
            if not file:
                raise RefusedError(422, "file: choose a CSV file")
            batch = predict_file(service, file, threshold=threshold or None, gone=gone(page))
        except RefusedError as error:
            raise refusal(error) from None
        return {
            "films": len(batch.films),
            "problems": batch.problems,
            "genres": batch.genre_counts,
            "metrics": batch.metrics,
            "unknown_genres": batch.unknown_genres,
            "disagreements": batch.disagreements,
        }, str(batch.path)

    def health() -> dict[str, str]:
        """A sign of life: status, model and backend."""
        return service.health().model_dump()

    gr.api(predict, api_name="predict", concurrency_limit=serving.CONCURRENCY, concurrency_id="model")
    gr.api(health, api_name="health", queue=False)
    # A file must come through its component, which sees to it that the path is an uploaded one.
    with gr.Row(visible=False):
        gr.Button().click(
            predict_batch,
            [gr.File(label="file", file_types=[".csv"]), gr.Textbox("", label="threshold")],
            [gr.JSON(label="summary"), gr.File(label="result")],
            api_name="predict_batch",
            concurrency_limit=serving.CONCURRENCY,
            concurrency_id="batch",
        )


API = """
## One call, plain JSON

```bash
curl {base}/api/v1/predict -H 'Content-Type: application/json' \\
    -d '{"descriptions": ["A retired hitman comes back for one last job."], "mc_samples": 20}'
```

`GET {base}/api/v1/model` tells genres, profiles, limits and figures, `GET {base}/healthz` whether it lives, and
[/api/v1/openapi.json]({base}/api/v1/openapi.json) describes all three.

## From Python

```python
from gradio_client import Client, handle_file

client = Client("{base}")
client.predict("A retired hitman comes back for one last job.", api_name="/predict")
summary, result = client.predict(handle_file("films.csv"), api_name="/predict_batch")
```

## From an agent

Where it is served with the `mcp` extra (`pip install -e ".[mcp]"` in a checkout), the same functions are MCP tools at
`{base}/gradio_api/mcp/`.
"""


@functools.cache  # once, however many pages are built
def answer_in_json() -> None:
    """Make MCP tools answer in JSON: Gradio would write an object as Python does."""
    from gradio.mcp import GradioMCPServer

    plain = GradioMCPServer.postprocess_output_data

    def in_json(self: Any, data: Any, root_url: str) -> Any:
        # A tool of several outputs answers with one tuple of them.
        values = [value for part in data for value in (part if isinstance(part, (tuple, list)) else [part])]
        own = (isinstance(value, dict) and "path" not in value for value in values)  # what has a path is a file
        told = [json.dumps(one, ensure_ascii=False) if mine else one for one, mine in zip(values, own, strict=True)]
        return plain(self, told, root_url)

    GradioMCPServer.postprocess_output_data = in_json  # type: ignore[method-assign]


def fetch_nothing() -> None:
    """Take from Gradio what fetches for a visitor: a file named by its address, and `file=` before an address.

    Gradio keeps visitors from addresses inside only; anything else it would fetch, of any size.
    """

    async def refuse_file(url: str) -> NoReturn:
        told = "Nothing is fetched from an address: upload the file, or send it as data:text/csv;base64,..."
        raise gr.Error(told, print_exception=False)

    async def refuse_request(url: str, request: Any) -> NoReturn:
        raise HTTPException(403, "nothing is fetched from an address")

    processing_utils.async_ssrf_protected_get = refuse_file
    routes.secure_url_stream_response = refuse_request


class Page(gr.Blocks):
    """Gradio's blocks, which answer a plain call with too few values: Gradio would log these, and say nothing."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """See that a call has as many values as its function takes."""
        if (given := len(inputs)) < (needed := len(block_fn.inputs)):
            named = f"/gradio_api/call/v2/{block_fn.api_name}"
            told = f"{given} of {needed} values: send all of them, or name those you send, at {named}"
            raise gr.Error(told, print_exception=False)


def build(service: Service) -> gr.Blocks:
    """The page around a service."""
    fetch_nothing()
    if importlib.util.find_spec("mcp"):
        answer_in_json()
    # Uploads and results are deleted after an hour.
    with Page(title="Movie genres", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(
            "# Movie genres\nDescribe a film, and the model says its genres, how sure it is, and which words said so."
        )
        with gr.Tab("Classify"):
            classify_tab(service, page)
        with gr.Tab("Batch"):
            batch_tab(service, page)
        with gr.Tab("The model"):
            model_tab(service)
        with gr.Tab("API"):
            api_tab(service, page)
        if os.environ.get("SPACE_ID"):
            gr.DuplicateButton("Duplicate this Space")
    return page.queue(max_size=serving.QUEUE_SIZE, api_open=False)
