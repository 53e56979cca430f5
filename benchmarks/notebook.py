"""The seed's notebook path, rewritten: the same network out of PyTorch's own layers, fed as the notebook fed it.

Texts are padded to 128 tokens in training and to 512 in prediction, in the order they come.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modeling import MovieGenreModel
from modeling.losses import Loss

TRAINING_LENGTH, PREDICTION_LENGTH = 128, 512


class NotebookModel(nn.Module):
    """`nn.TransformerEncoderLayer` with the weights of a post-norm `MovieGenreModel`, whose other parts it shares."""

    def __init__(self, model: MovieGenreModel) -> None:
        super().__init__()
        config = model.config
        self.embeddings, self.pooling, self.classifier = model.embeddings, model.pooling, model.classifier
        self.pad = config.pad_token_id
        self.layers = nn.ModuleList()
        for ours in model.layers:
            layer = nn.TransformerEncoderLayer(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                config.hidden_dropout_prob,
                "gelu",
                config.layer_norm_eps,
                batch_first=True,
            )
            attention, inner = ours.attention, ours.feed_forward
            state = {"self_attn.in_proj_weight": attention.query_key_value.weight}
            state["self_attn.in_proj_bias"] = attention.query_key_value.bias
            parts = {"self_attn.out_proj": attention.output, "linear1": inner.intermediate, "linear2": inner.output}
            parts |= {"norm1": ours.attention_norm, "norm2": ours.feed_forward_norm}
            state |= {
                f"{name}.{kind}": getattr(part, kind) for name, part in parts.items() for kind in ("weight", "bias")
            }
            layer.load_state_dict(state)
            self.layers.append(layer)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(batch, seq) -> logits (batch, genres)."""
        mask = input_ids != self.pad
        x = self.embeddings(input_ids, mask.long(), None)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask)
        return self.classifier(self.pooling(x, mask)[0])


def pad(tokenizer: Any, texts: Sequence[str], length: int) -> torch.Tensor:
    """Token ids (texts, length), cut or padded to the length."""
    encoded = tokenizer(list(texts), truncation=True, max_length=length, padding="max_length", return_tensors="pt")
    return encoded["input_ids"]


def predict(model: NotebookModel, tokenizer: Any, texts: Sequence[str], batch_size: int = 32) -> torch.Tensor:
    """Probabilities (texts, genres)."""
    with torch.inference_mode():
        rows = [
            model(pad(tokenizer, texts[i : i + batch_size], PREDICTION_LENGTH)).sigmoid()
            for i in range(0, len(texts), batch_size)
        ]
    return torch.cat(rows)


def train(
    model: NotebookModel, tokenizer: Any, texts: Sequence[str], labels: torch.Tensor, batch_size: int, epochs: int
) -> list[float]:
    """Mean loss of each epoch."""
    ids, loss_of = pad(tokenizer, texts, TRAINING_LENGTH), Loss("focal", 2.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    curve = []
    model.train()
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(ids)).split(batch_size):
            loss = loss_of({"logits": model(ids[batch])}, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(batch)
        curve.append(total / len(ids))
    return curve
