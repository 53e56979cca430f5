"""movie-genre: predict, evaluate, tune, export and publish from the command line."""

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .backends import ROOT, load, locate, model_path, model_record, share_of_cores

if TYPE_CHECKING:  # heavy imports wait until a command needs them: --help answers at once
    import numpy as np

    from . import MovieGenreModel
    from .hub import Publication
    from .prediction_movie_genre import GenrePrediction, Rule

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # a local may be a token
    help="Genres of films from their descriptions.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of no command."""


ModelOption = Annotated[
    str, typer.Option(help="Folder or Hub repository of the model.", envvar="MODEL_ID", callback=locate)
]
RevisionOption = Annotated[str | None, typer.Option(help="Revision of a Hub repository.", envvar="MODEL_REVISION")]
BackendOption = Annotated[
    str,
    typer.Option(
        help="torch; torch-bf16, faster where the processor or GPU multiplies in bfloat16; or onnx for what `export` "
        "wrote.",
        envvar="BACKEND",
    ),
]
DataOption = Annotated[
    str, typer.Option(help="Films: a .csv, .parquet or .jsonl file, or the id of a data set on the Hub.")
]
SplitOption = Annotated[str | None, typer.Option(help="Only the films of this split: train, validation or test.")]
SplitFileOption = Annotated[
    Path | None,
    typer.Option(help="split.json of a training run, which says where each film belongs; else the split column does."),
]
TextColumnOption = Annotated[str | None, typer.Option(help="Column of the descriptions; usual names are found.")]
GenreColumnOption = Annotated[str | None, typer.Option(help="Column of the genres; usual names are found.")]
GenreMapOption = Annotated[str, typer.Option(help="Other spellings of genres, as JSON.")]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave bad rows out and count them, instead of stopping.")
]
DEFAULT_MODEL = "checkpoint"


class Films:
    """Films of one split with their truth and the model's probabilities, both (films, genres)."""

    def __init__(
        self,
        model: "MovieGenreModel",
        data: str,
        columns: tuple[str | None, str | None],
        split: str | None,
        split_file: Path | None,
        genre_map: str,
        skip_bad_rows: bool,
    ) -> None:
        from .data import Columns, DataError, genre_matrix, parse_genre_map, read_films, read_split, row_hash

        if split_file is not None and split is None:
            raise ValueError("--split-file says which films are of a --split: name one of train, validation, test")
        films, problems = read_films(
            data,
            columns=Columns(description=columns[0], genre=columns[1]),
            genre_map=parse_genre_map(genre_map),
            genres=model.config.genres,
            skip_bad_rows=skip_bad_rows,
        )
        if problems:
            print(f"{len(problems)} bad rows left out, the first: {_flags(problems[0])}", file=sys.stderr)
        if split is not None:
            parts = list(films["split"])
            if split_file is not None:
                where = {row: name for name, rows in read_split(split_file).items() for row in rows}
                parts = [where.get(row_hash(text), "train") for text in films["description"]]
            elif not any(parts):
                raise DataError(f"{data} has no split column: name a --split-file, or leave --split out")
            keep = [i for i, name in enumerate(parts) if name == split]
            if not keep:
                raise DataError(f"{data} has no film of the split {split!r}; it has {', '.join(sorted(set(parts)))}")
            films = films.select(keep)
        self.rows = films
        self.truth = genre_matrix(films, model.config.genres)
        self.probabilities = _probabilities(model, list(films["description"]))


def _read(
    model: "MovieGenreModel", texts: list[str], what: str = "reading films", **options: Any
) -> "Iterator[tuple[int, GenrePrediction]]":
    """Each text's number and prediction, by length, with a progress bar."""
    from rich.progress import track

    from .prediction_movie_genre import length_batches

    chunks = length_batches([len(text) for text in texts], 256)
    for chunk in track(chunks, description=what, disable=not sys.stderr.isatty()):
        yield from zip(chunk, model.predict_genres([texts[i] for i in chunk], **options), strict=True)


def _probabilities(model: "MovieGenreModel", texts: list[str]) -> "np.ndarray":
    """Probabilities (films, genres)."""
    import numpy as np

    result = np.empty((len(texts), len(model.config.genres)))
    for i, prediction in _read(model, texts):
        result[i] = list(prediction.probabilities.values())
    return result


def _agreement(model: "MovieGenreModel", texts: list[str], mc_samples: int) -> "np.ndarray":
    """Negative mutual information of Monte-Carlo dropout, summed over the genres, of each text."""
    import numpy as np

    result = np.empty(len(texts))
    for i, prediction in _read(model, texts, "asking again", mc_samples=mc_samples, seed=0):
        result[i] = -sum(genre.mutual_information for genre in (prediction.uncertainty or {}).values())
    return result


def _read_off_topic(path: Path) -> tuple[list[str], list[str]]:
    """Texts that are no films, and of what kind each is."""
    from .prediction_movie_genre import WORD

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--off-topic {path} is no CSV file in UTF-8: {error}") from None
    if not rows or not {"kind", "text"} <= rows[0].keys():
        raise ValueError(f"--off-topic {path} must have rows and the columns kind and text")
    for number, row in enumerate(rows, 1):
        if not WORD.search(row["text"] or ""):
            raise ValueError(f"--off-topic {path}: text {number} has no words")
        if row["kind"] in (None, "", "all"):
            raise ValueError(f"--off-topic {path}: text {number} is of the kind {row['kind']!r}: name another")
    return [row["text"] for row in rows], [row["kind"] for row in rows]


def _off_topic(
    model: "MovieGenreModel",
    others: tuple[list[str], list[str]],
    rule: "Rule",
    films: "dict[str, np.ndarray]",
    mc_samples: int,
) -> dict[str, Any]:
    """How well each measure of certainty tells films from other texts: area under the ROC curve, by kind of text."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from .metrics import certainties
    from .prediction_movie_genre import choose

    texts, kinds = others[0], np.array(others[1])
    probabilities = _probabilities(model, texts)
    certainty = certainties(probabilities, choose(probabilities, rule, model.config.min_genres))
    if mc_samples:
        certainty["mutual_information"] = _agreement(model, texts, mc_samples)
    result: dict[str, Any] = {"texts": len(texts)}
    for name, values in certainty.items():
        masks = {"all": np.ones(len(kinds), dtype=bool), **{kind: kinds == kind for kind in sorted(set(kinds))}}
        result[name] = {
            kind: float(
                roc_auc_score(
                    np.repeat([1, 0], [len(films[name]), mask.sum()]), np.concatenate([films[name], values[mask]])
                )
            )
            for kind, mask in masks.items()
        }
    return result


def _seen(model: str, revision: str | None, data: str, split: str | None) -> bool:
    """Whether a model's own record tells that it was trained on these films; if so, that is said."""
    from .data import file_hash

    record = model_record(model, revision, "training.json") or {}
    known = record.get("data", {}).get("sha256")
    kept_aside = split in ("validation", "test") and not record.get("arguments", {}).get("fit_all")
    seen = known is not None and known == file_hash(data) and not kept_aside
    if seen:
        print(f"{model} was trained on films of {data}: what is found here says little of others", file=sys.stderr)
    return seen


def _check_writable(path: Path) -> None:
    """See that a file can be written before the work whose result it shall hold.

    Raises:
        ValueError: if it cannot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} {'is a folder: name a file' if path.is_dir() else 'cannot be written'}")


def _threshold(text: str | None) -> float | str | None:
    """A number, where the text is one; else the name of a profile."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


@app.command()
def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Descriptions; without any, standard input is read, one a line.")
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    threshold: Annotated[
        str | None, typer.Option(help="A number for all genres, or the name of a decision profile of the model.")
    ] = None,
    mc_samples: Annotated[int, typer.Option(help="Monte-Carlo dropout masks, for uncertainty; 0 for none.", min=0)] = 0,
    words: Annotated[bool, typer.Option("--words", help="Add the weight of each word.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Makes Monte-Carlo results repeatable.", min=0, max=2**32 - 1)
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Read long texts in windows that share so many tokens, instead of cutting them.")
    ] = None,
    backend: BackendOption = "torch",
    source: Annotated[
        str | None, typer.Option("--input", help="A .csv, .parquet or .jsonl file, or a data set on the Hub.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="With --input: a folder for Parquet shards, or a .parquet, .csv or .jsonl file.")
    ] = None,
    text_column: TextColumnOption = None,
    shard_rows: Annotated[int, typer.Option(help="Rows of a shard; a killed run repeats one at most.", min=1)] = 5000,
    skip_bad_rows: SkipOption = False,
) -> None:
    """Genres of descriptions, one JSON object a line; or of every row of a file, of any size.

    Example: `movie-genre predict "A retired hitman comes back for one last job."`

    Example: `movie-genre predict --input films.csv --output genres` and again after a kill; behind `torchrun
    --nproc_per_node 4 -m modeling.cli` the shards are split over the processes.
    """
    attribution = "pooling" if words else None
    options: dict[str, Any] = {"threshold": _threshold(threshold), "mc_samples": mc_samples, "seed": seed}
    options |= {"stride": stride, "attribution": attribution}
    if (source is None) != (output is None) or (source and (texts or words)):
        raise ValueError("--input and --output go together, without texts and --words")
    if file := next((text for text in texts or () if text.lower().endswith((".csv", ".parquet", ".jsonl"))), None):
        raise ValueError(f"{file!r} is a file's name, no description: --input {file} --output ... reads what is in it")
    loaded = load(model, revision, backend=backend, threads=share_of_cores())
    if source is not None and output is not None:
        from .bulk import predict_file

        if mc_samples and seed is None:
            options["seed"] = 0  # a run that goes on after a kill, or is split, draws what any other would
        loaded.predict_genres("A film.", **options)  # a wrong option is told before anything is written
        about = {"model": _identity(model, revision, backend), "backend": backend, **options}
        rank, world_size = (int(os.environ.get(*pair)) for pair in (("RANK", "0"), ("WORLD_SIZE", "1")))
        rows = predict_file(
            source,
            output,
            lambda texts: loaded.predict_genres(texts, **options),
            about=about,
            text_column=text_column,
            skip_bad_rows=skip_bad_rows,
            shard_rows=shard_rows,
            rank=rank,
            world_size=world_size,
        )
        part = f" (process {rank + 1} of {world_size})" if world_size > 1 else ""
        print(f"genres of {rows:,} rows in {output}{part}")
        return
    for chunk in _described(texts):
        for prediction in loaded.predict_genres(chunk, **options):
            print(json.dumps(prediction.to_dict(), ensure_ascii=False))
        print(end="", flush=True)  # each chunk at once, also where nobody listens


def _described(texts: list[str] | None) -> Iterator[list[str]]:
    """Descriptions given as arguments, at once; without any, the lines of standard input, some at a time.

    Raises:
        ValueError: for one without words, or none at all.
    """
    from .prediction_movie_genre import WORD

    place, at_once = ("description", len(texts)) if texts else ("line", 1 if sys.stdin.isatty() else 256)
    number, found, any_found, empty = 0, [], False, 0
    try:
        for number, text in enumerate(texts or sys.stdin, 1):
            text.encode()
            if WORD.search(text):
                found.append(text.strip())
                any_found = True
            elif texts or text.strip():
                raise ValueError(f"{place} {number} has no words: describe the film in a sentence or two")
            else:
                empty += 1
            if len(found) == at_once:
                yield found
                found = []
    except UnicodeEncodeError:
        raise ValueError(f"{place} {number} is not UTF-8") from None
    except UnicodeDecodeError:
        raise ValueError(f"a line of standard input behind line {number} is not UTF-8") from None
    if found:
        yield found
    elif not any_found:
        raise ValueError("standard input is empty: give descriptions as arguments, or one a line")
    if empty:
        print(f"{empty:,} empty lines passed over: they have no answer in the output", file=sys.stderr)


def _identity(model: str, revision: str | None, backend: str) -> str:
    """What tells a model from any other, wherever it lies: hash of its files, or repository and commit."""
    from .data import file_hash

    if not Path(model).is_dir():
        from huggingface_hub import hf_hub_download

        # It has just been loaded: the cache knows which commit the revision was.
        file = hf_hub_download(model, "config.json", revision=revision, local_files_only=True)
        return f"{model}@{Path(file).parent.name}"
    folder = Path(model)
    if backend == "onnx" and not (folder / "model.onnx").exists():
        folder /= "onnx"
    names = ("config.json", "tokenizer.json", "model.onnx" if backend == "onnx" else "model.safetensors")
    hashes = "".join(str(file_hash(folder / name)) for name in names)
    return hashlib.sha256(hashes.encode()).hexdigest()


@app.command()
def evaluate(
    data: DataOption,
    output: Annotated[Path, typer.Option(help="JSON file for the figures.")],
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    backend: BackendOption = "torch",
    split: SplitOption = None,
    split_file: SplitFileOption = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Decision profile, or a number for all genres; the model's default profile if not given."),
    ] = None,
    disagreements: Annotated[
        Path | None, typer.Option(help="CSV file for the films where model and file differ most.")
    ] = None,
    probabilities: Annotated[
        Path | None, typer.Option(help="NumPy file (.npy) for the probabilities, films by genres.")
    ] = None,
    mc_samples: Annotated[
        int, typer.Option(help="Monte-Carlo dropout masks, for mutual information among the uncertainties.", min=0)
    ] = 20,
    off_topic: Annotated[
        Path | None,
        typer.Option(
            help="CSV file (columns kind, text) of texts that are no films: how well are they told apart?",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap draws for the 95 % intervals.", min=1)] = 1000,
    text_column: TextColumnOption = None,
    genre_column: GenreColumnOption = None,
    genre_map: GenreMapOption = "{}",
    skip_bad_rows: SkipOption = False,
) -> None:
    """Score a model on films with known genres: scores with 95 % bootstrap intervals, calibration, uncertainty.

    Example: `movie-genre evaluate --data data/movies.csv --split test --output results.json --disagreements odd.csv`
    """
    import numpy as np
    from rich.progress import track

    from .data import file_hash
    from .metrics import certainties, evaluation
    from .prediction_movie_genre import choose, resolve_rule

    others = None if off_topic is None else _read_off_topic(off_topic)
    read = {Path(name).resolve() for name in (data, off_topic) if name is not None}
    for path in (output, disagreements, probabilities):
        if path is not None:
            if path.resolve() in read:
                raise ValueError(f"{path} is read, or written already by another option: name another file")
            read.add(path.resolve())
            _check_writable(path)
    loaded = load(model, revision, backend=backend)
    config = loaded.config
    rule = resolve_rule(_threshold(profile), config)
    loaded.predict_genres("A film.", mc_samples=mc_samples)  # what cannot be is told before the films are read
    films = Films(loaded, data, (text_column, genre_column), split, split_file, genre_map, skip_bad_rows)
    seen = _seen(model, revision, data, split)
    chosen = choose(films.probabilities, rule, config.min_genres)

    def bar(draws: Any) -> Any:
        return track(draws, description="bootstrap", disable=not sys.stderr.isatty())

    certainty = certainties(films.probabilities, chosen)
    if mc_samples:
        certainty["mutual_information"] = _agreement(loaded, list(films.rows["description"]), mc_samples)
    figures = evaluation(
        films.truth,
        chosen,
        films.probabilities,
        config.genres,
        certainty=certainty,
        resamples=resamples,
        progress=bar,
    )
    if others is not None:
        figures["off_topic"] = _off_topic(loaded, others, rule, certainty, mc_samples)
    about = {
        "data": {"source": Path(data).name, "sha256": file_hash(data), "split": split, "seen": seen},
        "profile": profile or config.default_profile or "0.5",
        "resamples": resamples,
    }
    output.write_text(json.dumps(figures | about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if disagreements is not None:
        _write_disagreements(disagreements, films, chosen, config.genres)
    if probabilities is not None:
        with probabilities.open("wb") as file:  # of this very name, where np.save would add its own ending
            np.save(file, films.probabilities, allow_pickle=False)
    _show(figures)


@app.command()
def tune(
    data: DataOption,
    output: Annotated[Path, typer.Option(help="Folder for the tuned model; the given one is never rewritten.")],
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    objective: Annotated[str, typer.Option(help="micro_f1, macro_f1, samples_f1 or subset_accuracy.")] = "micro_f1",
    split: SplitOption = None,
    split_file: SplitFileOption = None,
    text_column: TextColumnOption = None,
    genre_column: GenreColumnOption = None,
    genre_map: GenreMapOption = "{}",
    skip_bad_rows: SkipOption = False,
) -> None:
    """Tune the decision on films that the model was not trained on, and make it the default of a copy.

    For subset accuracy whole sets of genres are compared, those of the films that the model was trained on; for the
    others there are thresholds.

    Example: `movie-genre tune --data films.csv --split validation --objective macro_f1 --output tuned`
    """
    from .decision import OBJECTIVES, fit_label_set_weight, tune_thresholds
    from .prediction_movie_genre import SUBSET_ACCURACY

    if objective not in OBJECTIVES:
        raise ValueError(f"--objective {objective!r} is not known; choose from {', '.join(OBJECTIVES)}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output} is not an empty folder: name a new one")
    output.mkdir(parents=True, exist_ok=True)
    loaded = load(model, revision)
    config = loaded.config
    if objective == SUBSET_ACCURACY and not config.label_sets:
        raise ValueError(f"{model} does not say which sets of genres it was trained on: train it anew for {objective}")
    films = Films(loaded, data, (text_column, genre_column), split, split_file, genre_map, skip_bad_rows)
    _seen(model, revision, data, split)
    if objective == SUBSET_ACCURACY:
        config.label_set_weight = round(fit_label_set_weight(films.truth, films.probabilities, config.label_sets), 4)
        print(f"{len(config.label_sets):,} sets of genres, weight {config.label_set_weight:.3f}")
    else:
        found = tune_thresholds(films.truth, films.probabilities, objective, min_genres=config.min_genres)
        thresholds = found.tolist()
        config.threshold_profiles = (config.threshold_profiles or {}) | {objective: thresholds}
        for genre, threshold in zip(config.genres, thresholds, strict=True):
            print(f"{genre:<16} {threshold:.3f}")
    config.default_profile = objective
    loaded.save_pretrained(output)
    if weights := model_path(model, revision, "model.safetensors"):
        shutil.copyfile(weights, output / "model.safetensors")  # as they are stored, maybe in 16 bits
    if record := model_record(model, revision, "training.json"):  # the card says by it where the model comes from
        told = {name: value for name, value in record.items() if name != "results"}  # of another rule
        (output / "training.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"profile {objective!r} is the default of the model in {output}")


publish = typer.Typer(no_args_is_help=True, help="Publish on the Hugging Face Hub: the model, the films, or the page.")
app.add_typer(publish, name="publish")

RepositoryOption = Annotated[str, typer.Option("--repo", help="Repository on the Hub, as in you/movie-genre.")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make the repository private, where it is new.")]
BranchOption = Annotated[str | None, typer.Option("--revision", help="Branch to publish to; main if not given.")]
TagOption = Annotated[
    str | None, typer.Option(help="Name of the release, v and the package's version if not given; none for no tag.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be uploaded.")]


def _release(tag: str | None) -> str | None:
    """The tag to give: --tag, none at all, or the package's version."""
    from .hub import RELEASE

    return RELEASE if tag is None else None if tag == "none" else tag


def _report(publication: "Publication") -> None:
    """Print what was done, file by file."""
    for change in publication.changes:
        print(f"{change.what:<10}{change.size:>12,}  {change.path}")
    print(publication.summary())


@publish.command("model")
def publish_model(
    repo: RepositoryOption,
    folder: Annotated[Path, typer.Option(help="Folder of the model.")] = Path(DEFAULT_MODEL),
    private: PrivateOption = False,
    revision: BranchOption = None,
    tag: TagOption = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights, for the card; the shipped model has its own.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Training data on the Hub, for the card.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of further results about this model, for the card; the shipped model has its own."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Publish a model with its card.

    Example: `movie-genre publish model --repo you/movie-genre`
    """
    from . import hub
    from .card import LICENSE

    folder = Path(locate(str(folder)))
    if folder.resolve() == ROOT / "checkpoint":
        results, license = results or ROOT / "benchmarks" / "results", license or LICENSE
    publication = hub.publish_model(
        folder,
        repo,
        private=private,
        revision=revision,
        tag=_release(tag),
        license=license,
        dataset=dataset,
        results=results,
        dry_run=dry_run,
    )
    _report(publication)


@publish.command("data")
def publish_data(
    repo: RepositoryOption,
    folder: Annotated[Path, typer.Option(help="Folder of the films (.csv) and their datasheet (README.md).")] = Path(
        "data"
    ),
    private: PrivateOption = False,
    revision: BranchOption = None,
    tag: TagOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Publish films with their datasheet as the card.

    Example: `movie-genre publish data --repo you/film-descriptions`
    """
    from . import hub

    _report(
        hub.publish_data(
            locate(str(folder)), repo, private=private, revision=revision, tag=_release(tag), dry_run=dry_run
        )
    )


@publish.command("space")
def publish_space(
    repo: RepositoryOption,
    model: Annotated[str, typer.Option(help="The published model that the page serves.")],
    model_revision: Annotated[str, typer.Option(help="Its branch, tag or commit; the page is pinned to it.")] = "main",
    private: PrivateOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Publish the page as a Space, from a checkout of the project.

    Example: `movie-genre publish space --repo you/movie-genre-demo --model you/movie-genre`
    """
    from . import hub

    _report(hub.publish_space(repo, model, model_revision=model_revision, private=private, dry_run=dry_run))


@app.command()
def export(
    output: Annotated[Path, typer.Option(help="Folder for the ONNX model.")],
    model: ModelOption = DEFAULT_MODEL,
    revision: RevisionOption = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="A quarter of the size and faster, a little less exact.")
    ] = False,
) -> None:
    """Write a model for ONNX Runtime, which answers without torch: see `MovieGenreOnnx`.

    Example: `movie-genre export --output onnx --int8`
    """
    try:
        from .export import export as write
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install '.[onnx]'") from None
    write(load(model, revision), output, int8=int8)
    size = (output / "model.onnx").stat().st_size
    print(f"{'int8' if int8 else 'float32'} ONNX model in {output}, {size / 1e6:.0f} MB")


def _write_disagreements(path: Path, films: Films, chosen: "np.ndarray", genres: list[str], limit: int = 100) -> None:
    """The films where the file's genres are least probable under the model, worst first."""
    import numpy as np

    from .data import formula_safe
    from .metrics import disagreements

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["place", "movie_name", "genre", "model", "surprising", "missing", "log_loss", "description"])
        for i, loss, surprising, missing in disagreements(films.truth, films.probabilities, limit):
            row, p = films.rows[i], films.probabilities[i]
            model = ", ".join(genres[g] for g in np.argsort(-p) if chosen[i, g])
            cells = [
                row["place"],
                row["movie_name"],
                ", ".join(row["genre"]),
                model,
                f"{genres[surprising]} {p[surprising]:.3f}",
                "" if missing is None else f"{genres[missing]} {p[missing]:.3f}",
                f"{loss:.4f}",
                row["description"],
            ]
            writer.writerow(map(formula_safe, cells))


def _show(figures: dict[str, Any]) -> None:
    """Print the scores with their intervals, and the table by genre."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)  # genres are the model's, kinds of texts the caller's
    table = Table("", "score", "95 % interval", title=f"{figures['rows']:,} films")
    for name, (lower, upper) in figures["intervals"].items():
        table.add_row(name.replace("_", " "), f"{figures[name]:.3f}", f"{lower:.3f} to {upper:.3f}")
    console.print(table)
    quality, sure = figures["calibration"], figures["uncertainty"]
    console.print(
        f"calibration error {quality['ece']:.3f}, within the band of a perfect model for {quality['ece_within_band']} "
        f"of {len(quality['per_genre'])} genres; Brier {quality['brier']:.3f}, log loss {quality['nll']:.3f}"
    )
    for name, curve in sure.items():
        lower, upper = curve["gain_interval"]
        gain = f"{curve['gain']:+.3f} ({lower:+.3f} to {upper:+.3f})"
        console.print(f"without the 20 % least sure by {name.replace('_', ' ')}: micro-F1 {gain}")
    for name, areas in figures.get("off_topic", {}).items():
        if name != "texts":
            found = ", ".join(f"{kind.replace('_', ' ')} {area:.3f}" for kind, area in areas.items())
            console.print(f"films told from other texts by {name.replace('_', ' ')} (AUROC): {found}")
    genres = Table("genre", "precision", "recall", "F1", "average precision", "films", "chosen")
    for genre, row in sorted(figures["per_genre"].items(), key=lambda item: -item[1]["films"]):
        average = "" if row["average_precision"] is None else f"{row['average_precision']:.3f}"
        genres.add_row(
            genre,
            *(f"{row[name]:.3f}" for name in ("precision", "recall", "f1")),
            average,
            str(row["films"]),
            str(row["chosen"]),
        )
    console.print(genres)


def _flags(message: str) -> str:
    """A message with this program's spelling of flags: train.py, which shares the messages, has underscores."""
    return re.sub(r"--\w+", lambda flag: flag[0].replace("_", "-"), message)


def main() -> None:
    """Run; a mistake in arguments or data is told in one sentence, exit code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except (ValueError, TypeError, OSError) as error:  # DataError too
        print("movie-genre:", _flags(str(error)), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
