"""The last layer made from the genres' co-occurrence."""

import numpy as np
import pytest
import torch

from modeling import MovieGenreModel
from modeling.arguments import DataArguments, ModelArguments
from modeling.network import load_network
from modeling.training_data import load_films

from .conftest import GENRES, tiny_model

# Comedy, Crime, Drama, Western: Crime implies Drama, Drama does not imply Crime; Western stands alone.
TRUTH = np.array([[0, 1, 1, 0]] * 3 + [[0, 0, 1, 0]] * 7 + [[1, 0, 1, 0]] + [[1, 0, 0, 0]] * 4 + [[0, 0, 0, 1]] * 2)


@pytest.fixture
def graph():
    model = tiny_model(label_graph="gcn")
    names = torch.randn(len(GENRES), 32, generator=torch.Generator().manual_seed(0))
    model.classifier.output.connect(torch.tensor(TRUTH), names)
    return model, names


def test_genres_whose_names_the_tokenizer_does_not_know_are_told_apart(tmp_path, caplog):
    path = tmp_path / "films.csv"
    genres = ["\u52a8\u4f5c\u7247", "\u559c\u5267\u7247", "Drama", "Dr\u00e1ma"]
    path.write_text("genre,description\n" + "".join(f"{genres[i % 4]},Text number {i}.\n" for i in range(80)))
    films = load_films(DataArguments(train_file=str(path)))
    model, _ = load_network(ModelArguments(label_graph="gcn", hidden_size=32), films)
    vectors = model.classifier.output.label_embeddings
    alike = vectors @ vectors.T - torch.eye(4)
    assert alike.max() < 0.9
    assert "does not tell by their names: Drama, Dr\u00e1ma" in caplog.text


def adjacency(threshold, weight):
    """The paper's matrix, step by step in float64."""
    genres = len(GENRES)
    matrix = np.zeros((genres, genres))
    for i in range(genres):
        given = TRUTH[TRUTH[:, i] == 1].mean(axis=0)  # P(j | i)
        joined = [j for j in range(genres) if j != i and given[j] >= threshold]
        for j in joined:
            matrix[i, j] = weight / len(joined)
        matrix[i, i] = 1 - weight if joined else 1
    degree = np.diag(matrix.sum(axis=1) ** -0.5)
    return degree @ matrix @ degree


def test_the_adjacency_is_the_papers(graph):
    model, _ = graph
    expected = adjacency(0.4, 0.2)
    assert expected[1, 2] > 0  # Crime listens to Drama ...
    assert expected[2, 1] == 0  # ... and not the other way round
    assert expected[3].tolist() == [0, 0, 0, 1]
    assert np.abs(model.classifier.output.adjacency.double().numpy() - expected).max() < 1e-7


def test_the_weights_are_two_graph_convolutions_of_the_names(graph):
    model, names = graph
    output = model.classifier.output
    first, second = (layer.weight.detach().double().numpy() for layer in (output.graph_1, output.graph_2))
    embeddings = names.double().numpy()
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    a = adjacency(0.4, 0.2)
    hidden = a @ embeddings @ first.T
    expected = a @ np.where(hidden > 0, hidden, 0.2 * hidden) @ second.T
    assert np.abs(output.weight.detach().double().numpy() - expected).max() < 1e-6
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    assert np.abs(output(x).detach().numpy() - x.numpy() @ expected.T).max() < 1e-5


def test_threshold_and_weight_come_from_the_configuration():
    model = tiny_model(label_graph="gcn", label_graph_threshold=0.05, label_graph_weight=0.5)
    model.classifier.output.connect(torch.tensor(TRUTH), torch.ones(len(GENRES), 32))
    assert np.abs(model.classifier.output.adjacency.double().numpy() - adjacency(0.05, 0.5)).max() < 1e-7


def test_the_graph_is_in_the_checkpoint(graph, tmp_path):
    model, _ = graph
    model.save_pretrained(tmp_path)
    loaded = MovieGenreModel.from_pretrained(tmp_path)
    ids = torch.arange(10, 30)[None]
    assert torch.equal(loaded.classifier.output.adjacency, model.classifier.output.adjacency)
    assert torch.equal(loaded.classifier.output.label_embeddings, model.classifier.output.label_embeddings)
    assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=1e-6)


def test_going_on_from_a_graph_keeps_it_for_the_same_genres_and_its_layers_for_others(graph, tmp_path, tokenizer):
    model, _ = graph
    torch.nn.init.normal_(model.classifier.output.bias)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for genres in (GENRES, ["Horror", *GENRES[::-1]]):
        path = tmp_path / "films.csv"
        rows = [f"{genres[i % len(genres)]},Text {i}.,{'validation' if i < 20 else 'train'}" for i in range(40)]
        path.write_text("\n".join(["genre,description,split", *rows]) + "\n")
        films = load_films(DataArguments(train_file=str(path)))
        again, _ = load_network(ModelArguments(init_from=str(tmp_path / "model")), films)
        old, new = model.classifier.output, again.classifier.output
        same = films.genres == GENRES
        assert torch.equal(new.graph_1.weight, old.graph_1.weight)
        assert torch.equal(new.bias[[films.genres.index(genre) for genre in GENRES]], old.bias)
        if same:
            assert torch.equal(new.weight, old.weight)
        else:
            assert new.adjacency.shape == (5, 5)
            assert new.label_embeddings.norm(dim=1).tolist() == pytest.approx([1] * 5, abs=1e-5)


def test_the_graph_learns(graph):
    model, _ = graph
    model.train()
    loss = model(torch.arange(10, 30)[None], labels=torch.tensor([[1.0, 0, 1, 0]])).loss
    loss.backward()
    for layer in (model.classifier.output.graph_1, model.classifier.output.graph_2):
        assert layer.weight.grad.abs().max() > 0
    assert not model.classifier.output.adjacency.requires_grad
