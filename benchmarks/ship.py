"""Make checkpoint/: the recipe of configs/best.yaml, refitted on every film of the list.

    python -m benchmarks.ship [--twin runs/quality/best-0]

A run that was cut short goes on from its last checkpoint; a finished one, or one of another recipe, is trained anew.

The twin, trained by the same recipe without the validation and test films, gives calibration, decisions and
figures: its scores on the test films are what the card states, as those of a twin that had not seen them.
"""

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.common import CHECKPOINT, RESULTS, ROOT, TMDB, TRAIN
from modeling.card import LICENSE, render_card
from modeling.plots import plot_genres


def main() -> None:
    """Train on everything, then put the checkpoint together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--twin", type=Path, default=Path("runs/quality/best-0"), help="run that kept rows aside")
    parser.add_argument("--output", type=Path, default=Path("runs/ship"), help="folder of the refitted run")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, on processors that multiply in it")
    parser.add_argument("--refresh", action="store_true", help="only renew the code files and the card")
    options = parser.parse_args()

    if not options.refresh:
        flags = ["configs/best.yaml", "--train_file", os.path.relpath(TMDB, ROOT), "--output_dir", str(options.output)]
        flags += ["--fit_all", "true", "--decision_from", str(options.twin), "--cpu_threads", str(options.threads)]
        flags += ["--bf16", "true"] if options.bf16 else []
        recipe, output = ROOT / "configs" / "best.yaml", ROOT / options.output
        begun = output / "recipe.yaml"
        same = begun.exists() and begun.read_bytes() == recipe.read_bytes() and not (output / "training.json").exists()
        flags += ["--resume_from_checkpoint" if same else "--overwrite_output_dir", "true"]
        output.mkdir(parents=True, exist_ok=True)
        shutil.copy(recipe, begun)
        subprocess.run([*TRAIN, *flags], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        CHECKPOINT.mkdir(exist_ok=True)
        for path in sorted(output.iterdir()):
            if path.suffix in (".json", ".safetensors"):
                shutil.copy(path, CHECKPOINT / path.name)
        shutil.copy(ROOT / options.twin / "evaluation.json", CHECKPOINT / "evaluation.json")
    for path in (ROOT / "modeling").glob("*_movie_genre.py"):
        shutil.copy(path, CHECKPOINT / path.name)
    together = json.loads((CHECKPOINT / "evaluation.json").read_text(encoding="utf-8"))["cooccurrence"]
    plot_genres(**together, path=CHECKPOINT / "genres.png")
    card = render_card(CHECKPOINT, CHECKPOINT.name, license=LICENSE, results=RESULTS)
    (CHECKPOINT / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
