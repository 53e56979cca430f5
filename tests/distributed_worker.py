"""Run by test_distributed.py in each process: trains a few steps, evaluates, and writes what it saw.

torchrun --nproc_per_node N tests/distributed_worker.py FOLDER
"""

import copy
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, set_seed

from modeling import MovieGenreModel, teacher, training
from modeling.arguments import MovieGenreTrainingArguments
from modeling.training import build_trainer
from modeling.training_data import Films
from tests.conftest import GENRES, tiny_config

ROWS = (1, 203, 1001)
GLOBAL_BATCH = 8


def words():
    """A tokenizer without special tokens: word i of a text is token i."""
    tokenizer = Tokenizer(WordLevel({str(i): i for i in range(1500)}, unk_token="1"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="0", model_input_names=["input_ids", "attention_mask"]
    )


def films(rows, seed):
    """Random films of random lengths."""
    generator = np.random.default_rng(seed)
    texts = [" ".join(map(str, generator.integers(5, 1500, generator.integers(4, 60)))) for _ in range(rows)]
    genres = [[genre for genre in GENRES if generator.random() < 0.4] or ["Drama"] for _ in range(rows)]
    return Dataset.from_dict({"description": texts, "genre": genres})


def embed(name, descriptions, cache=None, bf16=False):
    """An encoder's view of each text, made up."""
    draws = [np.random.default_rng([int(word) for word in text.split()]) for text in descriptions]
    return np.stack([draw.normal(size=6) for draw in draws]).astype(np.float32)


def reading_order(trainer):
    """Lengths of the films that this process reads in each of two epochs, by batches of films of similar length."""
    trainer.args.train_sampling_strategy = "group_by_length"
    loader = trainer.get_train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        torch.rand(1 + trainer.args.process_index)  # as dropout would, for batches that differ
        epochs.append([[row.sum().item() for row in batch["input_ids"]] for batch in loader])
    return epochs


def main():
    """Train twelve steps on the same batches whatever the number of processes; then evaluate what it started from."""
    folder = Path(sys.argv[1])
    teacher.embed = training.embed = embed
    torch.set_num_threads(1)
    set_seed(0)
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0)
    model = MovieGenreModel(tiny_config(**dropouts, dropout_samples=1, initializer_range=0.3))
    arguments = MovieGenreTrainingArguments(
        output_dir=str(folder / "out"),
        use_cpu=True,
        max_steps=12,
        logging_strategy="steps",
        logging_steps=1,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        train_sampling_strategy="sequential",
        token_dropout=0.0,
        teacher="encoder",
        hint_weight=1.0,
        early_stopping_patience=0,
        disable_tqdm=True,
    )
    arguments.per_device_train_batch_size = GLOBAL_BATCH // arguments.world_size
    parts = {"train": films(12 * GLOBAL_BATCH, 0), "validation": films(16, 1)}
    trainer = build_trainer(model, words(), Films(parts, GENRES, {}), arguments)
    start = copy.deepcopy(model.state_dict())
    trainer.train()
    state = b"".join(value.numpy(force=True).tobytes() for value in model.state_dict().values())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    seen = {
        "world_size": trainer.accelerator.num_processes,
        "losses": losses,
        "weights": hashlib.sha256(state).hexdigest(),
    }
    seen["sum"] = float(sum(value.double().abs().sum() for value in model.state_dict().values()))
    model.load_state_dict(start)  # to the last bit the same, whatever the number of processes
    for rows in ROWS:
        labels = Films({"test": films(rows, rows)}, GENRES, {}).truth("test")
        ids = words()(list(films(rows, rows)["description"]), truncation=True, max_length=64)["input_ids"]
        data = Dataset.from_dict({"input_ids": ids, "labels": labels.tolist(), "length": [len(row) for row in ids]})
        output = trainer.predict(data)
        seen[f"rows_{rows}"] = {"predictions": len(output.predictions), **output.metrics}
    seen["order"] = reading_order(trainer)
    (folder / f"rank-{arguments.process_index}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
