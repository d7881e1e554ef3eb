"""The JSON of GitHub's API. Releases and assets have all fields that its OpenAPI document requires."""

import base64
from typing import Any, Protocol

from scripts.standins.github_store import Asset, RefusedError, Release

DOCUMENTATION = "https://docs.github.com/rest"


class _Request(Protocol):
    github: Any

    @property
    def origin(self) -> str: ...


def _node(kind: str, number: int) -> str:
    return base64.b64encode(f"{kind}{number}".encode()).decode()


def _user() -> dict[str, Any]:
    api, name = "https://api.github.com/users/release-bot", "release-bot"
    links = (
        "followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events",
        "received_events",
    )  # fmt: skip
    tails = {"following": "following{/other_user}", "gists": "gists{/gist_id}", "organizations": "orgs"}
    tails |= {"starred": "starred{/owner}{/repo}", "events": "events{/privacy}"}
    return {
        "login": name,
        "id": 7,
        "node_id": _node("User", 7),
        "avatar_url": "https://avatars.githubusercontent.com/u/7",
        "gravatar_id": "",
        "url": api,
        "html_url": f"https://github.com/{name}",
        **{f"{link}_url": f"{api}/{tails.get(link, link)}" for link in links},
        "type": "Bot",
        "site_admin": False,
    }


def repository_answer(request: _Request) -> dict[str, Any]:
    """Return the fields that clients of releases use; GitHub sends about eighty."""
    name, private = request.github.repository, request.github.private
    return {
        "id": 1,
        "node_id": _node("Repository", 1),
        "name": name.partition("/")[2],
        "full_name": name,
        "owner": _user() | {"login": name.partition("/")[0]},
        "private": private,
        "visibility": "private" if private else "public",
        "html_url": f"{request.origin}/{name}",
        "url": f"{request.origin}/repos/{name}",
        "releases_url": f"{request.origin}/repos/{name}/releases{{/id}}",
        "default_branch": "main",
        "archived": False,
    }


def release_answer(request: _Request, release: Release) -> dict[str, Any]:
    github, store = request.github, request.github.store
    api = f"{request.origin}/repos/{github.repository}"
    own = f"/repos/{github.repository}/releases/{release.id}"
    return {
        "url": f"{request.origin}{own}",
        "assets_url": f"{request.origin}{own}/assets",
        "upload_url": f"{request.origin}/uploads{own}/assets{{?name,label}}",
        "html_url": f"{request.origin}/{github.repository}/releases/tag/{release.shown_tag}",
        "id": release.id,
        "author": _user(),
        "node_id": _node("Release", release.id),
        "tag_name": release.tag,
        "target_commitish": release.target,
        "name": release.name,
        "draft": release.draft,
        "immutable": store.immutable and not release.draft,
        "prerelease": release.prerelease,
        "created_at": release.created_at,
        "published_at": release.published_at,
        "updated_at": release.published_at or release.created_at,
        # Without incomplete ones, which only the list of assets shows.
        "assets": [asset_answer(request, release, a) for a in store.of(release) if a.state == "uploaded"],
        "tarball_url": None if release.draft else f"{api}/tarball/{release.tag}",
        "zipball_url": None if release.draft else f"{api}/zipball/{release.tag}",
        "body": release.body,
    }


def asset_answer(request: _Request, release: Release, asset: Asset) -> dict[str, Any]:
    github = request.github
    pages = f"{request.origin}/{github.repository}/releases/download"
    return {
        "url": f"{request.origin}/repos/{github.repository}/releases/assets/{asset.id}",
        "browser_download_url": f"{pages}/{release.shown_tag}/{asset.name}",
        "id": asset.id,
        "node_id": _node("ReleaseAsset", asset.id),
        "name": asset.name,
        "label": asset.label,
        "uploader": _user(),
        "content_type": asset.content_type,
        "state": asset.state,
        "size": asset.size,
        "digest": asset.digest if github.digests else None,
        "download_count": 0,
        "created_at": asset.created_at,
        "updated_at": asset.updated_at,
    }


def error_answer(refused: RefusedError) -> dict[str, Any]:
    body: dict[str, Any] = {"message": refused.message}
    body |= {"errors": refused.errors} if refused.errors else {}
    return body | {"documentation_url": DOCUMENTATION, "status": str(refused.status)}
