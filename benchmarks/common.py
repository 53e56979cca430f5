"""What the benchmarks share: places, the films, finished runs, whose weights were measured, a token's cost."""

import csv
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CHECKPOINT = ROOT / "checkpoint"
MOVIES = ROOT / "data" / "movies.csv"
STORIES = ROOT / "data" / "stories.csv"
TMDB = ROOT.parent / "shared" / "data" / "top_movies.csv"
TRAIN = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "train.py"]
# What finished runs answered: hours of training are not to be repeated because a folder of weights was deleted.
PREDICTIONS = RESULTS / "predictions"


def without_tmdb() -> bool:
    """Is the list not here that a benchmark measures on? Says so."""
    if TMDB.exists():
        return False
    print(f"{os.path.relpath(TMDB, ROOT)} is not here: this benchmark measures on that list alone", file=sys.stderr)
    return True


def movies(split: str | None = None, path: Path = MOVIES) -> list[dict[str, str]]:
    """Rows of data/movies.csv or another file, of one split or all."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if split in (None, row.get("split"))]


def about(module: str, data: Path | None = None, **of_data: Any) -> dict[str, Any]:
    """What a results file says of itself: the command, the data and their hash, the machine, versions."""
    from modeling.data import file_hash
    from modeling.record import versions

    told: dict[str, Any] = {"command": shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])}
    if data is not None:
        told["data"] = {"source": data.name, "sha256": file_hash(data), **of_data}
    return told | {"machine": {"cores": os.cpu_count(), "processor": processor()}, "versions": versions()}


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a results file."""
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def cpuinfo(name: str) -> str:
    """What Linux says of the processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def processor_flags() -> list[str]:
    """Which of the products in few bits, and which width of them, the processor has."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
    return [flag for flag in known if flag in cpuinfo("flags").split()]


def processor() -> str:
    """Its name and `processor_flags`."""
    return f"{cpuinfo('model name') or platform.processor()} ({', '.join(processor_flags())})"


def keep(name: str, run: dict[str, Any], probabilities: np.ndarray) -> None:
    """Keep a finished run: its record, and its probabilities (films, genres) to three digits or better."""
    path = PREDICTIONS / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, probabilities.astype(np.float16))
    write(path.with_suffix(".json"), run)  # last: the run is whole


def kept(name: str) -> tuple[dict[str, Any], np.ndarray] | None:
    """Record and probabilities of a finished run; None if there is none."""
    path = PREDICTIONS / f"{name}.npy"
    if not path.with_suffix(".json").exists():
        return None
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), np.load(path).astype(float)


def weights(folder: str | Path) -> dict[str, str]:
    """Name and hash of the weights that a figure belongs to."""
    from modeling.data import file_hash

    return {"name": Path(folder).name, "sha256": file_hash(Path(folder) / "model.safetensors")}


def flops(config: Any, lengths: Sequence[int]) -> float:
    """Operations of the matrix products that an encoder needs for texts of these lengths, padding not counted."""
    tokens, squares = float(np.sum(lengths)), float(np.sum(np.square(lengths)))
    width = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    heads = config.num_attention_heads * width
    token = config.hidden_size * (4 * heads + 2 * config.intermediate_size)
    return 2 * config.num_hidden_layers * (tokens * token + 2 * squares * heads)
