"""A BERT-family checkpoint becomes this encoder, whole or pruned."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
    set_seed,
)

from modeling.warm_start import convert, head_importance, prune, warm_start

from .conftest import GENRES

WHOLE = {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}

SIZES = {"vocab_size": 1500, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 70, "initializer_range": 0.3}
KIN = {
    "bert": (BertModel, BertConfig(**SIZES)),
    "electra": (ElectraModel, ElectraConfig(**SIZES, embedding_size=32)),
    "roberta": (RobertaModel, RobertaConfig(**SIZES, pad_token_id=1)),
    "distilbert": (
        DistilBertModel,
        DistilBertConfig(
            **{"vocab_size": 1500, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
            max_position_embeddings=70,
            initializer_range=0.3,
        ),
    ),
}


def encoder(kind="bert"):
    set_seed(0)
    network, config = KIN[kind]
    return network(config).eval()


def batch():
    """Five texts of lengths 2 to 60, padded on the right."""
    lengths = torch.tensor([60, 41, 17, 5, 2])
    mask = (torch.arange(60) < lengths[:, None]).long()
    ids = torch.randint(5, 1500, (5, 60), generator=torch.Generator().manual_seed(0))
    return ids, mask


def hidden(model, ids, mask):
    with torch.inference_mode():
        return model._encode(ids, mask)[-1][mask.bool()]


@pytest.mark.parametrize("kind", KIN)
def test_with_all_layers_and_heads_the_hidden_states_are_the_sources(kind):
    source = encoder(kind)
    ids, mask = batch()
    ids = torch.where(mask.bool(), ids, source.config.pad_token_id)  # RoBERTa counts positions by it
    with torch.inference_mode():
        theirs = source(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    ours = convert(source, GENRES, max_position_embeddings=64)
    assert (hidden(ours.eval(), ids, mask) - theirs).abs().max() < 1e-5


def test_layers_and_heads_are_those_chosen():
    """The pruned network equals the source with the other heads' outputs set to zero and the other layers left out."""
    source = convert(encoder(), GENRES, max_position_embeddings=64).eval()
    kept = [[0, 3], [1, 2]]
    small = prune(source, [0, 2], kept).eval()
    assert small.config.num_hidden_layers == 2
    assert (small.config.num_attention_heads, small.config.head_dim) == (2, 8)
    with torch.no_grad():
        for layer, heads in zip((source.layers[0], source.layers[2]), kept, strict=True):
            for lost in set(range(4)) - set(heads):
                layer.attention.output.weight[:, lost * 8 : lost * 8 + 8] = 0
        del source.layers[1]
    assert torch.allclose(hidden(small, *batch()), hidden(source, *batch()), atol=1e-5)


def test_the_head_that_is_listened_to_is_the_important_one():
    source = convert(encoder(), GENRES, max_position_embeddings=64)
    with torch.no_grad():  # in every layer head 2 alone is heard
        for layer in source.layers:
            silent = torch.ones(32, dtype=torch.bool)
            silent[16:24] = False
            layer.attention.output.weight[:, silent] = 0
    ids = np.random.default_rng(0).integers(5, 1500, (60, 12)).tolist()
    truth = np.random.default_rng(1).integers(0, 2, (60, 4))
    importance = head_importance(source, ids, truth)
    assert importance.shape == (3, 4)
    assert (importance.argmax(axis=1) == 2).all()
    assert np.allclose(importance[:, 2], 1)
    assert not any(layer.attention.output._forward_pre_hooks for layer in source.layers)


def test_where_every_film_has_every_genre_no_head_is_more_important():
    source = convert(encoder(), GENRES, max_position_embeddings=64)
    assert np.allclose(head_importance(source, [[2, 7, 3]] * 5, np.ones((5, 4))), 0.5)


@pytest.fixture
def folder(tmp_path, tokenizer):
    encoder().save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return str(tmp_path / "encoder")


def films(descriptions):
    truth = np.random.default_rng(0).integers(0, 2, (len(descriptions), len(GENRES)))
    return descriptions, truth


def test_layers_are_spread_evenly_and_provenance_is_kept(folder, descriptions):
    model, tokenizer = warm_start(
        folder,
        GENRES,
        *films(descriptions[:40]),
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=64,
    )
    first, last = AutoModel.from_pretrained(folder).encoder.layer[0], AutoModel.from_pretrained(folder).encoder.layer[2]
    assert torch.equal(model.layers[0].feed_forward.intermediate.weight, first.intermediate.dense.weight)
    assert torch.equal(model.layers[1].feed_forward.intermediate.weight, last.intermediate.dense.weight)
    assert model.config.num_attention_heads == 3
    assert model.config.base_model == folder
    assert model.config.genres == GENRES
    assert tokenizer.model_max_length == 64
    assert list(tokenizer("A film.")) == ["input_ids", "attention_mask"]


def test_a_network_of_the_same_shape_is_taken_whole(folder, descriptions):
    model, _ = warm_start(folder, GENRES, *films(descriptions[:40]), **WHOLE)
    whole = convert(AutoModel.from_pretrained(folder), GENRES, max_position_embeddings=64)
    assert torch.equal(hidden(model.eval(), *batch()), hidden(whole.eval(), *batch()))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"num_hidden_layers": 4}, "4 layers asked for, but .* has 3"),
        ({"num_attention_heads": 5}, "5 heads asked for, but .* has 4"),
        ({"layers": [0, 1], "num_hidden_layers": 3}, "init_layers names 2 layers, num_hidden_layers=3"),
        ({"layers": [1, 5]}, r"layers=\[1, 5\] must be ascending indices below 3"),
        ({"layers": [2, 0]}, r"layers=\[2, 0\] must be ascending"),
        ({"layers": [1, 5], "num_attention_heads": 2}, r"layers=\[1, 5\] must be ascending indices below 3"),
        ({"layers": [0, 1, 7]}, r"layers=\[0, 1, 7\] must be ascending indices below 3"),
        ({"hidden_size": 64}, "hidden_size=64 cannot be had"),
        ({"norm_placement": "pre"}, "norm_placement='pre' cannot be had"),
        ({"max_position_embeddings": 500}, "max_position_embeddings=500 is more than the 70"),
    ],
)
def test_wishes_that_the_source_cannot_fulfil_are_named(folder, descriptions, wish, message):
    with pytest.raises(ValueError, match=message):
        warm_start(folder, GENRES, *films(descriptions[:40]), **wish)


@pytest.mark.parametrize("heads", [[[0], [0, 1]], [[], []], [[0]]])
def test_layers_keep_equally_many_heads(folder, heads):
    model = convert(AutoModel.from_pretrained(folder), GENRES)
    with pytest.raises(ValueError, match="heads must name equally many heads for each of the 2 layers"):
        prune(model, [0, 1], heads)


def test_another_kind_of_model_is_refused(tmp_path, descriptions):
    from transformers import GPT2Config

    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a 'gpt2' model cannot start this encoder; known are bert, distilbert"):
        warm_start(str(tmp_path), GENRES, *films(descriptions[:40]))
