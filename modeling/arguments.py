"""What train.py can be told, on the command line or in a YAML file."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import HubStrategy

from .backends import locate
from .metrics import SCORES


@dataclass
class DataArguments:
    """Where the films come from."""

    train_file: str = field(
        default="data/movies.csv",
        metadata={"help": "films: a .csv, .parquet or .jsonl file, or the id of a data set on the Hub"},
    )
    text_column: str | None = field(
        default=None, metadata={"help": "column of the descriptions; the usual names are found by themselves"}
    )
    genre_column: str | None = field(default=None, metadata={"help": "column of the genres"})
    title_column: str | None = field(default=None, metadata={"help": "column of the titles"})
    genre_map: str | None = field(
        default=None, metadata={"help": 'other spellings of genres, as JSON: \'{"Sci-Fi": "Science Fiction"}\''}
    )
    skip_bad_rows: bool = field(
        default=False, metadata={"help": "leave bad rows out and count them, instead of stopping"}
    )
    split_file: str | None = field(
        default=None, metadata={"help": "split.json of an earlier run, to train on the same rows"}
    )
    split_seed: int = field(default=0, metadata={"help": "seed of the split, where neither file nor column gives one"})
    transfer_file: str | None = field(
        default=None,
        metadata={
            "help": "texts that are no films, to learn what the teachers say of them: a .csv, .parquet or .jsonl file, "
            "or the id of a data set on the Hub, with a column of descriptions (bad rows are left out), or several "
            "with commas; in columns p_<Genre>, as `movie-genre predict` writes them, another model may say their "
            "genres, to be learned too"
        },
    )
    fit_all: bool = field(
        default=False,
        metadata={"help": "train on all rows, with nothing kept aside: for the model that ships. Needs decision_from"},
    )
    decision_from: str | None = field(
        default=None,
        metadata={
            "help": "folder of the model whose calibration and decisions (min_genres too) are taken over: the twin "
            "that kept rows aside"
        },
    )

    @property
    def transfer_files(self) -> list[str]:
        """The parts of `transfer_file`."""
        return [name.strip() for name in self.transfer_file.split(",")] if self.transfer_file else []

    def __post_init__(self) -> None:
        """Reject contradictions; find what settings and defaults name, wherever the program was started."""
        if not all(self.transfer_files):
            raise ValueError(f"transfer_file={self.transfer_file!r} must be names with commas between them")
        self.train_file = self.train_file and locate(self.train_file)
        self.transfer_file = self.transfer_file and ",".join(map(locate, self.transfer_files))
        if self.fit_all != (self.decision_from is not None):
            raise ValueError("fit_all and decision_from go together: thresholds need films that were not trained on")
        if self.fit_all and self.split_file is not None:
            raise ValueError("fit_all keeps no rows aside: leave split_file out")


@dataclass
class ModelArguments:
    """The network; what is not given keeps the default of MovieGenreConfig, or of the model that `init_from` names."""

    init_from: str | None = field(
        default=None,
        metadata={
            "help": "folder or Hub repository to start from: a movie genre model, or a BERT-family encoder, whose "
            "layers and heads are taken over as far as the sizes asked for have room"
        },
    )
    init_layers: str | None = field(
        default=None,
        metadata={"help": "layers of a BERT-family init_from to keep, as 0,1,3,5; else evenly spread"},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={"help": "folder or Hub repository of a fast tokenizer; BERT's 30,522 word pieces by default"},
    )
    train_tokenizer: bool = field(
        default=False,
        metadata={"help": "learn the word pieces from the training descriptions and transfer texts instead"},
    )
    embedding_init: str = field(
        default="cooccurrence",
        metadata={"help": "cooccurrence (learned from the training texts) or normal, for a network from scratch"},
    )
    hidden_size: int | None = field(default=None, metadata={"help": "width of the encoder"})
    num_hidden_layers: int | None = field(default=None, metadata={"help": "encoder layers"})
    num_attention_heads: int | None = field(default=None, metadata={"help": "attention heads a layer"})
    head_dim: int | None = field(default=None, metadata={"help": "width of one head"})
    intermediate_size: int | None = field(default=None, metadata={"help": "width of the feed-forward block"})
    hidden_act: str | None = field(default=None, metadata={"help": "gelu, relu or silu"})
    norm_placement: str | None = field(
        default=None, metadata={"help": "layer normalisation behind each block (post) or before it (pre)"}
    )
    position_embedding_type: str | None = field(default=None, metadata={"help": "learned or sinusoidal"})
    max_position_embeddings: int | None = field(default=None, metadata={"help": "longest input in tokens"})
    hidden_dropout_prob: float | None = field(default=None, metadata={"help": "dropout in the encoder"})
    attention_probs_dropout_prob: float | None = field(
        default=None, metadata={"help": "dropout on attention probabilities"}
    )
    classifier_dropout: float | None = field(default=None, metadata={"help": "dropout before each dense layer"})
    classifier_hidden_size: int | None = field(default=None, metadata={"help": "width of the dense layers"})
    dropout_samples: int | None = field(default=None, metadata={"help": "dropout masks averaged in training"})
    mc_dropout_scope: str | None = field(
        default=None, metadata={"help": "Monte-Carlo dropout in the classifier (head) or everywhere (encoder)"}
    )
    label_graph: str | None = field(
        default=None, metadata={"help": "gcn: the last layer's weights come from the genres' co-occurrence; or none"}
    )
    label_graph_threshold: float | None = field(
        default=None, metadata={"help": "co-occurrence P(other | genre) from which on two genres are joined"}
    )
    label_graph_weight: float | None = field(
        default=None, metadata={"help": "weight of a genre's neighbours, together, beside its own"}
    )
    initializer_range: float | None = field(
        default=None, metadata={"help": "standard deviation of the normal initialisation"}
    )
    min_genres: int | None = field(default=None, metadata={"help": "genres that every film is given at least"})

    def __post_init__(self) -> None:
        """Reject contradictions and values out of range."""
        if self.init_from is not None and (self.train_tokenizer or self.tokenizer is not None):
            raise ValueError("init_from brings its own tokenizer: leave tokenizer and train_tokenizer out")
        if self.init_layers is not None and self.init_from is None:
            raise ValueError("init_layers names layers of init_from, which is not given")
        if self.tokenizer is not None and self.train_tokenizer:
            raise ValueError("tokenizer and train_tokenizer contradict each other: give one of them")
        if self.embedding_init not in ("cooccurrence", "normal"):
            raise ValueError(f"embedding_init={self.embedding_init!r} is not known; choose cooccurrence or normal")

    def layers(self) -> list[int] | None:
        """Indices of the layers of `init_from` to keep.

        Raises:
            ValueError: if they are no numbers.
        """
        if not self.init_layers:
            return None
        try:
            return [int(layer) for layer in self.init_layers.split(",")]
        except ValueError:
            raise ValueError(f"init_layers={self.init_layers!r} must be numbers with commas, as 0,1,3,5") from None

    def config_values(self) -> dict[str, Any]:
        """What was given for the network's configuration."""
        own = {"init_from", "init_layers", "tokenizer", "train_tokenizer", "embedding_init"}
        return {
            f.name: value for f in fields(self) if f.name not in own and (value := getattr(self, f.name)) is not None
        }


@dataclass
class MovieGenreTrainingArguments(TrainingArguments):
    """Hugging Face's TrainingArguments with this project's defaults and a few of its own."""

    output_dir: str = field(
        default="runs/movies", metadata={"help": "folder for the finished model, its figures and its checkpoints"}
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "start anew in an earlier run's folder, whose evaluation.json, split.json and onnx/ go"},
    )
    num_train_epochs: float = field(default=12.0, metadata={"help": "times every training film is read"})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "films a training step, on each device"})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "films a scoring step"})
    learning_rate: float = field(default=1e-3, metadata={"help": "highest learning rate of AdamW"})
    warmup_steps: float = field(default=0.06, metadata={"help": "steps, or share of all steps, until it is reached"})
    weight_decay: float = field(default=0.01, metadata={"help": "decoupled weight decay of AdamW"})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "group_by_length makes batches of similar length"}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "when to score the validation rows"})
    save_strategy: str = field(default="epoch", metadata={"help": "when to save a checkpoint"})
    logging_strategy: str = field(default="epoch", metadata={"help": "when to log the training loss"})
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept: the best and the newest"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "finish with the epoch that has the best F1"})
    metric_for_best_model: str | None = field(
        default="eval_validation_micro_f1",
        metadata={"help": "what the best epoch is best in: loss or a score, as macro_f1, of the validation films"},
    )
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide a loss that is not a number"})
    dataloader_pin_memory: bool = field(
        default=torch.cuda.is_available(), metadata={"help": "pin batches in memory, for a GPU"}
    )
    hub_strategy: str = field(default="end", metadata={"help": "end: a finished run is published, and nothing before"})
    ddp_timeout: int = field(
        default=86_400,
        metadata={"help": "seconds that processes wait for each other: one alone asks the teachers for all"},
    )
    cpu_threads: int = field(
        default=0, metadata={"help": "threads of a process on the CPU; 0 shares all cores among the processes"}
    )
    loss: str = field(default="bce", metadata={"help": "bce, or focal (Lin et al. 2017)"})
    focal_gamma: float = field(default=2.0, metadata={"help": "exponent of the focal loss"})
    token_dropout: float = field(
        default=0.3, metadata={"help": "share of a description's word pieces left out, anew each time it is read"}
    )
    other_people: float = field(
        default=0.0,
        metadata={"help": "share of readings in which people get other names, and he and she may change places"},
    )
    typos: float = field(
        default=0.0, metadata={"help": "share of letters mistyped, at most; half of the readings stay as they are"}
    )
    teacher: str = field(
        default="linear",
        metadata={
            "help": "whose soft labels, out of fold, are mixed with the true ones; several with commas: linear (TF-IDF "
            "and logistic regression), the folder or Hub repository of a pretrained encoder; or none"
        },
    )
    teacher_cache: str = field(
        default="runs/teachers",
        metadata={"help": "folder where the vectors of encoders that teach are kept for the next run"},
    )
    teacher_weight: float = field(default=0.6, metadata={"help": "share of the teacher in the labels trained on"})
    hint_weight: float = field(
        default=0.0,
        metadata={
            "help": "weight, in the first part of training, of a second aim: that the text's vector tells the view of "
            "the first encoder among the teachers (FitNets, Romero et al. 2015)"
        },
    )
    early_stopping_patience: int = field(
        default=4, metadata={"help": "scorings without a better one after which training stops; 0 never stops early"}
    )
    weights_dtype: str = field(
        default="float32",
        metadata={"help": "float32 or float16, of the stored weights; they load as float32"},
    )

    @property
    def encoder_teacher(self) -> str | None:
        """The first teacher that is an encoder, if one is."""
        return next((name for name in self.teacher.split(",") if name not in ("linear", "none")), None)

    def __post_init__(self) -> None:
        """Reject values out of range, then let Hugging Face check its own."""
        for name in ("cpu_threads", "early_stopping_patience", "focal_gamma", "hint_weight"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name}={value} must not be negative")
        for name, known in (("loss", ("bce", "focal")), ("weights_dtype", ("float32", "float16"))):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}={value!r} is not known; choose {' or '.join(known)}")
        for name in ("token_dropout", "other_people", "typos", "teacher_weight"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={value} must lie in [0, 1]")
        if not all(self.teacher.split(",")) or ("none" in self.teacher.split(",") and self.teacher != "none"):
            raise ValueError(f"teacher={self.teacher!r} must be none, or names with commas between them")
        if self.hint_weight and self.encoder_teacher is None:
            raise ValueError(f"hint_weight={self.hint_weight} needs an encoder that teaches, not {self.teacher!r}")
        if self.dataloader_persistent_workers:
            raise ValueError("dataloader_persistent_workers would read every epoch as the first one: leave it out")
        if self.save_only_model:
            raise ValueError("save_only_model leaves checkpoints that no run can go on from: leave it out")
        if self.metric_for_best_model:
            self.metric_for_best_model = _measure(self.metric_for_best_model)
        if self.bf16 and not torch.accelerator.is_available():  # Hugging Face takes it for a GPU's, unless told
            self.use_cpu = True
        if self.ddp_find_unused_parameters is None:  # each step uses all, a hint's beyond what forward() shows
            self.ddp_find_unused_parameters = False
        super().__post_init__()
        if self.hub_strategy != HubStrategy.END:
            raise ValueError(
                f"hub_strategy={self.hub_strategy!s} would put half-trained models, without their code, on the main "
                "branch: leave it out, and push_to_hub publishes the finished model. Checkpoints stay in output_dir"
            )


def _measure(name: str) -> str:
    """What the Trainer calls a measure of the validation films.

    Raises:
        ValueError: if there is no such measure.
    """
    measure = name.removeprefix("eval_").removeprefix("validation_")
    if measure not in ("loss", *SCORES):
        raise ValueError(f"metric_for_best_model={name!r} is not measured; choose from loss, {', '.join(SCORES)}")
    return f"eval_validation_{measure}"


class _Parser(HfArgumentParser):
    """Says what is wrong with a flag in one sentence, without the list of all others; takes no flag cut short."""

    def __init__(self) -> None:
        super().__init__(
            (DataArguments, ModelArguments, MovieGenreTrainingArguments),  # type: ignore[arg-type]
            description="Train a movie genre model. The first argument may be a YAML file of the flags below "
            "(see configs/); flags win over it.",
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError, where argparse would end the program."""
        raise ValueError(message)


def _no_flag(word: str, flags: Iterable[str]) -> str:
    """What to say of a word that is none of the flags."""
    if word.endswith((".yaml", ".yml")):
        return f"{word!r} stands behind flags: a file of settings comes first"
    name = word.partition("=")[0].lstrip("-").replace("-", "_")
    near = difflib.get_close_matches(name, flags, n=1) or [flag for flag in flags if len(name) > 3 and name in flag]
    return f"{word!r} is not a flag of train.py; " + (f"is --{near[0]} meant?" if near else "see train.py --help")


def parse_arguments(argv: Sequence[str]) -> tuple[DataArguments, ModelArguments, MovieGenreTrainingArguments]:
    """Arguments of a command line: an optional YAML file first, then flags, which win over it.

    Raises:
        ValueError: for contradictory values, and for what is no flag.
    """
    parser, argv = _Parser(), list(argv)
    flags = {action.dest: action for action in parser._actions}
    if argv and argv[0].endswith((".yaml", ".yml")):
        import yaml

        path = Path(argv.pop(0))
        if not path.is_file():
            known = ", ".join(sorted(str(other) for other in Path("configs").glob("*.yaml")))
            raise ValueError(f"{path} does not exist; there are {known or 'none here'}")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds no settings: write one a line, as in learning_rate: 3e-4")
        if unknown := [str(key) for key in values if key not in flags]:
            raise ValueError(f"{path}: {_no_flag(unknown[0], flags)}")
        # As words of the command line, so that types are checked by the same parser; later words win.
        words = []
        for key, value in values.items():
            if isinstance(value, list):
                several = flags[key].nargs is not None
                words += [f"--{key}", *(map(str, value) if several else [",".join(map(str, value))])]
            elif value is False and key.endswith("_strategy"):  # YAML's reading of a plain no
                words += [f"--{key}", "no"]
            elif value is not None:
                words += [f"--{key}", json.dumps(value) if isinstance(value, dict) else str(value)]
        try:
            parser.parse_args(words)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        argv = [*words, *argv]
    data, model, training, others = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if others:
        raise ValueError(_no_flag(others[0], flags))
    return data, model, training
