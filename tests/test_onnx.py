"""The exported model: the same answers as PyTorch's, without torch."""

import copy
import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from tokenizers import Tokenizer

from modeling import MovieGenreModel
from modeling.decision import best_global_threshold
from modeling.export import build_graph, classifier_weights, export
from modeling.metrics import micro_f1
from modeling.onnx_runtime import INPUTS, MovieGenreOnnx
from modeling.prediction_movie_genre import choose

from .conftest import GENRES, MOVIES, ROOT, tiny_model

KINDS = {
    "pre": {"norm_placement": "pre"},
    "post": {"norm_placement": "post", "head_dim": 8, "hidden_size": 48, "classifier_hidden_size": 24},
    "sinusoidal": {"position_embedding_type": "sinusoidal", "hidden_act": "relu"},
    "graph": {"label_graph": "gcn"},
    "silu": {"hidden_act": "silu", "num_hidden_layers": 1, "num_attention_heads": 2},
}
TEXT = "A retired gunman rides into a border town."
LONG = "The sheriff counts nine horses and a wedding. " * 30


def exported(model, tokenizer, folder, **options):
    """The model on ONNX Runtime, by way of a folder."""
    model._tokenizer = tokenizer
    return MovieGenreOnnx.from_pretrained(export(model, folder, **options), threads=1)


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory, tokenizer):
    """A PyTorch model with some calibration, and its export."""
    model = tiny_model(**KINDS[request.param], label_sets={"1010": 3, "0100": 2, "0101": 1}, label_set_weight=0.5)
    if request.param == "graph":
        films = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]])
        model.classifier.output.connect(films, torch.eye(len(GENRES), model.config.hidden_size))
    with torch.no_grad():
        model.logit_scale.copy_(torch.tensor([0.5, 1.0, 1.5, 0.8]))
        model.logit_bias.copy_(torch.tensor([-0.5, 0.0, 0.5, 0.1]))
    return model, exported(model, tokenizer, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def one(tmp_path_factory, tokenizer):
    """One pair and its folder, for what does not depend on the kind of network."""
    model, folder = tiny_model(), tmp_path_factory.mktemp("one")
    return model, exported(model, tokenizer, folder), folder


def values(predictions):
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


@pytest.mark.parametrize("shape", [(1, 3), (1, 64), (2, 3), (3, 17), (5, 64), (33, 9)])
def test_the_graph_gives_every_output_of_the_network_at_any_shape(pair, shape):
    model, onnx_model = pair
    generator = torch.Generator().manual_seed(sum(shape))
    ids = torch.randint(5, 1500, shape, generator=generator)
    mask = (torch.arange(shape[1]) < torch.randint(2, shape[1] + 1, (shape[0], 1), generator=generator)).long()
    with torch.no_grad():
        expected = model(ids, mask)
    got = onnx_model.session.run(None, dict(zip(INPUTS, (ids.numpy(), mask.numpy()), strict=True)))
    for ours, theirs in zip(got, (expected.logits, expected.pooled_output, expected.pooling_weights), strict=True):
        assert ours.shape == tuple(theirs.shape)
        assert np.abs(ours - theirs.numpy()).max() < 1e-4


def test_padding_on_the_left_changes_nothing(pair):
    _, onnx_model = pair
    ids = torch.randint(5, 1500, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    padded = torch.nn.functional.pad(ids, (4, 0)), torch.nn.functional.pad(mask, (4, 0))
    plain, left = (
        onnx_model.session.run(["logits"], dict(zip(INPUTS, map(torch.Tensor.numpy, inputs), strict=True)))[0]
        for inputs in ((ids, mask), padded)
    )
    assert np.abs(plain - left).max() < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 16, "attribution": "pooling"},
        {"threshold": {"Crime": 0.2}, "batch_size": 3},
        {"threshold": 0.9},
        {"threshold": "subset_accuracy"},
    ],
    ids=str,
)
def test_predictions_are_those_of_pytorch(pair, tokenizer, descriptions, options):
    model, onnx_model = pair
    texts = [*descriptions[:20], TEXT, LONG, "字字 🙂"]
    expected, got = (
        model.predict_genres(texts, tokenizer, **options),
        onnx_model.predict_genres(texts, **options),
    )
    assert np.abs(values(expected) - values(got)).max() < 1e-4
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.genres == theirs.genres
        assert ours.truncated_at == theirs.truncated_at
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)
        if theirs.word_weights is None:
            assert ours.word_weights is None
        else:
            assert np.allclose(np.array(ours.word_weights), np.array(theirs.word_weights), atol=1e-4)


def test_a_string_gives_one_prediction_and_any_fast_tokenizer_will_do(one, tokenizer):
    _, onnx_model, folder = one
    expected = onnx_model.predict_genres(TEXT)
    assert onnx_model.predict_genres(TEXT, tokenizer) == expected
    assert onnx_model.predict_genres(TEXT, Tokenizer.from_file(str(folder / "tokenizer.json"))) == expected
    assert onnx_model.predict_genres([]) == []


def test_what_the_callers_tokenizer_was_told_before_changes_nothing(one, tokenizer):
    _, onnx_model, _ = one
    texts, theirs = [TEXT, "Snow falls."], copy.deepcopy(tokenizer)
    expected = onnx_model.predict_genres(texts)
    for options in ({"truncation": True, "max_length": 5}, {"padding": True}, {"padding": "max_length"}):
        theirs(texts, **options)
        assert onnx_model.predict_genres(texts, theirs) == expected
    assert theirs.backend_tokenizer.padding  # theirs stays as it is


def test_a_tokenizer_without_marks_is_named(one):
    _, onnx_model, folder = one
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.post_processor = None
    with pytest.raises(ValueError, match="puts 0 tokens around a text, expected one before and one behind it"):
        onnx_model.predict_genres(TEXT, theirs)


def test_a_model_in_16_bits_is_exported_too(tmp_path, tokenizer):
    found = exported(tiny_model().bfloat16(), tokenizer, tmp_path).predict_genres(TEXT)
    same = tiny_model().bfloat16().float().predict_genres(TEXT, tokenizer)
    assert found.probabilities == pytest.approx(same.probabilities, abs=1e-5)


def test_what_is_saved_is_readable_by_whom_the_configuration_is(saved, one):
    for path in [*saved.glob("*.safetensors"), *one[2].glob("*.safetensors")]:
        assert path.stat().st_mode == (path.parent / "config.json").stat().st_mode


# Monte-Carlo dropout


def test_monte_carlo_results_follow_the_seed_and_not_the_neighbours(one):
    _, onnx_model, _ = one
    alone = onnx_model.predict_genres(TEXT, mc_samples=10, seed=3)
    among = onnx_model.predict_genres([LONG, TEXT, "Snow falls."], mc_samples=10, seed=3, batch_size=2)[1]
    other = onnx_model.predict_genres(TEXT, mc_samples=10, seed=4)
    assert among.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert among.uncertainty["Crime"].std == pytest.approx(alone.uncertainty["Crime"].std, abs=1e-6)
    assert other.probabilities != alone.probabilities
    assert (
        onnx_model.predict_genres(TEXT, mc_samples=10).probabilities
        != onnx_model.predict_genres(TEXT, mc_samples=10).probabilities
    )


def test_monte_carlo_results_are_pytorchs_but_for_the_draw(pair, tokenizer):
    model, onnx_model = pair
    draws = 3000
    expected = model.predict_genres(TEXT, tokenizer, mc_samples=draws, seed=0)
    got = onnx_model.predict_genres(TEXT, mc_samples=draws, seed=0)
    for genre in GENRES:
        std = expected.uncertainty[genre].std
        # Five standard errors of a difference of means, and of standard deviations.
        assert abs(got.probabilities[genre] - expected.probabilities[genre]) < 5 * std * (2 / draws) ** 0.5
        assert got.uncertainty[genre].std == pytest.approx(std, rel=0.15)
        assert std > 1e-3


def test_masks_leave_the_classifier_as_it_is_where_nothing_is_dropped(tmp_path, tokenizer):
    model = tiny_model(classifier_dropout=0.0)
    onnx_model = exported(model, tokenizer, tmp_path)
    plain, sampled = onnx_model.predict_genres(TEXT), onnx_model.predict_genres(TEXT, mc_samples=2, seed=0)
    assert sampled.probabilities == pytest.approx(plain.probabilities, abs=1e-5)


def test_the_classifiers_weights_are_what_its_layers_do():
    model = tiny_model()
    weights = classifier_weights(model)
    for name in ("dense_1", "dense_2", "output"):
        layer = getattr(model.classifier, name)
        assert np.allclose(weights[f"{name}.weight"], layer.weight.detach().numpy().T, atol=1e-6)
        assert np.array_equal(weights[f"{name}.bias"], layer.bias.detach().numpy())


# What ONNX cannot do, and mistakes


def test_what_onnx_cannot_do_is_named_with_the_cure(one, tmp_path, tokenizer):
    _, onnx_model, _ = one
    with pytest.raises(ValueError, match="gradients, which an ONNX model has not: use MovieGenreModel"):
        onnx_model.predict_genres(TEXT, attribution="gradient", genre="Crime")
    everywhere = exported(tiny_model(mc_dropout_scope="encoder"), tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"masks inside the encoder.*use MovieGenreModel"):
        everywhere.predict_genres(TEXT, mc_samples=2)
    assert everywhere.predict_genres(TEXT).uncertainty is None


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([TEXT, ""], {}, ValueError, r"texts\[1\] has no words"),
        ([TEXT, 3], {}, TypeError, r"texts\[1\] is a int, expected a string"),
        (TEXT, {"threshold": "best"}, ValueError, "no decision profile 'best'"),
        (TEXT, {"mc_samples": -1}, ValueError, "mc_samples=-1"),
        (TEXT, {"batch_size": 0}, ValueError, "batch_size=0"),
        (TEXT, {"attribution": "magic"}, ValueError, "attribution='magic' is not known"),
        (LONG, {"stride": 62}, ValueError, "stride=62 must lie between"),
    ],
)
def test_mistakes_are_named_as_pytorch_names_them(one, tokenizer, texts, options, error, message):
    model, onnx_model, _ = one
    for ask in (
        lambda: onnx_model.predict_genres(texts, **options),
        lambda: model.predict_genres(texts, tokenizer, **options),
    ):
        with pytest.raises(error, match=message):
            ask()


def test_a_folder_without_an_onnx_model_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=f"`movie-genre export --model {tmp_path} --output {tmp_path}/onnx` makes one"):
        MovieGenreOnnx.from_pretrained(tmp_path)


def test_a_damaged_graph_and_a_foreign_configuration_are_named(one, tmp_path):
    _, _, folder = one
    for name in ("model.onnx", "tokenizer.json", "classifier.safetensors"):
        damaged = shutil.copytree(folder, tmp_path / f"damaged {name}")
        (damaged / name).write_bytes((damaged / name).read_bytes()[:1000])
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            MovieGenreOnnx.from_pretrained(damaged)
    foreign = shutil.copytree(folder, tmp_path / "foreign")
    (foreign / "config.json").write_text(json.dumps({"model_type": "bert", "format_version": 1}))
    with pytest.raises(ValueError, match="model_type='bert'"):
        MovieGenreOnnx.from_pretrained(foreign)


def test_an_export_does_not_land_in_a_pytorch_models_folder(saved):
    with pytest.raises(ValueError, match="holds a PyTorch model: name another folder"):
        export(MovieGenreModel.from_pretrained(saved), saved)


# The folder


def test_the_folder_holds_neither_pickle_nor_code_and_serves_from_a_models_onnx_folder(one, saved):
    _, onnx_model, folder = one
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("model.onnx", "classifier.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
    }
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    assert "_name_or_path" not in json.loads((folder / "config.json").read_text())  # a folder of whoever exported
    shutil.copytree(folder, saved / "onnx")
    assert MovieGenreOnnx.from_pretrained(saved).predict_genres(TEXT).probabilities == pytest.approx(
        onnx_model.predict_genres(TEXT).probabilities, abs=1e-5
    )


def test_it_answers_without_torch_transformers_or_datasets(one):
    _, _, folder = one
    program = (
        "import sys; from modeling.onnx_runtime import MovieGenreOnnx; "
        f"print(MovieGenreOnnx.from_pretrained({str(folder)!r}).predict_genres({TEXT!r}, mc_samples=2).genres); "
        "print({'torch', 'transformers', 'datasets', 'onnx', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    genres, loaded = done.stdout.splitlines()
    assert genres.startswith("['")
    assert loaded == "set()"


# 8 bits


def test_int8_is_a_third_of_the_size_and_decides_as_float32_does(tmp_path):
    shipped = MovieGenreModel.from_pretrained(ROOT / "checkpoint")
    plain = build_graph(shipped).ByteSize()
    folder = export(shipped, tmp_path, int8=True)
    assert (folder / "model.onnx").stat().st_size < plain / 3
    with MOVIES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:600]
    texts, genres = [row["description"] for row in rows], shipped.config.genres
    truth = np.array([[genre in row["genre"].split(", ") for genre in genres] for row in rows])
    expected, got = (
        values(model.predict_genres(texts)) for model in (shipped, MovieGenreOnnx.from_pretrained(folder, threads=1))
    )
    threshold = best_global_threshold(truth, expected, min_genres=1)
    scores = [micro_f1(truth, choose(p, np.full(len(genres), threshold), 1)) for p in (expected, got)]
    assert scores[0] == pytest.approx(scores[1], abs=0.003)
    assert 0 < np.abs(expected - got).max() < 0.1


def test_int8_of_a_network_in_post_norm_answers_nearly_alike(tmp_path, tokenizer, descriptions):
    model = tiny_model(norm_placement="post", initializer_range=0.1)
    got = values(exported(model, tokenizer, tmp_path, int8=True).predict_genres(descriptions[:50]))
    expected = values(model.predict_genres(descriptions[:50], tokenizer))
    assert np.abs(expected - got).mean() < 0.01


# The command


def test_the_command_exports(saved, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "modeling.cli", "export", "--model", saved, "--output", tmp_path / "out", "--int8"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "int8 ONNX model in" in done.stdout
    assert "DynamicQuantizeMatMul" in {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
    assert MovieGenreOnnx.from_pretrained(tmp_path / "out").predict_genres(TEXT).genres
