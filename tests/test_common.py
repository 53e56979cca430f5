"""What transformers checks of every model, written for this one; tests/test_modeling.py has what is special to it."""

import copy
import json
import shutil

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file

from modeling import MovieGenreConfig, MovieGenreModel

from .conftest import tiny_config, tiny_model

IDS = torch.randint(5, 1500, (3, 12), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
MASK[1, 7:] = 0


def logits(model, **options):
    with torch.no_grad():
        return model(IDS, MASK, **options).logits


def test_the_same_input_gives_the_same_output(model):
    assert torch.equal(logits(model), logits(model))
    assert torch.equal(logits(model), logits(copy.deepcopy(model)))


def test_a_saved_model_answers_as_before_bit_for_bit(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(MovieGenreModel.from_pretrained(tmp_path)), logits(model))
    assert torch.equal(logits(MovieGenreModel.from_pretrained(tmp_path, device_map="cpu")), logits(model))


def test_the_configuration_survives_its_file(tmp_path):
    config = tiny_config(threshold_profiles={"careful": [0.9] * 4}, default_profile="careful")
    config.save_pretrained(tmp_path)
    again = MovieGenreConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert MovieGenreConfig.from_dict(json.loads(config.to_json_string())).to_dict() == config.to_dict()
    for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "num_labels"):
        assert getattr(again, name) == getattr(config, name) > 0


def test_a_tuple_holds_what_the_named_output_holds(model):
    named, plain = model(IDS, MASK), model(IDS, MASK, return_dict=False)
    assert isinstance(plain, tuple)
    assert len(plain) == 3
    assert all(torch.equal(one, two) for one, two in zip(named.to_tuple(), plain, strict=True))


def test_hidden_states_come_layer_by_layer_when_asked_for(model):
    assert model(IDS, MASK).hidden_states is None
    states = model(IDS, MASK, output_hidden_states=True).hidden_states
    assert len(states) == model.config.num_hidden_layers + 1
    assert {tuple(state.shape) for state in states} == {(3, 12, model.config.hidden_size)}


def test_the_attention_that_is_returned_is_a_distribution_over_real_tokens(model):
    weights = model(IDS, MASK).pooling_weights
    assert weights.shape == IDS.shape
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    assert (weights[MASK == 0] == 0).all()


def test_embeddings_can_be_resized(model, tmp_path):
    before = logits(model)
    assert model.get_input_embeddings().weight.shape[0] == 1500
    model.resize_token_embeddings(1510, mean_resizing=False)
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == 1510
    assert torch.equal(logits(model), before)
    assert torch.isfinite(model(torch.full((1, 4), 1509)).logits).all()
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(MovieGenreModel.from_pretrained(tmp_path)), before)
    model.resize_token_embeddings(1500)
    assert torch.equal(logits(model), before)


def test_embeddings_can_be_replaced(model):
    table = torch.nn.Embedding(1500, model.config.hidden_size, padding_idx=0)
    model.set_input_embeddings(table)
    assert model.get_input_embeddings() is table


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_number_formats_compute(model, dtype, tmp_path):
    expected = logits(model).double()
    model.save_pretrained(tmp_path)
    other = MovieGenreModel.from_pretrained(tmp_path, dtype=dtype)
    found = logits(other)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, atol=0.1 if dtype == torch.bfloat16 else 1e-4)


def test_missing_weights_are_initialised_as_new_ones_are(model, tmp_path):
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    lost = {name: state.pop(name) for name in ("classifier.output.weight", "layers.0.attention.output.bias")}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, report = MovieGenreModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == set(lost)
    fresh = loaded.state_dict()
    assert torch.isfinite(fresh["classifier.output.weight"]).all()
    assert fresh["classifier.output.weight"].std() > 0
    assert (fresh["layers.0.attention.output.bias"] == 0).all()


def test_a_head_of_another_size_can_be_started_anew(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        MovieGenreModel.from_pretrained(tmp_path, id2label={0: "Drama", 1: "War"})
    other = MovieGenreModel.from_pretrained(
        tmp_path, id2label={0: "Drama", 1: "War"}, threshold_profiles={}, ignore_mismatched_sizes=True
    )
    decided = tiny_model(label_sets={"1010": 3, "0101": 1})
    decided.save_pretrained(tmp_path)
    for count in (2, 5):  # old sets would mean other genres
        labels = {i: f"genre {i}" for i in range(count)}
        with pytest.raises(StrictDataclassError, match=r"for other genres pass .* label_sets=\{\}"):
            MovieGenreModel.from_pretrained(tmp_path, id2label=labels, ignore_mismatched_sizes=True)
    assert logits(other).shape == (3, 2)
    assert torch.equal(other.layers[0].attention.output.weight, model.layers[0].attention.output.weight)


def test_weights_are_drawn_with_the_spread_asked_for():
    narrow, wide = (tiny_model(initializer_range=spread).state_dict() for spread in (0.01, 0.1))
    for name in ("layers.0.attention.output.weight", "classifier.output.weight", "embeddings.word_embeddings.weight"):
        assert narrow[name].std().item() == pytest.approx(0.01, rel=0.2)
        assert wide[name].std().item() == pytest.approx(0.1, rel=0.2)


def test_a_handful_of_films_can_be_learned_by_heart():
    model = tiny_model(classifier_dropout=0.0, hidden_dropout_prob=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    labels = torch.eye(4)[:3]
    losses = []
    for _ in range(30):
        loss = model(IDS, MASK, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_a_text_of_padding_alone_gives_numbers(model):
    assert torch.isfinite(model(IDS, torch.zeros_like(IDS)).logits).all()


def test_a_frozen_graph_can_be_captured_whole(model):
    """torch.compile finds no break in it, and the graph gives the same logits at other shapes."""
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for rows, tokens in ((2, 9), (3, 12), (5, 30)):
            ids = torch.randint(5, 1500, (rows, tokens))
            assert torch.allclose(compiled(ids).logits, model(ids).logits, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_compiled_model_gives_the_same_logits():
    model = tiny_model(num_hidden_layers=1)  # the compiler's time grows with the layers
    compiled = torch.compile(model)
    with torch.no_grad():
        assert torch.allclose(compiled(IDS, MASK).logits, model(IDS, MASK).logits, atol=1e-4)
