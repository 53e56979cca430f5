"""A BERT-family checkpoint as the start of this encoder, whole or with chosen layers and heads.

BERT's layers are this encoder's post-norm layers under other names: `convert` is exact. `prune` then keeps some of the
layers, and in each the attention heads that matter most (Michel et al. 2019).
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from . import MovieGenreConfig, MovieGenreModel
from .modeling_movie_genre import ACTIVATIONS
from .prediction_movie_genre import length_batches
from .tokenization import load_tokenizer, local_source

logger = logging.getLogger(__name__)

# Names of the parts of a layer: (query, key, value), attention output, its norm, the two dense layers, their norm.
_BERT = (
    *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    *("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
)
_DISTILBERT = (
    *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    *("sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
)
# Model type -> where its layers are, their parts' names, and rows of the position table before the first position.
FAMILY: dict[str, tuple[str, tuple[str, ...], int]] = {
    "bert": ("encoder.layer", _BERT, 0),
    "electra": ("encoder.layer", _BERT, 0),
    "roberta": ("encoder.layer", _BERT, 2),
    "distilbert": ("transformer.layer", _DISTILBERT, 0),
}
PROBE_FILMS = 1000  # films that head importance is estimated on


def convert(source: PreTrainedModel, genres: Sequence[str], **config_values: Any) -> MovieGenreModel:
    """This encoder with all layers and heads of a BERT-family one; pooling and classifier are fresh.

    Hidden states equal the source's. The row of token type 0 is added to the positions, which a shorter
    `max_position_embeddings` cuts.

    Args:
        source: a `BertModel` or its kin.
        genres: names of the logits.
        config_values: fields of `MovieGenreConfig` that do not come from the source.

    Raises:
        ValueError: for another kind of model, or one with parts that this encoder does not have.
    """
    bert = source.config
    _check(bert)
    place, parts, offset = FAMILY[bert.model_type]
    state = source.state_dict()
    heads = bert.num_attention_heads
    positions = state["embeddings.position_embeddings.weight"][offset:]
    values = {
        "vocab_size": bert.vocab_size,
        "hidden_size": bert.hidden_size,
        "num_hidden_layers": bert.num_hidden_layers,
        "num_attention_heads": heads,
        "head_dim": bert.hidden_size // heads,
        "intermediate_size": getattr(bert, "intermediate_size", None) or bert.hidden_dim,
        "hidden_act": getattr(bert, "hidden_act", None) or bert.activation,
        "layer_norm_eps": getattr(bert, "layer_norm_eps", 1e-12),
        "pad_token_id": bert.pad_token_id,
        "max_position_embeddings": min(MovieGenreConfig.max_position_embeddings, len(positions)),
        "hidden_dropout_prob": 0.1,
        "norm_placement": "post",
        "position_embedding_type": "learned",
    }
    free = {"max_position_embeddings", "hidden_dropout_prob"}
    for field in values.keys() & config_values.keys() - free:
        if config_values[field] != values[field]:
            raise ValueError(f"{field}={config_values[field]!r} cannot be had: the source has {values[field]!r}")
    config = MovieGenreConfig(id2label=dict(enumerate(genres)), **(values | config_values))
    if config.max_position_embeddings > len(positions):
        raise ValueError(
            f"max_position_embeddings={config.max_position_embeddings} is more than the {len(positions)} of the source"
        )
    model = MovieGenreModel(config)
    positions = positions[: config.max_position_embeddings]
    if "embeddings.token_type_embeddings.weight" in state:
        positions = positions + state["embeddings.token_type_embeddings.weight"][0]
    wanted = {
        "embeddings.word_embeddings.weight": state["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions,
    }
    for kind in ("weight", "bias"):
        wanted[f"embeddings.norm.{kind}"] = state[f"embeddings.LayerNorm.{kind}"]
        for layer in range(config.num_hidden_layers):
            theirs = [state[f"{place}.{layer}.{part}.{kind}"] for part in parts]
            ours = f"layers.{layer}."
            wanted[f"{ours}attention.query_key_value.{kind}"] = torch.cat(theirs[:3])
            wanted[f"{ours}attention.output.{kind}"] = theirs[3]
            wanted[f"{ours}attention_norm.{kind}"] = theirs[4]
            wanted[f"{ours}feed_forward.intermediate.{kind}"] = theirs[5]
            wanted[f"{ours}feed_forward.output.{kind}"] = theirs[6]
            wanted[f"{ours}feed_forward_norm.{kind}"] = theirs[7]
    _load_encoder(model, wanted)
    return model


def prune(model: MovieGenreModel, layers: Sequence[int], heads: Sequence[Sequence[int]]) -> MovieGenreModel:
    """A model with some of the layers, and in each some of the attention heads.

    Args:
        model: the source; it is left as it is.
        layers: indices of the layers kept, in ascending order.
        heads: for each kept layer the indices of its heads kept, equally many everywhere.

    Raises:
        ValueError: if `layers` or `heads` do not fit the source.
    """
    config = model.config
    _check_layers(layers, config.num_hidden_layers)
    counts = {len(kept) for kept in heads}
    if len(heads) != len(layers) or len(counts) != 1 or counts == {0}:
        raise ValueError(f"heads must name equally many heads for each of the {len(layers)} layers")
    values = config.to_dict() | {"num_hidden_layers": len(layers), "num_attention_heads": counts.pop()}
    smaller = MovieGenreModel(MovieGenreConfig.from_dict(values))
    state = model.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith("layers.")}
    assert config.head_dim is not None
    width, size = config.num_attention_heads, config.head_dim
    for new, (old, kept) in enumerate(zip(layers, heads, strict=True)):
        layer = {k.removeprefix(f"layers.{old}."): v for k, v in state.items() if k.startswith(f"layers.{old}.")}
        columns = torch.arange(width * size).view(width, size)[sorted(kept)].flatten()
        rows = torch.cat([columns + part * width * size for part in range(3)])  # of query, key and value
        for kind in ("weight", "bias"):
            layer[f"attention.query_key_value.{kind}"] = layer[f"attention.query_key_value.{kind}"][rows]
        layer["attention.output.weight"] = layer["attention.output.weight"][:, columns]
        wanted |= {f"layers.{new}.{name}": tensor for name, tensor in layer.items()}
    smaller.load_state_dict(wanted)
    return smaller


def head_importance(
    model: MovieGenreModel, ids: Sequence[list[int]], truth: np.ndarray, batch_size: int = 32
) -> np.ndarray:
    """How much each attention head matters for telling the genres.

    The mean over films of |dL/dg| for a gate g on the head's output (Michel et al. 2019, equation 2), scaled to
    length one a layer as they do. L is the binary cross-entropy of a logistic regression on the mean of the last
    hidden states: unlike the fresh classifier it knows the genres already.

    Args:
        model: with the source's layers.
        ids: token ids of some training films, special tokens included.
        truth: (films, genres) of 0 and 1.
        batch_size: films a pass.

    Returns:
        (layers, heads) importances.
    """
    model.eval()
    heads = model.config.num_attention_heads
    batches = length_batches([len(row) for row in ids], batch_size)
    gates: list[torch.Tensor] = []

    def gate(module: nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        context = arguments[0]  # (batch, seq, heads * head_dim)
        gates.append(torch.ones(len(context), 1, heads, 1, requires_grad=True))
        return ((context.view(*context.shape[:2], heads, -1) * gates[-1]).flatten(2),)

    def means(batch: Sequence[int]) -> torch.Tensor:
        rows = [torch.tensor(ids[i]) for i in batch]
        lengths = torch.tensor([len(row) for row in rows])
        input_ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.config.pad_token_id)
        mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
        hidden = model._encode(input_ids, mask)[-1]
        return (hidden * mask[..., None]).sum(dim=1) / lengths[:, None]

    features = np.empty((len(ids), model.config.hidden_size))
    with torch.inference_mode():
        for batch in batches:
            features[batch] = means(batch).numpy()
    known = np.flatnonzero((truth.min(axis=0) == 0) & (truth.max(axis=0) == 1))
    if not len(known):  # every film has every genre, or none any: no head matters
        return np.full((model.config.num_hidden_layers, heads), heads**-0.5)
    probe = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(features, truth[:, known])
    weight = torch.tensor(np.concatenate([head.coef_ for head in probe.estimators_]), dtype=torch.float32)
    bias = torch.tensor(np.concatenate([head.intercept_ for head in probe.estimators_]), dtype=torch.float32)

    total = np.zeros((model.config.num_hidden_layers, heads))
    outputs = [module for name, module in model.layers.named_modules() if name.endswith("attention.output")]
    hooks = [output.register_forward_pre_hook(gate) for output in outputs]
    try:
        for batch in batches:
            gates.clear()
            labels = torch.tensor(truth[batch][:, known], dtype=torch.float32)
            loss = F.binary_cross_entropy_with_logits(F.linear(means(batch), weight, bias), labels, reduction="none")
            gradients = torch.autograd.grad(loss.mean(dim=1).sum(), gates)
            total += np.stack([gradient.abs().sum(dim=0).flatten().numpy() for gradient in gradients])
    finally:
        for hook in hooks:
            hook.remove()
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)


def warm_start(
    name: str,
    genres: Sequence[str],
    texts: Sequence[str],
    truth: np.ndarray,
    *,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    **config_values: Any,
) -> tuple[MovieGenreModel, PreTrainedTokenizerBase]:
    """A network that starts from a BERT-family checkpoint, and the checkpoint's tokenizer.

    Layers not asked for by index are taken evenly from the source, of two or more the first and the last among them.
    Heads are chosen by `head_importance` on some of the films.

    Args:
        name: folder or Hub repository.
        genres: names of the logits.
        texts: descriptions of the training films.
        truth: (films, genres) of 0 and 1.
        layers: indices of the source's layers to keep.
        seed: of the films drawn for the importance.
        config_values: fields of `MovieGenreConfig`; `num_hidden_layers` and `num_attention_heads` may be fewer than
            the source's.

    Raises:
        ValueError: if source and wishes do not fit each other.
    """
    path = local_source(name)
    _check(AutoConfig.from_pretrained(path))  # before any weights are fetched
    source = AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
    depth, width = source.config.num_hidden_layers, source.config.num_attention_heads
    wanted_depth = config_values.pop("num_hidden_layers", None) or len(layers or range(depth))
    wanted_width = config_values.pop("num_attention_heads", None) or width
    for what, wanted, there in (("layers", wanted_depth, depth), ("heads", wanted_width, width)):
        if wanted > there:
            raise ValueError(f"{wanted} {what} asked for, but init_from={name!r} has {there}")
    if layers is not None and len(layers) != wanted_depth:
        raise ValueError(
            f"init_layers names {len(layers)} layers, num_hidden_layers={wanted_depth} asks for another number"
        )
    model = convert(source, genres, base_model=name, **config_values)
    max_length = model.config.max_position_embeddings
    tokenizer = load_tokenizer(name, max_length)
    if layers is not None:
        _check_layers(layers, depth)
    kept = list(layers) if layers else np.linspace(0, depth - 1, wanted_depth).round().astype(int).tolist()
    heads = [list(range(width))] * len(kept)
    if wanted_width < width:
        drawn = np.random.default_rng(seed).permutation(len(texts))[:PROBE_FILMS]
        ids = tokenizer([texts[i] for i in drawn], truncation=True, max_length=max_length)["input_ids"]
        order = np.argsort(-head_importance(model, ids, truth[drawn]), axis=1, kind="stable")
        heads = [sorted(order[layer, :wanted_width].tolist()) for layer in kept]
        logger.info("heads kept: %s", "; ".join(f"layer {i}: {h}" for i, h in zip(kept, heads, strict=True)))
    if (len(kept), wanted_width) != (depth, width):
        model = prune(model, kept, heads)
    return model, tokenizer


def _check(config: Any) -> None:
    """Refuse what `convert` cannot carry over.

    Raises:
        ValueError: naming it.
    """
    if config.model_type not in FAMILY:
        raise ValueError(
            f"a {config.model_type!r} model cannot start this encoder; known are {', '.join(sorted(FAMILY))}"
        )
    activation = getattr(config, "hidden_act", None) or config.activation
    if activation not in ACTIVATIONS:
        raise ValueError(f"the source's activation {activation!r} is not known; known are {', '.join(ACTIVATIONS)}")
    if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        raise ValueError(f"embedding_size={config.embedding_size} differs from hidden_size={config.hidden_size}")
    if getattr(config, "sinusoidal_pos_embds", False):
        raise ValueError("a source with sinusoidal positions cannot start this encoder")


def _check_layers(layers: Sequence[int], depth: int) -> None:
    if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < depth:
        raise ValueError(f"layers={list(layers)} must be ascending indices below {depth}")


def _load_encoder(model: MovieGenreModel, state: dict[str, torch.Tensor]) -> None:
    """Fill the encoder; every tensor of it must be there."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    fresh = ("pooling.", "classifier.", "logit_")
    lost = [name for name in missing if not name.startswith(fresh)]
    assert not [*lost, *unexpected], (lost, unexpected)
