"""The movie genre encoder: a small Transformer that reads a description and gives one logit a genre.

word pieces -> token + position embedding -> norm, dropout
            -> 4 x [ self-attention (8 heads) + residual, norm -> feed-forward + residual, norm ]
            -> self-attention pooling -> three dense layers -> scale and bias a genre -> logits
"""

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput, resolve_revision

from .configuration_movie_genre import MovieGenreConfig
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

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
# A tokenizer is looked up once a model, whatever number of threads ask for it first.
_TOKENIZER_LOCK = threading.Lock()
# Points on the way from no words to the text, at which integrated gradients look.
GRADIENT_STEPS = 16


@dataclass
class MovieGenreOutput(ModelOutput):
    """What `MovieGenreModel.forward` returns.

    Attributes:
        loss: mean binary cross-entropy over films and genres, when `labels` were given.
        logits: (batch, genres), calibrated.
        pooling_weights: (batch, seq), summing to one over the real tokens of a text.
        pooled_output: (batch, hidden_size), what the classifier reads.
        hidden_states: of the embeddings and of each layer, (batch, seq, hidden_size) each, when asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    pooling_weights: torch.Tensor | None = None
    pooled_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Zero elements of `x` with probability p and scale the others by 1 / (1 - p).

    On a CPU the Bernoulli numbers of `F.dropout` are a quarter of a training step. Sixteen bits an element, four
    elements a draw, cost half of that and give p to within 1 / 2^17.
    """
    if not p or x.device.type != "cpu":
        return F.dropout(x, p)
    elements = x.numel()
    bits = torch.empty((elements + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    keep = bits[:elements].view(x.shape) >= min(round(p * 2**16), 2**16 - 1) - 2**15
    return x * keep.to(x.dtype).mul_(1 / (1 - p))


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """See that a tokenizer knows more than special tokens: where its file is missing, transformers makes up such a one.

    Raises:
        ValueError: if it does not.
    """
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"the tokenizer of {name!r} knows no words: its tokenizer.json is missing")


class Dropout(nn.Module):
    """Dropout that is active in training, or whenever the call brings a generator to draw the mask from.

    Monte-Carlo dropout (Gal and Ghahramani 2016) needs masks at inference. Taking them from a generator of the call,
    instead of switching the module to training mode, leaves other threads' answers alone.
    """

    def __init__(self, p: float, *, shared: bool = False) -> None:
        super().__init__()
        self.p = p
        self.shared = shared  # one drawn mask a sample serves the whole batch: x is (samples, batch, width)

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Zero elements of `x` with probability p and scale the others by 1 / (1 - p)."""
        if generator is None:
            return dropout(x, self.p) if self.training else x
        shape = (x.shape[0], 1, x.shape[2]) if self.shared else x.shape
        # Drawn on the CPU: the same seed gives the same masks on every device.
        mask = torch.rand(shape, generator=generator) >= self.p
        return x * mask.to(x.device, x.dtype) / (1 - self.p)

    def extra_repr(self) -> str:
        """Show the rate when the model is printed."""
        return f"p={self.p}"


class SinusoidalPositions(nn.Module):
    """Fixed position embedding (Vaswani et al. 2017, section 3.5): sine in the even, cosine in the odd dimensions."""

    weight: torch.Tensor

    def __init__(self, positions: int, hidden_size: int) -> None:
        super().__init__()
        # Persistent: a model is built on the meta device and filled from the checkpoint.
        self.register_buffer("weight", self.table(positions, hidden_size))

    @staticmethod
    def table(positions: int, hidden_size: int) -> torch.Tensor:
        """Embedding of each position, (positions, hidden_size)."""
        frequencies = 10000.0 ** (-torch.arange(0, hidden_size, 2) / hidden_size)
        angles = torch.arange(positions)[:, None] * frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        """(batch, seq) -> (batch, seq, hidden_size)."""
        return self.weight[position_ids]


class MovieGenreEmbeddings(nn.Module):
    """Token plus position embedding, normalised."""

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        self.word_embeddings: nn.Module = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.position_embeddings: nn.Module
        if config.position_embedding_type == "learned":
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        else:
            self.position_embeddings = SinusoidalPositions(config.max_position_embeddings, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        generator: torch.Generator | None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, seq) -> (batch, seq, hidden_size); `inputs_embeds`, of that shape, replace the token embeddings."""
        # Positions count real tokens, so that padding on either side changes nothing.
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        position_ids = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (batch, seq)
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        x = x + self.position_embeddings(position_ids)
        return self.dropout(self.norm(x), generator)


class MovieGenreAttention(nn.Module):
    """Multi-head self-attention; the heads' joint width may differ from the encoder's."""

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        assert config.head_dim is not None
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, 3 * self.heads * self.head_dim)
        self.output = nn.Linear(self.heads * self.head_dim, config.hidden_size)
        self.dropout_prob = config.attention_probs_dropout_prob

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, seq, hidden_size) -> the same; `mask` (batch, 1, 1, seq) is True at real tokens."""
        batch, seq, _ = x.shape
        query, key, value = (
            self.query_key_value(x).view(batch, seq, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        )
        p = self.dropout_prob if self.training else 0.0
        if p and x.device.type == "cpu":  # where PyTorch has no fused kernel with dropout
            scores = query * self.head_dim**-0.5 @ key.transpose(-1, -2)  # (batch, heads, seq, seq)
            if mask is not None:
                scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
            context = dropout(scores.softmax(dim=-1), p) @ value
        else:
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)
        # (batch, heads, seq, head_dim) -> (batch, seq, heads * head_dim)
        return self.output(context.transpose(1, 2).reshape(batch, seq, self.heads * self.head_dim))


class MovieGenreFeedForward(nn.Module):
    """Two dense layers applied to each position."""

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, seq, hidden_size) -> the same."""
        return self.output(self.activation(self.intermediate(x)))


class MovieGenreLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, each with dropout, residual connection and layer normalisation."""

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        self.pre_norm = config.norm_placement == "pre"
        self.attention = MovieGenreAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = MovieGenreFeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, generator: torch.Generator | None) -> torch.Tensor:
        """(batch, seq, hidden_size) -> the same."""
        if self.pre_norm:  # Xiong et al. 2020
            x = x + self.dropout(self.attention(self.attention_norm(x), mask), generator)
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)), generator)
        x = self.attention_norm(x + self.dropout(self.attention(x, mask), generator))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x), generator))


class SelfAttentionPooling(nn.Module):
    """Weighted mean of the hidden states, weights from a learned query (Safari et al. 2020, equation 3)."""

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        self.score = nn.Linear(config.hidden_size, 1)

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, seq, hidden_size) -> pooled (batch, hidden_size) and weights (batch, seq)."""
        scores = self.score(x).squeeze(-1).float()  # (batch, seq)
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask == 0, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return torch.einsum("bs,bsh->bh", weights.to(x.dtype), x), weights


class LabelGraph(nn.Module):
    """A last layer whose weights come from a graph of the genres (ML-GCN, Chen et al. 2019).

    Two graph convolutions over the genres' name embeddings E give one weight vector a genre (equation 3 there):

        W = A leaky_relu(A E W1) W2

    with A the normalised co-occurrence of the training films, which `connect` fills in and the checkpoint keeps.
    """

    adjacency: torch.Tensor
    label_embeddings: torch.Tensor

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        assert config.classifier_hidden_size is not None
        genres = len(config.genres)
        self.threshold, self.neighbours = config.label_graph_threshold, config.label_graph_weight
        self.register_buffer("adjacency", torch.eye(genres))
        self.register_buffer("label_embeddings", torch.zeros(genres, config.hidden_size))
        self.graph_1 = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.graph_2 = nn.Linear(config.hidden_size, config.classifier_hidden_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(genres))

    @torch.no_grad()
    def connect(self, truth: torch.Tensor, label_embeddings: torch.Tensor) -> None:
        """Fill the graph.

        Genres are joined where P(column | row) reaches the threshold; a genre's neighbours share the weight
        `label_graph_weight` and it keeps the rest itself (the binary and the re-weighted correlation matrix of the
        paper). A = D^-1/2 A' D^-1/2, with D the row sums of A'.

        Args:
            truth: (films, genres) of 0 and 1, of the training films.
            label_embeddings: (genres, hidden_size), the mean token embedding of each genre's name.
        """
        together = truth.double().T @ truth.double()
        joined = together / together.diagonal()[:, None].clamp(min=1) >= self.threshold
        joined.fill_diagonal_(False)
        degree = joined.sum(dim=1, keepdim=True)
        weights = torch.where(joined, self.neighbours / degree.clamp(min=1), 0.0).double()
        weights.diagonal().copy_(torch.where(degree[:, 0] > 0, 1 - self.neighbours, 1.0))
        scale = weights.sum(dim=1).rsqrt()
        self.adjacency.copy_(scale[:, None] * weights * scale)
        self.label_embeddings.copy_(F.normalize(label_embeddings, dim=-1))

    @property
    def weight(self) -> torch.Tensor:
        """(genres, classifier_hidden_size)."""
        hidden = F.leaky_relu(self.adjacency @ self.graph_1(self.label_embeddings), 0.2)
        return self.adjacency @ self.graph_2(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., classifier_hidden_size) -> (..., genres)."""
        return F.linear(x, self.weight, self.bias)


class MovieGenreClassifier(nn.Module):
    """Three dense layers, each behind dropout; in training the logits of several masks are averaged."""

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__()
        assert config.classifier_hidden_size is not None
        self.dense_1 = nn.Linear(config.hidden_size, config.classifier_hidden_size)
        self.dense_2 = nn.Linear(config.classifier_hidden_size, config.classifier_hidden_size)
        self.output = (
            LabelGraph(config)
            if config.label_graph == "gcn"
            else nn.Linear(config.classifier_hidden_size, len(config.genres))
        )
        self.activation = ACTIVATIONS[config.hidden_act]
        self.dropout = Dropout(config.classifier_dropout, shared=True)
        self.dropout_samples = config.dropout_samples

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(batch, hidden_size) -> (batch, genres), before calibration."""
        if self.training:  # multi-sample dropout (Inoue 2019)
            return self.dense(pooled.expand(self.dropout_samples, *pooled.shape)).mean(dim=0)
        return self.dense(pooled)

    def dense(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """(..., hidden_size) -> (..., genres); with a generator `x` is (samples, batch, hidden_size)."""
        x = self.activation(self.dense_1(self.dropout(x, generator)))
        x = self.activation(self.dense_2(self.dropout(x, generator)))
        return self.output(self.dropout(x, generator))


class MovieGenrePreTrainedModel(PreTrainedModel):
    """Initialisation and loading."""

    config: MovieGenreConfig
    config_class = MovieGenreConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # The loss is a mean over the batch: Trainer must not divide it again by the number of items.
    accepts_loss_kwargs = False

    def _init_weights(self, module: nn.Module) -> None:
        """Fill every tensor of a module; loaded ones are left alone."""
        super()._init_weights(module)
        if isinstance(module, SinusoidalPositions):
            init.copy_(module.weight, SinusoidalPositions.table(*module.weight.shape))
        elif isinstance(module, LabelGraph):
            # Weights of two layers multiplied: each at its own scale, that the product is of the dense layer's.
            for layer in (module.graph_1, module.graph_2):
                init.xavier_uniform_(layer.weight)
            init.eye_(module.adjacency)
            init.zeros_(module.label_embeddings)
            init.zeros_(module.bias)
        elif isinstance(module, MovieGenreModel):
            init.ones_(module.logit_scale)
            init.zeros_(module.logit_bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as `PreTrainedModel.from_pretrained` does, and remember where the tokenizer is to be found.

        Weights stored in the dtype they are loaded in would stay views of the memory-mapped file, at whatever byte
        they stand there: sums then round in another order, and logits differ in the last digits from those of the
        model that was saved. They move to memory of their own, aligned as PyTorch's always is: a loaded model answers
        as the saved one, bit for bit, and a file replaced beneath it changes nothing.

        Raises:
            ConnectionError: if the Hub cannot be asked, and the cache has no copy.
            OSError: if there is no such model.
        """
        name = str(pretrained_model_name_or_path)
        told = kwargs.get("local_files_only", False)
        cached = not told and cache_alone(name, kwargs.get("revision"), kwargs.get("token"))
        if cached:
            kwargs["local_files_only"] = True
        kwargs["use_safetensors"] = True  # a pickle is a program
        where = {option: kwargs[option] for option in ("token", "cache_dir", "local_files_only") if option in kwargs}
        # The tokenizer, which is read later, is of the weights' own commit, whatever has been pushed since.
        if revision := resolve_revision(name, kwargs.get("revision"), **where):
            kwargs["revision"] = revision
        source = where | {option: kwargs[option] for option in ("revision", "subfolder") if option in kwargs}
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except OSError:
            if cached:
                raise nothing_cached(name, kwargs.get("cache_dir")) from None
            raise
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        # A folder stays where it is, whichever one the process works in when the tokenizer is needed.
        model._tokenizer_source = (os.path.abspath(name) if os.path.isdir(name) else name, source)
        return loaded


class MovieGenreModel(MovieGenrePreTrainedModel):
    """Encoder, pooling and classifier; `predict_genres` is the interface, `forward` the network."""

    logit_scale: torch.Tensor
    logit_bias: torch.Tensor

    def __init__(self, config: MovieGenreConfig) -> None:
        super().__init__(config)
        config.validate()  # from_pretrained sets the fields that it is given when the configuration has been made
        self.embeddings = MovieGenreEmbeddings(config)
        self.layers = nn.ModuleList(MovieGenreLayer(config) for _ in range(config.num_hidden_layers))
        self.final_norm = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            if config.norm_placement == "pre"
            else nn.Identity()
        )
        self.pooling = SelfAttentionPooling(config)
        self.classifier = MovieGenreClassifier(config)
        # Calibration (Platt scaling a genre), fitted after training; part of the checkpoint.
        self.register_buffer("logit_scale", torch.ones(len(config.genres)))
        self.register_buffer("logit_bias", torch.zeros(len(config.genres)))
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._tokenizer_source: tuple[Any, dict[str, Any]] | None = None
        self.post_init()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but a token of the Hub."""
        state = dict(super().__getstate__())
        if source := state["_tokenizer_source"]:
            name, options = source
            state["_tokenizer_source"] = (name, {key: value for key, value in options.items() if key != "token"})
        return state

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save as `PreTrainedModel.save_pretrained` does, loadable through either Auto class.

        The tokenizer of a model that was loaded goes with it: `predict_genres` needs both.
        """
        # Registering for an Auto class writes one key of auto_map; saving merges it with those that are there.
        name = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        self.config.auto_map = {**getattr(self.config, "auto_map", {}), "AutoModelForSequenceClassification": name}
        super().save_pretrained(save_directory, *args, **kwargs)
        if self._tokenizer_source and kwargs.get("is_main_process", True):
            with suppress(ValueError):  # there is none, or it cannot be read
                self.tokenizer.save_pretrained(save_directory)
        for weights in Path(save_directory).glob("*.safetensors"):  # written for their owner alone
            with suppress(OSError):  # others' files, or no configuration beside them
                shutil.copymode(Path(save_directory, "config.json"), weights)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MovieGenreOutput | tuple:
        """Logits of a batch.

        Args:
            input_ids: (batch, seq) token ids.
            attention_mask: (batch, seq), 1 at real tokens; None if all are.
            labels: (batch, genres) of 0 and 1, or probabilities.
            output_hidden_states: whether to return the hidden states; the configuration's choice by default.
            return_dict: False for a tuple.
        """
        hidden_states = self._encode(input_ids, attention_mask)
        pooled, weights = self.pooling(hidden_states[-1], attention_mask)
        logits = self._calibrate(self.classifier(pooled))
        loss = None if labels is None else F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        keep = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = MovieGenreOutput(loss, logits, weights, pooled, tuple(hidden_states) if keep else None)
        return output if return_dict is not False else output.to_tuple()

    def _encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        generator: torch.Generator | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """Hidden states of the embeddings and of each layer, (batch, seq, hidden_size) each."""
        limit = self.config.max_position_embeddings
        if input_ids.shape[1] > limit:
            raise ValueError(
                f"input of {input_ids.shape[1]} tokens is longer than max_position_embeddings={limit}: truncate it"
            )
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()  # (batch, 1, 1, seq)
        hidden_states = [self.embeddings(input_ids, attention_mask, generator, inputs_embeds)]
        for layer in self.layers:
            hidden_states.append(layer(hidden_states[-1], mask, generator))
        hidden_states[-1] = self.final_norm(hidden_states[-1])
        return hidden_states

    def _calibrate(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * self.logit_scale + self.logit_bias

    @overload
    def predict_genres(
        self, texts: str, tokenizer: PreTrainedTokenizerBase | None = None, **options: Any
    ) -> GenrePrediction: ...

    @overload
    def predict_genres(
        self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None, **options: Any
    ) -> list[GenrePrediction]: ...

    def predict_genres(  # type: ignore[misc]  # the overloads leave the options' types to this signature
        self,
        texts: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        threshold: float | Mapping[str, float] | str | None = None,
        mc_samples: int = 0,
        attribution: str | None = None,
        genre: str | None = None,
        stride: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
    ) -> GenrePrediction | list[GenrePrediction]:
        """Genres of one description or of several.

        Safe to call from several threads.

        Args:
            texts: a description, or a sequence of them.
            tokenizer: the one the model was trained with; by default the one stored beside the weights.
            threshold: a number, a dict by genre (the others keep the default profile's, or 0.5 where it has none), or
                the name of one of the model's decision profiles; the model's default profile if None.
            mc_samples: Monte-Carlo dropout masks (Gal and Ghahramani 2016), 2 or more; 0 for one pass without dropout.
            attribution: "pooling" for the attention pooling's weight of each word; "gradient" for what each word adds
                to one genre's logit (or takes from it, below zero), by integrated gradients (Sundararajan et al. 2017);
                None for none.
            genre: the one that "gradient" explains.
            stride: read texts beyond the limit in windows that overlap by this many tokens and average their
                probabilities; None cuts them, and the result says where.
            batch_size: texts a forward pass; batches are formed by length.
            seed: makes Monte-Carlo results repeatable: a text's depend on the seed, not on its neighbours.

        Returns:
            One `GenrePrediction` for a string, a list in the same order for a sequence.

        Raises:
            TypeError: if a text is not a string, or an option has the wrong type.
            ValueError: if a text has no words, or an option lies outside its range.
            RuntimeError: if the model is in training mode.
        """
        if self.training:
            raise RuntimeError(
                "the model is in training mode, where dropout would make its answers random: call model.eval() first"
            )
        single = isinstance(texts, str)
        texts = check_texts(texts, mc_samples, batch_size, stride, seed)
        check_attribution(attribution, genre, self.config.genres)
        rule = resolve_rule(threshold, self.config)
        if not texts:
            return []

        tokenizer = tokenizer or self.tokenizer
        # Cut by hand: a fast tokenizer keeps its truncation setting in itself, where threads would share it.
        encoded = tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
        )
        windows = split_windows(
            encoded["input_ids"],
            encoded["offset_mapping"],
            tokenizer("")["input_ids"],
            self.config.max_position_embeddings,
            stride,
        )
        seed = torch.Generator().seed() if seed is None else int(seed)  # NumPy's whole numbers are none to PyTorch
        samples, weights = read_windows(windows, lambda ids: self._probabilities(ids, mc_samples, seed), batch_size)
        if genre is not None:
            weights = [self._integrated_gradients(window.ids, self.config.genres.index(genre)) for window in windows]
        found = assemble(
            texts,
            windows,
            samples,
            weights if attribution else None,
            self.config.genres,
            rule,
            self.config.min_genres,
        )
        return found[0] if single else found

    def _probabilities(self, ids: list[list[int]], mc_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (samples, batch, genres) and pooling weights (batch, seq) of a batch, padded on the right."""
        device = self.logit_scale.device
        lengths = torch.tensor([len(row) for row in ids])
        input_ids = nn.utils.rnn.pad_sequence(
            [torch.tensor(row) for row in ids], batch_first=True, padding_value=self.config.pad_token_id
        ).to(device)
        ragged = bool(lengths.min() < lengths.max())  # without padding no mask is needed, and attention runs faster
        mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long().to(device) if ragged else None
        with torch.inference_mode():
            pooled, weights = self.pooling(self._encode(input_ids, mask)[-1], mask)
            if not mc_samples:
                logits = self.classifier(pooled)[None]
            elif self.config.mc_dropout_scope == "head":
                logits = self.classifier.dense(
                    pooled.expand(mc_samples, *pooled.shape), torch.Generator().manual_seed(seed)
                )
            else:
                logits = torch.cat([self._encoder_samples(row, mc_samples, seed) for row in ids], dim=1)
            probabilities = self._calibrate(logits.float()).sigmoid()
        return probabilities.cpu().numpy(), weights.cpu().numpy()

    def _encoder_samples(self, ids: list[int], mc_samples: int, seed: int) -> torch.Tensor:
        """Logits (samples, 1, genres) of one text, stacked `mc_samples` times in a batch, each with its own masks."""
        generator = torch.Generator().manual_seed(seed)
        input_ids = torch.tensor(ids, device=self.logit_scale.device).expand(mc_samples, -1)
        pooled, _ = self.pooling(self._encode(input_ids, None, generator)[-1], None)
        return self.classifier.dense(pooled[:, None], generator)

    def _integrated_gradients(self, ids: list[int], genre: int) -> np.ndarray:
        """What each token adds to a genre's logit, (seq,).

        Integrated gradients (Sundararajan et al. 2017, equation 1) over the token embeddings, from a text of padding
        between the special tokens. Gradients are asked for the embeddings alone: none is left on the parameters.
        """
        with torch.inference_mode(False), torch.enable_grad():  # whatever mode the caller is in
            input_ids = torch.tensor(ids, device=self.logit_scale.device)
            blank = torch.full_like(input_ids, self.config.pad_token_id)
            blank[0], blank[-1] = input_ids[0], input_ids[-1]
            embed = self.embeddings.word_embeddings
            text, start = embed(input_ids).detach(), embed(blank).detach()  # (seq, hidden_size)
            steps = ((torch.arange(GRADIENT_STEPS, device=text.device) + 0.5) / GRADIENT_STEPS).to(text.dtype)
            path = (start + steps[:, None, None] * (text - start)).requires_grad_()  # (steps, seq, hidden_size)
            hidden_states = self._encode(input_ids.expand(GRADIENT_STEPS, -1), None, inputs_embeds=path)
            logits = self._calibrate(self.classifier(self.pooling(hidden_states[-1], None)[0]))
            (gradient,) = torch.autograd.grad(logits[:, genre].sum(), path)
        return ((text - start) * gradient.mean(dim=0)).sum(dim=-1).float().cpu().numpy()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer stored with the weights, loaded at first need.

        Raises:
            ValueError: if the model was not loaded by `from_pretrained`, or its tokenizer cannot be read.
        """
        with _TOKENIZER_LOCK:
            if self._tokenizer is None:
                if self._tokenizer_source is None:
                    raise ValueError(
                        "this model was not loaded by from_pretrained, so it knows no tokenizer: pass tokenizer="
                    )
                name, options = self._tokenizer_source
                try:
                    tokenizer = AutoTokenizer.from_pretrained(name, config=self.config, **options)
                except Exception as error:  # a damaged file may raise any, and nn.Module hides an AttributeError
                    raise ValueError(f"the tokenizer of {name!r} cannot be read: {error}") from error
                check_vocabulary(tokenizer, name)
                self._tokenizer = tokenizer
            return self._tokenizer


MovieGenreModel.register_for_auto_class("AutoModel")
