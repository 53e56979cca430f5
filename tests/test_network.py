"""The network that a run starts from."""

import pytest
import torch

from modeling.arguments import DataArguments, ModelArguments
from modeling.network import build_model, load_network
from modeling.training_data import load_films

from .conftest import GENRES, tiny_model


def test_layers_are_chosen_from_a_foreign_encoder_alone(tmp_path, some_films):
    tiny_model().save_pretrained(tmp_path)
    films = load_films(DataArguments(train_file=str(some_films)))
    with pytest.raises(ValueError, match="init_layers chooses layers of a foreign encoder"):
        load_network(ModelArguments(init_from=str(tmp_path), init_layers="0"), films)


def test_going_on_with_other_sizes_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not fit the sizes asked for"):
        build_model(ModelArguments(init_from=str(tmp_path), intermediate_size=48), GENRES, 1500, 0)
    for changed in (
        {"position_embedding_type": "sinusoidal"},
        {"norm_placement": "post"},
        {"hidden_act": "relu"},
        {"num_attention_heads": 4, "head_dim": 8},  # together as wide
        {"head_dim": 2},
        {"label_graph_threshold": 0.2},
        {"label_graph_weight": 0.1},
    ):
        name = next(iter(changed))
        with pytest.raises(ValueError, match=f"has {name}=.*: leave it out"):
            build_model(ModelArguments(init_from=str(tmp_path), **changed), GENRES, 1500, 0)


def test_going_on_keeps_every_weight_where_the_genres_are_the_same(tmp_path):
    source = tiny_model()
    source.save_pretrained(tmp_path)
    model = build_model(ModelArguments(init_from=str(tmp_path), classifier_dropout=0.5), GENRES, 1500, 0)
    assert model.config.classifier_dropout == 0.5
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in source.state_dict().items())
