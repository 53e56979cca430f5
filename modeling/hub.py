"""To the Hugging Face Hub: the model with its card, the films with their datasheet, the page as a Space.

Each repository gets the files of an explicit list and no others, in one commit. Large files are uploaded before the
commit, which is made only if something differs: an interrupted run leaves the branch as it was and can be repeated.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from . import __version__
from .backends import ROOT
from .card import bare, public_record, render_card, render_space_card

if TYPE_CHECKING:
    from transformers import TrainingArguments

Kind = Literal["model", "dataset", "space"]
What = Literal["new", "changed", "unchanged", "removed"]

RELEASE = f"v{__version__}"

# What from_pretrained reads, on a machine that has never seen this package.
MODEL_FILES = (
    "config.json",
    "configuration_movie_genre.py",
    "model.safetensors",
    "modeling_movie_genre.py",
    "prediction_movie_genre.py",
    "tokenizer.json",
    "tokenizer_config.json",
)
# What is published beside it, where it exists. Everything else in a folder stays at home: training_args.bin is a
# pickle, optimizer states are large, and nobody knows what else lies there.
RECORDS = ("training.json", "evaluation.json", "*.png", "onnx/*.onnx", "onnx/*.json", "onnx/*.safetensors")
DATA_FILES = ("README.md", "*.csv")
SPACE_FILES = ("app.py", "requirements.txt", "modeling/*.py", "data/movies.csv")
# What an earlier push may have left, and must not stay: pickles, anywhere, and what was said of other weights or made
# from them.
OBSOLETE: dict[Kind, tuple[str, ...]] = {
    "model": (
        *("*.bin", "*.pt", "*.pth", "*.pkl", "/training.json", "/evaluation.json", "/curves.png", "/genres.png"),
        *("/onnx/*.onnx", "/onnx/*.json", "/onnx/*.safetensors"),
    ),
    "dataset": ("/*.csv",),
    "space": ("/modeling/*.py",),
}


CURE = "get one that may write on https://huggingface.co/settings/tokens, and run `hf auth login` or set HF_TOKEN"


class HubError(ValueError):
    """Something that the person who publishes can put right; the message says how."""


@dataclass(frozen=True)
class Change:
    """A file of a repository, and what publishing does to it."""

    path: str
    what: What
    size: int


@dataclass(frozen=True)
class Publication:
    """What was done to a repository, or would be.

    Attributes:
        repo: "owner/name".
        changes: one a file.
        commit: hash of the commit that holds the files now; None after a dry run.
        tag: the name given to it; None for none.
    """

    repo: str
    changes: Sequence[Change]
    commit: str | None
    tag: str | None

    def summary(self) -> str:
        """One line: what was done."""
        counts = {what: sum(change.what == what for change in self.changes) for what in get_args(What)}
        files = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        tag = f", tag {self.tag}" if self.tag else ""
        return f"{self.repo}: {files}; " + (f"commit {self.commit[:7]}{tag}" if self.commit else "nothing was uploaded")


def publish_model(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = RELEASE,
    license: str | None = None,
    dataset: str | None = None,
    results: str | Path | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """Publish a folder that `from_pretrained` loads, with a card rendered from what lies in it.

    Args:
        folder: of a finished training run, of `movie-genre tune`, or checkpoint/.
        repo: "owner/name"; a name alone is one of the token's owner.
        private: make the repository private, where it does not exist yet.
        revision: branch to publish to, made if there is none of that name; main by default.
        tag: name for this state, which never changes its content again; None for none.
        license: of the weights, for the card, which states none by default.
        dataset: id of the training data on the Hub, for the card, if it is published there.
        results: folder of further results about this very model (own_films.json, speed.json, ...), for the card.
        token: of the Hub; the one that `hf auth login` or HF_TOKEN gave by default.
        dry_run: only say what would be done.

    Raises:
        HubError: if the folder is not whole, the token will not do, or the tag names something else.
    """
    folder = Path(folder)
    files = _read(folder, MODEL_FILES, RECORDS)
    hub = _Hub(token, dry_run)
    repo = hub.full_name(repo)
    card = render_card(folder, repo, tag=tag, license=license, dataset=dataset, results=results)
    files["README.md"] = card.encode()
    for name in ("config.json", "onnx/config.json"):
        config = json.loads(files.get(name, b"{}"))
        if (base := config.get("base_model")) and bare(base) != base:
            files[name] = (json.dumps(config | {"base_model": bare(base)}, indent=2) + "\n").encode()
    if record := files.get("training.json"):
        public = public_record(json.loads(record))
        files["training.json"] = (json.dumps(public, indent=1, ensure_ascii=False) + "\n").encode()
    return hub.publish("model", repo, files, f"Movie genre model {tag or ''}".strip(), private, revision, tag)


def publish_data(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = RELEASE,
    token: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """Publish films (.csv) with their datasheet (README.md) as the card. Arguments as of `publish_model`."""
    folder = Path(folder)
    files = _read(folder, DATA_FILES)
    hub = _Hub(token, dry_run)
    repo = hub.full_name(repo)
    local = b'load_dataset("csv", data_files="data/movies.csv"'  # as a reader of the datasheet beside the file does
    files["README.md"] = files["README.md"].replace(local, f'load_dataset("{repo}"'.encode())
    return hub.publish("dataset", repo, files, f"Films {tag or ''}".strip(), private, revision, tag)


def publish_space(
    repo: str,
    model: str,
    *,
    model_revision: str = "main",
    private: bool = False,
    token: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """Publish the page as a Space that serves a published model, pinned to the commit it has now.

    Args:
        repo: "owner/name" of the Space.
        model: "owner/name" of the model.
        model_revision: branch, tag or commit of the model.
        private: make the Space private, where it does not exist yet.
        token: of the Hub; the one that `hf auth login` or HF_TOKEN gave by default.
        dry_run: only say what would be done.

    Raises:
        HubError: without a checkout of the project, if the model is not published, or the token will not do.
    """
    if not (ROOT / "app.py").exists():
        raise HubError(
            f"a Space is published from a checkout of the project: {ROOT} has no app.py. "
            "Clone the repository and run the command there"
        )
    files = _read(ROOT, SPACE_FILES)
    hub = _Hub(token, dry_run)
    repo, model = hub.full_name(repo), hub.full_name(model)
    commit, there = hub.model(model, model_revision)
    preload = [name for name in (*MODEL_FILES, "README.md", "evaluation.json", "training.json") if name in there]
    gradio = re.search(rb"^gradio==(.+)$", files["requirements.txt"], re.M)
    assert gradio is not None  # requirements.txt pins it
    files["README.md"] = render_space_card(model, commit, preload, gradio[1].decode()).encode()
    # 127.0.0.1, where app.py listens by default, cannot be reached from outside a Space's container.
    variables = {"MODEL_ID": model, "MODEL_REVISION": commit, "HOST": "0.0.0.0"}  # noqa: S104
    message = f"The page for {model} at {commit[:7]}"
    return hub.publish("space", repo, files, message, private, None, None, variables)


def from_training(arguments: "TrainingArguments") -> Callable[[Path], Publication] | None:
    """What publishes the finished run, if `push_to_hub` asks for it; the token is tried before hours are spent.

    The Trainer's own push would put a pickle, a card without figures and checkpoints without code on the main branch,
    and its checkpoints would hold the token: it is told neither to push nor the token.

    Raises:
        HubError: if the token will not do.
    """
    token, arguments.hub_token = arguments.hub_token, None
    if not arguments.push_to_hub:
        return None
    arguments.push_to_hub = False
    name = arguments.hub_model_id or Path(arguments.output_dir or "").resolve().name
    with _plain_errors(name):
        repo = _Hub(token).full_name(name)
    publish = partial(
        publish_model,
        repo=repo,
        private=bool(arguments.hub_private_repo),
        revision=arguments.hub_revision,
        tag=None,  # a run is no release
        token=token,
    )

    def publish_or_say_how(folder: Path) -> Publication:
        try:
            return publish(folder)
        except HubError as error:
            command = f"movie-genre publish model --folder {folder} --repo {repo} --tag none"
            command += " --private" if arguments.hub_private_repo else ""
            command += f" --revision {arguments.hub_revision}" if arguments.hub_revision else ""
            raise HubError(f"{error}. The model itself is in {folder}: {command} publishes it") from None

    return publish_or_say_how


def _read(folder: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, bytes]:
    """Contents of the files that match the patterns, by path.

    Raises:
        HubError: if a required one is missing.
    """
    missing = [pattern for pattern in required if not any(folder.glob(pattern))]
    if missing:
        raise HubError(f"{folder} cannot be published, it lacks {', '.join(missing)}")
    paths = [path for pattern in (*required, *optional) for path in sorted(folder.glob(pattern))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class _Hub:
    """The client, with errors that say what to do."""

    def __init__(self, token: str | None, dry_run: bool = False) -> None:
        self.api = HfApi(token=token, library_name="movie-genre-model", library_version=__version__)
        self.dry_run = dry_run

    @cached_property
    def user(self) -> str:
        """Owner of the token."""
        account = self.api.whoami()
        if account.get("auth", {}).get("accessToken", {}).get("role") == "read" and not self.dry_run:
            raise HubError(f"the token may only read: {CURE}")
        return account["name"]

    def full_name(self, repo: str) -> str:
        """The name with its owner's.

        Raises:
            HubError: if the token will not do, unless nothing is to be written.
        """
        with _plain_errors(repo):
            owner = "" if self.dry_run and "/" in repo else self.user
        return repo if "/" in repo else f"{owner}/{repo}"

    def model(self, repo: str, revision: str) -> tuple[str, list[str]]:
        """Commit and file names of a published model."""
        with _plain_errors(repo):
            try:
                info = self.api.model_info(repo, revision=revision)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                raise HubError(
                    f"there is no model {repo} at {revision}: movie-genre publish model --repo {repo} comes first"
                ) from None
        return str(info.sha), [file.rfilename for file in info.siblings or []]

    def publish(
        self,
        kind: Kind,
        repo: str,
        files: dict[str, bytes],
        message: str,
        private: bool,
        revision: str | None,
        tag: str | None,
        variables: Mapping[str, str] | None = None,
    ) -> Publication:
        """Make a branch hold these files; nothing is uploaded that is there already."""
        api, branch = self.api, revision or "main"
        with _plain_errors(repo):
            tagged = self._tree(kind, repo, tag) if tag else None
            released = {path: content for path, content in files.items() if path != "README.md"}  # a card may be mended
            if tagged is not None and any(c.what != "unchanged" for c in _compare(kind, released, tagged)):
                raise HubError(
                    f"the tag {tag} of {repo} names other content, and a release never changes: "
                    "raise modeling.__version__, or name this one with --tag (--tag none for no tag)"
                )
            if self.dry_run:
                return Publication(repo, _compare(kind, files, self._tree(kind, repo, branch) or {}), None, tag)
            self._create(kind, repo, private)
            if branch != "main":
                api.create_branch(repo, branch=branch, repo_type=kind, exist_ok=True)
            changes = _compare(kind, files, self._tree(kind, repo, branch) or {})
            operations = [CommitOperationAdd(c.path, files[c.path]) for c in changes if c.what in ("new", "changed")]
            removals = [CommitOperationDelete(c.path) for c in changes if c.what == "removed"]
            if operations or removals:
                commit = api.create_commit(
                    repo, [*operations, *removals], commit_message=message, repo_type=kind, revision=branch
                ).oid
            else:
                commit = str(api.repo_info(repo, repo_type=kind, revision=branch).sha)
            if variables:  # now that the code is there which they are for
                self._set(repo, variables)
            if tag and tagged is None:
                api.create_tag(repo, tag=tag, revision=commit, repo_type=kind)
        return Publication(repo, changes, commit, tag)

    def _create(self, kind: Kind, repo: str, private: bool) -> None:
        """Make the repository, if it does not exist.

        Raises:
            HubError: if it exists, is public, and was to be private.
        """
        self.api.create_repo(
            repo,
            repo_type=kind,
            private=private or None,
            exist_ok=True,
            space_sdk="gradio" if kind == "space" else None,
        )
        if private and not self.api.repo_info(repo, repo_type=kind).private:
            raise HubError(
                f"{repo} exists and is public: make it private in its settings first, or leave --private out"
            )

    def _set(self, repo: str, variables: Mapping[str, str]) -> None:
        """Give a Space its variables; one that is set anew restarts it."""
        current = self.api.get_space_variables(repo)
        for name, value in variables.items():
            if name not in current or current[name].value != value:
                self.api.add_space_variable(repo, name, value)

    def _tree(self, kind: Kind, repo: str, revision: str) -> dict[str, RepoFile] | None:
        """Files at a revision by path; None if there is no such revision."""
        try:
            entries = list(self.api.list_repo_tree(repo, repo_type=kind, revision=revision, recursive=True))
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _compare(kind: Kind, files: Mapping[str, bytes], remote: Mapping[str, RepoFile]) -> list[Change]:
    """What it takes to make a repository hold these files."""
    changes = []
    for path, content in sorted(files.items()):
        there = remote.get(path)
        if there is None:
            same = None
        elif there.lfs is not None:
            same = there.lfs.sha256 == sha256(content).hexdigest()
        else:
            same = there.blob_id == git_hash(content)
        what: What = "new" if same is None else "unchanged" if same else "changed"
        changes.append(Change(path, what, len(content)))
    for path, there in sorted(remote.items()):
        if path not in files and any(PurePosixPath("/", path).match(pattern) for pattern in OBSOLETE[kind]):
            changes.append(Change(path, "removed", there.size))
    return changes


@contextmanager
def _plain_errors(repo: str) -> Iterator[None]:
    """Turn what the client raises into one sentence with the cure; no token stands in it."""
    try:
        yield
    except LocalTokenNotFoundError:
        raise HubError(f"there is no token, and {repo} cannot be published without: {CURE}") from None
    except OfflineModeIsEnabled:
        raise HubError("HF_HUB_OFFLINE is set: unset it to reach the Hub") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = error.server_message or str(error).splitlines()[0]
        if status == 401:
            raise HubError(f"the Hub does not accept the token (401: {said}): {CURE}") from None
        if status == 403:
            raise HubError(f"the token may not write to {repo} (403: {said}): {CURE}") from None
        raise HubError(f"the Hub refused {repo} ({status}: {said})") from None
    except HTTPError as error:  # of the connection
        raise HubError(
            f"the Hub cannot be reached, or broke off ({type(error).__name__}: {error}): "
            "run the same command again, which completes what is not done yet"
        ) from None
