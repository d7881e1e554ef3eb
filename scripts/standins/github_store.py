"""State of the stand-in for GitHub: releases, assets and their bytes, kept in a folder."""

import dataclasses
import hashlib
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    """The API rejects the request with this status and message."""

    def __init__(self, status: int, message: str, *errors: dict[str, str]) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, list(errors)


def invalid(resource: str, field: str, code: str, message: str = "") -> RefusedError:
    error = {"resource": resource, "field": field, "code": code} | ({"message": message} if message else {})
    return RefusedError(422, "Validation Failed", error)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class Asset:
    id: int
    release: int
    name: str
    label: str | None
    content_type: str
    state: str = "starter"
    size: int = 0
    digest: str | None = None
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)


@dataclass
class Release:
    id: int
    tag: str
    target: str
    name: str
    body: str
    prerelease: bool
    draft: bool
    created_at: str = field(default_factory=now)
    published_at: str | None = None
    untagged: str = field(default_factory=lambda: f"untagged-{secrets.token_hex(10)}")

    @property
    def shown_tag(self) -> str:
        """The tag in URLs for browsers: a draft has none yet."""
        return self.untagged if self.draft else self.tag


class Store:
    def __init__(self, folder: Path, immutable: bool = False) -> None:
        self.folder = folder
        self.immutable = immutable
        self.lock = threading.RLock()
        self.releases: dict[int, Release] = {}
        self.assets: dict[int, Asset] = {}
        self.latest_id: int | None = None
        self.count = 1000
        (folder / "assets").mkdir(parents=True, exist_ok=True)
        if (state := folder / "state.json").is_file():
            found = json.loads(state.read_text())
            self.releases = {one["id"]: Release(**one) for one in found["releases"]}
            self.assets = {one["id"]: Asset(**one) for one in found["assets"]}
            self.latest_id, self.count = found["latest_id"], found["count"]

    def save(self) -> None:
        state = {
            "releases": [dataclasses.asdict(one) for one in self.releases.values()],
            "assets": [dataclasses.asdict(one) for one in self.assets.values()],
            "latest_id": self.latest_id,
            "count": self.count,
        }
        partial = self.folder / "state.json.part"
        partial.write_text(json.dumps(state, indent=1))
        partial.replace(self.folder / "state.json")

    def next_id(self) -> int:
        self.count += 1
        return self.count

    def blob(self, asset: Asset) -> Path:
        return self.folder / "assets" / str(asset.id)

    # Releases

    def release(self, number: int, drafts: bool = True) -> Release:
        found = self.releases.get(number)
        if found is None or (found.draft and not drafts):
            raise RefusedError(404, "Not Found")
        return found

    def all(self, drafts: bool = True) -> list[Release]:
        """Return the releases, newest first."""
        return sorted((r for r in self.releases.values() if drafts or not r.draft), key=lambda r: -r.id)

    def by_tag(self, tag: str) -> Release:
        for found in self.all(drafts=False):
            if found.tag == tag:
                return found
        raise RefusedError(404, "Not Found")

    def latest(self) -> Release:
        full = [one for one in self.all(drafts=False) if not one.prerelease]
        for found in [one for one in full if one.id == self.latest_id] or full:
            return found
        raise RefusedError(404, "Not Found")

    def create(self, asked: dict[str, Any]) -> Release:
        if not isinstance(asked.get("tag_name"), str):
            raise invalid("Release", "tag_name", "missing_field")
        release = Release(self.next_id(), "", "main", "", "", False, True)
        self.releases[release.id] = release
        try:
            self.change(release, {"draft": False} | asked)
        except RefusedError:
            del self.releases[release.id]
            raise
        return release

    def change(self, release: Release, asked: dict[str, Any]) -> Release:
        """Change a release as PATCH does: a draft that is changed without its tag loses it."""
        new = dataclasses.replace(release)
        new.tag = asked.get("tag_name", "" if release.draft else release.tag) or release.untagged
        if not re.fullmatch(r"[^\s~^:?*\[\\]+", new.tag) or ".." in new.tag:
            raise invalid("Release", "tag_name", "custom", "tag_name is not well-formed")
        new.target = asked.get("target_commitish", release.target)
        if not re.fullmatch(r"[0-9a-f]{40}|main", new.target):
            raise invalid("Release", "target_commitish", "invalid")
        new.name = asked.get("name", release.name) or ""
        new.body = asked.get("body", release.body) or ""
        new.prerelease = asked.get("prerelease", release.prerelease)
        new.draft = asked.get("draft", release.draft)
        published = release.draft and not new.draft
        if not new.draft and any(r.tag == new.tag for r in self.all(False) if r.id != release.id):
            raise invalid("Release", "tag_name", "already_exists")
        make_latest = asked.get("make_latest", "true" if published else None)
        if make_latest == "true" and not new.draft and not new.prerelease:
            self.latest_id = release.id
        elif "make_latest" in asked and make_latest == "true":
            raise invalid("Release", "make_latest", "custom", "drafts and prereleases cannot be latest")
        if published:
            new.published_at = now()
        release.__dict__.update(new.__dict__)
        self.save()
        return release

    def delete(self, release: Release) -> None:
        for asset in self.of(release):
            self.delete_asset(asset, force=True)
        del self.releases[release.id]
        self.save()

    # Assets

    def of(self, release: Release) -> list[Asset]:
        return [asset for asset in self.assets.values() if asset.release == release.id]

    def asset(self, number: int, drafts: bool = True) -> Asset:
        found = self.assets.get(number)
        if found is None:
            raise RefusedError(404, "Not Found")
        self.release(found.release, drafts)
        return found

    def find(self, tag: str | None, name: str) -> Asset:
        """Return the published asset of that name; tag None means the latest release."""
        release = self.latest() if tag is None else self.by_tag(tag)
        for asset in self.of(release):
            if asset.name == name and asset.state == "uploaded":
                return asset
        raise RefusedError(404, "Not Found")

    def begin(self, release: Release, name: str, label: str | None, content_type: str, size: int) -> Asset:
        """Create the record of an asset whose bytes are being uploaded."""
        if self.immutable and not release.draft:
            raise RefusedError(422, "Cannot upload assets to an immutable release.")
        name = re.sub(r"[^A-Za-z0-9._+@-]+", ".", name).strip(".")
        if not name:
            raise invalid("ReleaseAsset", "name", "missing_field")
        if any(asset.name == name for asset in self.of(release)):
            raise invalid("ReleaseAsset", "name", "already_exists")
        if not size:
            raise invalid("ReleaseAsset", "size", "custom", "size must be greater than or equal to 1")
        asset = Asset(self.next_id(), release.id, name, label, content_type)
        self.assets[asset.id] = asset
        self.save()
        return asset

    def finish(self, asset: Asset) -> Asset:
        """Complete an asset, unless it has been deleted in the meantime."""
        data = self.blob(asset).read_bytes()
        if asset.id not in self.assets:
            self.blob(asset).unlink()
            raise RefusedError(404, "Not Found")
        asset.state, asset.size, asset.updated_at = "uploaded", len(data), now()
        asset.digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.save()
        return asset

    def delete_asset(self, asset: Asset, force: bool = False) -> None:
        if self.immutable and not force and not self.release(asset.release).draft:
            raise RefusedError(422, "Cannot delete assets from an immutable release.")
        self.assets.pop(asset.id, None)
        self.blob(asset).unlink(missing_ok=True)
        self.save()

    # For tests

    def add(self, tag: str, files: dict[str, bytes], **asked: object) -> Release:
        """Create a release as requests would."""
        release = self.create({"tag_name": tag, "draft": True} | {k: asked[k] for k in asked if k != "draft"})
        for name, data in files.items():
            asset = self.begin(release, name, None, "application/octet-stream", len(data))
            self.blob(asset).write_bytes(data)
            self.finish(asset)
        if not asked.get("draft"):
            self.change(release, {"tag_name": tag, "draft": False})
        return release
