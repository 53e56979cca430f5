"""What a run says of itself in training.json."""

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch


def versions() -> dict[str, str]:
    """Versions of what a figure depends on, and the machine's kind."""
    names = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def given(*groups: Any) -> dict[str, Any]:
    """Arguments that differ from their defaults; never a token."""
    values = {}
    for group in groups:
        for f in fields(group):
            value = getattr(group, f.name)
            default = f.default_factory() if callable(f.default_factory) else f.default
            if (
                f.init
                and not f.name.endswith("token")
                and value != default
                and (isinstance(value, (str, int, float, bool)) or (isinstance(value, (dict, list)) and value))
            ):
                values[f.name] = value
    return values


def device_name(device: torch.device) -> str:
    """A GPU's own name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


def command(words: Sequence[str], secret: str | None) -> str:
    """The command line for the record, without the token, however its flag was written."""
    return shlex.join(["train.py", *(word.replace(secret, "***") if secret else word for word in words)])


def write_json(path: Path, value: Any) -> None:
    """Write a file that people may read too."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
