"""Training that survives: whole checkpoints only, and no step from a number that is none.

Hugging Face's Trainer writes a checkpoint file by file, and resumes from the newest without looking. Here a checkpoint
counts once its seal is there: `seal.json`, written last, with the SHA-256 of every other file.
"""

import json
import logging
import math
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import Sampler
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints
from transformers.utils import SAFE_WEIGHTS_NAME

from .arguments import MovieGenreTrainingArguments
from .configuration_movie_genre import DECISION, MovieGenreConfig
from .data import file_hash

logger = logging.getLogger(__name__)

SEAL = "seal.json"
FILMS = "films.sha256"
BYTES_A_PARAMETER = 12  # the weight in 32 bits, and AdamW's two moments of it


class EpochOrder(Sampler):
    """Batches of films of similar length, in an order drawn from seed and epoch alone.

    The Trainer's own sampler draws from the state that the whole process has come to: a run that goes on in mid-epoch
    would read other films than an undisturbed one, and of several processes each would draw an order of its own.

    Args:
        sampler: which orders.
        films: whose `epoch` the data loader sets.
        seed: of the run.
    """

    def __init__(self, sampler: LengthGroupedSampler, films: Any, seed: int) -> None:
        self.sampler, self.films, self.seed = sampler, films, seed

    def __len__(self) -> int:
        """Films."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        """Indices of the films."""
        draw = random.Random(f"{self.seed} {self.films.epoch}")  # noqa: S311  # no secret
        self.sampler.generator = torch.Generator().manual_seed(draw.getrandbits(63))
        return iter(self.sampler)


class CheckpointTrainer(Trainer):
    """Hugging Face's Trainer, which seals its checkpoints and stops at a loss or gradient that is not finite.

    Args:
        films: hash of what is trained on, for checkpoints to tell their run by.
        options: the Trainer's.
    """

    def __init__(self, *, films: str = "", **options: Any) -> None:
        self.films = films
        super().__init__(**options)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler | None:
        """The Trainer's choice, in an order that does not depend on what was before."""
        sampler = super()._get_train_sampler(*args, **kwargs)
        if isinstance(sampler, LengthGroupedSampler):
            return EpochOrder(sampler, self.train_dataset, self.args.seed)
        return sampler

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise FloatingPointError(_sick(f"the loss is {loss.item()}", self.args, self.state))
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """The gradients' norm, on the way to the optimizer.

        Raises:
            FloatingPointError: if it is not finite. With fp16 it may be: loss scaling leaves such steps out by itself.
        """
        norm = super()._get_grad_norm(*args, **kwargs)
        if not self.args.fp16 and not math.isfinite(norm):
            raise FloatingPointError(_sick("a gradient is not finite", self.args, self.state))
        return norm

    def _init_training_state(
        self, max_steps: int, steps_an_epoch: int, epochs: int, resume_from_checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        """What a checkpoint says, but for where its best epoch is now."""
        found = super()._init_training_state(max_steps, steps_an_epoch, epochs, resume_from_checkpoint, trial)
        if resume_from_checkpoint and (best := best_checkpoint(Path(resume_from_checkpoint))):
            self.state.best_model_checkpoint = str(best)  # which is whole: see `obstacle`
        return found

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """One epoch, unless training has stopped before it: the Trainer would look after the first step only."""
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save, seal, and only then let go of older checkpoints.

        Raises:
            OSError: if it could not be written; what is there of it is removed.
        """
        told, limit = self.args, self.args.save_total_limit
        folder = Path(self._get_output_dir(None)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        (folder / SEAL).unlink(missing_ok=True)
        told.save_total_limit = None
        try:
            super()._save_checkpoint(*args, **kwargs)
            self.accelerator.wait_for_everyone()
            if told.should_save:
                (folder / FILMS).write_text(self.films, encoding="utf-8")
                seal(folder)
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk has a different name in each library
            shutil.rmtree(folder, ignore_errors=True)
            why = str(error).partition("\n")[0]
            raise OSError(
                f"{folder} could not be written ({why}): free some space, and go on with --resume_from_checkpoint true"
            ) from error
        finally:
            told.save_total_limit = limit
        if told.should_save:
            rotate_checkpoints(
                str(folder.parent), save_total_limit=limit, best_model_checkpoint=self.state.best_model_checkpoint
            )


def _sick(what: str, args: TrainingArguments, state: TrainerState) -> str:
    return (
        f"{what} in step {state.global_step + 1} of {state.max_steps}: training stops, and nothing of that step is "
        f"kept. A lower --learning_rate (now {args.learning_rate:g}) is the usual cure"
    )


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole, in one atomic step."""
    temporary = folder / f"{SEAL}.part"
    temporary.write_text(json.dumps(_digests(folder)), encoding="utf-8")
    os.replace(temporary, folder / SEAL)


def flaw(folder: Path) -> str | None:
    """Why a checkpoint cannot be trusted; None if it is as it was written."""
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "it was not finished"
    found = _digests(folder)
    return next((f"{name} is missing or damaged" for name, digest in sealed.items() if found.get(name) != digest), None)


def best_checkpoint(folder: Path) -> Path | None:
    """Where the best epoch so far of a checkpoint's run is kept; None if it is not.

    It lies beside the checkpoint, wherever a run was moved to, or where it was when the run went on in another folder.
    """
    best = json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))["best_model_checkpoint"]
    if best is None:
        return None
    beside = folder.with_name(Path(best).name)
    return beside if beside.is_dir() else Path(best)


def obstacle(folder: Path) -> str | None:
    """Why no run can go on from a checkpoint: a flaw of its own, or of its best epoch so far."""
    if why := flaw(folder):
        return why
    best = best_checkpoint(folder)
    return f"of its best epoch, {best.name}, {fault}" if best and (fault := flaw(best)) else None


def last_whole_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint that a run can go on from; each other is named."""
    for folder in checkpoints(output):
        why = obstacle(folder)
        if why is None:
            return folder
        logger.warning("%s is passed over: %s", folder, why)
    return None


def resume_point(arguments: MovieGenreTrainingArguments, output: Path) -> tuple[str | None, list[Path]]:
    """Checkpoint to go on from, None to start anew; and those that will have to go, since they come after it.

    Raises:
        ValueError: if the one named is not whole, or an earlier run would be overwritten.
    """
    there, asked, overwrite = checkpoints(output), arguments.resume_from_checkpoint, arguments.overwrite_output_dir
    last: Path | None = None
    newest = asked in ("true", "True", "last")
    if newest:
        last = last_whole_checkpoint(output)
    elif asked not in (None, "false", "False"):
        last = Path(asked)
        if why := obstacle(last) if last.is_dir() else "there is no such folder":
            raise ValueError(f"{last} cannot be resumed from: {why}; --resume_from_checkpoint true finds one that can")
        if there and not there[0].samefile(last) and not overwrite:
            raise ValueError(
                f"{output} holds checkpoints that do not lead to {last}, the newest {there[0].name}: "
                "--overwrite_output_dir true gives them up"
            )
    elif there and not overwrite:
        raise ValueError(
            f"{output} holds checkpoints of an earlier run: --resume_from_checkpoint true goes on with it, "
            "--overwrite_output_dir true starts anew"
        )
    if not (last and there) and not overwrite and (output / SAFE_WEIGHTS_NAME).exists():
        raise ValueError(
            f"{output} holds a finished model: name another --output_dir, or --overwrite_output_dir true replaces it"
        )
    if newest:
        logger.warning("%s", f"going on from {last}" if last else f"{output} has no whole checkpoint: starting anew")
    later = next((i for i, checkpoint in enumerate(there) if last and checkpoint.samefile(last)), len(there))
    return str(last) if last else None, there[:later]


def check_same(checkpoint: Path, config: MovieGenreConfig, films: str) -> None:
    """See that a run that goes on is the one that was begun.

    Args:
        checkpoint: to go on from.
        config: of the network that is to be trained.
        films: hash of what it is trained on.

    Raises:
        ValueError: naming what differs.
    """
    before = MovieGenreConfig.from_pretrained(checkpoint)
    # Left out: what is found at the end, another way to name the same source, and what the Trainer sets itself.
    other = {*DECISION, "base_model", "pad_token_id"}
    names = ["genres", *(name for name in MovieGenreConfig.__annotations__ if name not in other)]
    differences = [
        f"{name} {getattr(before, name)!r}, not {getattr(config, name)!r}"
        for name in names
        if getattr(before, name) != getattr(config, name)
    ]
    told = checkpoint / FILMS
    if not differences and told.exists() and told.read_text(encoding="utf-8") != films:
        differences = ["other descriptions or genres"]
    if differences:
        raise ValueError(
            f"{checkpoint} was trained with {'; '.join(differences)}: give it its own flags and films, or start anew "
            "with --overwrite_output_dir true"
        )


def checkpoints(output: Path) -> list[Path]:
    """Checkpoints of a run, newest first, whole or not."""
    folders = [path for path in output.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if path.name.split("-")[-1].isdecimal()]
    return sorted(folders, key=lambda path: -int(path.name.split("-")[-1]))


def check_space(output: Path, parameters: int, kept: int | None) -> None:
    """See that the disk has room for the checkpoints of a run and the finished model.

    Args:
        output: the run's folder.
        parameters: of the network.
        kept: checkpoints kept at a time. None keeps all: here two are counted, for nobody knows yet how many there
            will be.

    Raises:
        ValueError: if it has not.
    """
    needed = parameters * (
        BYTES_A_PARAMETER * ((kept or 2) + 1) + 4
    )  # while one is written, the others are still there
    free = shutil.disk_usage(next(path for path in (output, *output.resolve().parents) if path.exists())).free
    with suppress(FileNotFoundError):  # another process may be taking them away
        free += sum(path.stat().st_size for folder in checkpoints(output) for path in folder.rglob("*"))
    if free < needed:
        raise ValueError(
            f"{output} needs {needed / 1e6:,.0f} MB for its checkpoints, and its disk has {free / 1e6:,.0f} MB: free "
            "some space, name another --output_dir, or lower --save_total_limit"
        )


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file."""
    return {
        path.relative_to(folder).as_posix(): str(file_hash(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(SEAL)
    }
