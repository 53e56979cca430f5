"""The model on PyTorch or on ONNX Runtime: the same answers, and one way to load it and what lies beside it."""

import functools
import json
import math
import os
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container (Linux, cgroup v2)
DTYPES = {"torch": "float32", "torch-bf16": "bfloat16"}  # what PyTorch computes in, by the backend's name


class Model(Protocol):
    """What both have in common."""

    config: Any
    tokenizer: Any

    def predict_genres(self, texts: Any, **options: Any) -> Any:
        """Genres of descriptions."""


def cores() -> int:
    """Cores that this process may use: a scheduler or a container may have given it a part of the machine's."""
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # microseconds of computing in a period, or "max"; no such file outside Linux
        quota, period = map(float, CPU_QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return given
    return min(given, max(1, math.ceil(quota / period)))


def share_of_cores() -> int:
    """Threads of this process: accelerate launch leaves one to each, whatever the number of cores."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def locate(name: str) -> str:
    """Where a file or folder is: what is not here may be the project's own, wherever a program was started."""
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).exists() else name


def load(name: str, revision: str | None = None, *, backend: str = "torch", threads: int | None = None) -> Any:
    """The model in a folder or a Hub repository; PyTorch's on a GPU where there is one.

    Args:
        name: the folder or repository.
        revision: of the repository; its main branch if None.
        backend: torch for a `MovieGenreModel`, torch-bf16 for one in bfloat16, onnx for a `MovieGenreOnnx` of what
            `movie-genre export` wrote.
        threads: to compute with; for PyTorch, of the whole process. None leaves the number as it is.

    Raises:
        ValueError: for an unknown backend, one that is not installed, and a model that cannot be read.
        ConnectionError: if the Hub is not reached, nor has the model been here before.
    """
    if backend == "onnx":
        try:
            from .onnx_runtime import MovieGenreOnnx
        except ImportError as error:
            raise ValueError(f"the onnx backend needs {error.name}: pip install '.[onnx]'") from None
        return MovieGenreOnnx.from_pretrained(name, revision=revision, threads=threads)
    if backend not in DTYPES:
        raise ValueError(f"backend {backend!r} is not known; choose {', '.join(DTYPES)} or onnx")
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from . import MovieGenreModel

    disable_progress_bar()  # over in an instant
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        model, info = MovieGenreModel.from_pretrained(
            name, revision=revision or "main", dtype=getattr(torch, DTYPES[backend]), output_loading_info=True
        )
        # transformers would only warn; the hint is a checkpoint's, of a training that still goes on
        if astray := sorted({*info["missing_keys"], *info["unexpected_keys"]} - {"hint.weight", "hint.bias"}):
            raise ValueError(f"its weights and its config.json do not fit each other: {', '.join(astray[:3])}")
        return model.eval().to(_device())
    except ConnectionError:
        raise
    except OSError as error:
        if (Path(name) / "model.onnx").exists():
            raise ValueError(f"{name!r} is an ONNX folder: name the backend onnx") from None
        raise ValueError(
            f"no model in {name!r}: neither a folder with config.json nor a repository that the Hub gives "
            f"({str(error).splitlines()[0]})"
        ) from None
    # A configuration that this code does not read, damaged weights, weights of other sizes.
    except (
        StrictDataclassError,
        SafetensorError,
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        KeyError,
    ) as error:
        raise ValueError(f"{name!r} cannot be loaded: {str(error.__cause__ or error).splitlines()[0]}") from None


def _device() -> str:
    """Where a model computes: of several processes on a machine with GPUs, each takes its own."""
    import torch

    # ZeroGPU lends its GPU to functions that ask for it, at the visitor's cost: none here does.
    if not torch.cuda.is_available() or "SPACES_ZERO_GPU" in os.environ:
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


@functools.cache
def _away(name: str, revision: str | None) -> bool:
    """`cache_alone`, asked once: a program reads several files beside a model, all when it starts."""
    from .prediction_movie_genre import cache_alone

    return cache_alone(name, revision)


def model_path(name: str, revision: str | None, file: str) -> Path | None:
    """A file of a model, in its folder or from its Hub repository: from the cache alone where the Hub is away.

    None where there is none.
    """
    if Path(name).is_dir():
        path = Path(name) / file
    else:
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(name, file, revision=revision, local_files_only=_away(name, revision)))
        except (OSError, ValueError):  # the client's errors: no such file, no network, no repository
            return None
    return path if path.is_file() else None


def model_file(name: str, revision: str | None, file: str) -> str | None:
    """Text of such a file."""
    path = model_path(name, revision, file)
    return None if path is None else path.read_text(encoding="utf-8")


def model_record(name: str, revision: str | None, file: str) -> dict[str, Any] | None:
    """What such a file holds, which is an object of JSON.

    Raises:
        ValueError: if it is damaged.
    """
    text = model_file(name, revision, file)
    if text is None:
        return None
    try:
        if isinstance(record := json.loads(text), dict):
            return record
        raise ValueError("it holds no JSON object")
    except ValueError as error:
        raise ValueError(f"{file} of {name} cannot be read: {error}") from None
