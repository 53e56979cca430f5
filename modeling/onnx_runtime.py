"""The exported model on ONNX Runtime: `predict_genres` without torch or transformers."""

import json
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import onnxruntime
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from .backends import cores
from .prediction_movie_genre import (
    GenrePrediction,
    assemble,
    cache_alone,
    check_attribution,
    check_texts,
    nothing_cached,
    read_windows,
    resolve_rule,
    split_windows,
)

MODEL_FILE = "model.onnx"
CLASSIFIER_FILE = "classifier.safetensors"
INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "pooled_output", "pooling_weights")

_erf = np.vectorize(math.erf, otypes=[np.float32])
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": lambda x: x * (0.5 + 0.5 * _erf(x * np.float32(math.sqrt(0.5)))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * _sigmoid(x),
}


@dataclass(frozen=True)
class OnnxConfig:
    """What `config.json` says that matters after export; the names are those of `MovieGenreConfig`."""

    id2label: dict[int, str]
    max_position_embeddings: int
    pad_token_id: int
    hidden_act: str
    classifier_dropout: float
    mc_dropout_scope: str
    min_genres: int
    threshold_profiles: dict[str, list[float]] = field(default_factory=dict)
    label_sets: dict[str, int] = field(default_factory=dict)
    label_set_weight: float = 0.0
    default_profile: str | None = None
    max_fertility: float | None = None

    @property
    def genres(self) -> list[str]:
        """Genre names in the order of the logits."""
        return list(self.id2label.values())

    @classmethod
    def from_file(cls, path: Path) -> "OnnxConfig":
        """Read it.

        Raises:
            ValueError: if the file is no configuration of a movie genre model.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["model_type"] != "movie_genre" or values["format_version"] != 1:
                raise ValueError(f"model_type={values['model_type']!r}, format_version={values['format_version']!r}")
            labels = {int(index): label for index, label in values["id2label"].items()}
            told = {name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None}
            return cls(**told | {"id2label": dict(sorted(labels.items()))})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no configuration of a movie genre model, or too new a one: {error}") from None


class MovieGenreOnnx:
    """An exported movie genre model; see `predict_genres`."""

    def __init__(
        self,
        config: OnnxConfig,
        session: onnxruntime.InferenceSession,
        classifier: Mapping[str, np.ndarray],
        tokenizer: Tokenizer,
    ) -> None:
        self.config, self.session, self.classifier, self.tokenizer = config, session, classifier, tokenizer

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        threads: int | None = None,
    ) -> "MovieGenreOnnx":
        """Load what `movie-genre export` wrote.

        Args:
            name: its folder, or a folder or Hub repository that has it under `onnx/`.
            revision: of the repository.
            token: for a private repository.
            cache_dir: where to keep what the Hub gives.
            threads: to compute with; as many as there are cores for it if None.

        Raises:
            ValueError: if there is no such model.
        """
        folder = _find(str(name), revision, token, cache_dir)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        file = folder / MODEL_FILE
        try:
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            file = folder / "tokenizer.json"
            tokenizer = Tokenizer.from_file(str(file))
            file = folder / CLASSIFIER_FILE
            classifier = load_file(file)
        except Exception as error:  # the errors of ONNX Runtime and of tokenizers have no common ancestor but this
            raise ValueError(f"{file} cannot be read: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(OnnxConfig.from_file(folder / "config.json"), session, classifier, tokenizer)

    @overload
    def predict_genres(self, texts: str, tokenizer: Any = None, **options: Any) -> GenrePrediction: ...

    @overload
    def predict_genres(self, texts: Sequence[str], tokenizer: Any = None, **options: Any) -> list[GenrePrediction]: ...

    def predict_genres(  # type: ignore[misc]  # the overloads leave the options' types to this signature
        self,
        texts: str | Sequence[str],
        tokenizer: Any = None,
        *,
        threshold: float | Mapping[str, float] | str | None = None,
        mc_samples: int = 0,
        attribution: str | None = None,
        genre: str | None = None,
        stride: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
    ) -> GenrePrediction | list[GenrePrediction]:
        """Genres of one description or of several, as `MovieGenreModel.predict_genres` gives them.

        Arguments and results are those, with two exceptions: Monte-Carlo dropout draws masks for the classifier alone,
        from NumPy, so that a seed repeats ONNX results but not PyTorch's; and there are no gradients. An int8 model
        scales numbers by the largest of a batch, so that a text's neighbours move its probabilities a little.

        Args:
            texts: a description, or a sequence of them.
            tokenizer: a fast tokenizer to use instead of the stored one.
            threshold: a number, a dict by genre, a profile's name, or None for the default profile.
            mc_samples: Monte-Carlo dropout masks, 2 or more; 0 for one pass without dropout.
            attribution: "pooling" for the attention pooling's weight of each word; None for none.
            genre: for gradient attribution, which only PyTorch has.
            stride: tokens that neighbouring windows of a long text share; None cuts it.
            batch_size: texts a forward pass.
            seed: makes Monte-Carlo results repeatable.

        Raises:
            TypeError: if a text is not a string, or an option has the wrong type.
            ValueError: if a text has no words, an option lies outside its range, or asks for what ONNX cannot do.
        """
        config = self.config
        single = isinstance(texts, str)
        texts = check_texts(texts, mc_samples, batch_size, stride, seed)
        check_attribution(attribution, genre, config.genres)
        if attribution == "gradient":
            raise ValueError("attribution='gradient' needs gradients, which an ONNX model has not: use MovieGenreModel")
        if mc_samples and config.mc_dropout_scope != "head":
            raise ValueError(
                f"mc_dropout_scope={config.mc_dropout_scope!r} needs masks inside the encoder, which an ONNX model "
                "does not take: use MovieGenreModel, or a model with mc_dropout_scope='head'"
            )
        rule = resolve_rule(threshold, config)
        if not texts:
            return []
        fast: Any = self.tokenizer if tokenizer is None else getattr(tokenizer, "backend_tokenizer", tokenizer)
        if fast.truncation or fast.padding:  # left by an earlier call of the caller's
            fast = Tokenizer.from_str(fast.to_str())
            fast.no_truncation()
            fast.no_padding()
        encoded = fast.encode_batch(texts, add_special_tokens=False)
        windows = split_windows(
            [text.ids for text in encoded],
            [text.offsets for text in encoded],
            fast.encode("").ids,
            config.max_position_embeddings,
            stride,
        )
        seed = secrets.randbits(63) if seed is None else seed
        samples, weights = read_windows(windows, lambda ids: self._probabilities(ids, mc_samples, seed), batch_size)
        found = assemble(
            texts, windows, samples, weights if attribution else None, config.genres, rule, config.min_genres
        )
        return found[0] if single else found

    def _probabilities(self, ids: list[list[int]], mc_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (samples, batch, genres) and pooling weights (batch, seq) of a batch, padded on the right."""
        input_ids = np.full((len(ids), max(map(len, ids))), self.config.pad_token_id)
        attention_mask = np.zeros_like(input_ids)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            attention_mask[row, : len(tokens)] = 1
        logits, pooled, weights = self.session.run(OUTPUTS, dict(zip(INPUTS, (input_ids, attention_mask), strict=True)))
        samples = self._classifier_samples(pooled, mc_samples, seed) if mc_samples else logits[None]
        return _sigmoid(samples), weights

    def _classifier_samples(self, pooled: np.ndarray, mc_samples: int, seed: int) -> np.ndarray:
        """Logits (samples, batch, genres) of pooled vectors (batch, hidden_size); a mask serves the whole batch."""
        generator, rate = np.random.default_rng(seed), self.config.classifier_dropout
        activation = ACTIVATIONS[self.config.hidden_act]
        x = np.broadcast_to(pooled, (mc_samples, *pooled.shape))
        for name in ("dense_1", "dense_2", "output"):
            mask = generator.random((mc_samples, 1, x.shape[2]), dtype=np.float32) >= rate
            x = (x * mask / np.float32(1 - rate)) @ self.classifier[f"{name}.weight"] + self.classifier[f"{name}.bias"]
            x = x if name == "output" else activation(x)
        return x * self.classifier["logit_scale"] + self.classifier["logit_bias"]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _find(name: str, revision: str | None, token: str | bool | None, cache_dir: str | Path | None) -> Path:
    """Folder of an exported model: itself, its `onnx` folder, or what the Hub has.

    Raises:
        ConnectionError: if the Hub cannot be asked, and the cache has no copy.
        ValueError: if there is none.
    """
    root = Path(name)
    if not root.exists() and name.count("/") == 1:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            files = [
                f"{prefix}{file}"
                for prefix in ("", "onnx/")
                for file in (MODEL_FILE, CLASSIFIER_FILE, "config.json", "tokenizer.json")
            ]
            cached = cache_alone(name, revision, token)
            options: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": cached}
            root = Path(snapshot_download(name, revision=revision, allow_patterns=files, **options))
        except LocalEntryNotFoundError:
            raise nothing_cached(name, cache_dir) from None
        except Exception as error:  # the client's many errors all mean that there is no model
            raise ValueError(f"no model in {name!r}: the Hub gives none ({str(error).splitlines()[0]})") from error
    for folder in (root, root / "onnx"):
        if (folder / MODEL_FILE).exists():
            return folder
    beside = f"{name}/onnx" if Path(name).is_dir() else "onnx"
    raise ValueError(
        f"no ONNX model in {name!r}: neither {MODEL_FILE} nor onnx/{MODEL_FILE}; "
        f"`movie-genre export --model {name} --output {beside}` makes one"
    )
