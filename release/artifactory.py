"""Upload of a release's files to Artifactory, if that is configured, by its REST API ("Deploy Artifact")."""

import os
import re
from collections.abc import Sequence
from typing import BinaryIO

import requests

from ml.api_session import session
from ml.cli import note, say
from ml.model.errors import PipelineError
from release.files import File
from release.transport import check_server


class Artifactory:
    """A folder of a generic repository."""

    def __init__(self, folder: str, token: str) -> None:
        """Send nothing yet.

        Args:
            folder: its URL.
            token: access token with the right to deploy there.
        """
        self._folder = folder
        self._session = session(
            token=token, timeout_s=(30.0, 300.0), report=lambda line: note(f"Artifactory: {line}")
        )

    def upload(self, files: Sequence[File]) -> None:
        """Upload the files that the folder doesn't have; files that exist are never replaced.

        The first file, the model, comes last: a service that downloads it finds its digest and signature.

        Raises:
            PipelineError: the upload fails, or the model exists with other content.
        """
        model, *others = files
        has_model = self._has(model)
        for file in others:
            if not self._has(file, or_another=True):
                self._put(file)
        if not has_model:
            self._put(model)

    def _has(self, file: File, or_another: bool = False) -> bool:
        """Return whether the folder has the file; `or_another`: other content counts too, and is kept."""
        present = self._send("HEAD", file)
        if not present.ok:
            return False
        if present.headers.get("X-Checksum-Sha256") == file.sha256:
            say(f"Artifactory: {file.name} exists")
        elif or_another:
            say(f"Artifactory: {file.name} exists with other content, and is kept")
        else:
            raise PipelineError(f"{self._folder} has another {file.name}, which is not replaced")
        return True

    def _put(self, file: File) -> None:
        with file.path.open("rb") as source:
            self._send("PUT", file, source)
        say(f"Artifactory: uploaded {file.name}")

    def _send(self, method: str, file: File, body: BinaryIO | None = None) -> requests.Response:
        url, headers = f"{self._folder}/{file.name}", {"X-Checksum-Sha256": file.sha256}
        advice = "run the command again to upload the rest"
        try:
            response = self._session.request(method, url, headers=headers, data=body, allow_redirects=False)
        except requests.RequestException as error:  # its text may contain secrets
            problem = f"no response ({type(error).__name__})"
        else:
            status = response.status_code
            if status < 300 or (status == 404 and method == "HEAD"):
                return response
            problem = f"status {status}"
            if status in (401, 403):
                advice = "ARTIFACTORY_TOKEN is not accepted, or may not deploy there"
        raise PipelineError(f"Artifactory: {problem} to {method} {url}: {advice}")


def from_environment(repository: str, tag: str) -> Artifactory | None:
    """Return the folder ARTIFACTORY_REPOSITORY/NAME/TAG at ARTIFACTORY_URL; None if that is not set.

    ARTIFACTORY_URL is like https://acme.jfrog.io/artifactory, ARTIFACTORY_REPOSITORY like models-local or
    models-local/some/folder, ARTIFACTORY_TOKEN is an access token. Actions sets missing secrets to "".

    Raises:
        PipelineError: a variable is missing or not valid.
    """
    url, token, path = (
        os.environ.get(f"ARTIFACTORY_{name}", "").strip() for name in ("URL", "TOKEN", "REPOSITORY")
    )
    if not url:
        return None
    check_server("ARTIFACTORY_URL", url)
    if not re.fullmatch(r"[!-~]+", token):
        raise PipelineError("ARTIFACTORY_URL is set, but ARTIFACTORY_TOKEN is not, or is not a token")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", path) or ".." in path:
        raise PipelineError(
            "ARTIFACTORY_URL is set, but ARTIFACTORY_REPOSITORY is not, or is not a plain path"
        )
    name = repository.partition("/")[2]
    return Artifactory(f"{url.rstrip('/')}/{path.rstrip('/')}/{name}/{tag}", token)
