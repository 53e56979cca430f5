"""What pays in training? Each idea alone beside the best recipe; writes results/recipes.json and .png.

    python -m benchmarks.recipes [--ideas focal ema] [--films 1500] [--epochs 4]

Screening: the recipe is shortened, without hint and stories, one seed, and the validation films alone.
Thresholds are tuned on one half of them and scored on the other, and the other way round. The losses that do not ship
live here and nowhere else. What finished runs answered is kept in results/predictions and they are not repeated.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, get_linear_schedule_with_warmup

from benchmarks.common import RESULTS, ROOT, STORIES, TMDB, about, keep, kept, without_tmdb, write
from benchmarks.quality import SPLIT, Films, check_recipe, paired
from modeling.arguments import parse_arguments
from modeling.decision import tune_profiles
from modeling.metrics import SCORES, scores
from modeling.network import load_network
from modeling.prediction_movie_genre import choose, length_batches
from modeling.record import given
from modeling.training import attention_kernel, build_trainer
from modeling.training_data import load_films

RUNS = ROOT / "runs"
BASE = "base"
ENCODER = "sentence-transformers/all-mpnet-base-v2"  # of the teachers in configs/best.yaml


@dataclass
class Idea:
    """One change to the best recipe.

    Attributes:
        name: for the table.
        flags: of train.py.
        change: what is done to the Trainer before it trains; None if the flags are all.
    """

    name: str
    flags: Sequence[str] = ()
    change: Callable[[Trainer], None] | None = None


def asymmetric(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Easy negatives count less (Ridnik et al. 2021, equation 7; gamma+ 0, gamma- 4, margin 0.05)."""
    p = logits.sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    return -(labels * p.clamp(min=1e-8).log() + (1 - labels) * shifted**4 * (1 - shifted).clamp(min=1e-8).log())


class DistributionBalanced:
    """Genres weighted against their frequency, film by film (Wu et al. 2020, equations 3 to 5), on cross-entropy."""

    def __init__(self, labels: torch.Tensor) -> None:
        self.rarity = 1 / labels.sum(dim=0)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of each film and genre."""
        alone = self.rarity  # chance of a film by this genre, were all genres sampled equally
        together = (labels * self.rarity).sum(dim=1, keepdim=True)
        weights = 0.1 + torch.sigmoid(10 * (alone / together - 0.2))
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return loss * weights / weights.mean()


def with_loss(make: Callable[[torch.Tensor], Callable[..., torch.Tensor]]) -> Callable[[Trainer], None]:
    """Train on another loss a film and genre; `make` is given all labels."""

    def change(trainer: Trainer) -> None:
        loss = make(torch.tensor(trainer.train_dataset.labels))
        trainer.compute_loss_func = lambda outputs, labels, **_: loss(outputs["logits"], labels).mean()

    return change


def twice(trainer: Trainer) -> None:
    """R-Drop (Liang et al. 2021), with the divergence of Bernoulli variables.

    Every film is in its batch twice, under two dropout masks; answers that differ cost.
    """
    collate = trainer.data_collator

    def loss(outputs: Any, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        logits = outputs["logits"]
        one, two = logits[0::2], logits[1::2]
        # KL(p|q) + KL(q|p) of Bernoulli variables is this product.
        apart = (one.sigmoid() - two.sigmoid()) * (one - two)
        return F.binary_cross_entropy_with_logits(logits, labels) + 0.5 * apart.mean()

    trainer.data_collator = lambda films: collate([film for film in films for _ in range(2)])
    trainer.compute_loss_func = loss


class MovingAverage(TrainerCallback):
    """The weights' exponential moving average takes their place when training ends (Polyak averaging, with decay)."""

    def __init__(self, decay: float = 0.99) -> None:
        self.decay, self.kept = decay, {}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Follow."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, value in model.named_parameters():
            self.kept.setdefault(name, value.clone()).lerp_(value, 1 - decay)

    @torch.no_grad()
    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take their place."""
        for name, value in model.named_parameters():
            value.copy_(self.kept[name])


def masked_pretraining(trainer: Trainer, epochs: int = 2, share: float = 0.15) -> None:
    """Masked-language modelling on the training descriptions first (Devlin et al. 2019); output tied to the table."""
    model, tokenizer, rows = trainer.model, trainer.processing_class, trainer.train_dataset
    ids = tokenizer(rows.descriptions, truncation=True, max_length=rows.max_length)["input_ids"]
    table = model.get_input_embeddings().weight
    head = torch.nn.Sequential(torch.nn.Linear(table.shape[1], table.shape[1]), torch.nn.GELU())
    head.append(torch.nn.LayerNorm(table.shape[1]))
    bias = torch.nn.Parameter(torch.zeros(len(table)))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters(), bias], lr=2e-4, weight_decay=0.01)
    batches = [batch for _ in range(epochs) for batch in length_batches([len(row) for row in ids], 32)]
    np.random.default_rng(0).shuffle(batches)
    schedule = get_linear_schedule_with_warmup(optimizer, len(batches) // 20, len(batches))
    special = torch.tensor(tokenizer.all_special_ids)
    model.train()
    for batch in batches:
        padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt")
        true, mask = padded["input_ids"], padded["attention_mask"]
        asked = (torch.rand(true.shape) < share) & ~torch.isin(true, special)
        chance = torch.rand(true.shape)
        shown = torch.where(asked & (chance < 0.8), tokenizer.mask_token_id, true)
        shown = torch.where(asked & (chance > 0.9), torch.randint_like(true, len(table)), shown)
        states = model(shown, mask, output_hidden_states=True).hidden_states[-1]
        loss = F.cross_entropy(head(states[asked]) @ table.T + bias, true[asked])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


IDEAS = {
    BASE: Idea("the best recipe without hint and stories, shortened"),
    "true_labels": Idea("no teacher", ("--teacher", "none")),
    "linear_teacher": Idea("the linear teacher alone", ("--teacher", "linear")),
    "encoder_teacher": Idea("the encoder as a teacher alone", ("--teacher", ENCODER)),
    "hint": Idea("a hint of the encoder's view", ("--hint_weight", "1")),
    "stories": Idea(
        "stories with a reader's genres, a run nine times as long",
        ("--transfer_file", os.path.relpath(STORIES, ROOT)),
    ),
    "focal": Idea("focal loss, gamma 2", ("--loss", "focal")),
    "asymmetric": Idea("no teacher, asymmetric loss", ("--teacher", "none"), with_loss(lambda labels: asymmetric)),
    "balanced": Idea("distribution-balanced weights", (), with_loss(DistributionBalanced)),
    "all_tokens": Idea("no token dropout", ("--token_dropout", "0")),
    "plain_readings": Idea("no other names, no typos", ("--other_people", "0", "--typos", "0")),
    "r_drop": Idea("R-Drop", (), twice),
    "ema": Idea("moving average of the weights", (), lambda trainer: trainer.add_callback(MovingAverage())),
    "masked": Idea("masked-language pretraining", (), masked_pretraining),
    "graph": Idea("label graph", ("--label_graph", "gcn")),
}


def recipe(idea: Idea, epochs: float) -> list[str]:
    """What train.py would be told, but for what changes no weight."""
    flags = {
        "train_file": os.path.relpath(TMDB, ROOT), "split_file": os.path.relpath(SPLIT, ROOT), "transfer_file": "",
        "num_train_epochs": epochs, "hint_weight": 0, "eval_strategy": "no", "save_strategy": "no",
        "disable_tqdm": True,
    }  # fmt: skip
    return [
        "configs/best.yaml",
        *(word for name, value in flags.items() for word in (f"--{name}", str(value))),
        *idea.flags,
    ]


def run(idea: Idea, name: str, films: int, epochs: float, threads: int, bf16: bool) -> None:
    """Train, and keep the validation films' probabilities."""
    started = time.time()
    here = ["--output_dir", str(RUNS / name), "--use_cpu", "True", "--cpu_threads", str(threads), "--bf16", str(bf16)]
    data, network, arguments = parse_arguments([*recipe(idea, epochs), *here])
    torch.set_num_threads(threads)
    torch.manual_seed(arguments.seed)
    parts = load_films(data)
    train = parts.parts["train"]
    some = np.random.default_rng(0).permutation(len(train))[:films]
    parts = replace(parts, parts=parts.parts | {"train": train.select(some)})
    model, tokenizer = load_network(network, parts, arguments.seed)
    trainer = build_trainer(model, tokenizer, parts, arguments)
    if idea.change:
        idea.change(trainer)
    with attention_kernel(arguments):
        trainer.train()
    texts = list(parts.parts["validation"]["description"])
    said = model.eval().predict_genres(texts, tokenizer, batch_size=64)
    probabilities = np.array([list(film.probabilities.values()) for film in said])
    trained = {"seconds": round(time.time() - started, 1), "arguments": given(data, network, arguments)}
    keep(name, trained, probabilities)


def decided(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Each half of the films at the thresholds that serve the other half's micro-F1 best."""
    half = np.random.default_rng(0).permutation(len(truth)) % 2 == 0
    chosen = np.zeros(truth.shape, dtype=bool)
    for fit in (half, ~half):
        thresholds = tune_profiles(truth[fit], probabilities[fit])["micro_f1"]
        chosen[~fit] = choose(probabilities[~fit], np.array(thresholds), 1)
    return chosen


def plot(ideas: dict[str, dict[str, Any]], path: Path) -> None:
    """What each idea adds to the best recipe, with intervals."""
    from matplotlib.figure import Figure

    shown = ("micro_f1", "macro_f1", "mean_average_precision")
    rows = {key: idea for key, idea in ideas.items() if key != BASE}
    figure = Figure(figsize=(11, 1 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
    for axis, score in zip(axes, shown, strict=True):
        values = np.array([idea["more_than_base"]["difference"][score] for idea in rows.values()])
        bounds = np.array([idea["more_than_base"]["intervals"][score] for idea in rows.values()]).T
        axis.errorbar(
            values, [idea["name"] for idea in rows.values()], xerr=np.abs(bounds - values), fmt="o", capsize=3
        )
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(score.replace("_", " "))
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ideas", nargs="+", default=list(IDEAS), choices=list(IDEAS))
    parser.add_argument("--films", type=int, default=1500, help="training films")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, on processors that multiply in it")
    options = parser.parse_args()
    if without_tmdb():
        return
    names = {key: f"recipes/{options.films}x{options.epochs:g}-{key}" for key in IDEAS}
    for key in IDEAS:
        done = kept(names[key])
        if done:
            check_recipe(names[key], done[0]["arguments"], recipe(IDEAS[key], options.epochs))
        elif key in options.ideas:
            print(f"{IDEAS[key].name} ...", flush=True)
            run(IDEAS[key], names[key], options.films, options.epochs, options.threads, options.bf16)

    arrays, ideas, truth = {}, {}, Films().truth["validation"]
    for key, idea in IDEAS.items():
        if done := kept(names[key]):
            arrays[key] = [decided(truth, done[1]), done[1]]
            ideas[key] = {"name": idea.name, **scores(truth, *arrays[key]), "seconds": done[0]["seconds"]}
    for key in ideas:
        if key != BASE and BASE in ideas:
            ideas[key]["more_than_base"] = paired(truth, arrays[key], arrays[BASE])
    result = {
        "protocol": "one seed; validation films; thresholds for micro-F1 tuned on one half, scored on the other",
        **about("recipes", TMDB, films=options.films, epochs=options.epochs),
        "ideas": ideas,
    }
    write(RESULTS / "recipes.json", result)
    if len(ideas) > 1 and BASE in ideas:
        plot(ideas, RESULTS / "recipes.png")
    for idea in ideas.values():
        print(f"{idea['name']:<32}", *(f"{name} {idea[name]:.3f}" for name in SCORES))


if __name__ == "__main__":
    main()
