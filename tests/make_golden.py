"""Make tests/data/golden: a tiny checkpoint of format_version 1, with its answers, that later code must still read.

    python -m tests.make_golden FOLDER

It was run once. A later format gets a folder of its own; this one is never made anew.
"""

import json
import sys
from pathlib import Path

import torch

from modeling.tokenization import train_tokenizer

from .conftest import tiny_model

TEXTS = [
    "A retired gunman rides into a border town, and the sheriff is waiting.",
    "Two thieves fall in love over the plan of a bank, and neither can trust the other with the map.",
]
OPTIONS = {"mc_samples": 4, "seed": 0, "attribution": "pooling"}


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    tokenizer = train_tokenizer(TEXTS * 2, max_length=32, vocabulary_size=200)
    model = tiny_model(
        **{"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "max_position_embeddings": 32, "default_profile": "micro_f1"},
        threshold_profiles={"micro_f1": [0.3, 0.4, 0.5, 0.6], "macro_f1": [0.2, 0.2, 0.2, 0.2]},
    )
    with torch.no_grad():
        model.logit_scale.copy_(torch.tensor([0.5, 1.0, 1.5, 2.0]))
        model.logit_bias.copy_(torch.tensor([0.1, 0.0, -0.1, -0.2]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.glob("*.py"):
        path.unlink()  # the package's own code is to read it
    answers = [prediction.to_dict() for prediction in model.predict_genres(TEXTS, tokenizer, **OPTIONS)]
    (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
