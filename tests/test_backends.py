import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling import backends

from .conftest import tiny_model


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="backend 'abacus' is not known; choose torch, torch-bf16 or onnx"):
        backends.load("anywhere", backend="abacus")


def test_a_backend_that_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "modeling.onnx_runtime", raising=False)
    with pytest.raises(ValueError, match=r"onnxruntime: pip install '\.\[onnx\]'"):
        backends.load("anywhere", backend="onnx")


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), ("max 100000", 8)]
)
def test_a_containers_share_of_the_processor_counts(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(backends, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(backends.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert backends.cores() == 8  # there is no such file
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert backends.cores() == expected


def test_bfloat16_is_a_backend_of_its_own(saved):
    for backend, dtype in (("torch", torch.float32), ("torch-bf16", torch.bfloat16)):
        model = backends.load(str(saved), backend=backend)
        assert model.get_input_embeddings().weight.dtype == dtype
        assert model.predict_genres("Two brothers rob a bank.", mc_samples=2).genres


def test_damaged_weights_and_weights_of_other_sizes_are_named(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_model(intermediate_size=48).config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded"):
        backends.load(str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        backends.load(str(tmp_path))


def test_weights_that_the_configuration_does_not_fit_are_named(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_model(norm_placement="post").config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit each other: final_norm\.bias, final_norm\.weight"):
        backends.load(str(tmp_path))
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors") | {"hint.weight": torch.zeros(2), "hint.bias": torch.zeros(2)}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert backends.load(str(tmp_path))  # a checkpoint of a training that still goes on
    save_file({}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="do not fit each other: "):
        backends.load(str(tmp_path))


@pytest.mark.parametrize("values", [{"hidden_size": 38.5}, {"dtype": "float99"}])
def test_a_configuration_that_cannot_be_is_named(tmp_path, values):
    tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(ValueError, match="cannot be loaded"):
        backends.load(str(tmp_path))


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_model_that_is_not_there_is_named(tmp_path, backend):
    with pytest.raises((ValueError, ConnectionError), match="nowhere"):
        backends.load(str(tmp_path / "nowhere"), backend=backend)


def test_an_onnx_folder_is_told_from_a_model_that_is_not_there(tmp_path):
    (tmp_path / "model.onnx").touch()
    tiny_model().config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is an ONNX folder: name the backend onnx"):
        backends.load(str(tmp_path))


def test_each_process_of_a_machine_takes_its_own_gpu(tmp_path, monkeypatch):
    model, places = tiny_model(), []
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(type(model), "to", lambda model, place: places.append(place) or model)
    for name in ("LOCAL_RANK", "SPACES_ZERO_GPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    backends.load(str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    backends.load(str(tmp_path))
    for rank in "123":
        monkeypatch.setenv("LOCAL_RANK", rank)
        backends.load(str(tmp_path))
    assert places == ["cpu", "cuda:0", "cuda:1", "cuda:0", "cuda:1"]
