"""What training minimises."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import TrainerState

from modeling.arguments import DataArguments, MovieGenreTrainingArguments
from modeling.losses import Hint, Loss
from modeling.tokenization import load_tokenizer
from modeling.training import build_trainer
from modeling.training_data import load_films

from .conftest import tiny_model


def test_the_losses_follow_their_formulas():
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    p = logits.sigmoid()
    right = torch.where(labels == 1, p, 1 - p)
    assert torch.isclose(Loss("bce", 2.0)({"logits": logits}, labels), F.binary_cross_entropy(p, labels))
    assert torch.isclose(Loss("focal", 2.0)({"logits": logits}, labels), (-((1 - right) ** 2) * right.log()).mean())
    assert torch.isclose(Loss("focal", 0.0)({"logits": logits}, labels), F.binary_cross_entropy(p, labels))


def test_a_hint_counts_in_full_for_a_third_of_the_steps_and_fades_in_the_next():
    model = tiny_model()
    hint = Hint(model, 3, 2.0)
    assert hint.map.weight in set(model.parameters())  # trained with the network
    weights = []
    for step in (0, 20, 30, 40, 60):
        hint.on_step_begin(None, TrainerState(global_step=step, max_steps=60), None)
        weights.append(hint.weight_now)
    assert weights == pytest.approx([2, 2, 1, 0, 0])

    hint.weight_now = 0.5
    logits, labels, pooled = torch.zeros(2, 2), torch.eye(2), torch.randn(2, model.config.hidden_size)
    view = hint.map(pooled).detach() * torch.tensor([[3.0], [-1.0]])  # seen alike, and the other way round
    outputs = {"logits": logits, "pooled_output": pooled}
    both = Loss("bce", 2.0, hint)(outputs, torch.hstack([labels, view]))
    assert both.item() == pytest.approx(np.log(2) + 0.5 * (0 + 2) / 2)
    assert Loss("bce", 2.0, hint)(outputs, labels).item() == pytest.approx(np.log(2))  # films that are scored


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_accumulated_batches_step_as_one_large_batch(some_films, tmp_path, loss):
    """Eight films twice are a step as sixteen at once are: the loss neither grows nor shrinks."""
    films = load_films(DataArguments(train_file=str(some_films)))
    films.parts["train"] = films.parts["train"].select(range(64))
    steps, weights = [], []
    for size, accumulated in ((16, 1), (8, 2)):
        arguments = MovieGenreTrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, teacher="none", token_dropout=0, loss=loss, num_train_epochs=2,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulated, disable_tqdm=True,
            train_sampling_strategy="random", eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
            logging_strategy="steps", logging_steps=1,
        )  # fmt: skip
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
        model = tiny_model(id2label=dict(enumerate(films.genres)), vocab_size=30_522, dropout_samples=1, **still)
        trainer = build_trainer(model, load_tokenizer(None, 64), films, arguments)
        trainer.train()
        steps.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert len(steps[0]) == 8
    assert steps[0] == pytest.approx(steps[1], abs=1e-5)
    assert (weights[0] - weights[1]).abs().mean() < 1e-5  # AdamW makes much of the rounding of small gradients
