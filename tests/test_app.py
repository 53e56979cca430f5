"""The page: a real server on loopback, asked by a real client."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from modeling import MovieGenreModel

from .conftest import ROOT

TEXT = "A retired gunman rides into a border town where the sheriff owes him a horse."


def serve(**environment):
    """Start app.py and wait until it has printed its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"PORT": str(port), "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = ""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        printed += line
        if address := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, address.group()
        if process.poll() is not None:
            break
    process.kill()
    raise AssertionError(f"no address printed:\n{printed}")


@pytest.fixture(scope="module")
def address():
    process, url = serve()
    yield url
    process.terminate()
    process.wait(timeout=30)


def test_the_page_is_served(address):
    with urllib.request.urlopen(address) as reply:
        assert reply.status == 200
        assert "Movie genres" in reply.read().decode()


def test_predict_is_a_named_endpoint_that_says_genres_with_probabilities(address):
    label, sentence = Client(address, verbose=False).predict(TEXT, api_name="/predict")
    shown = {entry["label"]: entry["confidence"] for entry in label["confidences"]}
    expected = MovieGenreModel.from_pretrained(ROOT / "checkpoint").predict_genres(TEXT)
    assert shown == pytest.approx(expected.probabilities, abs=1e-5)
    assert sentence.startswith(f"**{', '.join(expected.genres)}**")


def test_the_endpoint_is_described(address):
    api = Client(address, verbose=False).view_api(return_format="dict")
    parameters = api["named_endpoints"]["/predict"]["parameters"]
    assert [parameter["parameter_name"] for parameter in parameters] == ["description"]


@pytest.mark.parametrize(("text", "message"), [("", "no words to read"), ("x" * 30_000, "at most 20,000 characters")])
def test_what_cannot_be_classified_gets_a_sentence(address, text, message):
    with pytest.raises(AppError, match=message):
        Client(address, verbose=False).predict(text, api_name="/predict")


def test_another_model_is_served_by_its_folder(saved):
    process, url = serve(MODEL_ID=str(saved))
    try:
        label, _ = Client(url, verbose=False).predict(TEXT, api_name="/predict")
        assert {entry["label"] for entry in label["confidences"]} == {"Comedy", "Crime", "Drama", "Western"}
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_help_lists_the_settings():
    done = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in ("MODEL_ID", "MODEL_REVISION", "HOST", "PORT"):
        assert name in done.stdout
