"""From a file of films to a folder that `from_pretrained` loads.

The work itself is done by Hugging Face's Trainer; this module brings the batches, the losses, the choice of the best
epoch by F1, and what is left behind: weights, tokenizer, decision rules, figures and pictures.
"""

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
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

from . import MovieGenreModel, hub
from .arguments import DataArguments, ModelArguments, MovieGenreTrainingArguments
from .backends import cores, share_of_cores
from .checkpoints import CheckpointTrainer, check_same, check_space, resume_point
from .configuration_movie_genre import DECISION
from .data import file_hash
from .decision import (
    DEFAULT_OBJECTIVE,
    best_global_threshold,
    count_label_sets,
    fit_calibration,
    fit_label_set_weight,
    tune_profiles,
)
from .losses import Hint, Loss
from .metrics import cooccurrence, scores
from .multilabel_metric import MultilabelMetric
from .network import load_network, save_model
from .plots import plot_curves, plot_genres
from .prediction_movie_genre import choose, fertility, resolve_rule
from .record import command, device_name, given, versions, write_json
from .teacher import embed, soft_labels
from .training_data import Films, Readings, encode_films, load_films

logger = logging.getLogger(__name__)

Found = TypeVar("Found")
UNKNOWN_SHARE = 0.05  # of the tokens: more unknown ones are told
FERTILITY_QUANTILE, FERTILITY_MARGIN = 0.999, 1.1  # of training films, and beyond: a text of another language has more
SHOWN_GENRES = 40  # at most, the most frequent ones, are in the genres' picture
CURVE_ROWS = 1000  # at most so many training films, and no more than there are to validate, give the training curve


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


def train(data: DataArguments, network: ModelArguments, arguments: MovieGenreTrainingArguments) -> Path:
    """Train, choose the best epoch, tune decisions, and write all of it to `output_dir`, which is returned.

    Raises:
        DataError: if the films cannot be used.
        ValueError: for arguments that contradict each other or the folder's contents.
    """
    started = time.time()
    disable_progress_bars()  # the Trainer's bar is the one worth watching
    logging.basicConfig(format="%(message)s")
    # Of this package alone: the Hub's client tells every address it asks, some of which are signed.
    logging.getLogger(__package__).setLevel(logging.INFO if PartialState().is_main_process else logging.WARNING)
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
            "command": command(sys.argv[1:], secret),
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
                "device": device_name(arguments.device),
                "cores": cores(),
                "processes": arguments.world_size,
            },
            "history": trainer.state.log_history,
        }
        write_json(output / "training.json", record)
        if not data.fit_all:
            write_json(output / "split.json", source | films.split)
        plot_curves(trainer.state.log_history, output / "curves.png")
        truth = films.truth("train")
        shown = np.sort(np.argsort(-truth.sum(axis=0), kind="stable")[:SHOWN_GENRES])
        plot_genres([films.genres[i] for i in shown], cooccurrence(truth[:, shown]), output / "genres.png")
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
    measured = min(CURVE_ROWS, *map(len, films.parts.values()))
    some = films.parts["train"].shuffle(seed=0).select(range(measured))
    scored = _encode_all(replace(films, parts=films.parts | {"train": some}), tokenizer, model)
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


def _forget_earlier(folder: Path) -> None:
    """Remove figures, split and ONNX form of the model that stood here before: they would pass for this one's."""
    for name in ("evaluation.json", "split.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "onnx", ignore_errors=True)


def show_results(results: dict[str, dict[str, float]]) -> None:
    """Print a table of scores, a column a split."""
    table = Table("", *results)
    for name in next(iter(results.values())):
        table.add_row(name.replace("_", " "), *(f"{values[name]:.3f}" for values in results.values()))
    Console().print(table)


def _load_twin(decision_from: str, genres: list[str]) -> MovieGenreModel:
    """The model whose calibration and decision rules are taken over.

    Raises:
        ValueError: if it has other genres.
    """
    twin = MovieGenreModel.from_pretrained(decision_from)
    if twin.config.genres != genres:
        raise ValueError(f"decision_from={decision_from!r} has other genres than the films: {', '.join(genres)}")
    return twin


def _best_epoch(trainer: Trainer) -> float | None:
    """Epoch whose weights are kept: that of the best checkpoint, or the last."""
    state, best = trainer.state, trainer.state.best_model_checkpoint
    if best is None or not trainer.args.load_best_model_at_end:
        return state.epoch
    step = int(Path(best).name.rpartition("-")[2])
    return next(entry["epoch"] for entry in state.log_history if entry["step"] == step)
