"""What a stranger sends: nothing of the server's leaks, nothing is fetched for him, nothing he wrote is run."""

import asyncio
import base64
import csv
import http.client
import json
import pickle
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from modeling import MovieGenreModel

from .conftest import ROOT

CANARY = "canary-5f1c9a-of-this-server"
UP = ["../" * 8, "..%2f" * 8, "%2e%2e/" * 8, "..\\" * 8, "..%5c" * 8, "....//" * 8, "/", "//", "%00/", "C:\\..\\" * 4]
DOORS = ["/", "/gradio_api/file=", "/gradio_api/file/", "/assets/", "/static/", "/svelte/", "/gradio_api/stream/"]
DOORS += ["/gradio_api/custom_component/x/client/component/", "/pwa_icon/", "/gradio_api/run-history/records/x/"]


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    """A file that no visitor may see."""
    path = tmp_path_factory.mktemp("secret") / "canary.csv"
    path.write_text(f"{CANARY}\nx\n")  # a refusal names the columns that it found
    return path


@pytest.fixture(scope="module")
def listener():
    """A server inside that only the demo could reach; it counts who asks."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{CANARY}\nx\n".encode())

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def ask(address, path, body=None, method=None):
    """A request as written: no client tidies the path up."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)
    data = None if body is None else json.dumps(body)
    connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_accept_encoding=True)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(data or "")))
    connection.endheaders((data or "").encode())
    reply = connection.getresponse()
    status, text = reply.status, reply.read().decode("utf-8", "replace")
    connection.close()
    return status, text


def run(address, name, **values):
    """A Gradio endpoint, to its end."""
    status, text = ask(address, f"/gradio_api/call/v2/{name}", values)
    if status != 200:
        return text
    return ask(address, f"/gradio_api/call/{name}/{json.loads(text)['event_id']}")[1]


@pytest.mark.parametrize("door", DOORS)
def test_no_path_leads_to_a_file_of_the_server(address, canary, door):
    inside = str(canary).lstrip("/")
    for up in UP:
        for target in (inside, "etc/passwd", "checkpoint/../pyproject.toml"):
            status, text = ask(address, door + up + urllib.parse.quote(target))
            assert CANARY not in text
            assert "root:" not in text
            assert "[build-system]" not in text
            assert status < 500


def files(path, url):
    """Ways to say "this file" to Gradio."""
    meta = {"_type": "gradio.FileData"}
    return [
        {"path": path, "meta": meta},
        {"path": path, "orig_name": "films.csv", "meta": meta},
        {"path": f"file://{path}", "meta": meta},
        {"path": f"/tmp/gradio/../..{path}", "meta": meta},
        {"url": url, "path": "films.csv", "meta": meta},
        {"url": f"file://{path}", "path": "films.csv", "meta": meta},
        {"path": url, "meta": meta},
        {"path": url, "url": url, "is_stream": True, "meta": meta},
        path,
        url,
        {"path": {"path": path, "meta": meta}, "meta": meta},
    ]


def test_no_file_but_an_uploaded_one_is_read_and_nothing_is_fetched(address, canary, listener):
    url, asked = listener
    for file in files(str(canary), f"{url}/films.csv"):
        reply = run(address, "predict_batch", file=file)
        assert CANARY not in reply
        assert "event: complete" not in reply
    assert asked == []


@pytest.mark.parametrize("url", ["http://93.184.215.14/films.csv", "https://huggingface.co/datasets/a/b/films.csv"])
def test_nothing_is_fetched_from_outside_either(address, outgoing, canary, url):
    for file in files(str(canary), url):
        reply = run(address, "predict_batch", file=file)
        assert "event: error" in reply
        if isinstance(file, dict) and file["path"] == url and "is_stream" not in file:
            assert "upload the file" in reply
    for method in ("GET", "HEAD"):
        assert ask(address, f"/gradio_api/file={url}", method=method)[0] == 403
    assert outgoing.read_text() == ""


def test_the_server_is_nobodys_messenger(address, listener):
    url, asked = listener
    host = urllib.parse.urlsplit(url).netloc
    for target in (
        url,
        f"http://{host}@127.0.0.1/",
        url.replace("127.0.0.1", "localhost"),
        f"//{host}/",
        "file:///etc/passwd",
    ):
        for door in ("/gradio_api/proxy=", "/gradio_api/file=", "/gradio_api/file/", "/proxy?url=", "/?url="):
            status, text = ask(address, door + target)
            assert CANARY not in text
            assert "root:" not in text
            assert status < 500
    for path in ("/gradio_api/upload_progress?upload_id=../../x", "/gradio_api/login_check?next=" + url):
        assert CANARY not in ask(address, path)[1]
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        assert ask(address, f"{url}/", method=method)[0] in (400, 404, 405, 200)
    assert asked == []


def test_an_agent_sends_its_file_along_and_none_is_fetched_for_it(address, outgoing):
    async def session(*files):
        async with (
            streamablehttp_client(f"{address}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as agent,
        ):
            await agent.initialize()
            return [await agent.call_tool("predict_batch", {"file": file}) for file in files]

    text = base64.b64encode(b"description\nA gunman rides into a lawless town.\n").decode()
    sent, named = asyncio.run(session(f"data:text/csv;base64,{text}", "https://huggingface.co/films.csv"))
    assert not sent.isError
    summary, result = (part.text for part in sent.content)
    assert json.loads(summary)["films"] == 1
    assert result.endswith("-genres.csv")
    assert "upload the file" in named.content[0].text
    assert outgoing.read_text() == ""


class Bomb:
    """A pickle that runs a program."""

    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


def test_weights_that_are_a_pickle_are_refused(saved, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(OSError, match=r"model\.safetensors"):
        MovieGenreModel.from_pretrained(saved)
    torch.save(model.state_dict(), saved / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        MovieGenreModel.from_pretrained(saved)
    assert not (tmp_path / "ran").exists()


def test_no_pickle_is_read_on_the_way_to_an_answer(saved):
    """Python tells of every pickled class that it looks up."""
    program = """
import sys
seen = []
sys.addaudithook(lambda event, told: seen.append(told) if event == "pickle.find_class" else None)
from modeling import MovieGenreModel
model = MovieGenreModel.from_pretrained(sys.argv[1])
print(model.predict_genres("A gunman rides into town.", mc_samples=2, attribution="pooling").genres)
from modeling.serving import Service
Service(name=sys.argv[1])
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", program, str(saved)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_nothing_pickled_is_in_the_repository():
    if (ROOT / ".git").exists():
        known = ["git", "-c", "safe.directory=*", "ls-files"]
        names = subprocess.run(known, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    else:  # an unpacked archive
        names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "checkpoint").rglob("*")]
    assert "checkpoint/model.safetensors" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt"))]


def test_a_result_that_is_uploaded_again_is_what_it_was(address, tmp_path):
    """Cells that a spreadsheet would run are made safe once, and not once more at every turn."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    cells = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "  =1", "＝1+1", "-7", "plain"]
    source = tmp_path / "films.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["title", "description"], *([cell, f"A film. {cell}"] for cell in cells)])
    for _ in range(2):
        _, result = client.predict(handle_file(source), api_name="/predict_batch")
        with open(result, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        titles = [row.get("title") or row.get("movie_name") for row in rows]
        assert titles == [cell if cell in ("-7", "plain") else f"'{cell}" for cell in cells]
        source = result
