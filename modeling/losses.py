"""What training minimises."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import MovieGenreModel


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
