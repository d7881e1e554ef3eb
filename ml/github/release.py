"""What the API says of a release and its assets, checked."""

import dataclasses
import re
from typing import Any, Self

from ml.github.answers import GitHubError


@dataclasses.dataclass(frozen=True)
class Asset:
    """A file of a release.

    Attributes:
        id: of the API.
        name: in the release.
        state: `uploaded`, or something else for what is half there (`starter`).
        size: in bytes.
        sha256: in hexadecimal, or empty where the server doesn't say it.
        url: of the API.
        browser_url: for everybody; while the release is a draft, another than later.
    """

    id: int
    name: str
    state: str
    size: int
    sha256: str
    url: str
    browser_url: str

    @classmethod
    def read(cls, found: dict[str, Any]) -> Self:
        """Read what the API says of an asset."""
        digest = str(found.get("digest") or "").partition("sha256:")[2]
        return cls(
            _of(found, "id", int), _of(found, "name", str), _of(found, "state", str), _of(found, "size", int),
            digest.lower(), _of(found, "url", str), _of(found, "browser_download_url", str),
        )  # fmt: skip

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived."""
        return self.state == "uploaded"


@dataclasses.dataclass(frozen=True)
class Release:
    """A release, published or a draft."""

    id: int
    tag: str
    draft: bool
    body: str
    upload_url: str
    page: str

    @classmethod
    def read(cls, found: dict[str, Any]) -> Self:
        """Read what the API says of a release."""
        return cls(
            _of(found, "id", int), _of(found, "tag_name", str), _of(found, "draft", bool),
            str(found.get("body") or ""), _of(found, "upload_url", str), _of(found, "html_url", str),
        )  # fmt: skip


def check_tag(tag: str) -> str:
    """Return the tag, if it is plain enough for git, URLs and shells.

    Raises:
        GitHubError: it is not.
    """
    if (
        not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", tag)
        or ".." in tag
        or tag.endswith((".", ".lock"))
    ):
        raise GitHubError(
            f"{tag!r:.80} is no tag for a release: letters, digits and . _ + - inside, as in v1.2.3"
        )
    return tag


def _of(found: dict[str, Any], name: str, kind: type) -> Any:
    value = found.get(name)
    if type(value) is not kind:
        raise GitHubError(f"the API answers without a sound {name}")
    return value
