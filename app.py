"""The demo: a description in, its genres out.

    python app.py

Settings come from the environment:
    MODEL_ID        folder or Hub repository of the model (default: checkpoint/)
    MODEL_REVISION  revision of the Hub repository
    HOST, PORT      where to serve (default: 127.0.0.1, 7860)
    CPU_CORES       threads to compute with (default: all)
"""

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # phone nobody

try:
    import spaces  # only there on ZeroGPU, whose GPU is lent to decorated functions; must come before torch
except ImportError:
    spaces = None

import gradio as gr
import torch

from modeling import MovieGenreModel
from modeling.prediction_movie_genre import GenrePrediction

HERE = Path(__file__).parent
MAX_CHARACTERS = 20_000
EXAMPLES = 6
INVITATION = "The genres will stand here."


def load_model() -> MovieGenreModel:
    """The model that the environment names, or the one that ships."""
    if cores := os.environ.get("CPU_CORES"):
        torch.set_num_threads(int(cores))
    name = os.environ.get("MODEL_ID") or str(HERE / "checkpoint")
    return MovieGenreModel.from_pretrained(name, revision=os.environ.get("MODEL_REVISION") or "main").eval()


def examples() -> list[list[str]]:
    """A few descriptions from the project's own test films."""
    path = HERE / "data" / "movies.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        films = [row["description"] for row in csv.DictReader(file) if row["split"] == "test"]
    return [[text] for text in films[:: max(1, len(films) // EXAMPLES)][:EXAMPLES]]


def on_gpu(handler: Callable) -> Callable:
    """Ask ZeroGPU for its GPU while the handler runs; nothing elsewhere. Untested on ZeroGPU itself."""
    return spaces.GPU(handler) if spaces else handler


def build(model: MovieGenreModel) -> gr.Blocks:
    """The page around a model."""

    @on_gpu
    def predict(description: str) -> tuple[dict[str, Any], str]:
        """Genres of a film's description.

        Args:
            description: what happens in the film, in English; up to 20,000 characters.

        Returns:
            Every genre's probability, and a sentence with the genres chosen.
        """
        if not isinstance(description, str) or len(description) > MAX_CHARACTERS:
            raise gr.Error(f"A description is a text of at most {MAX_CHARACTERS:,} characters.")
        try:
            prediction = model.predict_genres(description)
        except ValueError as error:  # no words
            raise gr.Error("Please describe the film in a sentence or two: there are no words to read.") from error
        return prediction.probabilities, sentence(prediction)

    with gr.Blocks(title="Movie genres", analytics_enabled=False) as page:
        gr.Markdown("# Movie genres\nDescribe a film, and the model says its genres and how probable each one is.")
        with gr.Row():
            with gr.Column():
                description = gr.Textbox(
                    label="Description",
                    info="What happens, in English, in a sentence or two.",
                    lines=1,  # so that Enter submits; the box grows with its text
                    max_lines=12,
                    max_length=MAX_CHARACTERS,
                    autofocus=True,
                )
                button = gr.Button("Say genres", variant="primary")
                rows = examples()
                if rows:
                    gr.Examples(rows, description, label="Films to try", cache_examples=False)
            with gr.Column():
                genres = gr.Markdown(INVITATION, container=True, elem_id="genres")
                probabilities = gr.Label(
                    label="Probability of each genre", num_top_classes=len(model.config.genres), show_heading=False
                )
        gr.on(
            [description.submit, button.click],
            predict,
            description,
            [probabilities, genres],
            api_name="predict",
            concurrency_limit=2,
        )
    return page


def sentence(prediction: GenrePrediction) -> str:
    """The chosen genres and the confidence, in words."""
    text = f"**{', '.join(prediction.genres) or 'No genre'}** — expected F1 of this choice: {prediction.confidence:.0%}"
    if prediction.truncated_at is not None:
        text += f"\n\nOnly the first {prediction.truncated_at:,} characters were read."
    return text


def main() -> None:
    """Serve the page."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    build(load_model()).queue(max_size=64).launch(
        server_name=os.environ.get("HOST", "127.0.0.1"),
        server_port=int(os.environ.get("PORT", "7860")),
        theme=gr.themes.Soft(),
        enable_monitoring=False,
    )


if __name__ == "__main__":
    main()
