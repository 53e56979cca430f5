"""Prove the Space: publish it, pull it into an empty folder, build its own environment, ask it a question there.

    python -m benchmarks.space

Model and Space are published to a Hub on loopback with `movie-genre publish`; the Space is pulled with `hf download`,
and its requirements.txt installed into a fresh virtual environment, minutes of pip. Then app.py runs there with the
Space's variables, neither this checkout nor its packages in reach, and answers over HTTP. Writes
benchmarks/results/space.json.
ZeroGPU itself is not proved.
"""

import argparse
import json
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, about
from tests.hub_server import Hub

FIGURES = RESULTS / "space.json"
# Not of the Space: where no GPU is, the CPU build of this version is the smaller download.
CONSTRAINT = "torch==2.13.0"
TOKEN = "hf_loopback"  # noqa: S105
TEXT = "The crew of a spaceship wakes in orbit of an unknown planet, and something is already aboard."
PATIENCE = 300  # seconds for the page to come up
SHOWN = ("gradio", "torch", "transformers", "huggingface_hub", "tokenizers", "numpy")


def ask(url: str, text: str) -> Any:
    """The page's answer, by Gradio's two plain HTTP calls: one gives an event, the other its result."""
    calls = f"{url}/gradio_api/call"
    body, head = json.dumps({"description": text}).encode(), {"Content-Type": "application/json"}
    posted = urllib.request.Request(f"{calls}/v2/predict", body, head)  # noqa: S310
    with urllib.request.urlopen(posted, timeout=60) as reply:  # noqa: S310
        event = json.load(reply)["event_id"]
    with urllib.request.urlopen(f"{calls}/predict/{event}", timeout=60) as reply:  # noqa: S310
        stream = reply.read().decode()
    result = re.search(r"event: complete\ndata: (.+)", stream)
    if result is None:
        raise RuntimeError(f"the page gave no answer: {stream}")
    return json.loads(result[1])


def wait_for(url: str, process: subprocess.Popen) -> float:
    """Seconds until the page answers."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        if process.poll() is not None:
            raise RuntimeError(f"the page ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return time.monotonic() - started
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"no page at {url} after {PATIENCE} s")


def ask_page(command: list[str], folder: Path, environment: dict[str, str], text: str) -> tuple[Any, float]:
    """Start the page, ask it, stop it: its answer, and the seconds until it was up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(command, cwd=folder, env=environment | {"HOST": "127.0.0.1", "PORT": str(port)})
    try:
        up = wait_for(f"http://127.0.0.1:{port}", process)
        return ask(f"http://127.0.0.1:{port}", text), up
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Publish, pull, install, run, ask, write."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Hub() as hub:
        work = Path(name)
        hub.tokens = {TOKEN: ("you", "write")}
        environment = hub.environment(work / "home", TOKEN, PYTHONPATH=str(ROOT))
        cli, hf = [sys.executable, "-m", "modeling.cli"], [sys.executable, "-m", "huggingface_hub.cli.hf"]
        folder = work / "space"
        for command in (
            [*cli, "publish", "model", "--repo", "you/movie-genre"],
            [*cli, "publish", "space", "--repo", "you/movie-genre-demo", "--model", "you/movie-genre"],
            [*hf, "download", "you/movie-genre-demo", "--repo-type", "space", "--local-dir", str(folder)],
        ):
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
        space = hub.repository("you/movie-genre-demo", "spaces")

        python = work / "environment" / "bin" / "python"
        venv.create(work / "environment", with_pip=True)
        (work / "constraints.txt").write_text(CONSTRAINT + "\n")
        requirements = [
            "--requirement",
            str(folder / "requirements.txt"),
            "--constraint",
            str(work / "constraints.txt"),
        ]
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        installing = time.monotonic()
        subprocess.run([*pip, "install", "--quiet", *requirements], check=True)
        installed = time.monotonic() - installing
        frozen = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True, text=True).stdout
        versions = {package["name"].lower().replace("-", "_"): package["version"] for package in json.loads(frozen)}

        variables = hub.environment(work / "visitor", **space.variables)
        answer, up = ask_page([str(python), "app.py"], folder, variables, TEXT)
        fetched = [call for call in hub.requests if "/resolve/" in call and "/you/movie-genre/" in call]
        pinned = all(space.variables["MODEL_REVISION"] in call for call in fetched)

    if "Science Fiction" not in json.dumps(answer) or not fetched or not pinned:
        raise RuntimeError(f"the Space did not answer as it should: {answer}, {fetched}")
    results = {
        **about("space"),
        "constraint": CONSTRAINT,
        "files": sorted(space.files()),
        "versions": {"python": platform.python_version()} | {name: versions[name] for name in SHOWN},
        "packages": len(versions),
        "seconds": {
            "install": round(installed, 1),
            "until_up": round(up, 1),
            "all": round(time.monotonic() - started, 1),
        },
        "model_pinned_to_its_commit": pinned,
        "question": TEXT,
        "answer": answer,
    }
    FIGURES.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(results["answer"], ensure_ascii=False)[:300])
    print(f"the Space answered from its own environment; {FIGURES.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
