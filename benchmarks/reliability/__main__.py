"""Does it hold? Kills, broken and made-up files, load, branches taken, mutants; writes results/reliability.json.

    python -m benchmarks.reliability [kills files fuzz load branches mutants] [--quick]

Each part writes its figures as soon as it has them, and leaves those of the others as they are.
"""

import argparse
import importlib
import json
import subprocess
import time

from benchmarks.common import RESULTS, ROOT, about, write

FIGURES = RESULTS / "reliability.json"
PARTS = ("kills", "files", "fuzz", "load", "branches", "mutants")


def commit() -> str:
    """Of the code that is measured, with + where files differ from it."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}; all if none is given")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works; not written")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"{sorted(unknown)[0]!r} is none of {', '.join(PARTS)}")
    for part in options.parts:
        started = time.time()
        print(f"{part} ...", flush=True)
        figures = importlib.import_module(f"benchmarks.reliability.{part}").measure(0.1 if options.quick else 1.0)
        figures["seconds"] = round(time.time() - started, 1)
        print(json.dumps(figures, indent=1), flush=True)
        if not options.quick:
            known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
            known[part] = about("reliability") | {"commit": commit()} | figures
            write(FIGURES, known)


if __name__ == "__main__":
    main()
