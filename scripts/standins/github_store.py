"""State of the stand-in for GitHub: releases, assets with their bytes, and issues."""

import dataclasses
import hashlib
import itertools
import re
import threading
from dataclasses import dataclass
from typing import Any


class RefusedError(Exception):
    """The API rejects the request with this status and message."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, list(errors)


def missing() -> RefusedError:
    return RefusedError(404, "Not Found")


def invalid(resource: str, field: str, code: str) -> RefusedError:
    return RefusedError(422, "Validation Failed", {"resource": resource, "field": field, "code": code})


MAIN = "f" * 40
"""Commit of the branch main."""


@dataclass
class Asset:
    id: int
    release: int
    name: str
    state: str = "starter"
    data: bytes = b""

    @property
    def digest(self) -> str | None:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}" if self.state == "uploaded" else None


@dataclass
class Release:
    id: int
    tag: str = ""
    target: str = "main"
    name: str = ""
    body: str = ""
    prerelease: bool = False
    draft: bool = True

    @property
    def shown_tag(self) -> str:
        """The tag in URLs for browsers: a draft has none yet."""
        return f"untagged-{self.id}" if self.draft else self.tag


class Store:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.releases: dict[int, Release] = {}
        self.assets: dict[int, Asset] = {}
        self.latest_id: int | None = None
        self.issues: list[dict[str, Any]] = []
        self.has_issues = True
        self.tags: dict[str, str] = {}  # commit of each
        self._ids = itertools.count(1001)

    # Releases

    def release(self, number: int, drafts: bool = True) -> Release:
        release = self.releases.get(number)
        if release is None or (release.draft and not drafts):
            raise missing()
        return release

    def all(self, drafts: bool = True) -> list[Release]:
        """Return the releases, newest first."""
        return sorted((r for r in self.releases.values() if drafts or not r.draft), key=lambda r: -r.id)

    def by_tag(self, tag: str) -> Release:
        for release in self.all(drafts=False):
            if release.tag == tag:
                return release
        raise missing()

    def latest(self) -> Release:
        full = [release for release in self.all(drafts=False) if not release.prerelease]
        for release in [release for release in full if release.id == self.latest_id] or full:
            return release
        raise missing()

    def create(self, asked: dict[str, Any]) -> Release:
        release = Release(next(self._ids))
        self.change(release, {"draft": False} | asked)
        self.releases[release.id] = release
        return release

    def change(self, release: Release, asked: dict[str, Any]) -> Release:
        """Change a release as PATCH does: a draft that is changed without its tag loses it."""
        new = dataclasses.replace(
            release,
            tag=asked.get("tag_name", release.shown_tag),
            target=asked.get("target_commitish", release.target),
            **{key: asked[key] for key in ("name", "body", "prerelease", "draft") if key in asked},
        )
        if not re.fullmatch(r"[0-9a-f]{40}|main", new.target):
            raise invalid("Release", "target_commitish", "invalid")
        if not new.draft and any(r.tag == new.tag for r in self.all(False) if r.id != release.id):
            raise invalid("Release", "tag_name", "already_exists")
        published = release.draft and not new.draft
        if asked.get("make_latest", "true" if published and not new.prerelease else "false") == "true":
            if new.draft or new.prerelease:
                raise invalid("Release", "make_latest", "custom")
            self.latest_id = release.id
        if not new.draft:
            self.tags.setdefault(new.tag, new.target if new.target != "main" else MAIN)
        vars(release).update(vars(new))
        return release

    def delete(self, release: Release) -> None:
        for asset in self.of(release):
            del self.assets[asset.id]
        del self.releases[release.id]

    # Assets

    def of(self, release: Release) -> list[Asset]:
        return [asset for asset in self.assets.values() if asset.release == release.id]

    def asset(self, number: int, drafts: bool = True) -> Asset:
        asset = self.assets.get(number)
        if asset is None:
            raise missing()
        self.release(asset.release, drafts)
        return asset

    def find(self, release: Release, name: str) -> Asset:
        """Return the complete asset of that name."""
        for asset in self.of(release):
            if asset.name == name and asset.state == "uploaded":
                return asset
        raise missing()

    def begin(self, release: Release, name: str) -> Asset:
        """Create an asset whose bytes are being uploaded."""
        name = re.sub(r"[^A-Za-z0-9._+@-]+", ".", name).strip(".")
        if any(asset.name == name for asset in self.of(release)):
            raise invalid("ReleaseAsset", "name", "already_exists")
        asset = Asset(next(self._ids), release.id, name)
        self.assets[asset.id] = asset
        return asset

    def finish(self, asset: Asset, data: bytes) -> Asset:
        """Complete an asset, unless it has been deleted in the meantime."""
        if asset.id not in self.assets:
            raise missing()
        asset.state, asset.data = "uploaded", data
        return asset

    # Issues

    def open_issue(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Open an issue; `pull_request` makes it one, which the API lists as an issue too."""
        if not asked.get("title"):
            raise invalid("Issue", "title", "missing_field")
        labels = [{"name": name} for name in asked.get("labels", [])]
        issue = asked | {"number": len(self.issues) + 1, "state": "open", "labels": labels, "comments": []}
        self.issues.append(issue)
        return issue

    def issue(self, number: int) -> dict[str, Any]:
        if not 1 <= number <= len(self.issues):
            raise missing()
        return self.issues[number - 1]

    # For tests

    def add(self, tag: str, files: dict[str, bytes], draft: bool = False, **asked: object) -> Release:
        """Create a release as requests would."""
        release = self.create({"tag_name": tag, "draft": True} | asked)
        for name, data in files.items():
            self.finish(self.begin(release, name), data)
        return release if draft else self.change(release, {"tag_name": tag, "draft": False})
