"""The Hub on loopback, asked by the real client: what it is given comes back, and its refusals are the Hub's."""

import subprocess
import sys

from .hub_server import Hub

# One process, since HF_ENDPOINT is read when the client is imported.
PROGRAM = """
import os
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    BadRequestError, EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
)

def refused(error, status, action, *words, **options):
    try:
        action(*words, **options)
    except error as raised:
        assert raised.response.status_code == status, raised
        return str(raised)
    raise AssertionError(f"{action} was not refused")

writer, reader, stranger = (HfApi(token=token) for token in ("hf_w", "hf_r", False))
assert writer.whoami()["name"] == "you"
refused(HfHubHTTPError, 401, HfApi(token="hf_x").whoami)

for kind in ("model", "dataset", "space"):
    options = {"repo_type": kind, "repo_id": "you/things"}
    refused(RepositoryNotFoundError, 401, stranger.repo_info, **options)
    refused(RepositoryNotFoundError, 404, writer.repo_info, **options)
    refused(HfHubHTTPError, 403, reader.create_repo, **options, space_sdk="gradio")
    writer.create_repo(**options, space_sdk="gradio")
    refused(HfHubHTTPError, 409, writer.create_repo, **options, space_sdk="gradio")
    contents = {
        "empty.txt": b"", "all.bytes": bytes(range(256)) * 5, "a/b/c d.txt": "žluťoučký".encode(),
        "weights.safetensors": os.urandom(70_000), "README.md": b"---\\nsdk: gradio\\napp_file: app.py\\n---\\n",
    }
    first = writer.create_commit(
        **options, operations=[CommitOperationAdd(*item) for item in contents.items()], commit_message="all"
    ).oid
    refused(HfHubHTTPError, 403, reader.upload_file, **options, path_or_fileobj=b"x", path_in_repo="x")
    for path, content in contents.items():
        got = hf_hub_download(filename=path, **options)
        assert open(got, "rb").read() == content
        assert first in got
    tree = {entry.path: entry for entry in writer.list_repo_tree(**options, recursive=True)}
    assert set(tree) == {".gitattributes", "a", "a/b", *contents}
    assert {entry.path for entry in writer.list_repo_tree(**options, path_in_repo="a")} == {"a/b"}
    assert tree["weights.safetensors"].lfs.size == 70_000
    [info] = writer.get_paths_info(**options, paths=["empty.txt", "none"])
    assert info.size == 0

    writer.create_tag(**options, tag="v1")
    refused(HfHubHTTPError, 409, writer.create_tag, **options, tag="v1")
    writer.create_branch(**options, branch="a/side", revision="v1")
    operations = [CommitOperationDelete("a/"), CommitOperationDelete("empty.txt")]
    operations.append(CommitOperationCopy("weights.safetensors", "copy.safetensors"))
    second = writer.create_commit(**options, operations=operations, commit_message="less").oid
    assert second != first
    left = {"all.bytes", "weights.safetensors", "copy.safetensors", "README.md", ".gitattributes"}
    assert set(writer.list_repo_files(**options)) == left
    assert set(writer.list_repo_files(**options, revision="v1")) == {".gitattributes", *contents}
    refs = writer.list_repo_refs(**options)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "a/side": first}
    assert [(ref.ref, ref.target_commit) for ref in refs.tags] == [("refs/tags/v1", first)]
    assert open(hf_hub_download(filename="empty.txt", **options, revision=first[:8]), "rb").read() == b""

    refused(EntryNotFoundError, 404, hf_hub_download, filename="empty.txt", **options)
    refused(RevisionNotFoundError, 404, hf_hub_download, filename="all.bytes", revision="v2", **options)
    refused(BadRequestError, 400, writer.upload_file, **options, path_or_fileobj=b"x", path_in_repo="x", revision="v1")

writer.create_repo("you/secret", private=True)
refused(RepositoryNotFoundError, 404, reader.model_info, "you/secret")
refused(RepositoryNotFoundError, 401, stranger.model_info, "you/secret")
assert writer.model_info("you/secret").private
writer.add_space_variable("you/things", "KEY", "value")
assert {k: v.value for k, v in writer.get_space_variables("you/things").items()} == {"KEY": "value"}
"""


def test_the_real_client_is_served_as_the_hub_serves_it(tmp_path):
    with Hub() as hub:
        hub.tokens = {"hf_w": ("you", "write"), "hf_r": ("somebody", "read")}
        environment = hub.environment(tmp_path / "home")
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{hub.requests[-5:]}"
