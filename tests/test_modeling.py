"""The network: parity with BERT, pooling, Monte-Carlo dropout, saving and loading."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from modeling import MovieGenreModel
from modeling.modeling_movie_genre import Dropout, SinusoidalPositions, dropout
from modeling.network import save_model
from modeling.warm_start import convert

from .conftest import GENRES, tiny_model

TEXTS = [
    "A retired gunman rides into a border town.",
    "Two bakers fall out over a recipe, a wedding and a borrowed van that neither of them ever gives back.",
    "Snow.",
]


def bert_twin():
    """A BertModel and a MovieGenreModel with its weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 96}
    bert = BertModel(BertConfig(vocab_size=100, initializer_range=0.2, **sizes), add_pooling_layer=False).eval()
    return bert, convert(bert, GENRES, max_position_embeddings=512).eval()


@pytest.mark.parametrize("side", ["none", "left", "right", "both"])
def test_hidden_states_equal_those_of_bert(side):
    bert, ours = bert_twin()
    ids = torch.randint(1, 100, (4, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if side in ("left", "both"):
        mask[0, :4] = 0
    if side in ("right", "both"):
        mask[1, 6:] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = bert(ids, attention_mask=mask, position_ids=positions, output_hidden_states=True).hidden_states
        got = ours(ids, mask, output_hidden_states=True).hidden_states
    assert len(got) == len(expected) == 5
    for mine, theirs in zip(got, expected, strict=True):
        assert ((mine - theirs).abs() * mask[..., None]).max() < 1e-5


def test_a_text_alone_has_the_hidden_states_it_has_in_a_padded_batch():
    _, ours = bert_twin()
    ids = torch.randint(1, 100, (1, 7), generator=torch.Generator().manual_seed(1))
    padding = torch.zeros(1, 3, dtype=torch.long)
    other = torch.randint(1, 100, (1, 10))
    with torch.no_grad():
        alone = ours(ids, output_hidden_states=True).hidden_states[-1]
        for padded, real in ((torch.cat([padding, ids], 1), slice(3, 10)), (torch.cat([ids, padding], 1), slice(0, 7))):
            batch = torch.cat([padded, other])
            mask = torch.ones_like(batch)
            mask[0] = 0
            mask[0, real] = 1
            together = ours(batch, mask, output_hidden_states=True).hidden_states[-1][:1, real]
            assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_padding_on_either_side_changes_no_logit(norm, positions):
    model = tiny_model(norm_placement=norm, position_embedding_type=positions)
    ids = torch.randint(5, 1500, (1, 9), generator=torch.Generator().manual_seed(2))
    padding, ones = torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 9, dtype=torch.long)
    with torch.no_grad():
        alone = model(ids).logits
        left = model(torch.cat([padding, ids], 1), torch.cat([padding, ones], 1)).logits
        right = model(torch.cat([ids, padding], 1), torch.cat([ones, padding], 1)).logits
    assert (left - alone).abs().max() < 1e-5
    assert (right - alone).abs().max() < 1e-5


def test_pooling_weights_sum_to_one_over_real_tokens(model):
    ids = torch.randint(5, 1500, (3, 12))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    mask[1, :7] = 0
    with torch.no_grad():
        weights = model(ids, mask).pooling_weights
    assert torch.allclose((weights * mask).sum(1), torch.ones(3), atol=1e-6)
    assert (weights[mask == 0] == 0).all()
    assert weights[0, :5].std() > 0  # learned weights, not a mean


def test_heads_wider_than_the_encoder_work():
    model = tiny_model(head_dim=12)
    assert model.layers[0].attention.output.weight.shape == (32, 96)
    with torch.no_grad():
        assert model(torch.randint(5, 1500, (2, 6))).logits.shape == (2, 4)


def test_sinusoidal_positions_follow_the_formula():
    table = SinusoidalPositions.table(50, 16).numpy()
    position, dimension = np.meshgrid(np.arange(50), np.arange(16), indexing="ij")
    angle = position / 10000 ** (2 * (dimension // 2) / 16)
    assert np.allclose(table, np.where(dimension % 2 == 0, np.sin(angle), np.cos(angle)), atol=1e-5)


def test_calibration_scales_and_shifts_each_logit(model):
    ids = torch.randint(5, 1500, (2, 6))
    with torch.no_grad():
        before = model(ids).logits
        model.logit_scale.copy_(torch.tensor([1.0, 2.0, 0.5, 1.0]))
        model.logit_bias.copy_(torch.tensor([0.0, 1.0, -1.0, 3.0]))
        after = model(ids).logits
    assert torch.allclose(after, before * model.logit_scale + model.logit_bias)


def test_the_loss_is_binary_cross_entropy(model):
    ids, labels = torch.randint(5, 1500, (2, 6)), torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]])
    with torch.no_grad():
        output = model(ids, labels=labels)
    assert torch.isclose(output.loss, F.binary_cross_entropy_with_logits(output.logits, labels.float()))


def test_an_input_beyond_the_positions_is_refused(model):
    with pytest.raises(ValueError, match="65 tokens is longer than max_position_embeddings=64"):
        model(torch.ones(1, 65, dtype=torch.long))


def test_training_averages_the_logits_of_several_masks():
    one, many = (
        tiny_model(classifier_dropout=0.5, dropout_samples=1),
        tiny_model(classifier_dropout=0.5, dropout_samples=50),
    )
    pooled = torch.randn(1, 32)
    with torch.no_grad():
        spread = [
            torch.stack([m.classifier(pooled) for _ in range(200)]).std(0).mean() for m in (one.train(), many.train())
        ]
    # The mean of 50 masks spreads about sqrt(50) = 7 times less than one mask.
    assert 4 < spread[0] / spread[1] < 12


def test_dropout_keeps_mean_rate_and_the_gradient_of_what_it_kept():
    torch.manual_seed(0)
    x = torch.ones(300, 1001, requires_grad=True)  # not a multiple of the elements of a draw
    dropped = dropout(x, 0.1)
    dropped.sum().backward()
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert torch.equal(x.grad, dropped)
    assert torch.equal(dropout(x, 0.0), x)
    assert dropout(x.bfloat16(), 0.5).dtype == torch.bfloat16
    assert (dropout(x, 1 - 1e-7) == 0).float().mean() > 0.999
    rows, columns = (dropped == 0).float().mean(dim=1), (dropped == 0).float().mean(dim=0)
    assert rows.std() < 0.02  # no pattern of the draws: by chance .0095
    assert columns.std() < 0.03  # .0173


def test_attention_of_training_is_the_fused_kernels_when_nothing_is_dropped():
    model = tiny_model(attention_probs_dropout_prob=1e-9, hidden_dropout_prob=0.0)
    attention = model.layers[0].attention
    x = torch.randn(3, 7, model.config.hidden_size)
    mask = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = False
    for given in (None, mask):
        assert torch.allclose(attention.train()(x, given), attention.eval()(x, given), atol=1e-6)


def test_attention_of_training_drops_weights():
    attention = tiny_model(attention_probs_dropout_prob=0.5).layers[0].attention.train()
    x = torch.randn(1, 7, attention.query_key_value.in_features)
    expected = attention.eval()(x, None)
    attention.train()
    errors = torch.stack([attention(x, None) - expected for _ in range(1000)])
    # The mean of 1,000 masks is sqrt(1,000) = 32 times closer than one.
    assert errors.std() > 15 * errors.mean(dim=0).std() > 0


# Monte-Carlo dropout


@pytest.mark.parametrize("scope", ["head", "encoder"])
def test_monte_carlo_is_repeatable_and_independent_of_the_batch(scope, tokenizer):
    model = tiny_model(mc_dropout_scope=scope, hidden_dropout_prob=0.2, classifier_dropout=0.3)
    alone = model.predict_genres(TEXTS[0], tokenizer, mc_samples=12, seed=5)
    again = model.predict_genres(TEXTS[0], tokenizer, mc_samples=12, seed=5)
    among = model.predict_genres(TEXTS[::-1], tokenizer, mc_samples=12, seed=5)[2]
    other = model.predict_genres(TEXTS[0], tokenizer, mc_samples=12, seed=6)
    assert alone == again
    assert np.allclose(list(alone.probabilities.values()), list(among.probabilities.values()), atol=1e-6)
    assert alone.probabilities != other.probabilities
    assert all(value.std > 0 for value in alone.uncertainty.values())


def test_head_monte_carlo_equals_a_reference_written_out(tokenizer):
    model = tiny_model(classifier_dropout=0.4)
    samples = 4000
    got = model.predict_genres(TEXTS[1], tokenizer, mc_samples=samples, seed=11)
    ids = torch.tensor([tokenizer(TEXTS[1])["input_ids"]])
    generator = torch.Generator().manual_seed(12345)  # other masks: only the distribution is the same
    with torch.no_grad():
        x = model(ids).pooled_output.expand(samples, -1)
        for layer in (model.classifier.dense_1, model.classifier.dense_2, model.classifier.output):
            x = layer(x * torch.bernoulli(torch.full(x.shape, 0.6), generator=generator) / 0.6)
            x = F.gelu(x) if layer is not model.classifier.output else x
        reference = x.sigmoid()
    tolerance = 5 * reference.std(0) / samples**0.5  # five standard errors of each mean
    difference = torch.tensor(list(got.probabilities.values())) - reference.mean(0)
    assert (difference.abs() < 1.5 * tolerance).all()
    spread = torch.tensor([value.std for value in got.uncertainty.values()], dtype=torch.float)
    assert torch.allclose(spread, reference.std(0), rtol=0.1)


@pytest.mark.parametrize("scope", ["head", "encoder"])
def test_monte_carlo_means_converge_to_the_seeded_reference(scope, tokenizer):
    model = tiny_model(mc_dropout_scope=scope, hidden_dropout_prob=0.1, classifier_dropout=0.2)
    reference = model.predict_genres(TEXTS[0], tokenizer, mc_samples=4096, seed=1)
    errors = []
    for samples in (16, 256):
        runs = [model.predict_genres(TEXTS[0], tokenizer, mc_samples=samples, seed=s) for s in range(2, 10)]
        gaps = [np.subtract(list(run.probabilities.values()), list(reference.probabilities.values())) for run in runs]
        errors.append(np.sqrt(np.mean(np.square(gaps))))
    assert errors[1] < errors[0] / 2  # theory: a sixteenth of the variance, a quarter of the error


def test_training_mode_is_never_toggled_and_threads_do_not_disturb_each_other(tokenizer):
    model = tiny_model(classifier_dropout=0.5, hidden_dropout_prob=0.3, mc_dropout_scope="encoder")
    expected = model.predict_genres(TEXTS, tokenizer)
    wrong, stop = [], threading.Event()

    def noise():
        while not stop.is_set():
            model.predict_genres(TEXTS[0], tokenizer, mc_samples=8)

    def plain():
        for _ in range(100):
            if model.predict_genres(TEXTS, tokenizer) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=noise) for _ in range(2)]
    for thread in threads:
        thread.start()
    plain()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not any(module.training for module in model.modules())


def test_without_dropout_the_samples_agree(tokenizer):
    model = tiny_model(classifier_dropout=0.0, hidden_dropout_prob=0.0, mc_dropout_scope="encoder")
    plain = model.predict_genres(TEXTS[0], tokenizer)
    sampled = model.predict_genres(TEXTS[0], tokenizer, mc_samples=5)
    assert np.allclose(list(plain.probabilities.values()), list(sampled.probabilities.values()), atol=1e-6)
    assert max(value.std for value in sampled.uncertainty.values()) < 1e-6


# Initialisation, saving and loading


def test_every_tensor_is_initialised():
    model = tiny_model(position_embedding_type="sinusoidal")
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert torch.equal(model.logit_scale, torch.ones(4))
    assert torch.equal(model.embeddings.position_embeddings.weight, SinusoidalPositions.table(64, 32))
    assert (model.embeddings.word_embeddings.weight[0] == 0).all()  # padding


@pytest.mark.parametrize("values", [{}, {"position_embedding_type": "sinusoidal", "norm_placement": "pre"}])
def test_saving_and_loading_keeps_every_tensor(tmp_path, values):
    model = tiny_model(**values)
    with torch.no_grad():
        model.logit_bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    model.save_pretrained(tmp_path)
    loaded = MovieGenreModel.from_pretrained(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_sixteen_bit_weights_load_as_float32(tmp_path, model, tokenizer):
    save_model(model, tokenizer, tmp_path, "float16")
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["layers.0.attention.output.weight"].dtype == torch.float16
    assert stored["logit_scale"].dtype == torch.float32
    loaded = MovieGenreModel.from_pretrained(tmp_path)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    ours, theirs = (m.predict_genres(TEXTS[0], tokenizer).probabilities for m in (model, loaded))
    assert np.allclose(list(ours.values()), list(theirs.values()), atol=2e-3)


def test_a_stranger_loads_the_folder_through_every_auto_class(saved, tmp_path, model, tokenizer):
    """In a process that has never seen this repository, from another folder, with an empty cache."""
    program = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, text = sys.argv[1:]
trust = {"trust_remote_code": True}
assert AutoConfig.from_pretrained(folder, **trust).model_type == "movie_genre"
found = {}
for auto in (AutoModel, AutoModelForSequenceClassification):
    model = auto.from_pretrained(folder, **trust)
    found[auto.__name__] = model.predict_genres(text).to_dict()
pipe = pipeline("text-classification", model=folder, top_k=None, **trust)
found["pipeline"] = {entry["label"]: entry["score"] for entry in pipe([text])[0]}
assert not any(name == "modeling" or name.startswith("modeling.") for name in sys.modules)
print(json.dumps(found))
"""
    home = tmp_path / "elsewhere"
    home.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1", "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(saved), TEXTS[1]],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    expected = model.predict_genres(TEXTS[1], tokenizer).probabilities
    for name in ("AutoModel", "AutoModelForSequenceClassification"):
        assert found[name]["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert found["pipeline"] == pytest.approx(expected, abs=1e-5)


def test_gradients_reach_every_parameter(model):
    model.train()
    model(torch.randint(5, 1500, (4, 10)), labels=torch.ones(4, 4)).loss.backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    # The pooling score's bias cancels in the softmax.
    assert without in ([], ["pooling.score.bias"])


def test_gradient_checkpointing_gives_the_same_gradients():
    ids, labels = torch.randint(5, 1500, (4, 10)), torch.ones(4, 4)
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(ids, labels=labels).loss.backward()
        gradients.append(model.layers[0].attention.output.weight.grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_the_scope_says_where_masks_are_drawn(tokenizer):
    rates = {"classifier_dropout": 0.0, "hidden_dropout_prob": 0.3}
    for scope, moves in (("head", False), ("encoder", True)):
        found = tiny_model(mc_dropout_scope=scope, **rates).predict_genres(TEXTS[0], tokenizer, mc_samples=5, seed=0)
        assert all((value.std > 1e-6) == moves for value in found.uncertainty.values())


def test_masks_of_a_generator_are_drawn_for_every_element_or_shared_by_the_batch():
    x = torch.ones(3, 4, 500)
    own, shared = (drop(x, torch.Generator().manual_seed(0)) for drop in (Dropout(0.5), Dropout(0.5, shared=True)))
    assert set(own.unique().tolist()) == {0.0, 2.0}
    assert (own == own[:, :1]).float().mean() < 0.75
    assert torch.equal(shared, shared[:, :1].expand_as(x))
    assert not torch.equal(shared[0], shared[1])
