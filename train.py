"""Train a movie genre model.

One process, on the project's own films, no further word needed:

    accelerate launch train.py

The real thing, with a file of settings (configs/) and your own CSV of descriptions and genres:

    accelerate launch train.py configs/scratch.yaml --train_file films.csv --output_dir runs/films

Several processes, several machines or a GPU: the same line behind `accelerate config`.
`python train.py --help` lists every flag.
"""

import sys


def main() -> int:
    """Train; exit code 2 for a mistake in arguments or data, 1 for a sick run, each told in one sentence."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    from modeling.arguments import parse_arguments
    from modeling.training import train

    try:
        train(*parse_arguments(sys.argv[1:]))
    except (ValueError, OSError, StrictDataclassError, SafetensorError) as error:  # DataError is a ValueError
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("train.py: interrupted: the same command with --resume_from_checkpoint true goes on", file=sys.stderr)
        sys.exit(130)
