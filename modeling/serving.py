"""The service behind every door: the page, Gradio's endpoints, MCP tools and plain REST.

`Service` loads the model that the environment names and answers; `app_kwargs` puts REST in front of it. Every door
sends a `PredictRequest`, so that every limit binds them all.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import __version__
from .backends import Model, cores, load, locate, model_file, model_record
from .prediction_movie_genre import (
    WORD,
    GenrePrediction,
    Rule,
    check_attribution,
    fertility,
    profile_names,
    resolve_rule,
    window_starts,
)

SETTINGS: dict[str, tuple[str, str]] = {}  # name -> default, explanation: what `app.py --help` prints


def setting(name: str, default: str, explanation: str) -> str:
    """A setting from the environment; empty counts as not set."""
    SETTINGS[name] = (default, explanation)
    return os.environ.get(name) or default


def number(name: str, default: int, explanation: str, least: int = 1, most: int = 2**31) -> int:
    """A setting that is a whole number from `least` to `most`.

    Raises:
        ValueError: if the environment has something else.
    """
    value = setting(name, str(default), explanation)
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{name}={value!r} must be a whole number from {least} on")
    if int(value) > most:
        raise ValueError(f"{name}={value} must be at most {most:,}")
    return int(value)


HOST = setting("HOST", "127.0.0.1", "address to serve on")
PORT = number("PORT", 7860, "port to serve on", most=65_535)
MODEL_ID = setting("MODEL_ID", "checkpoint", "folder or Hub repository of the model")
MODEL_REVISION = setting("MODEL_REVISION", "main", "revision of the Hub repository")
BACKEND = setting("BACKEND", "torch", "torch, torch-bf16, or onnx (the model's onnx/ folder, no PyTorch loaded)")
CPU_CORES = number("CPU_CORES", cores(), "cores to compute with, shared out among concurrent answers")
CONCURRENCY = number("CONCURRENCY", 2, "answers computed at the same time")
QUEUE_SIZE = number("QUEUE_SIZE", 32, "requests that may wait; more are refused with 503")
MAX_BODY_MB = number("MAX_BODY_MB", 5, "megabytes of a request's body, uploads included; more is refused with 413")
MAX_CHARACTERS = number("MAX_CHARACTERS", 20_000, "characters of a description")
MAX_DESCRIPTIONS = number("MAX_DESCRIPTIONS", 32, "descriptions in one REST request")
MAX_ROWS = number("MAX_ROWS", 2_000, "films in one file")
MAX_SAMPLES = number("MAX_SAMPLES", 100, "Monte-Carlo samples", least=3)  # a slider from 2 on
# Gradio's doors that nothing here needs: one stores what a visitor typed for any other to open, for ever; one gives a
# stranger's video to ffmpeg.
CLOSED = ("/gradio_api/deep_link", "/gradio_api/process_recording")
DRAINED = 3  # times MAX_BODY_MB that are read of a body that is refused
LAST_SECONDS = number("LAST_SECONDS", 30, "seconds that answers under way are given when the server is told to end")
MAX_IN_WINDOWS = number("MAX_IN_WINDOWS", 20_000, "characters read in windows in one request")
MAX_EXPLAINED = number("MAX_EXPLAINED", 8, "descriptions, or windows, explained by gradients in one REST request")
LOOK_SECONDS = 0.5  # between looks whether a client that waits is still there


class RefusedError(ValueError):
    """A request that is not answered, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(max_length=100)]


class Options(BaseModel):
    """How to read and decide; see `predict_genres`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    threshold: Probability | Name | dict[Name, Probability] | None = Field(
        None, description="A number for all genres, an object by genre, or the name of a decision profile."
    )
    mc_samples: int = Field(0, ge=0, le=MAX_SAMPLES, description="Monte-Carlo dropout samples, for uncertainty.")
    attribution: Literal["pooling", "gradient"] | None = Field(
        None, description="Weight of each word: attention pooling, or integrated gradients for one genre."
    )
    genre: Name | None = Field(None, description="The genre that gradient attribution explains.")
    stride: int | None = Field(
        None, ge=0, description="Read long texts in windows that overlap by this many tokens; at most half a window."
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="Makes Monte-Carlo results repeatable.")


class PredictRequest(Options):
    """Descriptions and options."""

    descriptions: list[Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]] = Field(
        min_length=1,
        max_length=MAX_DESCRIPTIONS,
        examples=[["A retired hitman comes back for one last job when the mob kills his dog."]],
    )


class GenreUncertaintyReply(BaseModel):
    """Spread of one genre's probability over the Monte-Carlo samples; entropies in nats."""

    std: float
    entropy: float
    mutual_information: float


class PredictionReply(BaseModel):
    """`GenrePrediction.to_dict()`."""

    genres: list[str]
    probabilities: dict[str, float]
    confidence: float
    uncertainty: dict[str, GenreUncertaintyReply] | None
    word_weights: list[tuple[int, int, float]] | None
    truncated_at: int | None


class PredictReply(BaseModel):
    """Predictions in the order of the descriptions."""

    predictions: list[PredictionReply]


class ModelReply(BaseModel):
    """What is served, and its limits."""

    model: str
    revision: str
    backend: str
    version: str
    genres: list[str]
    profiles: list[str]
    threshold_profiles: dict[str, dict[str, float]]
    default_profile: str | None
    max_tokens: int
    limits: dict[str, int]
    evaluation: dict[str, Any] | None
    training: dict[str, Any] | None


class HealthReply(BaseModel):
    """A sign of life."""

    status: Literal["ok"]
    model: str
    backend: str


class ErrorReply(BaseModel):
    """Why a request was refused."""

    error: str


def validated(**values: Any) -> PredictRequest:
    """A request from a door that does not speak HTTP.

    Raises:
        RefusedError: 422, naming the value that is wrong.
    """
    try:
        return PredictRequest(**values)
    except ValidationError as error:
        raise RefusedError(422, complaint(error.errors())) from None


def complaint(errors: Any) -> str:
    """The first of pydantic's errors in one line, without the value: it may be long, and it is the sender's own."""
    place = [part for part in errors[0]["loc"] if part != "body"]
    if errors[0]["type"] == "json_invalid":
        return "the body is not JSON"
    if not place:
        return "send a JSON object, with the header Content-Type: application/json"
    if place[:1] == ["threshold"]:  # of its three forms each has an error of its own
        return "threshold: expected a number from 0 to 1, an object of such numbers by genre, or the name of a profile"
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}"[:100] for part in place).lstrip(".")
    return f"{where}: {errors[0]['msg']}" if where else errors[0]["msg"]


async def misaddressed(request: Request, error: Exception) -> Response:
    """Reply to a call of a Gradio endpoint that does not exist, or that names other parameters than it has."""
    if not request.url.path.startswith(("/gradio_api/call/", "/gradio_api/queue/join")):
        raise error
    if isinstance(error, KeyError):
        return JSONResponse({"error": f"no endpoint {error}: see /gradio_api/openapi.json"}, 404)
    return JSONResponse({"error": str(error).partition(" Please click")[0]}, 422)


class Turnstile:
    """Lets `concurrency` callers compute while `queue` more wait; others are refused at once."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self.capacity = concurrency + queue
        self.held = 0  # places
        self._free = concurrency
        self._waiting: deque[object] = deque()  # who came first is served first
        self._changed = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue.

        Raises:
            RefusedError: 503 if none is free.
        """
        with self._changed:
            if self.held == self.capacity:
                raise RefusedError(503, "too many requests are waiting: try again in a few seconds")
            self.held += 1
        try:
            yield
        finally:
            with self._changed:
                self.held -= 1
                self._changed.notify_all()

    def empty(self, seconds: float) -> bool:
        """Wait until nobody holds a place; whether that came within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.held, seconds)

    @contextmanager
    def turn(self, gone: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """To be entered by a holder of a place when it computes; a long job takes one turn for each part of it.

        Turns come in the order in which they are asked for: of each long job that is ahead, one part comes first.

        Args:
            gone: whether nobody waits for the answer any more.

        Raises:
            RefusedError: 499 if nobody does.
        """
        me = object()
        with self._changed:
            self._waiting.append(me)
            try:
                while not (left := gone()) and (not self._free or self._waiting[0] is not me):
                    self._changed.wait(LOOK_SECONDS)
                if left:
                    raise RefusedError(499, "nobody waits for the answer")
                self._free -= 1
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()


class Service:
    """A model, the record of its training and figures, and the turnstile in front of it."""

    def __init__(
        self, model: Model | None = None, name: str = MODEL_ID, revision: str = MODEL_REVISION, backend: str = BACKEND
    ) -> None:
        where = locate(name)
        threads = max(1, CPU_CORES // CONCURRENCY)
        self.model = load(where, revision, backend=backend, threads=threads) if model is None else model
        # Visitors need not know where on this machine the model lies.
        self.name = Path(where).resolve().name if Path(where).is_dir() else name
        self.revision, self.backend = revision, backend
        self.card = model_file(where, revision, "README.md")
        self.evaluation, self.training = (
            model_record(where, revision, file) for file in ("evaluation.json", "training.json")
        )
        self.turnstile = Turnstile(CONCURRENCY, QUEUE_SIZE)
        self.model.predict_genres("The first answer loads the tokenizer: not while somebody waits.")

    @property
    def genres(self) -> list[str]:
        """Genres that the model knows."""
        return list(self.model.config.genres)

    @property
    def profiles(self) -> list[str]:
        """Names of the decision profiles, the default one first."""
        return profile_names(self.model.config)

    def rule(self, threshold: Any) -> Rule:
        """What decides: one threshold a genre, (genres,), or whole sets.

        Raises:
            RefusedError: 422 for a profile or genre that the model does not have.
        """
        try:
            return resolve_rule(threshold, self.model.config)
        except (ValueError, TypeError) as error:
            raise RefusedError(422, str(error)) from None

    def check(self, request: PredictRequest) -> None:
        """What only the model can tell about a request.

        Raises:
            RefusedError: 422, naming the value that is wrong.
        """
        self.rule(request.threshold)
        try:
            check_attribution(request.attribution, request.genre, self.genres)
        except ValueError as error:
            raise RefusedError(422, str(error)) from None
        if request.attribution == "gradient":
            if self.backend == "onnx":
                raise RefusedError(422, "attribution='gradient' needs BACKEND=torch: ONNX computes no gradients")
            if len(request.descriptions) > MAX_EXPLAINED:
                raise RefusedError(422, f"attribution='gradient' takes at most {MAX_EXPLAINED} descriptions a request")
        half = self.model.config.max_position_embeddings // 2
        if request.stride is not None and request.stride > half:
            raise RefusedError(
                422, f"stride={request.stride} must be at most {half}, half of what the model reads at a time"
            )
        if request.stride is not None and (long := sum(map(len, request.descriptions))) > MAX_IN_WINDOWS:
            raise RefusedError(
                422, f"with a stride {MAX_IN_WINDOWS:,} characters are read at most, and these are {long:,}"
            )
        for index, text in enumerate(request.descriptions):
            if not WORD.search(text):
                raise RefusedError(422, f"descriptions[{index}] has no words: describe the film in a sentence or two")
        if request.attribution == "gradient" and request.stride is not None:
            room = self.model.config.max_position_embeddings - 2
            pieces = self.model.tokenizer(request.descriptions, add_special_tokens=False, verbose=False)["input_ids"]
            windows = sum(len(window_starts(len(ids), room, request.stride)) for ids in pieces)
            if windows > MAX_EXPLAINED:
                raise RefusedError(
                    422,
                    f"attribution='gradient' takes at most {MAX_EXPLAINED} windows a request, and these texts make "
                    f"{windows}: shorten them, or leave stride out",
                )

    def foreign(self, text: str) -> bool:
        """Whether a text is not in the language of the model's training films, as far as its configuration knows it."""
        highest, tokenizer = self.model.config.max_fertility, self.model.tokenizer
        if highest is None:
            return False
        pieces = getattr(tokenizer, "backend_tokenizer", tokenizer).encode(text, add_special_tokens=False)
        return fertility(text, pieces.offsets) > highest

    def predict(self, request: PredictRequest, gone: Callable[[], bool] = lambda: False) -> list[GenrePrediction]:
        """Predictions of a request, in its order: the one function behind all doors.

        Args:
            request: descriptions and options.
            gone: whether nobody waits for the answer any more; asked until the request's turn comes.

        Raises:
            RefusedError: 422 for a request that cannot be answered, 503 when too many are waiting.
        """
        with self.turnstile.place():
            return self.answer(request, gone)

    def answer(self, request: PredictRequest, gone: Callable[[], bool] = lambda: False) -> list[GenrePrediction]:
        """`predict` for who holds a place in the queue already."""
        self.check(request)
        with self.turnstile.turn(gone):
            try:
                return self.model.predict_genres(request.descriptions, **request.model_dump(exclude={"descriptions"}))
            except (ValueError, NotImplementedError) as error:  # what this model cannot do
                raise RefusedError(422, str(error)) from None

    def about(self) -> ModelReply:
        """What is served, and its limits."""
        config = self.model.config
        thresholds = {
            name: dict(zip(self.genres, map(float, values), strict=True))
            for name, values in (config.threshold_profiles or {}).items()
        }
        limits = {
            "characters": MAX_CHARACTERS,
            "descriptions": MAX_DESCRIPTIONS,
            "explained": MAX_EXPLAINED,
            "rows": MAX_ROWS,
            "samples": MAX_SAMPLES,
            "in_windows": MAX_IN_WINDOWS,
            "body_bytes": MAX_BODY_MB * 1_000_000,
            "concurrency": CONCURRENCY,
            "queue": QUEUE_SIZE,
        }
        return ModelReply(
            model=self.name,
            revision=self.revision,
            backend=self.backend,
            version=__version__,
            genres=self.genres,
            profiles=self.profiles,
            threshold_profiles=thresholds,
            default_profile=config.default_profile,
            max_tokens=config.max_position_embeddings,
            limits=limits,
            evaluation=self.evaluation,
            training=self.training and {name: self.training.get(name) for name in ("data", "parameters", "versions")},
        )

    def health(self) -> HealthReply:
        """A sign of life."""
        return HealthReply(status="ok", model=self.name, backend=self.backend)


async def nothing_here(_: Request) -> Response:
    """Reply where Gradio has a door that this page does not use."""
    return JSONResponse({"error": "nothing is here"}, 404)


def app_kwargs(service: Service) -> dict[str, Any]:
    """REST in front of a service, and the body limit: for Gradio's `launch(app_kwargs=...)`.

    The routes are described at /api/v1/openapi.json.
    """
    errors: dict[int | str, dict[str, Any]] = {
        400: {"model": ErrorReply, "description": "The body cannot be read."},
        413: {"model": ErrorReply, "description": f"The body is larger than {MAX_BODY_MB} MB."},
        422: {"model": ErrorReply, "description": "A value is wrong; the message names it."},
        503: {"model": ErrorReply, "description": "Too many requests are waiting."},
    }
    # Without the pages of documentation: they load their scripts from elsewhere.
    rest = FastAPI(
        title="Movie genres",
        version=__version__,
        description="Genres of films from their descriptions.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    # Own threads: waiting requests take none of those that serve the page. A few are spare, to refuse from.
    threads = anyio.CapacityLimiter(service.turnstile.capacity + 4)

    @rest.post("/api/v1/predict", responses=errors, response_model=PredictReply)
    async def predict(request: PredictRequest, connection: Request) -> Any:
        """Genres of descriptions."""
        gone = threading.Event()

        async def watch() -> None:
            while not await connection.is_disconnected():
                await asyncio.sleep(LOOK_SECONDS)
            gone.set()

        watcher = asyncio.create_task(watch())
        try:
            predictions = await anyio.to_thread.run_sync(service.predict, request, gone.is_set, limiter=threads)
        finally:
            watcher.cancel()
        return {"predictions": [prediction.to_dict() for prediction in predictions]}

    @rest.get("/api/v1/model")
    async def model() -> ModelReply:
        """What is served: genres, decision profiles, limits, and figures from the model's own files."""
        return service.about()

    @rest.head("/healthz", include_in_schema=False)
    @rest.get("/healthz")
    async def health() -> HealthReply:
        """A sign of life."""
        return service.health()

    @rest.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": complaint(error.errors())}, 422)

    @rest.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        unread = error.status_code == 400  # which FastAPI answers for no other cause
        detail = "the body is not JSON in UTF-8" if unread else str(error.detail)
        return JSONResponse({"error": detail}, error.status_code, error.headers)

    @rest.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "something went wrong here: it is in the server's log"}, 500)

    @rest.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status, {"Retry-After": "5"} if error.status == 503 else None)

    # As an application behind routes it keeps its own error handlers, and Gradio's app keeps every other path.
    return {
        "routes": [
            *(Route(path, rest) for path in ("/api/v1/{path:path}", "/healthz")),
            *(Route(path, nothing_here, methods=["GET", "POST"]) for path in CLOSED),
        ],
        "middleware": [Middleware(BodyLimit)],
        "exception_handlers": {KeyError: misaddressed, TypeError: misaddressed},
    }


class BodyLimit:
    """Middleware that refuses bodies beyond `MAX_BODY_MB` with 413, whether their length is declared or not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what it sends."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        allowed = MAX_BODY_MB * 1_000_000
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received, more, started = 0, True, False
        exceeded = declared.isdigit() and int(declared) > allowed

        async def counted() -> Message:
            nonlocal received, more, exceeded
            message = await receive()
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
            if received > allowed:
                exceeded = True
                return {"type": "http.disconnect"}  # whoever reads stops here
            return message

        async def guarded(message: Message) -> None:
            nonlocal started
            if not exceeded or started:
                started = True
                await send(message)

        try:
            if not exceeded:
                await self.app(scope, counted, guarded)
        except Exception:  # what the reader makes of the broken body does not matter
            if not exceeded:
                raise
        if exceeded and not started:
            # Whoever is still sending would see a broken connection instead of the reply: hear some of it out.
            while more and received <= DRAINED * allowed:
                await counted()
            reply = JSONResponse({"error": f"the body is larger than {MAX_BODY_MB} MB"}, 413)
            await reply(scope, receive, send)
