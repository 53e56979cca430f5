"""From a `MovieGenreModel` to an ONNX folder that `MovieGenreOnnx` reads without torch.

The graph is built node by node from the weights, with ONNX Runtime's fused attention, instead of traced from PyTorch
and mended afterwards: it is small, and what runs is what stands here. The folder holds

    model.onnx               the network; inputs and outputs are named below, batch and length are dynamic
    classifier.safetensors   the classifier's weights once more, for Monte-Carlo dropout
    config.json, tokenizer.json, tokenizer_config.json
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from .modeling_movie_genre import MovieGenreModel
from .onnx_runtime import CLASSIFIER_FILE, INPUTS, MODEL_FILE, OUTPUTS

OPSET = 20
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
# Without VNNI a processor adds two products in 16 bits, which 8-bit weights overflow: 7 bits are right everywhere.
WEIGHT_LIMIT = 63
EMBEDDING_LIMIT = 127
LOWEST = np.float32(np.finfo(np.float32).min)


def export(model: MovieGenreModel, output: str | Path, *, int8: bool = False) -> Path:
    """Write the ONNX folder of a model, and return it.

    Args:
        model: loaded by `from_pretrained`, so that its tokenizer is known.
        output: the folder; made if missing.
        int8: store the encoder's weights in 8 bits and multiply in them. Probabilities move by some hundredths:
            evaluate the result before use.

    Raises:
        ValueError: if `output` holds a model of another kind, or the model knows no tokenizer.
    """
    output = Path(output)
    if (output / "model.safetensors").exists():
        raise ValueError(f"{output} holds a PyTorch model: name another folder for the ONNX one")
    tokenizer = model.tokenizer
    output.mkdir(parents=True, exist_ok=True)
    onnx.save_model(build_graph(model, int8=int8), output / MODEL_FILE)
    (output / CLASSIFIER_FILE).write_bytes(save(classifier_weights(model)))
    values = model.config.to_dict()
    for name in ("auto_map", "_name_or_path"):  # code that stays with the PyTorch model, and where that was
        values.pop(name, None)
    (output / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(output)
    return output


def classifier_weights(model: MovieGenreModel) -> dict[str, np.ndarray]:
    """Weights and biases of the three dense layers, and the calibration; `*.weight` are (in, out)."""
    weights = {name: getattr(model, name) for name in ("logit_scale", "logit_bias")}
    width = model.config.hidden_size
    for name in ("dense_1", "dense_2", "output"):
        layer = copy.deepcopy(getattr(model.classifier, name)).float()
        with torch.inference_mode():
            # Asked of the layer, whatever it is made of: what it adds, and what it does to each unit vector.
            units = torch.eye(width, device=model.device)
            bias = layer(torch.zeros_like(units[0]))
            weight = layer(units) - bias
        weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
        width = len(bias)
    return {name: value.float().numpy(force=True) for name, value in weights.items()}


def build_graph(model: MovieGenreModel, *, int8: bool = False) -> onnx.ModelProto:
    """The network as ONNX: (batch, seq) `input_ids` and `attention_mask` -> logits, pooled vector, pooling weights."""
    return _Graph(model, int8).model


class _Graph:
    """Collects nodes and weights; each method takes and returns names of values."""

    def __init__(self, model: MovieGenreModel, int8: bool) -> None:
        self.config, self.int8 = model.config, int8
        self.weights = {name: value.float().numpy(force=True) for name, value in model.state_dict().items()}
        self.classifier = classifier_weights(model)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last_axis, self.axis_1 = self.constant(np.array([-1])), self.constant(np.array([1]))
        outputs = self.network(*INPUTS)
        for value, name in zip(outputs, OUTPUTS, strict=True):
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        shapes: tuple[list[str | int | None], ...]
        shapes = (["batch", len(model.config.genres)], ["batch", model.config.hidden_size], ["batch", "seq"])
        graph = helper.make_graph(
            self.nodes,
            "movie_genre",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in INPUTS],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in zip(OUTPUTS, shapes, strict=True)
            ],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        self.model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="movie-genre")

    def constant(self, value: np.ndarray | np.generic) -> str:
        """A weight or a number."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def nodes_of(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Apply an operator that has several outputs."""
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Apply an operator that has one output."""
        return self.nodes_of(operator, *inputs, **attributes)[0]

    def network(self, input_ids: str, attention_mask: str) -> tuple[str, str, str]:
        """All of it, as `MovieGenreModel.forward`."""
        x = self.embeddings(input_ids, attention_mask)
        mask = self.node("Cast", attention_mask, to=TensorProto.INT32)
        for i in range(self.config.num_hidden_layers):
            x = self.layer(x, mask, f"layers.{i}")
        if self.config.norm_placement == "pre":
            x = self.norm(x, "final_norm")
        pooled, weights = self.pooling(x, attention_mask)
        y = self.activation(self.dense(pooled, "dense_1"))
        y = self.activation(self.dense(y, "dense_2"))
        y = self.node("Mul", self.dense(y, "output"), self.constant(self.classifier["logit_scale"]))
        return self.node("Add", y, self.constant(self.classifier["logit_bias"])), pooled, weights

    def embeddings(self, input_ids: str, attention_mask: str) -> str:
        """(batch, seq) -> (batch, seq, hidden_size)."""
        one, zero = self.constant(np.int64(1)), self.constant(np.int64(0))
        count = self.node("CumSum", attention_mask, self.constant(np.array(1)))
        positions = self.node("Max", self.node("Sub", count, one), zero)
        table = self.weights["embeddings.word_embeddings.weight"]
        if self.int8:
            rows, scale = _quantise(table.T, EMBEDDING_LIMIT)
            x = self.node("Gather", self.constant(rows.T), input_ids)
            x = self.node("Cast", x, to=TensorProto.FLOAT)
            x = self.node("Mul", x, self.node("Gather", self.constant(scale[:, None]), input_ids))
        else:
            x = self.node("Gather", self.constant(table), input_ids)
        table = self.weights["embeddings.position_embeddings.weight"]
        x = self.node("Add", x, self.node("Gather", self.constant(table), positions))
        return self.norm(x, "embeddings.norm")

    def layer(self, x: str, mask: str, name: str) -> str:
        """(batch, seq, hidden_size) -> the same."""
        if self.config.norm_placement == "pre":
            x = self.node("Add", x, self.attention(self.norm(x, f"{name}.attention_norm"), mask, f"{name}.attention"))
            y = self.feed_forward(self.norm(x, f"{name}.feed_forward_norm"), f"{name}.feed_forward")
            return self.node("Add", x, y)
        x = self.norm(self.node("Add", x, self.attention(x, mask, f"{name}.attention")), f"{name}.attention_norm")
        y = self.node("Add", x, self.feed_forward(x, f"{name}.feed_forward"))
        return self.norm(y, f"{name}.feed_forward_norm")

    def attention(self, x: str, mask: str, name: str) -> str:
        """Multi-head self-attention; `mask` is 1 at real tokens, int32."""
        parts = self.nodes_of("Split", self.linear(x, f"{name}.query_key_value"), outputs=3, axis=-1, num_outputs=3)
        context = self.node(
            "MultiHeadAttention", *parts, "", mask, domain=CONTRIB, num_heads=self.config.num_attention_heads
        )
        return self.linear(context, f"{name}.output")

    def feed_forward(self, x: str, name: str) -> str:
        """Two dense layers."""
        return self.linear(self.activation(self.linear(x, f"{name}.intermediate")), f"{name}.output")

    def linear(self, x: str, name: str) -> str:
        """A dense layer of the encoder, in 8 bits if asked for: activations are quantised as they come."""
        weight, bias = self.weights[f"{name}.weight"].T, self.constant(self.weights[f"{name}.bias"])
        if not self.int8:
            return self.node("Add", self.node("MatMul", x, self.constant(weight)), bias)
        values, scale = _quantise(weight, WEIGHT_LIMIT)
        return self.node(
            "DynamicQuantizeMatMul", x, self.constant(values), self.constant(scale), "", bias, domain=CONTRIB
        )

    def dense(self, x: str, name: str) -> str:
        """A dense layer of the classifier."""
        weight, bias = (self.constant(self.classifier[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.node("Gemm", x, weight, bias)

    def activation(self, x: str) -> str:
        """The configuration's."""
        match self.config.hidden_act:
            case "gelu":
                return self.node("Gelu", x)
            case "relu":
                return self.node("Relu", x)
            case "silu":
                return self.node("Mul", x, self.node("Sigmoid", x))
            case other:
                raise ValueError(f"hidden_act={other!r} has no ONNX form here: add it to modeling/export.py")

    def norm(self, x: str, name: str) -> str:
        """Layer normalisation, spelt out: ONNX Runtime's own operator sums one number at a time, three times slower."""
        x = self.node("Sub", x, self.node("ReduceMean", x, self.last_axis))
        variance = self.node("ReduceMean", self.node("Mul", x, x), self.last_axis)
        variance = self.node("Add", variance, self.constant(np.float32(self.config.layer_norm_eps)))
        x = self.node("Mul", x, self.node("Reciprocal", self.node("Sqrt", variance)))
        x = self.node("Mul", x, self.constant(self.weights[f"{name}.weight"]))
        return self.node("Add", x, self.constant(self.weights[f"{name}.bias"]))

    def pooling(self, x: str, attention_mask: str) -> tuple[str, str]:
        """(batch, seq, hidden_size) -> pooled (batch, hidden_size) and weights (batch, seq)."""
        weight, bias = (self.constant(self.weights[f"pooling.score.{part}"].T) for part in ("weight", "bias"))
        scores = self.node("Squeeze", self.node("Add", self.node("MatMul", x, weight), bias), self.last_axis)
        real = self.node("Cast", attention_mask, to=TensorProto.BOOL)
        weights = self.node("Softmax", self.node("Where", real, scores, self.constant(LOWEST)), axis=-1)
        pooled = self.node("MatMul", self.node("Unsqueeze", weights, self.axis_1), x)  # (batch, 1, hidden_size)
        return self.node("Squeeze", pooled, self.axis_1), weights


def _quantise(weight: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a matrix as int8 between -limit and limit, and the scale of each."""
    scale = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny) / limit
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
