"""Configuration of the movie genre encoder."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .prediction_movie_genre import SUBSET_ACCURACY, profile_names

# What transformers itself adds to a configuration beside its dataclass fields.
_TRANSFORMERS_KEYS = {
    *("model_type", "auto_map", "num_labels", "name_or_path", "_name_or_path", "torch_dtype", "tokenizer_class"),
    *("attn_implementation", "experts_implementation", "output_attentions", "use_cache", "_commit_hash"),
    *("bos_token_id", "eos_token_id"),  # the Trainer's, where the tokenizer has them
}

# What is found when training ends: fields that are no part of the network.
DECISION = ("threshold_profiles", "label_sets", "label_set_weight", "default_profile")
_UNDECIDED = "for other genres pass threshold_profiles={}, label_sets={} and default_profile=None"


@strict
class MovieGenreConfig(PreTrainedConfig):
    """Sizes, dropouts, genres and decision rule of a `MovieGenreModel`.

    Fields are checked on construction, by name and value; unknown ones are rejected.

    Args:
        vocab_size: entries of the token embedding.
        hidden_size: width of the encoder.
        num_hidden_layers: encoder layers.
        num_attention_heads: attention heads a layer.
        head_dim: width of one head; `hidden_size / num_attention_heads` unless given.
        intermediate_size: width inside the feed-forward block.
        hidden_act: activation of feed-forward block and classifier.
        norm_placement: layer normalisation after each residual sum ("post", as BERT) or before each block ("pre").
        position_embedding_type: "learned", or "sinusoidal" (Vaswani et al. 2017, section 3.5).
        max_position_embeddings: longest input in tokens, special tokens included.
        hidden_dropout_prob: dropout after the embeddings and on both residual branches of a layer.
        attention_probs_dropout_prob: dropout on attention probabilities (training only).
        classifier_dropout: dropout before each of the classifier's three dense layers.
        classifier_hidden_size: width of the classifier's first two dense layers; `hidden_size` unless given.
        dropout_samples: dropout masks whose logits the classifier averages in training.
        mc_dropout_scope: what Monte-Carlo dropout draws masks for: the classifier ("head"), or the encoder too
            ("encoder").
        label_graph: "gcn" makes the last layer's weights from the genres' co-occurrence (`LabelGraph`); "none" is a
            plain dense layer.
        label_graph_threshold: conditional co-occurrence P(other | genre) from which on two genres are joined.
        label_graph_weight: weight of a genre's neighbours, together, beside its own.
        initializer_range: standard deviation of the normal initialisation.
        layer_norm_eps: epsilon of the layer normalisations.
        pad_token_id: token that fills batches.
        min_genres: genres given at least, whatever the rule says.
        threshold_profiles: named decision rules, one threshold a genre in `id2label` order.
        label_sets: how many training films have exactly these genres, a digit a genre in `id2label` order:
            {"1001": 12, ...}. With them the profile "subset_accuracy" chooses whole sets (`LabelSets`).
        label_set_weight: weight there of what goes together in training films, 0 to 1.
        default_profile: the one used when none is asked for; None means 0.5 for every genre.
        max_fertility: word pieces a word (`fertility`) beyond which a text is not in the language of the training
            films; None if that is not known.
        base_model: the checkpoint that training started from; None for one from scratch.
        format_version: version of the checkpoint's layout.

    Raises:
        StrictDataclassError: (a ValueError or TypeError inside) for a field that has the wrong type or does not fit
            the others.
        TypeError: for an unknown field.
    """

    model_type = "movie_genre"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["pooling_weights", "pooled_output", "hidden_states"]

    vocab_size: int = 30522
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    head_dim: int | None = None
    intermediate_size: int = 256
    hidden_act: Literal["gelu", "relu", "silu"] = "gelu"
    norm_placement: Literal["post", "pre"] = "pre"
    position_embedding_type: Literal["learned", "sinusoidal"] = "learned"
    max_position_embeddings: int = 256
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.0
    classifier_dropout: float | int = 0.3
    classifier_hidden_size: int | None = None
    dropout_samples: int = 5
    mc_dropout_scope: Literal["head", "encoder"] = "head"
    label_graph: Literal["none", "gcn"] = "none"
    label_graph_threshold: float | int = 0.4
    label_graph_weight: float | int = 0.2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    min_genres: int = 1
    threshold_profiles: dict[str, list[float]] | None = None
    label_sets: dict[str, int] | None = None
    label_set_weight: float | int = 0.0
    default_profile: str | None = None
    max_fertility: float | int | None = None
    base_model: str | None = None
    format_version: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill derived defaults and reject fields that nothing reads."""
        unknown = sorted(kwargs.keys() - _TRANSFORMERS_KEYS)
        if unknown:
            self.validate_format()  # a newer one may have fields that are unknown here
            raise TypeError(
                f"MovieGenreConfig has no field {', '.join(map(repr, unknown))}; its fields are listed in its docstring"
            )
        try:
            if self.id2label is not None:
                self.id2label = {int(index): label for index, label in dict(self.id2label).items()}
        except (TypeError, ValueError):
            raise ValueError(f"id2label={self.id2label} must map 0, 1, 2, ... to the genres' names") from None
        count = kwargs.get("num_labels")
        if count is not None and self.id2label is not None and count != len(self.id2label):
            raise ValueError(f"num_labels={count} does not fit id2label, which names {len(self.id2label)} genres")
        if self.problem_type is None:
            self.problem_type = "multi_label_classification"
        if self.head_dim is None and self.num_attention_heads > 0 and self.hidden_size % self.num_attention_heads == 0:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.classifier_hidden_size is None:
            self.classifier_hidden_size = self.hidden_size
        if self.threshold_profiles is None:
            self.threshold_profiles = {}
        super().__post_init__(**kwargs)
        self.id2label = dict(sorted((self.id2label or {}).items()))
        self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def genres(self) -> list[str]:
        """Genre names in the order of the logits."""
        return list((self.id2label or {}).values())

    def validate_sizes(self) -> None:
        """Sizes are positive and fit each other."""
        for name in (
            *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
            *("max_position_embeddings", "classifier_hidden_size", "dropout_samples"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.head_dim is None:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not divisible by num_attention_heads={self.num_attention_heads}: "
                "change one or set head_dim"
            )
        if self.head_dim < 1:
            raise ValueError(f"head_dim={self.head_dim} must be at least 1")
        if self.position_embedding_type == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(f"hidden_size={self.hidden_size} must be even for position_embedding_type='sinusoidal'")
        if self.max_position_embeddings < 3:
            raise ValueError(
                f"max_position_embeddings={self.max_position_embeddings} must be at least 3, to leave room for a word"
            )
        if not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"pad_token_id={self.pad_token_id} lies outside the vocabulary of vocab_size={self.vocab_size}"
            )

    def validate_rates(self) -> None:
        """Dropouts are probabilities below one; scales are positive."""
        for name in ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1)")
        for name in ["label_graph_threshold", "label_graph_weight"]:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1]")
        for name in ["initializer_range", "layer_norm_eps"]:
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in (0, 1)")

    def validate_decision(self) -> None:
        """Genres and decision rules are usable."""
        if self.problem_type != "multi_label_classification":
            raise ValueError(
                f"problem_type={self.problem_type!r}: films have several genres, which is 'multi_label_classification'"
            )
        if self.id2label is None or list(self.id2label) != list(range(len(self.id2label))):
            raise ValueError(f"id2label={self.id2label} must map 0, 1, 2, ... to the genres' names")
        if len(set(self.id2label.values())) != len(self.id2label):
            raise ValueError(f"id2label={self.id2label} names a genre twice")
        if not 0 <= self.min_genres <= len(self.id2label):
            raise ValueError(
                f"min_genres={self.min_genres} must lie between 0 and the number of genres, {len(self.id2label)}"
            )
        for name, values in (self.threshold_profiles or {}).items():
            if len(values) != len(self.id2label):
                counts = f"{len(values)} values for {len(self.id2label)} genres"
                raise ValueError(f"threshold_profiles[{name!r}] has {counts}: {_UNDECIDED}")
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"threshold_profiles[{name!r}]={values} must lie in [0, 1]")
        for key, films in (self.label_sets or {}).items():
            if len(key) != len(self.id2label) or set(key) - {"0", "1"}:
                raise ValueError(f"label_sets has {key!r}, expected {len(self.id2label)} digits 0 or 1: {_UNDECIDED}")
            if films < 1:
                raise ValueError(f"label_sets[{key!r}]={films} must be at least 1")
        if self.label_sets and SUBSET_ACCURACY in (self.threshold_profiles or {}):
            raise ValueError(f"threshold_profiles[{SUBSET_ACCURACY!r}] is of no use: there label_sets decide")
        if not 0 <= self.label_set_weight <= 1:
            raise ValueError(f"label_set_weight={self.label_set_weight} must lie in [0, 1]")
        if self.default_profile is not None and self.default_profile not in (names := profile_names(self)):
            raise ValueError(
                f"default_profile={self.default_profile!r} is not one of the model's profiles {sorted(names)}"
            )

    def validate_format(self) -> None:
        """The format is one that this code reads."""
        if self.format_version > 1:
            raise ValueError(
                f"format_version={self.format_version} is newer than this code, which reads 1: update the package "
                "from its repository, or load with trust_remote_code=True where it is not installed, which takes the "
                "code that lies with the weights"
            )
        if self.format_version < 1:
            raise ValueError(f"format_version={self.format_version} never was: versions count from 1")


MovieGenreConfig.register_for_auto_class()
