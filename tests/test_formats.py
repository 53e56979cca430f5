"""Checkpoints, of this version and others: read as they were written, or refused with the cure."""

import json
import shutil

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from modeling import MovieGenreConfig, MovieGenreModel
from modeling.backends import load

from .conftest import ROOT, tiny_model
from .make_golden import OPTIONS, TEXTS

GOLDEN = ROOT / "tests" / "data" / "golden"


def close(got, expected):
    """Equal in shape and words, and nearly so in numbers."""
    if isinstance(expected, dict):
        return set(expected) <= set(got) and all(close(got[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(close(g, e) for g, e in zip(got, expected, strict=True))
    return got == pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else got == expected


def test_a_checkpoint_of_format_1_answers_as_it_did_when_it_was_made():
    assert json.loads((GOLDEN / "config.json").read_text())["format_version"] == 1
    model = MovieGenreModel.from_pretrained(GOLDEN)
    answers = [prediction.to_dict() for prediction in model.predict_genres(TEXTS, **OPTIONS)]
    expected = json.loads((GOLDEN / "answers.json").read_text())
    assert close(json.loads(json.dumps(answers)), expected), answers
    assert model.predict_genres(TEXTS[0], threshold="macro_f1").genres


def test_a_newer_format_is_refused_with_what_to_do(tmp_path):
    folder = tmp_path / "newer"
    shutil.copytree(GOLDEN, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format_version": 2}))
    with pytest.raises(StrictDataclassError, match="format_version=2 is newer") as error:
        MovieGenreModel.from_pretrained(folder)
    for cure in ("update the package from its repository", "trust_remote_code=True"):
        assert cure in str(error.value)
    with pytest.raises(ValueError, match="format_version=2 is newer"):  # which the command line tells in one sentence
        load(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2, "future": 1}, "format_version=2 is newer than this code"),
        ({"future": 1}, "has no field 'future'"),
        ({"id2label": [1]}, r"id2label=\[1\] must map 0, 1, 2"),
        ({"id2label": {"a": "b"}}, "id2label={'a': 'b'} must map 0, 1, 2"),
    ],
)
def test_a_configuration_that_is_none_of_ours_gets_one_sentence(tmp_path, change, message):
    folder = shutil.copytree(GOLDEN, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=f"other' cannot be loaded: .*{message}"):
        load(str(folder))


def test_a_format_that_never_was_is_called_so():
    with pytest.raises(StrictDataclassError, match="format_version=0 never was"):
        MovieGenreConfig(format_version=0)


def test_a_loaded_model_answers_as_the_saved_one_bit_for_bit(tmp_path):
    """A memory-mapped file's tensors begin at any byte, and sums over them round in another order."""
    model = tiny_model(hidden_size=64)
    model.save_pretrained(tmp_path)
    loaded = MovieGenreModel.from_pretrained(tmp_path)
    ids = torch.arange(5, 5 + 3 * 29).view(3, 29)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, loaded(ids).logits)
    assert {tensor.data_ptr() % 64 for tensor in (*loaded.parameters(), *loaded.buffers())} == {0}
