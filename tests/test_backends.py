import sys

import pytest

from modeling import backends


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match="backend 'abacus' is not known; choose torch or onnx"):
        backends.load("anywhere", backend="abacus")


def test_a_backend_that_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "modeling.onnx_runtime", raising=False)
    with pytest.raises(ValueError, match=r"onnxruntime: pip install 'movie-genre-model\[onnx\]'"):
        backends.load("anywhere", backend="onnx")


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_model_that_is_not_there_is_named(tmp_path, backend):
    with pytest.raises((ValueError, ConnectionError), match="nowhere"):
        backends.load(str(tmp_path / "nowhere"), backend=backend)
