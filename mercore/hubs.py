"""Repositories of weights on Hugging Face and ModelScope: what they hold, and their local copies.

Both keep a repository in one folder of the cache of the hub's own client: the files of a commit in
``snapshots/<commit>``, and the commit that a branch or tag was taken for in ``refs/<revision>``.
Beside them lies, in ``.mercore/<commit>``, which files the repository has at that commit, so that
an interrupted download is noticed, and what is complete is found without a request.

A method that asks a hub raises what the client raises, and ``ImportError`` where there is none.
"""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any, ClassVar

_COMMIT = re.compile(r"[0-9a-f]{40}")
_QUICKLY = 5.0
"""Seconds to wait for a hub that is asked for nothing but a name."""
_PATIENTLY = 30.0


@dataclass(frozen=True)
class Repository(ABC):
    """A repository of weights on a hub."""

    name: str
    """``owner/name``"""
    revision: str | None = None
    """A branch, tag or commit; the default branch where it is None."""

    hub: ClassVar[str]
    package: ClassVar[str]
    """What to install for the client of the hub."""
    prefix: ClassVar[str] = ""
    branch: ClassVar[str]
    """The default branch."""

    def commit(self) -> str | None:
        """Return the commit that the revision means here; None if nothing tells.

        That is the revision itself if it is a full commit, else the commit of the local copy, else
        what the hub answers, which is asked once a process.
        """
        try:
            commit = self._commit_here()
            unknown = commit is None and self.snapshot(None).is_dir()
        except ImportError:
            return None
        return None if unknown else commit or _current(self)

    def copy(self) -> Path | None:
        """Return the folder of the local copy, whole or not, without asking the hub; else None."""
        try:
            folder = self.snapshot(self._commit_here())
        except ImportError:
            return None
        return folder if folder.is_dir() else None

    def _commit_here(self) -> str | None:
        """Return the commit that the revision means, as far as it can be told without asking."""
        if self.revision and _COMMIT.fullmatch(self.revision):
            return self.revision
        ref = self._folder() / "refs" / (self.revision or self.branch)
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
        return commit if commit and self.snapshot(commit).is_dir() else None

    def snapshot(self, commit: str | None) -> Path:
        """Return the folder of the files at `commit`, or of a copy whose commit is not known."""
        return self._folder() / "snapshots" / (commit or self.revision or self.branch)

    def noted(self, commit: str | None) -> list[str] | None:
        """Return the names of all files at `commit`; None unless ``note`` was told."""
        path = self._folder() / ".mercore" / (commit or "")
        if not path.is_file():
            return None
        names: list[str] = json.loads(path.read_bytes())
        return names

    def note(self, commit: str, files: Sequence[str]) -> None:
        """Remember the files of `commit`, and that it is what the revision means."""
        _write(self._folder() / ".mercore" / commit, json.dumps(list(files)))
        if self.revision != commit:
            _write(self._folder() / "refs" / (self.revision or self.branch), commit)

    @abstractmethod
    def ask(
        self, commit: str | None = None, *, timeout: float = _PATIENTLY
    ) -> tuple[str | None, list[str]]:
        """Return the commit that the revision has now, and the names of its files.

        Given a `commit`, that one and its files. `timeout` is in seconds.
        """

    @abstractmethod
    def fetch(self, commit: str | None, files: Sequence[str]) -> None:
        """Download the `files` into the snapshot of `commit`; those that are there stay."""

    @abstractmethod
    def command(self) -> str:
        """Return the command that fetches the repository into a folder ``name``."""

    @abstractmethod
    def _folder(self) -> Path:
        """Return the folder of the repository in the cache of the hub client."""


@cache
def _current(repository: Repository) -> str | None:
    """Return the commit that the revision has now; None if the hub cannot be asked.

    Asked once: weights that are fetched later in the same process are those that an identity was
    given for, and a hub that does not answer is waited for once.
    """
    try:
        return repository.ask(timeout=_QUICKLY)[0]
    except Exception:  # each client raises the errors of the HTTP library that it happens to use
        return None


def _write(path: Path, text: str) -> None:
    """Write the file at once: whoever reads meanwhile sees the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


class HuggingFace(Repository):
    """A model on Hugging Face, or on the server that ``HF_ENDPOINT`` names."""

    hub = "Hugging Face"
    package = "huggingface_hub"
    branch = "main"

    def ask(
        self, commit: str | None = None, *, timeout: float = _PATIENTLY
    ) -> tuple[str | None, list[str]]:
        """Return the commit and the files, in one request."""
        from huggingface_hub import HfApi

        revision = commit or self.revision or self.branch
        info = HfApi().model_info(self.name, revision=revision, timeout=timeout)
        return info.sha, [file.rfilename for file in info.siblings or ()]

    def fetch(self, commit: str | None, files: Sequence[str]) -> None:
        """Download the files into the cache that ``HF_HOME`` or ``HF_HUB_CACHE`` names."""
        from huggingface_hub import snapshot_download

        snapshot_download(self.name, revision=commit, allow_patterns=[*map(escape, files)])

    def command(self) -> str:
        """Return the command of the client."""
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"hf download {self.name}{revision} --local-dir {self.name.split('/')[1]}"

    def _folder(self) -> Path:
        from huggingface_hub import constants

        name = self.name.replace("/", "--")
        return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{name}"


class ModelScope(Repository):
    """A model on ModelScope, or on the server that ``MODELSCOPE_ENDPOINT`` names.

    A revision is a branch or a tag, and the client does not say which commit it has. The listing
    of the files says for each which commit changed it last. The newest of these is taken for the
    commit of the revision, if the files of the revision are at that commit, with the same SHA-256:
    after a merge none may be. Files that were deleted since are there as well, which does no harm.
    From that commit, which never changes, the files are fetched. Where no commit passes, the
    revision is all that is known: it is the identity, and what is fetched.

    A copy that another program fetched by the name of the branch is used as it is, and has no
    known commit either.
    """

    hub = "ModelScope"
    package = "modelscope"
    prefix = "modelscope:"
    branch = "master"

    def ask(
        self, commit: str | None = None, *, timeout: float = _PATIENTLY
    ) -> tuple[str | None, list[str]]:
        """Return the commit and the files."""
        listing = self._listing(commit or self.revision or self.branch, timeout)
        if commit is None:
            now = set(map(_content, listing))
            for candidate in _newest(listing)[:3]:
                then = self._listing(candidate, timeout)
                if now <= set(map(_content, then)):
                    return candidate, [file["Path"] for file in then]
        return commit, [file["Path"] for file in listing]

    def fetch(self, commit: str | None, files: Sequence[str]) -> None:
        """Download the files into the cache that ``MODELSCOPE_CACHE`` names."""
        from modelscope_hub import HubApi
        from modelscope_hub.compat import snapshot_download

        snapshot_download(
            self.name,
            revision=commit or self.revision or self.branch,
            # Without it, a copy that an old client made without a revision would be changed.
            local_dir=str(self.snapshot(commit)),
            allow_patterns=[*map(escape, files)],
            endpoint=HubApi().legacy.endpoint,
        )

    def command(self) -> str:
        """Return the command of the client."""
        name = self.name.split("/")[1]
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"modelscope download --model {self.name}{revision} --local_dir {name}"

    def _listing(self, revision: str, timeout: float) -> list[Mapping[str, Any]]:
        """Return what the hub says of each file; nothing for a revision that it does not know."""
        # The half of the client that speaks to the hub. `modelscope.hub` imports torch.
        import requests
        from modelscope_hub import HubApi

        client = HubApi().legacy
        # The client tries for most of a minute before it gives a network up.
        requests.head(client.endpoint, timeout=timeout)
        files = client.list_repo_files(self.name, "model", revision=revision)
        return [file for file in files if file.get("Type") != "tree"]

    def _folder(self) -> Path:
        root = Path(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope").expanduser()
        return root / "models" / self.name.replace("/", "--")


def _content(file: Mapping[str, Any]) -> tuple[str, Any, Any]:
    return file["Path"], file.get("Sha256"), file.get("Size")


def _newest(listing: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the commits that changed the files last, the newest first."""
    dates = {str(file.get("Revision")): int(file.get("CommittedDate") or 0) for file in listing}
    commits = [commit for commit in dates if _COMMIT.fullmatch(commit)]
    return sorted(commits, key=lambda commit: -dates[commit])
