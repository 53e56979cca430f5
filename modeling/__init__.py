"""Movie genres from a film's description.

`import modeling` loads neither torch nor transformers; the names below arrive when they are first used, and with
`MovieGenreModel` the classes are known to transformers' Auto classes, so that `trust_remote_code` is not needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_movie_genre import MovieGenreConfig
    from .modeling_movie_genre import MovieGenreModel
    from .prediction_movie_genre import GenrePrediction

__version__ = "0.1.0"
__all__ = ["GenrePrediction", "MovieGenreConfig", "MovieGenreModel"]

_MODULES = {
    "GenrePrediction": "prediction_movie_genre",
    "MovieGenreConfig": "configuration_movie_genre",
    "MovieGenreModel": "modeling_movie_genre",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    if name != "GenrePrediction":
        _register()
    return value


def _register() -> None:
    """Make the classes known to transformers' Auto classes."""
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    from .configuration_movie_genre import MovieGenreConfig
    from .modeling_movie_genre import MovieGenreModel

    AutoConfig.register("movie_genre", MovieGenreConfig, exist_ok=True)
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        auto_class.register(MovieGenreConfig, MovieGenreModel, exist_ok=True)
