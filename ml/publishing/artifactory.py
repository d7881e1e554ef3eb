"""The files of a release to Artifactory too, where it is set up.

By its REST API, "Deploy Artifact by Checksum" and "Deploy Artifact": a file that Artifactory has already is
not sent again, so that a call that was killed goes on where it was.
"""

import os
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import requests

from ml.cli import note, say
from ml.errors import PipelineError
from ml.fetch import PAUSE_S
from ml.github.hosts import LOOPBACK, Bearer
from ml.publishing.files import File

_ATTEMPTS = 5
_TIMEOUT_S = (30, 300)


class Artifactory:
    """A folder of a generic repository."""

    def __init__(self, folder: str, token: str) -> None:
        """Connect to nothing yet.

        Args:
            folder: URL of it.
            token: an access token with the right to deploy there.
        """
        self._folder, self._auth = folder, Bearer(token)
        self._host = urlsplit(folder).hostname

    def deploy(self, files: Sequence[File]) -> None:
        """Put the files into the folder. One that holds something else already is left.

        Raises:
            PipelineError: it can't be done, or another model is there.
        """
        for file in files:
            there = self._there(file)
            if there == file.sha256:
                say(f"Artifactory has {file.name}")
            elif there and file is files[0]:
                raise PipelineError(f"{self._folder} holds another {file.name}, which is not replaced")
            elif there:
                say(f"Artifactory has another {file.name}, which is left")
            else:
                self._put(file)

    def _there(self, file: File) -> str:
        response = self._send("HEAD", file, {}, fine=(404,))
        return "" if response.status_code == 404 else response.headers.get("X-Checksum-Sha256", "unknown")

    def _put(self, file: File) -> None:
        checksum = {"X-Checksum-Sha256": file.sha256}
        by_checksum = self._send("PUT", file, checksum | {"X-Checksum-Deploy": "true"}, fine=(404,))
        if by_checksum.status_code == 404:  # it has no such content yet
            self._send("PUT", file, checksum, body=True)
        say(f"Artifactory: put {file.name}")

    def _send(
        self, method: str, file: File, headers: dict[str, str], fine: Sequence[int] = (), body: bool = False
    ) -> requests.Response:
        """Send a request, each of which is safe to repeat."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with file.path.open("rb") as source:
                    response = requests.request(
                        method,
                        f"{self._folder}/{file.name}",
                        headers=headers,
                        data=source if body else None,
                        auth=self._auth,
                        allow_redirects=False,
                        timeout=_TIMEOUT_S,
                    )
            except (requests.ConnectionError, requests.Timeout) as error:
                failure = f"no answer from {self._host} ({type(error).__name__})"
            except requests.RequestException as error:
                raise PipelineError(f"Artifactory: {method} can't be sent: {type(error).__name__}") from None
            else:
                if response.status_code < 300 or response.status_code in fine:
                    return response
                failure = f"{self._host} answers {response.status_code} to {method} {file.name}"
                if response.status_code in (401, 403):
                    failure += ": ARTIFACTORY_TOKEN is not accepted, or may not deploy there"
                if response.status_code < 500 and response.status_code != 429:
                    raise PipelineError(f"Artifactory: {failure}")
            if attempt < _ATTEMPTS:
                note(f"Artifactory: {failure}: waiting {PAUSE_S * 2 ** (attempt - 1):.0f} s")
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
        raise PipelineError(f"Artifactory: {failure}, {_ATTEMPTS} times; the release itself is out")


def from_environment(repository: str, tag: str) -> Artifactory | None:
    """Return the folder REPOSITORY/NAME/TAG of ARTIFACTORY_URL, or None where that isn't set.

    ARTIFACTORY_URL as in https://acme.jfrog.io/artifactory, ARTIFACTORY_REPOSITORY as in models-local or
    models-local/some/folder, ARTIFACTORY_TOKEN an access token. In Actions a secret that isn't set is empty.

    Raises:
        PipelineError: one of the others is missing, or bad.
    """
    url, token, path = (
        os.environ.get(f"ARTIFACTORY_{name}", "").strip() for name in ("URL", "TOKEN", "REPOSITORY")
    )
    if not url:
        return None
    try:
        parts = urlsplit(url)
        sound = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        sound = False
    if not sound or not parts.hostname or parts.username is not None or parts.query:
        raise PipelineError(
            "ARTIFACTORY_URL must be https:// without user info, such as https://HOST/artifactory"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise PipelineError("ARTIFACTORY_URL is set, but ARTIFACTORY_TOKEN is not, or is no token")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", path) or ".." in path:
        raise PipelineError("ARTIFACTORY_URL is set, but ARTIFACTORY_REPOSITORY is not, or is no plain path")
    name = repository.partition("/")[2]
    return Artifactory(f"{url.rstrip('/')}/{path.rstrip('/')}/{name}/{tag}", token)
