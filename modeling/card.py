"""The model card and the Space's front page, rendered from results files: no figure is typed by hand."""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData, SpaceCardData
from jinja2 import ChainableUndefined, Environment

from .backends import ROOT, load, model_record

if TYPE_CHECKING:
    from . import MovieGenreModel

TEMPLATE = Path(__file__).with_name("model_card.md")
LICENSE = "apache-2.0"  # of the code, and of the weights that ship
# TMDB's top-rated films, by the hash that training.json and evaluation.json carry.
TMDB_LIST = "fc638474a1f6e17571a4f66a05bc2f92aa0cedbd0fa81be5b04e80400982b40e"
# Written for the card; what the model makes of them is computed when the card is.
EXAMPLES = {
    "Science Fiction": "The crew of a spaceship wakes in orbit of an unknown planet, and something is already aboard.",
    "Western": (
        "A retired gunman rides into a border town to settle an old debt with the sheriff who sent his brother to hang."
    ),
    "Romance": (
        "Two strangers miss the last train out of Paris and talk their way through the night, half in love by dawn."
    ),
}
EXAMPLE_LABELS = 5


def render_card(
    folder: str | Path,
    repo: str,
    *,
    tag: str | None = None,
    license: str | None = None,
    dataset: str | None = None,
    results: str | Path | None = None,
) -> str:
    """The model card (README.md), its figures taken from the folder's files and `results` alone.

    A section appears when what it reports exists. Arguments as of `publish_model`.
    """
    from .data import file_hash
    from .prediction_movie_genre import resolve_rule, thresholds_of

    folder = Path(folder)
    model = load(str(folder))
    training, evaluation = (
        model_record(str(folder), None, file) or {} for file in ("training.json", "evaluation.json")
    )
    training = public_record(training)
    names = sorted(path.name for path in Path(results).glob("*.json")) if results else []
    further = {Path(name).stem: model_record(str(results), None, name) or {} for name in names}
    # Scores of films kept aside; without them those of the validation films.
    tested = evaluation or training.get("results", {}).get("validation", {})
    trained_on = training.get("data", {})
    known = trained_on.get("sha256")
    is_tmdb = known == TMDB_LIST
    source = trained_on.get("source", "films")
    scored_on = (evaluation.get("data") or trained_on).get("source", source)
    scored_name = "TMDB top-rated films" if is_tmdb and scored_on == source else scored_on
    part = (evaluation.get("data") or {}).get("split") if evaluation else "validation"
    scored_name += f", {part} part" if part else ""
    english = known is not None and known in (TMDB_LIST, file_hash(ROOT / "data" / "movies.csv"))
    base_model = bare(model.config.base_model or "") or None
    scores = _eval_results(tested, scored_on, scored_name)
    if own := further.get("own_films"):
        figures = own["systems"]["checkpoint, all"]
        scores += _eval_results(figures, own["data"]["source"], "the project's own films, test part")
    data = ModelCardData(
        model_name=repo.rpartition("/")[2],
        language="en" if english else None,
        license=license,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["multi-label", "movies", "genre", "custom_code"],
        metrics=["f1", "accuracy"],
        datasets=[dataset] if dataset else None,
        # A link on the Hub, where it is a model there and no folder.
        base_model=base_model if re.fullmatch(r"[\w.-]+/[\w.-]+", base_model or "") else None,
        eval_results=scores or None,
        widget=_widget(model) or None,
    )
    environment = Environment(  # noqa: S701  # Markdown, not HTML
        trim_blocks=True, lstrip_blocks=True, undefined=ChainableUndefined, keep_trailing_newline=True
    )
    environment.filters["number"] = _number
    card = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=data.to_yaml(),
        repo=repo,
        tag=tag,
        license=license,
        config=model.config,
        parameters=model.num_parameters(),
        calibrated=bool((model.logit_scale != 1).any() or (model.logit_bias != 0).any()),
        thresholds=thresholds_of(resolve_rule(None, model.config), model.config.genres),
        training=training,
        evaluation=evaluation,
        tested=tested,
        results=further,
        source=source,
        seen=were_seen(training, evaluation),
        is_tmdb=is_tmdb,
        english=english,
        base_model=base_model,
        figures=_figures,
        picture=(folder / "genres.png").exists(),
    )
    # A section that is left out leaves blank lines behind.
    return re.sub(r"\n{3,}", "\n\n", card)


def were_seen(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> bool:
    """Whether figures are of films that a model was trained on, or of their file, none of it kept aside."""
    known, scored = training.get("data") or {}, evaluation.get("data") or {}
    same = known.get("sha256") is not None and known["sha256"] == scored.get("sha256")
    return bool(scored.get("seen")) or (same and scored.get("split") != "test")


def bare(word: str) -> str:
    """Bare names of files that are somewhere else, of several with commas each; any other word as it is."""
    return ",".join(re.sub(r"^(--[\w-]+=)?(\.\.|~|/).*/", r"\1", part) for part in word.split(","))


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """training.json for everybody: with bare names for files that are somewhere else on the machine of the training."""
    public = dict(record)
    if "command" in record:
        public["command"] = shlex.join(map(bare, shlex.split(record["command"])))
    if "arguments" in record:
        told = record["arguments"].items()
        public["arguments"] = {name: bare(value) if isinstance(value, str) else value for name, value in told}
    return public


def render_space_card(model: str, commit: str, preload: Sequence[str], gradio: str) -> str:
    """README.md of a Space: its settings, and the front page's sentence.

    Args:
        model: "owner/name" on the Hub.
        commit: hash that the Space is pinned to.
        preload: files of the model that are fetched when the Space is built.
        gradio: version of Gradio.
    """
    data = SpaceCardData(
        title="Movie genres",
        emoji="🎬",
        colorFrom="indigo",
        colorTo="gray",
        sdk="gradio",
        sdk_version=gradio,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",  # what this checkout runs with
        app_file="app.py",
        models=[model],
        preload_from_hub=[f"{model} {','.join(preload)} {commit}"],
        short_description="Genres of a film from its description",
        license=LICENSE,
        tags=["multi-label", "movies", "text-classification"],
    )
    text = f"Describe a film and read its genres, from [{model}](https://huggingface.co/{model}) at {commit[:7]}."
    return f"---\n{data.to_yaml()}\n---\n\n# Movie genres\n\n{text}\n"


def _widget(model: "MovieGenreModel") -> list[dict[str, Any]]:
    """Examples of genres that the model knows, with its real answers, the most probable genres first."""
    widget = []
    texts = [text for genre, text in EXAMPLES.items() if genre in model.config.genres]
    for text, prediction in zip(texts, model.predict_genres(texts), strict=True):
        best = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:EXAMPLE_LABELS]
        output = [{"label": genre, "score": round(float(p), 3)} for genre, p in best]
        widget.append({"text": text, "output": output})
    return widget


def _eval_results(figures: Mapping[str, Any], source: str, name: str) -> list[EvalResult]:
    """Every score, for the card's model-index."""
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=Path(source).stem,
            dataset_name=name,
            metric_type=metric,
            metric_name=metric.replace("_", " "),
            metric_value=round(value, 4),
        )
        for metric, value in figures.items()
        if isinstance(value, float)
    ]


def _number(value: float) -> str:
    """A figure as the card writes it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _figures(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and numbers of a results section, however it is nested."""
    for name, value in section.items():
        label = f"{prefix} {name}".replace("_", " ").strip()
        if isinstance(value, Mapping):
            yield from _figures(value, label)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield label, _number(value)
