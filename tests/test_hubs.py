"""The clients of the hubs, as they are, against servers here that speak what they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import huggingface_hub.constants
import modelscope_hub
import pytest

from mercore import hubs
from mercore.checkpoints import Wanted, identity, locate
from mercore.errors import CheckpointError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.pth")
WANTED: Wanted = ("config.json", WEIGHTS)
USEFUL = ("*.txt",)
FILES = {
    "config.json": b"{}",
    "model-1.safetensors": b"one",
    "model-2.safetensors": b"two",
    "pytorch_model.bin": b"a pickle",
    "vocab.txt": b"a b c",
    "onnx/model.safetensors": b"elsewhere",
    "README.md": b"# Weights",
}
FETCHED = {"config.json", "model-1.safetensors", "model-2.safetensors", "vocab.txt"}


class Hub(ThreadingHTTPServer):
    """A hub with the repository `owner/name`: commits that are never forgotten, and branches."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.changed: dict[str, dict[str, str]] = {}
        self.branches: dict[str, str] = {}
        self.requests: list[str] = []
        self.gated = False
        self.broken = ""
        """A file that cannot be sent."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, files: Mapping[str, bytes], branch: str = "") -> str:
        """Add a commit that all branches, or the one named, then have."""
        name = sha1(json.dumps([len(self.commits), *files]).encode()).hexdigest()
        before = self.branches.get(branch or "main", "")
        old, changed = self.commits.get(before, {}), self.changed.get(before, {})
        self.commits[name] = dict(files)
        self.changed[name] = {
            path: changed[path] if old.get(path) == content else name
            for path, content in files.items()
        }
        self.branches |= {branch: name} if branch else {"main": name, "master": name}
        return name

    def fetched(self) -> list[str]:
        """The files that were sent, in the words of either hub."""
        return [
            request.rsplit("FilePath=", 1)[-1].rsplit("/", 1)[-1]
            for request in self.requests
            if request.startswith("GET") and ("/resolve/" in request or "FilePath=" in request)
        ]


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        match parts:
            case ["api", "models", "owner", "name", ("revision" | "tree") as what, revision]:
                self.hugging_face(what, revision)
            case ["owner", "name", "resolve", commit, *path]:
                self.send_file(commit, "/".join(path), b"")
            case ["api", "v1", "models", "owner", "name", "repo", "files"]:
                self.modelscope(asked["Revision"])
            case ["api", "v1", "models", "owner", "name", "repo"]:
                self.send_file(asked["Revision"], asked["FilePath"], b'{"Message": "no access"}')
            case _:
                unknown = {"Code": 10010205001, "Message": "record not found", "Success": False}
                self.send(404, json.dumps(unknown).encode(), {"X-Error-Code": "RepoNotFound"})

    def hugging_face(self, what: str, revision: str) -> None:
        commit = self.server.branches.get(revision, revision)
        if commit not in self.server.commits:
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = self.server.commits[commit]
        if what == "revision":
            names = [{"rfilename": path} for path in files]
            return self.send_json({"id": "owner/name", "sha": commit, "siblings": names})
        return self.send_json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": tag(content)}
                for path, content in files.items()
            ]
        )

    def modelscope(self, revision: str) -> None:
        commit = self.server.branches.get(revision, revision)
        files = [
            {
                "Path": path,
                "Type": "blob",
                "Size": len(content),
                "Sha256": sha256(content).hexdigest(),
                "Revision": self.server.changed[commit][path],
                "CommittedDate": list(self.server.commits).index(self.server.changed[commit][path]),
            }
            for path, content in self.server.commits.get(commit, {}).items()
        ]
        folders = [{"Path": "onnx", "Type": "tree", "Size": 0}]
        # What the hub answers for a revision that it does not know.
        self.send_json({"Code": 200, "Data": {"Files": folders + files if files else None}})

    def send_file(self, revision: str, path: str, refusal: bytes) -> None:
        commit = self.server.branches.get(revision, revision)
        if self.server.gated or path == self.server.broken:
            return self.send(403, refusal, {"X-Error-Code": "GatedRepo"})
        content = self.server.commits[commit][path]
        return self.send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{tag(content)}"'})

    def send_json(self, answer: object) -> None:
        self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def tag(content: bytes) -> str:
    return sha1(content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that both clients take for theirs, whose caches are empty."""
    hubs._current.cache_clear()
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        environment = {
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MODELSCOPE_ENDPOINT": server.address,
            "MODELSCOPE_CACHE": str(tmp_path / "modelscope"),
            "MODELSCOPE_HOME": str(tmp_path / "modelscope_home"),
            "MODELSCOPE_LOG_LEVEL": "ERROR",
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        # What the clients made of these variables earlier in this process.
        modelscope_hub.set_default_config(None)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield server
        server.shutdown()
        thread.join()


BOTH = pytest.mark.parametrize("name", ["owner/name", "modelscope:owner/name"])


def files_in(folder: Path) -> set[str]:
    """The files that are no bookkeeping."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(".")}


def restarted(name: str, **environment: str) -> tuple[str, str]:
    """The identity and the folder that a new process finds."""
    script = (
        "import sys; from mercore.checkpoints import identity, locate\n"
        f"print(identity({name!r})); print(locate({name!r}, wanted={WANTED!r}, useful={USEFUL!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    return first, second


@BOTH
def test_what_is_wanted_and_useful_is_fetched_and_nothing_else(hub: Hub, name: str) -> None:
    hub.commit(FILES)
    folder = locate(name, wanted=WANTED, useful=USEFUL)
    assert files_in(folder) == FETCHED
    assert {path: (folder / path).read_bytes() for path in FETCHED} == {
        path: FILES[path] for path in FETCHED
    }
    assert sorted(hub.fetched()) == sorted(FETCHED)


@BOTH
def test_the_next_alternative_is_fetched_where_there_is_no_better(hub: Hub, name: str) -> None:
    hub.commit({"config.json": b"{}", "pytorch_model.bin": b"a pickle", "other.pth": b"older"})
    assert files_in(locate(name, wanted=WANTED)) == {"config.json", "pytorch_model.bin"}


@BOTH
def test_the_identity_is_the_commit_before_and_after_the_download(hub: Hub, name: str) -> None:
    commit = hub.commit(FILES)
    assert identity(name) == f"{name}@{commit}"
    folder = locate(name, wanted=WANTED)
    assert folder.name == commit
    assert identity(name) == f"{name}@{commit}"


@BOTH
def test_weights_are_of_the_commit_that_the_identity_named(hub: Hub, name: str) -> None:
    commit = hub.commit(FILES)
    assert identity(name) == f"{name}@{commit}"
    hub.commit(FILES | {"model-1.safetensors": b"new"})
    folder = locate(name, wanted=WANTED)
    assert (folder / "model-1.safetensors").read_bytes() == b"one"
    assert identity(name) == f"{name}@{commit}"


@BOTH
def test_a_new_process_without_a_network_finds_the_same(hub: Hub, name: str) -> None:
    commit = hub.commit(FILES)
    folder = locate(name, wanted=WANTED, useful=USEFUL)
    hub.requests.clear()
    found = restarted(name, HF_HUB_OFFLINE="1")
    assert found == (f"{name}@{commit}", str(folder))
    hub.commit(FILES | {"model-1.safetensors": b"new"})
    assert restarted(name) == found
    assert hub.requests == []


@BOTH
def test_a_branch_is_a_commit_of_its_own(hub: Hub, name: str) -> None:
    other = hub.commit({**FILES, "model-1.safetensors": b"other"}, branch="v1.0")
    hub.commit(FILES)
    folder = locate(f"{name}@v1.0", wanted=WANTED)
    assert (folder / "model-1.safetensors").read_bytes() == b"other"
    assert identity(f"{name}@v1.0") == f"{name}@{other}"
    assert identity(name) != f"{name}@{other}"


@BOTH
def test_a_full_commit_is_an_identity_without_a_request(hub: Hub, name: str) -> None:
    commit = hub.commit(FILES)
    hub.commit(FILES | {"model-1.safetensors": b"new"})
    pinned = f"{name}@{commit}"
    assert identity(pinned) == pinned
    assert hub.requests == []
    folder = locate(pinned, wanted=WANTED)
    assert (folder / "model-1.safetensors").read_bytes() == b"one"
    # A pin says nothing about the default branch.
    assert identity(name) != pinned


@BOTH
def test_what_a_second_component_finds_useful_is_fetched_from_the_same_commit(
    hub: Hub, name: str
) -> None:
    commit = hub.commit(FILES)
    first = locate(name, wanted=WANTED)
    hub.commit({**FILES, "vocab.txt": b"new"})
    second = locate(name, wanted=["config.json"], useful=USEFUL)
    assert second == first
    assert second.name == commit
    assert (second / "vocab.txt").read_bytes() == FILES["vocab.txt"]


@BOTH
def test_an_interrupted_download_is_completed(hub: Hub, name: str) -> None:
    hub.commit(FILES)
    hub.broken = "model-2.safetensors"
    with pytest.raises(CheckpointError, match="cannot be fetched"):
        locate(name, wanted=WANTED)
    hub.broken = ""
    assert (locate(name, wanted=WANTED) / "model-2.safetensors").read_bytes() == b"two"


@BOTH
def test_a_repository_without_a_wanted_file_says_what_it_has(hub: Hub, name: str) -> None:
    hub.commit({"config.json": b"{}", "README.md": b"# Gone"})
    with pytest.raises(
        CheckpointError,
        match=r"has no file '\*.safetensors' or 'pytorch_model\*.bin' or '\*.pth'; expected "
        r"'config.json', .*; found README.md, config.json",
    ):
        locate(name, wanted=WANTED)
    assert hub.fetched() == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("owner/gone", "hf download owner/gone --local-dir gone"),
        ("modelscope:owner/gone", "modelscope download --model owner/gone --local_dir gone"),
    ],
)
def test_an_unknown_repository_says_how_to_get_the_files(hub: Hub, name: str, command: str) -> None:
    assert identity(name) == name
    asked = len(hub.requests)
    assert identity(name) == name
    assert len(hub.requests) == asked > 0
    with pytest.raises(CheckpointError) as caught:
        locate(name, wanted=WANTED)
    message = str(caught.value)
    assert f"{name!r} is no path, and cannot be fetched" in message
    assert "'config.json', '*.safetensors' or 'pytorch_model*.bin' or '*.pth'" in message
    assert f"run `{command}`, then give that folder as checkpoint" in message


@BOTH
def test_a_gated_repository_says_how_to_get_the_files(hub: Hub, name: str) -> None:
    commit = hub.commit(FILES)
    hub.gated = True
    assert identity(name) == f"{name}@{commit}"
    with pytest.raises(CheckpointError, match=r"cannot be fetched.*`(hf|modelscope) download"):
        locate(name, wanted=WANTED)


def test_an_unknown_revision_is_named(hub: Hub) -> None:
    hub.commit(FILES)
    with pytest.raises(CheckpointError, match=r"download owner/name --revision v9 --local-dir"):
        locate("owner/name@v9", wanted=WANTED)
    with pytest.raises(
        CheckpointError, match=r"on ModelScope, revision 'v9', has no file.*no file"
    ):
        locate("modelscope:owner/name@v9", wanted=WANTED)


@BOTH
def test_a_hub_that_is_off_says_how_to_get_the_files(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(FILES)
    with Hub() as closed:
        address = closed.address
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
    modelscope_hub.set_default_config(None)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    assert identity(name) == name
    with pytest.raises(CheckpointError, match=r"(?i)connect.*give that folder as checkpoint"):
        locate(name, wanted=WANTED)
    assert hub.requests == []


def test_hugging_face_is_not_asked_where_it_is_to_be_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert identity("owner/name") == "owner/name"
    with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE.*run `hf download"):
        locate("owner/name", wanted=WANTED)
    assert hub.requests == []


@BOTH
def test_a_client_that_is_not_installed_is_named(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("huggingface_hub", "modelscope_hub"):
        monkeypatch.setitem(sys.modules, module, None)
    assert identity(name) == name
    with pytest.raises(CheckpointError, match=r"pip install (huggingface_hub|modelscope)`"):
        locate(name, wanted=WANTED)


def test_a_path_makes_no_request(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path("owner/name"), Path("modelscope:owner/name")):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        assert identity(str(folder)).startswith("sha256:")
        assert locate(str(folder), wanted=["config.json"]) == folder
        with pytest.raises(CheckpointError, match=r"has no file '\*.safetensors' or"):
            locate(str(folder), wanted=WANTED)
    assert hub.requests == []


def test_a_merge_on_modelscope_has_no_known_commit(hub: Hub) -> None:
    first = hub.commit(FILES)
    hub.commit(FILES | {"model-1.safetensors": b"new"})
    second = hub.branches["master"]
    hub.branches["side"] = first
    third = hub.commit(FILES | {"model-2.safetensors": b"new"}, branch="side")
    merged = {**hub.commits[second], "model-2.safetensors": b"new"}
    merge = hub.commit(merged)
    hub.changed[merge] |= {"model-1.safetensors": second, "model-2.safetensors": third}
    name = "modelscope:owner/name"
    assert identity(name) == name
    folder = locate(name, wanted=WANTED)
    assert folder.name == "master"
    assert (folder / "model-1.safetensors").read_bytes() == b"new"
    assert identity(name) == name


def test_files_that_were_deleted_on_modelscope_change_nothing(hub: Hub) -> None:
    commit = hub.commit(FILES)
    hub.commit({path: FILES[path] for path in FILES if path != "README.md"})
    assert identity("modelscope:owner/name") == f"modelscope:owner/name@{commit}"
    assert files_in(locate("modelscope:owner/name", wanted=WANTED, useful=USEFUL)) == FETCHED


def test_a_copy_that_the_client_of_modelscope_made_is_used(hub: Hub, tmp_path: Path) -> None:
    from modelscope_hub.compat import snapshot_download

    hub.commit(FILES)
    folder = Path(snapshot_download("owner/name"))
    hub.requests.clear()
    assert folder.is_relative_to(tmp_path / "modelscope")
    assert locate("modelscope:owner/name", wanted=WANTED) == folder
    assert identity("modelscope:owner/name") == "modelscope:owner/name"
    assert hub.requests == []


def test_a_copy_of_old_clients_of_modelscope_stays_as_it_is(hub: Hub, tmp_path: Path) -> None:
    old = tmp_path / "modelscope/models/owner/name/config.json"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    commit = hub.commit(FILES)
    assert locate("modelscope:owner/name", wanted=WANTED).name == commit
    assert old.read_text() == "old"
    assert files_in(old.parent) == {"config.json"}


def test_a_copy_that_the_client_of_hugging_face_made_is_used(hub: Hub) -> None:
    commit = hub.commit(FILES)
    folder = Path(huggingface_hub.snapshot_download("owner/name"))
    hub.requests.clear()
    assert locate("owner/name", wanted=WANTED) == folder
    assert identity("owner/name") == f"owner/name@{commit}"
    assert hub.requests == []


@pytest.mark.parametrize("name", ["owner/name@../main", "owner/name@/main", "owner/name@a/../b"])
def test_a_revision_that_leads_out_of_the_cache_is_no_hub_id(hub: Hub, name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        locate(name, wanted=WANTED)
    assert hub.requests == []
