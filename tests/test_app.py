"""The page's server on loopback, asked by real clients: gradio_client, plain HTTP and MCP."""

import asyncio
import csv
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from modeling import MovieGenreModel

from .app_server import serve
from .conftest import GENRES, MOVIES, ROOT

TEXT = "A retired gunman rides into a border town where the sheriff owes him a horse."


@pytest.fixture(scope="module")
def expected():
    return MovieGenreModel.from_pretrained(ROOT / "checkpoint").predict_genres(TEXT)


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


@pytest.fixture
def films(tmp_path):
    """Ten of the project's own films, one of them without a description."""
    path = tmp_path / "films.csv"
    with MOVIES.open(encoding="utf-8", newline="") as source, path.open("w", encoding="utf-8", newline="") as target:
        rows = csv.reader(source)
        writer = csv.writer(target)
        writer.writerow(header := next(rows))
        for number, row in zip(range(10), rows, strict=False):
            if number == 4:
                row[header.index("description")] = ""
            writer.writerow(row)
    return path


def http(url, body=None):
    """Status and text of a reply to plain JSON, as curl gets them."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_is_served(address):
    status, page = http(address)
    assert (status, "Movie genres" in page) == (200, True)


def test_rest_answers_on_the_same_port(address, expected):
    status, reply = http(f"{address}/api/v1/predict", {"descriptions": [TEXT]})
    assert status == 200
    assert json.loads(reply)["predictions"][0]["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert http(f"{address}/healthz")[0] == 200
    assert "/api/v1/predict" in http(f"{address}/api/v1/openapi.json")[1]


def test_the_client_gets_the_one_schema(client, expected):
    reply = client.predict(TEXT, api_name="/predict")
    assert reply["genres"] == expected.genres
    assert reply["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert set(reply) == set(expected.to_dict())


def test_the_endpoints_are_described(client):
    api = client.view_api(return_format="dict")["named_endpoints"]
    assert set(api) == {"/predict", "/predict_batch", "/health"}
    names = [parameter["parameter_name"] for parameter in api["/predict"]["parameters"]]
    assert names[:3] == ["description", "threshold", "mc_samples"]


def test_a_monitor_may_ask_for_the_head_alone(address):
    with urllib.request.urlopen(urllib.request.Request(f"{address}/healthz", method="HEAD")) as reply:
        assert (reply.status, reply.read()) == (200, b"")


def test_what_is_no_json_object_is_told_what_to_send(address):
    request = urllib.request.Request(f"{address}/api/v1/predict", b'{"descriptions": ["A text."]}')
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert "send a JSON object, with the header Content-Type: application/json" in refused.value.read().decode()


def test_health(client):
    assert client.predict(api_name="/health")["status"] == "ok"


@pytest.mark.parametrize(
    ("text", "message"), [("", "no words"), ("x" * 30_000, "at most 20000 characters"), (5, "valid string")]
)
def test_what_cannot_be_classified_gets_a_sentence(client, text, message):
    with pytest.raises(AppError, match=message):
        client.predict(text, api_name="/predict")


def test_a_file_comes_back_complete(client, films):
    summary, result = client.predict(handle_file(films), api_name="/predict_batch")
    assert summary["films"] == 9
    assert summary["problems"] == ["films.csv:6: description is empty"]
    assert 0 <= summary["metrics"]["micro_f1"] <= 1
    with open(result, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {"movie_name", "description", "year", "genres", "confidence", "p_Drama"} <= set(rows[0])


def call(address, name, body):
    """Gradio's own door: a POST that gives an event, a GET that gives its result."""
    status, reply = http(f"{address}/gradio_api/call/v2/{name}", body)
    if status != 200:
        return status, reply
    return http(f"{address}/gradio_api/call/{name}/{json.loads(reply)['event_id']}")


def test_gradio_is_called_with_plain_json(address, expected):
    status, events = call(address, "predict", {"description": TEXT, "threshold": "micro_f1"})
    assert (status, events.splitlines()[0]) == (200, "event: complete")
    assert json.loads(events.splitlines()[1].removeprefix("data: "))[0]["genres"] == expected.genres


def test_a_bad_value_is_told_to_the_caller_of_gradio(address):
    _, events = call(address, "predict", {"description": TEXT, "mc_samples": 5000})
    assert events.startswith("event: error")
    assert "mc_samples: Input should be less than or equal to 100" in events


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("predict", {}, 422, "required argument: description"),
        ("predict", {"colour": "red"}, 422, "`colour`"),
        ("divine", {}, 404, "no endpoint '/divine'"),
    ],
)
def test_a_call_that_fits_no_endpoint_is_refused(address, name, body, status, message):
    code, reply = call(address, name, body)
    assert (code, message in json.loads(reply)["error"]) == (status, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("deep_link?session_hash=x", None),
        ("process_recording", {}),
        ("run/predict", {"data": [TEXT]}),
        ("api/predict", {"data": [TEXT]}),
        ("queue/join", {"data": [], "fn_index": 999, "session_hash": "x"}),
    ],
)
def test_doors_of_gradios_that_nothing_here_needs_are_closed(address, path, body):
    assert http(f"{address}/gradio_api/{path}", body)[0] == 404


def test_an_upload_has_a_greatest_size(address):
    request = urllib.request.Request(f"{address}/gradio_api/upload", b"x" * 6_000_000)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 413


def test_an_agent_finds_and_uses_the_tools(address, expected):
    async def session():
        async with (
            streamablehttp_client(f"{address}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as agent,
        ):
            await agent.initialize()
            tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
            good = await agent.call_tool("predict", {"description": TEXT})
            bad = await agent.call_tool("predict", {"description": "?"})
            return tools, good, bad

    tools, good, bad = asyncio.run(session())
    assert set(tools) == {"predict", "predict_batch", "health"}
    assert "in English" in tools["predict"].inputSchema["properties"]["description"]["description"]
    assert json.loads(good.content[0].text)["genres"] == expected.genres
    assert "no words" in bad.content[0].text
    assert bad.isError
    assert "data:text/csv;base64" in tools["predict_batch"].inputSchema["properties"]["file"]["description"]


def test_a_full_queue_refuses_and_another_model_is_served_by_its_folder(saved):
    process, url = serve(MODEL_ID=str(saved), QUEUE_SIZE="1", CONCURRENCY="1", MAX_EXPLAINED="1000")
    try:
        assert json.loads(http(f"{url}/api/v1/model")[1])["genres"] == GENRES
        slow = {"description": "gunman " * 2800, "stride": 32, "attribution": "gradient", "genre": "Crime"}
        replies = [http(f"{url}/gradio_api/call/v2/predict", slow) for _ in range(6)]
        assert {status for status, _ in replies} == {200, 503}
        assert "Queue is full" in next(text for status, text in replies if status == 503)
    finally:
        process.kill()
        process.wait(timeout=30)


def test_who_goes_away_leaves_the_queue(saved):
    """One computes and one waits: a third is refused until the second has closed the connection."""
    process, url = serve(MODEL_ID=str(saved), QUEUE_SIZE="1", CONCURRENCY="1", MAX_EXPLAINED="1000")
    ended, statuses = [], []

    def slow():
        body = {"descriptions": ["gunman " * 2800], "stride": 32, "attribution": "gradient", "genre": "Crime"}
        try:
            statuses.append(http(f"{url}/api/v1/predict", body)[0])
        finally:
            ended.append(time.monotonic())

    def refused():  # 422 for who has a place: this is answered without a turn
        return http(f"{url}/api/v1/predict", {"descriptions": ["?"]})[0] == 503

    try:
        computing = threading.Thread(target=slow)
        computing.start()
        time.sleep(2)
        body = json.dumps({"descriptions": [TEXT]}).encode()
        head = ["POST /api/v1/predict HTTP/1.1", "Host: x", "Content-Type: application/json"]
        head += [f"Content-Length: {len(body)}", "", ""]
        with socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(url).port)) as waiting:
            waiting.sendall("\r\n".join(head).encode() + body)
            time.sleep(1)
            assert refused()
            assert not ended, "the slow request was too quick for this test"
        while refused():
            time.sleep(0.1)
        assert not ended, "the queue was full until the slow request had ended"
        computing.join()
        assert statuses == [200]
    finally:
        process.kill()
        process.wait(timeout=30)


SLOW_TO_ITSELF = """
import runpy
from gradio import networking
networking.url_ok = lambda url: False
runpy.run_path("app.py", run_name="__main__")
"""


def test_it_serves_although_the_machine_is_too_busy_for_its_own_question():
    process, url = serve(program=("-c", SLOW_TO_ITSELF))
    try:
        assert http(f"{url}/api/v1/model")[0] == 200
    finally:
        process.kill()
        process.wait(timeout=30)


def test_it_is_told_to_end_and_answers_first_what_it_was_asked():
    process, url = serve()
    server = psutil.Process(process.pid)
    idle = server.cpu_times().user
    body = {"descriptions": [f"{'A gunman rides into town. ' * 80}{i}" for i in range(16)], "mc_samples": 100}
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(http, f"{url}/api/v1/predict", body)
        while server.cpu_times().user < idle + 0.3:  # until the question is being worked on
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert reply.result()[0] == 200


def test_a_plain_call_with_too_few_values_is_told_so(address):
    with httpx.Client(base_url=f"{address}/gradio_api/call", timeout=60) as client:
        event = client.post("/predict", json={"data": [TEXT]}).json()["event_id"]
        said = client.get(f"/predict/{event}").text
    assert "event: error" in said
    assert "1 of 7 values: send all of them, or name those you send, at /gradio_api/call/v2/predict" in said


def test_answers_that_take_long_are_given_before_the_end():
    process, url = serve(CONCURRENCY="1", LAST_SECONDS="300")
    server = psutil.Process(process.pid)
    body = {"descriptions": ["A sheriff rides. " * 90], "attribution": "gradient", "genre": "Western"}
    began = time.monotonic()
    assert http(f"{url}/api/v1/predict", body)[0] == 200
    count = min(30, 1 + int(8 / (time.monotonic() - began)))  # of such requests, one after the other: some 8 seconds
    idle = server.cpu_times().user
    with ThreadPoolExecutor(count) as pool:
        replies = [pool.submit(http, f"{url}/api/v1/predict", body) for _ in range(count)]
        while server.cpu_times().user < idle + 0.5:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=300) == 0
        assert [reply.result()[0] for reply in replies] == [200] * count


def test_answers_that_take_too_long_do_not_keep_it_from_ending():
    process, url = serve(LAST_SECONDS="1")
    body = {"descriptions": ["A sheriff rides. " * 90] * 8, "attribution": "gradient", "genre": "Western"}
    server = psutil.Process(process.pid)
    idle = server.cpu_times().user
    with ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(http, f"{url}/api/v1/predict", body) for _ in range(2)]
        while server.cpu_times().user < idle + 0.3:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(timeout=60) == 1
    assert all(reply.exception() for reply in replies)


def test_a_file_that_nobody_waits_for_is_read_no_further(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("description\n" + "".join(f"{i} {'A sheriff rides. ' * 290}\n" for i in range(900)))
    process, url = serve()
    try:
        with httpx.Client(base_url=f"{url}/gradio_api", timeout=60) as client:
            (uploaded,) = client.post("/upload", files={"files": path.open("rb")}).json()
            data = [{"path": uploaded, "meta": {"_type": "gradio.FileData"}}, ""]
            event = client.post("/call/predict_batch", json={"data": data}).json()["event_id"]
            server = psutil.Process(process.pid)
            idle = server.cpu_times().user
            with client.stream("GET", f"/call/predict_batch/{event}"):
                while server.cpu_times().user < idle + 3:
                    time.sleep(0.05)
        deadline = time.monotonic() + 60
        while (before := server.cpu_times().user) + 0.3 < (time.sleep(2), server.cpu_times().user)[1]:
            assert time.monotonic() < deadline, "it reads on for nobody"
        assert before < idle + 60
    finally:
        process.kill()
        process.wait(timeout=30)


def test_a_setting_that_cannot_be_gets_a_sentence(address):
    taken = urllib.parse.urlsplit(address).port
    for port, message in (
        ("http", "PORT='http' must be a whole number"),
        ("70000", "PORT=70000 must be at most 65,535"),
        (taken, f"127.0.0.1:{taken}: taken"),
        (None, "MAX_SAMPLES='2' must be a whole number from 3 on"),
    ):
        given = {"MAX_SAMPLES": "2"} if port is None else {"PORT": str(port)}
        done = subprocess.run(
            [sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True, env=os.environ | given
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("app.py: ")
        assert message in done.stderr


def test_an_argument_is_not_taken_for_a_setting():
    done = subprocess.run([sys.executable, "app.py", "--port", "8123"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "app.py takes no --port: settings come from the environment, as in PORT=8000" in done.stderr


def test_help_lists_the_settings():
    done = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in ("MODEL_ID", "MODEL_REVISION", "HOST", "PORT", "BACKEND", "MAX_ROWS", "QUEUE_SIZE"):
        assert name in done.stdout
