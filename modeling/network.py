"""The network to train: new, from a model of ours, or from a foreign encoder; and how it is stored."""

import logging
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedTokenizerBase

from . import MovieGenreConfig, MovieGenreModel
from .arguments import ModelArguments
from .configuration_movie_genre import DECISION
from .cooccurrence import cooccurrence_embeddings
from .modeling_movie_genre import LabelGraph
from .tokenization import load_tokenizer, local_source, train_tokenizer
from .training_data import Films
from .warm_start import warm_start

logger = logging.getLogger(__name__)

EMBEDDING_SCALE = 0.1  # large beside a step of AdamW, so that what the corpus taught is not overrun at once


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
