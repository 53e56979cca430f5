"""From a file of films to a folder that `from_pretrained` loads.

The work itself is done by Hugging Face's Trainer; this module brings the batches, the losses, the choice of the best
epoch by F1, and what is left behind: weights, tokenizer, decision rules, figures and pictures.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset, disable_progress_bars
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoConfig,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import PredictionOutput, SaveStrategy
from transformers.utils import SAFE_WEIGHTS_NAME

from . import MovieGenreConfig, MovieGenreModel, hub
from .arguments import DataArguments, ModelArguments, MovieGenreTrainingArguments
from .augmentation import mistyped, other_people
from .backends import cores, share_of_cores
from .checkpoints import CheckpointTrainer, check_same, check_space, resume_point
from .configuration_movie_genre import DECISION
from .cooccurrence import cooccurrence_embeddings
from .data import (
    Columns,
    DataError,
    Problems,
    assign_splits,
    file_hash,
    genre_matrix,
    genre_vocabulary,
    parse_genre_map,
    read_films,
    read_split,
    row_hash,
    split_hashes,
    stream_rows,
)
from .decision import (
    DEFAULT_OBJECTIVE,
    FOLDS,
    best_global_threshold,
    count_label_sets,
    fit_calibration,
    fit_label_set_weight,
    tune_profiles,
)
from .metrics import cooccurrence, scores
from .modeling_movie_genre import LabelGraph
from .multilabel_metric import MultilabelMetric
from .prediction_movie_genre import choose, fertility, resolve_rule
from .teacher import embed, soft_labels
from .tokenization import load_tokenizer, local_source, train_tokenizer
from .warm_start import warm_start

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
UNKNOWN_SHARE = 0.05  # of the tokens: more unknown ones are told
FERTILITY_QUANTILE, FERTILITY_MARGIN = 0.999, 1.1  # of training films, and beyond: a text of another language has more
CURVE_ROWS = 1000  # at most so many training films, and no more than there are to validate, give the training curve
SHOWN_SHARE = 0.1  # smaller shares get no figure in the genres' picture
EMBEDDING_SCALE = 0.1  # large beside a step of AdamW, so that what the corpus taught is not overrun at once


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


class EarlyStopping(TrainerCallback):
    """Stops after `patience` scorings without a better one, warm-up not counted.

    The run's history tells, so that a resumed run counts on: Hugging Face's own callback forgets its count.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look how many scorings ago the best score was."""
        name, sign = args.metric_for_best_model or "", 1 if args.greater_is_better else -1
        scored = [entry for entry in state.log_history if name in entry]
        best = max(scored, key=lambda entry: sign * entry[name], default={"step": 0, "epoch": 0})
        learning = max(best["step"], args.get_warmup_steps(state.max_steps))
        if sum(entry["step"] > learning for entry in scored) >= self.patience:
            control.should_training_stop = True
            logger.info(
                "stops after epoch %g of %g: %s was best after epoch %g; --early_stopping_patience 0 goes on",
                *(scored[-1]["epoch"], args.num_train_epochs, name.removeprefix("eval_validation_"), best["epoch"]),
            )

    on_train_begin = on_evaluate  # of a run that had stopped before it was resumed


class Hint(TrainerCallback):
    """A second aim early in training: a linear map of a text's vector meets an encoder's (FitNets, Romero et al. 2015).

    It counts in full for a third of the steps, and fades in the next: then the genres alone matter. The map is a part
    of the network only while that is trained.
    """

    def __init__(self, model: MovieGenreModel, width: int, weight: float) -> None:
        self.map = model.hint = torch.nn.Linear(model.config.hidden_size, width)
        self.weight = self.weight_now = weight

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the weight of this step."""
        self.weight_now = self.weight * min(1.0, max(0.0, 2 - 3 * state.global_step / state.max_steps))

    def __call__(self, pooled: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        """Each film's loss (batch,): one less the cosine of its mapped vector and the encoder's `view` of it."""
        return self.weight_now * (1 - F.cosine_similarity(self.map(pooled.float()).float(), view, dim=-1))


@dataclass
class Loss:
    """Mean loss over films and genres, binary cross-entropy or focal (Lin et al. 2017, equation 4); and of a hint."""

    kind: str
    gamma: float
    hint: Hint | None = None

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Scalar loss of `outputs.logits` (batch, genres).

        `labels` are of 0 and 1 (batch, genres); with a hint an encoder's view follows them (batch, genres + width).
        """
        logits = outputs["logits"]
        genres, columns = logits.shape[1], labels.shape[1]
        labels, view = labels[:, :genres], labels[:, genres:]
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        if self.kind == "focal":
            p = logits.sigmoid()
            right = labels * p + (1 - labels) * (1 - p)  # probability of the right answer, expected under soft labels
            loss = loss * (1 - right) ** self.gamma
        # The Trainer counts labels over accumulated batches and all processes, and scales up for the latter: a plain
        # mean would grow with either.
        films = len(labels) if num_items_in_batch is None else num_items_in_batch / columns
        total = loss.sum() / (films * genres)
        if self.hint is not None and columns > genres:  # films that are scored have genres alone
            total = total + self.hint(outputs["pooled_output"], view).sum() / films
        return total


class Measure:
    """The Trainer's metrics: all scores, at the threshold that serves micro-F1 best on the films at hand."""

    def __init__(self, min_genres: int) -> None:
        self.min_genres = min_genres
        self.metric = MultilabelMetric()

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Scores of (films, genres) logits."""
        probabilities, truth = expit(np.asarray(prediction.predictions, dtype=float)), np.asarray(prediction.label_ids)
        threshold = best_global_threshold(truth, probabilities, min_genres=self.min_genres)
        chosen = choose(probabilities, np.full(truth.shape[1], threshold), self.min_genres)
        values = self.metric.compute(
            predictions=chosen.astype(int), references=truth.astype(int), probabilities=probabilities
        )
        return {**(values or {}), "threshold": threshold}


def build_model(
    arguments: ModelArguments, genres: list[str], vocabulary_size: int, pad_token_id: int
) -> MovieGenreModel:
    """A new network, or the one that `init_from` names, with its last layer rebuilt where the genres differ.

    Raises:
        ValueError: if `init_from` has other sizes than asked for.
    """
    labels = dict(enumerate(genres))
    if arguments.init_from is None:
        config = MovieGenreConfig(
            vocab_size=vocabulary_size, pad_token_id=pad_token_id, id2label=labels, **arguments.config_values()
        )
        return MovieGenreModel(config)
    source = MovieGenreModel.from_pretrained(arguments.init_from)
    asked = arguments.config_values()
    asked.setdefault("min_genres", min(source.config.min_genres, len(genres)))
    # Its weights would fit, and mean nothing; a graph is connected anew for other genres alone.
    fixed = ["position_embedding_type", "norm_placement", "hidden_act", "num_attention_heads", "head_dim"]
    if source.config.genres == genres:
        fixed += ["label_graph_threshold", "label_graph_weight"]
    for name in fixed:
        if asked.get(name, has := getattr(source.config, name)) != has:
            raise ValueError(f"init_from={arguments.init_from!r} has {name}={has}, not {asked[name]}: leave it out")
    kept = {name: value for name, value in source.config.to_dict().items() if name not in DECISION}
    config = MovieGenreConfig.from_dict(kept | {"id2label": labels} | asked)
    model = MovieGenreModel(config)
    state, wanted = source.state_dict(), model.state_dict()
    rows = [f"classifier.output.{name}" for name in ("weight", "bias") if f"classifier.output.{name}" in state]
    graph = [f"classifier.output.{name}" for name in ("adjacency", "label_embeddings")]  # if there is one
    head = {*rows, "logit_scale", "logit_bias", *(graph if source.config.genres != genres else ())}
    for name in wanted.keys() | state.keys():
        if name not in head and (name not in wanted or name not in state or wanted[name].shape != state[name].shape):
            raise ValueError(
                f"{name} of init_from={arguments.init_from!r} does not fit the sizes asked for: "
                "leave them out to keep its own"
            )
    model.load_state_dict({name: value for name, value in state.items() if name not in head}, strict=False)
    shared = [genre for genre in genres if genre in source.config.genres]
    new, old = [genres.index(genre) for genre in shared], [source.config.genres.index(genre) for genre in shared]
    with torch.no_grad():
        for name in rows:
            wanted[name][new] = state[name][old]  # the model's own tensors
    if source.config.genres != genres:
        fresh = [genre for genre in genres if genre not in shared]
        logger.warning(
            "the last layer is rebuilt for %d genres: %d keep their weights, %d start anew (%s)",
            len(genres),
            len(shared),
            len(fresh),
            ", ".join(fresh) or "none",
        )
    return model


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


def load_network(
    network: ModelArguments, films: Films, seed: int = 0
) -> tuple[MovieGenreModel, PreTrainedTokenizerBase]:
    """The network to train, and its tokenizer."""
    descriptions, truth = list(films.parts["train"]["description"]), films.truth("train")
    texts = [*descriptions, *films.transfer]
    source = None if network.init_from is None else AutoConfig.from_pretrained(local_source(network.init_from))
    foreign = source is not None and source.model_type != MovieGenreConfig.model_type
    if network.init_layers and not foreign:
        raise ValueError(
            f"init_layers chooses layers of a foreign encoder; {network.init_from} keeps its own: leave it out"
        )
    tokenizer: PreTrainedTokenizerBase
    if foreign and network.init_from:
        layers, values = network.layers(), network.config_values()
        model, tokenizer = warm_start(
            network.init_from, films.genres, descriptions, truth, layers=layers, seed=seed, **values
        )
    else:
        max_length = network.max_position_embeddings or (source or MovieGenreConfig()).max_position_embeddings
        if network.train_tokenizer:
            tokenizer = train_tokenizer(texts, max_length)
            logger.info("learned a tokenizer: %s word pieces from %d texts", f"{len(tokenizer):,}", len(texts))
        else:
            tokenizer = load_tokenizer(network.init_from or network.tokenizer, max_length)
        model = build_model(network, films.genres, len(tokenizer), tokenizer.pad_token_id)
    if source is None and network.embedding_init == "cooccurrence":
        _start_from_cooccurrence(model, tokenizer, texts)
    if source is None or foreign:
        frequency = truth.mean(axis=0).clip(1e-3, 1 - 1e-3)
        with torch.no_grad():  # the last layer starts at the genres' frequencies
            model.classifier.output.bias.copy_(torch.as_tensor(np.log(frequency / (1 - frequency))))
    # A model that goes on with its own genres keeps the graph it has learned with.
    if isinstance(model.classifier.output, LabelGraph) and not model.classifier.output.label_embeddings.any():
        model.classifier.output.connect(torch.as_tensor(truth), _genre_vectors(model, tokenizer))
    return model, tokenizer


@torch.no_grad()
def _genre_vectors(model: MovieGenreModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """The mean of a name's word pieces, of each genre, (genres, hidden_size)."""
    table = model.get_input_embeddings().weight
    assert isinstance(table, torch.Tensor)
    genres = model.config.genres
    names = tokenizer(genres, add_special_tokens=False)["input_ids"]
    # Equal vectors would be equal for good: the label graph never learns to tell such genres.
    strange = [i for i, ids in enumerate(names) if not {*ids} - {tokenizer.unk_token_id} or names.count(ids) > 1]
    if strange:
        logger.warning("the tokenizer does not tell by their names: %s", ", ".join(genres[i] for i in strange))
    vectors = [
        torch.randn_like(table[0]) * table.std() if i in strange else table[ids].mean(dim=0)
        for i, ids in enumerate(names)
    ]
    return torch.stack(vectors)


def _start_from_cooccurrence(
    model: MovieGenreModel, tokenizer: PreTrainedTokenizerBase, descriptions: list[str]
) -> None:
    """Fill the token embedding, except the special tokens' rows."""
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, torch.Tensor)
    ids = tokenizer(descriptions, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    values = torch.as_tensor(cooccurrence_embeddings(ids, *embedding.shape, scale=EMBEDDING_SCALE), dtype=torch.float32)
    special = tokenizer.all_special_ids
    with torch.no_grad():
        values[special] = embedding[special]
        embedding.copy_(values)


def encode_films(films: Dataset, labels: np.ndarray, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """`input_ids`, `labels` and `length` of each film."""
    texts = list(films["description"])
    ids = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
    return Dataset.from_dict({"input_ids": ids, "labels": labels.tolist(), "length": [len(row) for row in ids]})


def train(data: DataArguments, network: ModelArguments, arguments: MovieGenreTrainingArguments) -> Path:
    """Train, choose the best epoch, tune decisions, and write all of it to `output_dir`, which is returned.

    Raises:
        DataError: if the films cannot be used.
        ValueError: for arguments that contradict each other or the folder's contents.
    """
    started = time.time()
    disable_progress_bars()  # the Trainer's bar is the one worth watching
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(arguments.output_dir)
    if arguments.n_gpu > 1:
        raise ValueError(
            f"one process sees {arguments.n_gpu} GPUs: accelerate launch --multi_gpu --num_processes {arguments.n_gpu} "
            "train.py ... gives each its own; CUDA_VISIBLE_DEVICES=0 shows it one"
        )
    resume, outdated = resume_point(arguments, output)
    secret = arguments.hub_token
    publish = hub.from_training(arguments)
    set_seed(arguments.seed)
    torch.set_num_threads(arguments.cpu_threads or share_of_cores())

    films = load_films(data)
    if (
        data.decision_from
        and Path(data.decision_from).is_dir()
        and not Path(data.decision_from, "config.json").exists()
    ):
        logger.info("%s is read when training ends: its own training may still go on", data.decision_from)
    elif data.decision_from:
        _load_twin(data.decision_from, films.genres)  # whatever is wrong with it is said now
    _claim(output)
    model, tokenizer = load_network(network, films, arguments.seed)
    _warn_of_unknown(tokenizer, list(films.parts["train"]["description"]))
    logger.info(
        "films: %s; %d texts without genres; %d genres; %s parameters",
        ", ".join(f"{len(part):,} {name}" for name, part in films.parts.items()),
        len(films.transfer),
        len(films.genres),
        f"{model.num_parameters():,}",
    )
    if arguments.save_strategy != SaveStrategy.NO:
        check_space(output, model.num_parameters(), arguments.save_total_limit)
    trainer = build_trainer(model, tokenizer, films, arguments)
    if resume:
        check_same(Path(resume), model.config, trainer.films)
    if trainer.is_world_process_zero():  # the Trainer would take them for this run's
        for checkpoint in outdated:
            shutil.rmtree(checkpoint)
    with attention_kernel(arguments):
        trainer.train(resume_from_checkpoint=resume)
    if arguments.hint_weight:
        del model.hint

    # The Trainer sorts what it predicts by length: truth is what comes back with the predictions, row by row.
    scored = {part: trainer.predict(rows) for part, rows in _encode_all(films, tokenizer, model).items()}  # type: ignore[arg-type]
    if trainer.is_world_process_zero():
        twin = _load_twin(data.decision_from, films.genres) if data.decision_from else None
        results = _decide(model, scored, twin)
        model.config.max_fertility = highest_fertility(tokenizer, list(films.parts["train"]["description"]))
        before = file_hash(output / SAFE_WEIGHTS_NAME)
        save_model(model, tokenizer, output, arguments.weights_dtype)
        gone_on_with = before not in (None, file_hash(output / SAFE_WEIGHTS_NAME))
        if arguments.overwrite_output_dir or gone_on_with:
            _forget_earlier(output)
        source = {"source": Path(data.train_file).name, "sha256": file_hash(data.train_file)}
        transfer = {
            "transfer": len(films.transfer),
            "transfer_has_genres": films.reading is not None,
            "transfer_sha256": [file_hash(source) for source in data.transfer_files],
        }
        record = {
            "command": _command(sys.argv[1:], secret),
            "data": source | {"films": {name: len(part) for name, part in films.parts.items()}} | transfer,
            "arguments": given(data, network, arguments),
            "seed": arguments.seed,
            "parameters": model.num_parameters(),
            "epochs": trainer.state.epoch,
            "best_epoch": _best_epoch(trainer),
            "results": results,
            "seconds": None if resume else round(time.time() - started, 1),  # of a part they would say nothing
            "versions": versions(),
            "hardware": {
                "device": _device_name(arguments.device),
                "cores": cores(),
                "processes": arguments.world_size,
            },
            "history": trainer.state.log_history,
        }
        _write_json(output / "training.json", record)
        if not data.fit_all:
            _write_json(output / "split.json", source | films.split)
        plot_curves(trainer.state.log_history, output / "curves.png")
        plot_genres(films.genres, cooccurrence(films.truth("train")), output / "genres.png")
        show_results(results)
        Console().print(f"model in {output}, curves in {output / 'curves.png'}, {time.time() - started:.0f} s")
        if publish is not None:
            Console().print(publish(output).summary())
    return output


def _claim(output: Path) -> None:
    """See, before hours are spent, that the folder can be written, and that all processes have the same one.

    Raises:
        OSError: if it cannot be written.
        ValueError: if another machine has one of its own.
    """

    def begin() -> Path:
        output.mkdir(parents=True, exist_ok=True)
        handle, mark = tempfile.mkstemp(prefix=".begun-", dir=output)
        os.close(handle)
        return Path(mark)

    mark = output / _by_one_process(begin).name
    seen = gather_object([mark.exists()])  # all end together: who waited for one that has ended would wait long
    if PartialState().is_main_process:
        mark.unlink(missing_ok=True)
    if not all(seen):
        raise ValueError(f"output_dir={output} is not one folder to all machines: name one that they share")


def _warn_of_unknown(tokenizer: PreTrainedTokenizerBase, descriptions: list[str]) -> None:
    """Say if many words are unknown to the tokenizer, as those of another script: they all look the same."""
    ids = tokenizer(descriptions[:CURVE_ROWS], add_special_tokens=False, return_attention_mask=False, verbose=False)
    found = [token == tokenizer.unk_token_id for row in ids["input_ids"] for token in row]
    if (share := float(np.mean(found))) > UNKNOWN_SHARE:
        logger.warning(
            "%.0f %% of the descriptions' tokens are unknown to the tokenizer: --train_tokenizer true learns one from "
            "them, --tokenizer names another",
            100 * share,
        )


def attention_kernel(arguments: TrainingArguments) -> AbstractContextManager[None]:
    """The faster attention to train by: on CPUs PyTorch's fused one is several times as slow backwards in bfloat16."""
    plain = arguments.bf16 and arguments.device.type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def build_trainer(
    model: MovieGenreModel, tokenizer: PreTrainedTokenizerBase, films: Films, arguments: MovieGenreTrainingArguments
) -> CheckpointTrainer:
    """Hugging Face's Trainer with this project's labels, batches, loss and scores."""
    descriptions, labels = list(films.parts["train"]["description"]), films.truth("train")
    texts, told, hint = films.transfer, films.reading, None
    reading: dict[str, Any] = {"cache": Path(arguments.teacher_cache), "bf16": arguments.bf16}
    if arguments.teacher != "none":
        teachers = arguments.teacher.split(",")
        soft = _by_one_process(lambda: soft_labels(teachers, descriptions, labels, texts, told, **reading))
        soft, told = np.split(soft, [len(labels)])
        labels = (1 - arguments.teacher_weight) * labels + arguments.teacher_weight * soft
    if told is not None:
        descriptions, labels = [*descriptions, *texts], np.vstack([labels, told])
    elif texts:
        logger.warning("without a teacher, no genres are learned from texts that have none")
    if arguments.hint_weight and arguments.encoder_teacher:
        encoder = arguments.encoder_teacher
        views = _by_one_process(lambda: embed(encoder, descriptions, **reading))
        labels, hint = np.hstack([labels, views]), Hint(model, views.shape[1], arguments.hint_weight)
    max_length = model.config.max_position_embeddings
    rows = Readings(descriptions, labels, tokenizer, max_length, arguments)
    scored = _encode_all(films, tokenizer, model)
    measured = min(CURVE_ROWS, len(scored["train"]), len(scored.get("validation", scored["train"])))
    scored["train"] = scored["train"].shuffle(seed=0).select(range(measured))
    callbacks: list[TrainerCallback] = [] if hint is None else [hint]
    if "validation" not in scored:
        arguments.load_best_model_at_end, arguments.metric_for_best_model = False, None
    elif arguments.early_stopping_patience and arguments.eval_strategy != "no":
        callbacks.append(EarlyStopping(arguments.early_stopping_patience))
    return CheckpointTrainer(
        films=films.digest(),
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=scored,  # type: ignore[arg-type]
        processing_class=tokenizer,
        compute_loss_func=Loss(arguments.loss, arguments.focal_gamma, hint),
        compute_metrics=Measure(model.config.min_genres),
        callbacks=callbacks,
    )


def _by_one_process(work: Callable[[], Found]) -> Found:
    """What one process computes, and gives to all the others; they fail as it fails, instead of waiting for it."""
    found: list[Found | Exception | None] = [None]
    if PartialState().is_main_process:
        try:
            found = [work()]
        except Exception as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], Exception):
        raise found[0]
    assert found[0] is not None
    return found[0]


def _encode_all(films: Films, tokenizer: PreTrainedTokenizerBase, model: MovieGenreModel) -> dict[str, Dataset]:
    """Every part with its true labels."""
    max_length = model.config.max_position_embeddings
    return {name: encode_films(part, films.truth(name), tokenizer, max_length) for name, part in films.parts.items()}


def _decide(
    model: MovieGenreModel, scored: dict[str, PredictionOutput], twin: MovieGenreModel | None
) -> dict[str, dict[str, float]]:
    """Calibrate the model, give it its decision profiles, and score every part with the default one."""
    config = model.config
    truth = {part: np.asarray(output.label_ids) for part, output in scored.items()}
    logits = {part: np.asarray(output.predictions, dtype=float) for part, output in scored.items()}
    if twin is not None:
        scale, bias = twin.logit_scale.double().numpy(), twin.logit_bias.double().numpy()
        for name in (*DECISION, "min_genres"):
            setattr(config, name, getattr(twin.config, name))
        if config.label_sets:  # of all films
            config.label_sets = count_label_sets(truth["train"])
    else:
        logger.info("calibrating, and tuning decisions, on %s validation films", f"{len(truth['validation']):,}")
        scale, bias = fit_calibration(truth["validation"], logits["validation"])
        validation = truth["validation"], expit(logits["validation"] * scale + bias)
        config.threshold_profiles = tune_profiles(*validation, min_genres=config.min_genres)
        config.label_sets = count_label_sets(truth["train"])
        config.label_set_weight = round(fit_label_set_weight(*validation, config.label_sets), 4)
        config.default_profile = DEFAULT_OBJECTIVE
    with torch.no_grad():
        model.logit_scale.copy_(torch.as_tensor(scale))
        model.logit_bias.copy_(torch.as_tensor(bias))
    rule = resolve_rule(None, config)
    probabilities = {part: expit(values * scale + bias) for part, values in logits.items()}
    return {
        part: scores(truth[part], choose(values, rule, config.min_genres), values)
        for part, values in probabilities.items()
    }


def highest_fertility(tokenizer: PreTrainedTokenizerBase, descriptions: Sequence[str]) -> float:
    """Word pieces a word that hardly a film of the training films' language has, for `config.max_fertility`."""
    found = tokenizer(list(descriptions), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    values = [fertility(*film) for film in zip(descriptions, found["offset_mapping"], strict=True)]
    return round(FERTILITY_MARGIN * float(np.quantile(values, FERTILITY_QUANTILE)), 3)


def save_model(
    model: MovieGenreModel, tokenizer: PreTrainedTokenizerBase, folder: Path, weights_dtype: str = "float32"
) -> None:
    """Write weights (safetensors), configuration, the code files and the tokenizer.

    Weights may be stored in 16 bits; the configuration keeps saying float32, so that loading computes in float32. The
    calibration is small and stays in 32 bits.
    """
    state = model.state_dict()
    if weights_dtype == "float16":
        state = {name: value if name.startswith("logit_") else value.half() for name, value in state.items()}
    model.save_pretrained(folder, state_dict=state)
    tokenizer.backend_tokenizer.no_truncation()  # training's, which a fast tokenizer keeps in itself
    for name in ("is_local", "local_files_only", "max_length"):  # how its source was found, and how that cut texts
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(folder)


def _forget_earlier(folder: Path) -> None:
    """Remove figures, split and ONNX form of the model that stood here before: they would pass for this one's."""
    for name in ("evaluation.json", "split.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "onnx", ignore_errors=True)


def versions() -> dict[str, str]:
    """Versions of what a figure depends on, and the machine's kind."""
    names = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def show_results(results: dict[str, dict[str, float]]) -> None:
    """Print a table of scores, a column a split."""
    table = Table("", *results)
    for name in next(iter(results.values())):
        table.add_row(name.replace("_", " "), *(f"{values[name]:.3f}" for values in results.values()))
    Console().print(table)


def plot_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Loss and micro-F1 by epoch, for training and validation films."""
    from matplotlib.figure import Figure

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
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

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


def _load_twin(decision_from: str, genres: list[str]) -> MovieGenreModel:
    """The model whose calibration and decision rules are taken over.

    Raises:
        ValueError: if it has other genres.
    """
    twin = MovieGenreModel.from_pretrained(decision_from)
    if twin.config.genres != genres:
        raise ValueError(f"decision_from={decision_from!r} has other genres than the films: {', '.join(genres)}")
    return twin


def _command(words: Sequence[str], secret: str | None) -> str:
    """The command line for the record, without the token, however its flag was written."""
    return shlex.join(["train.py", *(word.replace(secret, "***") if secret else word for word in words)])


def _best_epoch(trainer: Trainer) -> float | None:
    """Epoch whose weights are kept: that of the best checkpoint, or the last."""
    state, best = trainer.state, trainer.state.best_model_checkpoint
    if best is None or not trainer.args.load_best_model_at_end:
        return state.epoch
    step = int(Path(best).name.rpartition("-")[2])
    return next(entry["epoch"] for entry in state.log_history if entry["step"] == step)


def given(*groups: Any) -> dict[str, Any]:
    """Arguments that differ from their defaults; never a token."""
    values = {}
    for group in groups:
        for f in fields(group):
            value = getattr(group, f.name)
            default = f.default_factory() if callable(f.default_factory) else f.default
            if (
                f.init
                and not f.name.endswith("token")
                and value != default
                and (isinstance(value, (str, int, float, bool)) or (isinstance(value, (dict, list)) and value))
            ):
                values[f.name] = value
    return values


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
