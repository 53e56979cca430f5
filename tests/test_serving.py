"""REST, its limits, and the service behind every door; a real small network, asked over ASGI."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import schemathesis
import torch
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from modeling import serving
from modeling.export import export
from modeling.serving import RefusedError, Service, Turnstile, app_kwargs, validated

from .conftest import ROOT, tiny_model

TEXT = "A retired gunman rides into a border town where the sheriff owes him a horse."


@pytest.fixture(scope="module")
def service(tokenizer):
    model = tiny_model(
        threshold_profiles={"careful": [0.9] * 4, "bold": [0.001] * 4},
        label_sets={"1010": 3, "0101": 1},
        default_profile="bold",
    )
    model._tokenizer = tokenizer
    return Service(model, name="tiny")


@pytest.fixture(scope="module")
def client(service):
    return TestClient(FastAPI(**app_kwargs(service)))


def ask(client, **body):
    return client.post("/api/v1/predict", json={"descriptions": [TEXT], **body})


def test_predict_answers_in_the_one_schema_and_in_order(client, service):
    other = "A widow and her neighbour bake a cake for the mayor."
    reply = client.post("/api/v1/predict", json={"descriptions": [TEXT, other], "mc_samples": 4, "seed": 1})
    assert reply.status_code == 200
    expected = service.model.predict_genres([TEXT, other], mc_samples=4, seed=1)
    assert [row["genres"] for row in reply.json()["predictions"]] == [p.genres for p in expected]
    assert reply.json()["predictions"][1]["probabilities"] == pytest.approx(expected[1].probabilities)
    assert reply.json()["predictions"][1]["uncertainty"]["Crime"]["std"] == expected[1].uncertainty["Crime"].std
    assert set(reply.json()["predictions"][0]) == set(expected[0].to_dict())


def test_options_reach_the_model(client):
    assert len(ask(client, threshold="bold").json()["predictions"][0]["genres"]) == 4
    assert len(ask(client, threshold=1.0).json()["predictions"][0]["genres"]) == 1
    whole = ask(client, threshold="subset_accuracy").json()["predictions"][0]["genres"]
    assert sorted(whole) in (["Comedy", "Drama"], ["Crime", "Western"])
    words = ask(client, attribution="gradient", genre="Crime").json()["predictions"][0]["word_weights"]
    assert any(weight < 0 for _, _, weight in words)
    long = " ".join([TEXT] * 20)
    assert ask(client, descriptions=[long]).json()["predictions"][0]["truncated_at"]
    assert ask(client, descriptions=[long], stride=8).json()["predictions"][0]["truncated_at"] is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"descriptions": []}, "descriptions: List should have at least 1 item"),
        ({"descriptions": ["fine here", 5]}, "descriptions[1]: Input should be a valid string"),
        ({"descriptions": ["?!"]}, "descriptions[0] has no words"),
        ({"threshold": "golden"}, "no decision profile 'golden'; this model has ['bold', 'careful', 'subset_"),
        ({"threshold": {"Opera": 0.5}}, "no genre 'Opera'"),
        ({"threshold": 2}, "threshold: expected a number from 0 to 1"),
        ({"mc_samples": True}, "mc_samples: Input should be a valid integer"),
        ({"attribution": "gradient"}, "attribution='gradient' explains one genre"),
        ({"attribution": "gradient", "genre": "Opera"}, "no genre 'Opera'"),
        ({"stride": 33}, "stride=33 must be at most 32"),
        (
            {"stride": 8, "descriptions": ["a, " * 4000] * 2},
            "with a stride 20,000 characters are read at most, and these",
        ),
        (
            {"stride": 8, "attribution": "gradient", "genre": "Crime", "descriptions": ["a, " * 2000]},
            "takes at most 8 windows a request, and these texts make 74",
        ),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_bad_input_is_refused_by_name(client, body, message):
    reply = ask(client, **body)
    assert reply.status_code == 422
    assert message in reply.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"descriptions=x", 422, "not JSON"),
        (b'{"descriptions": ["\\ud800"]}', 422, "descriptions[0]"),
        (b'{"descriptions": ["a"], "threshold": NaN}', 422, "threshold"),
        (b'{"a": "\xc3("}', 400, "the body is not JSON in UTF-8"),
        (b"[" * 100_000, 400, "the body is not JSON in UTF-8"),
    ],
)
def test_what_is_no_json_is_refused(client, body, status, message):
    reply = client.post("/api/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, message in reply.json()["error"]) == (status, True)


def test_unknown_paths_and_methods_are_told(client):
    assert client.get("/api/v1/nothing").json() == {"error": "Not Found"}
    assert client.get("/api/v1/predict").status_code == 405


def test_health_and_model_tell_what_is_served(client):
    assert client.get("/healthz").json() == {"status": "ok", "model": "tiny", "backend": "torch"}
    about = client.get("/api/v1/model").json()
    assert about["genres"] == ["Comedy", "Crime", "Drama", "Western"]
    assert about["threshold_profiles"]["careful"]["Drama"] == 0.9
    assert about["profiles"] == ["bold", "careful", "subset_accuracy"]
    assert about["limits"]["characters"] == serving.MAX_CHARACTERS


def test_a_description_has_a_greatest_length(client):
    assert ask(client, descriptions=["word " * (serving.MAX_CHARACTERS // 5)]).status_code == 200
    assert "at most 20000 characters" in ask(client, descriptions=["x" * 20_001]).json()["error"]


def test_a_request_has_a_greatest_number_of_descriptions(client):
    assert "at most 32 items" in ask(client, descriptions=[TEXT] * 33).json()["error"]
    many = ask(client, descriptions=[TEXT] * 9, attribution="gradient", genre="Crime")
    assert "at most 8 descriptions" in many.json()["error"]


def test_samples_have_a_greatest_number(client):
    assert ask(client, mc_samples=serving.MAX_SAMPLES).status_code == 200
    assert "mc_samples: Input should be less than or equal to 100" in ask(client, mc_samples=101).json()["error"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_has_a_greatest_size(client, declared):
    body = b'{"descriptions": ["' + b"x" * 1_000_000 * serving.MAX_BODY_MB + b'"]}'
    reply = client.post("/api/v1/predict", content=body if declared else iter([body[:1000], body[1000:]]))
    assert reply.status_code == 413
    assert reply.json() == {"error": "the body is larger than 5 MB"}


def test_who_finds_the_queue_full_is_sent_away_and_the_others_are_answered(service, client, monkeypatch):
    monkeypatch.setattr(service, "turnstile", Turnstile(concurrency=1, queue=1))
    replies = []
    with service.turnstile.place():  # somebody computes
        with service.turnstile.turn():
            waiting = threading.Thread(target=lambda: replies.append(ask(client)))
            waiting.start()
            deadline = time.monotonic() + 60
            while service.turnstile.held < 2:  # until the second place is taken
                assert time.monotonic() < deadline
                time.sleep(0.001)
            refused = ask(client)
        waiting.join(timeout=60)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert "too many requests" in refused.json()["error"]
    assert replies[0].status_code == 200


def test_who_ends_waits_for_those_who_are_answered_but_not_for_ever():
    turnstile = Turnstile(concurrency=1, queue=1)
    assert turnstile.empty(0)
    with turnstile.place():
        assert not turnstile.empty(0.01)
        assert turnstile.held == 1
    assert turnstile.empty(0)


def test_what_breaks_is_told_in_the_services_own_form(service, monkeypatch):
    monkeypatch.setattr(service, "about", lambda: {}["nothing"])
    app = FastAPI(**app_kwargs(service))
    reply = TestClient(app, raise_server_exceptions=False).get("/api/v1/model")
    assert (reply.status_code, list(reply.json())) == (500, ["error"])


def test_a_place_in_the_queue_is_free_again_when_nobody_waits_for_the_answer(service, monkeypatch):
    monkeypatch.setattr(service, "turnstile", Turnstile(concurrency=1, queue=1))
    monkeypatch.setattr(service.model, "predict_genres", lambda *_, **__: pytest.fail("computed for nobody"))
    request = validated(descriptions=[TEXT])
    with service.turnstile.place():
        with service.turnstile.turn(), pytest.raises(RefusedError, match="nobody waits"):
            service.predict(request, gone=lambda: True)
        assert service.turnstile.held == 1
        with pytest.raises(RefusedError, match="nobody waits"):  # nor where the turn would have come at once
            service.predict(request, gone=lambda: True)
        with service.turnstile.turn():
            pass


def test_turns_come_in_the_order_in_which_they_are_asked_for():
    """A long job asks for the next turn as soon as it has ended one: those who wait come first."""
    turnstile, order = Turnstile(concurrency=1, queue=10), []

    def take(name, turns):
        for _ in range(turns):
            with turnstile.turn():
                order.append(name)
                time.sleep(0.05)

    jobs = [threading.Thread(target=take, args=job) for job in (("file", 6), ("one", 1), ("another", 1))]
    for job in jobs:
        job.start()
        time.sleep(0.01)
    for job in jobs:
        job.join()
    assert order == ["file", "one", "another", *["file"] * 5]


def test_no_visitor_learns_where_the_model_lies(saved):
    assert Service(name=str(saved)).health().model == saved.name


def test_a_damaged_record_is_named(saved):
    (saved / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json of .* cannot be read"):
        Service(name=str(saved))


def test_no_more_than_the_set_number_compute_at_once(service, monkeypatch):
    monkeypatch.setattr(service, "turnstile", Turnstile(concurrency=2, queue=10))
    inside, most, lock = 0, 0, threading.Lock()
    predict_genres = service.model.predict_genres

    def counted(*args, **options):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        try:
            return predict_genres(*args, **options)
        finally:
            with lock:
                inside -= 1

    monkeypatch.setattr(service.model, "predict_genres", counted)
    request = validated(descriptions=[TEXT] * 8, mc_samples=100)
    threads = [threading.Thread(target=service.predict, args=(request,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_threads_and_concurrency_share_the_cores_out(saved, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(serving, "CPU_CORES", 6)
    monkeypatch.setattr(serving, "CONCURRENCY", 3)
    try:
        Service(name=str(saved))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


def test_a_limit_is_set_by_the_environment():
    done = run_python("from modeling import serving; print(serving.MAX_ROWS)", MAX_ROWS="7")
    assert done.stdout == "7\n"


def test_a_limit_that_is_no_number_is_named():
    assert "MAX_ROWS='many' must be a whole number" in run_python("import modeling.serving", MAX_ROWS="many").stderr


def test_serving_loads_nothing_that_it_does_not_need():
    heavy = {"torch", "transformers", "datasets", "sklearn", "matplotlib"}
    done = run_python(f"import modeling.page, sys; print(*{heavy} & set(sys.modules))")
    assert done.stdout == "\n", done.stderr


def test_the_onnx_backend_serves_without_torch(tmp_path, tokenizer):
    model = tiny_model()
    model._tokenizer = tokenizer
    export(model, tmp_path)
    program = (
        "import json, sys; from modeling.serving import Service, validated; service = Service();"
        "(one,) = service.predict(validated(descriptions=[sys.argv[1]], mc_samples=3, seed=0));"
        "assert not {'torch', 'transformers'} & set(sys.modules); print(json.dumps(one.to_dict()))"
    )
    environment = os.environ | {"BACKEND": "onnx", "MODEL_ID": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, TEXT], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["genres"]
    assert set(answer["uncertainty"]) == set(model.config.genres)


def test_gradients_are_refused_by_name_under_onnx(service, monkeypatch):
    monkeypatch.setattr(service, "backend", "onnx")
    with pytest.raises(RefusedError, match="needs BACKEND=torch"):
        service.predict(validated(descriptions=[TEXT], attribution="gradient", genre="Crime"))


def test_no_input_breaks_the_interface_that_it_describes(service):
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", FastAPI(**app_kwargs(service)))
    answered = Counter()

    @given(case=schema.as_strategy())
    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def fuzz(case):
        # No 5xx, and only the replies that the schema describes; but which genres and words there are it cannot say.
        reply = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        answered[case.path, reply.status_code] += 1

    fuzz()
    assert answered["/api/v1/predict", 200]
    assert answered["/api/v1/predict", 422]
