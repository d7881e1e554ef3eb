"""Checks that image and model were built by this repository's workflows, by GitHub's attestations of them.

`ci.yml` attests the image that it pushes, and `release.yml` the model that it trains. gh, GitHub's
command-line tool, verifies an attestation's signature and the workflow that made it. Other branches may
contain other versions of the workflows, so only attestations from main and from tags v* count.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from deploy.output import is_secret, say
from deploy.process import run
from deploy.target import DeployError
from ml.model.partial import Partial, sha256_of
from ml.paths import DEFAULT_MODEL

_IMAGE_WORKFLOW, _MODEL_WORKFLOW = "ci.yml", "release.yml"
_REFS = r"refs/heads/main|refs/tags/v.+"
_TOKENS = ("GH_TOKEN", "GITHUB_TOKEN")
_LIMIT_S = 300


def verify_image(repository: str, image: str) -> str:
    """Return the reference, by digest, of an image that this repository's CI has attested.

    Raises:
        DeployError: it has no such attestation.
    """
    name, _, digest = image.partition("@")
    attested = _attested(repository, _IMAGE_WORKFLOW, f"oci://{image}", f"the image {image}")
    digests = {f"sha256:{one}" for one in attested if digest in ("", f"sha256:{one}")}
    if len(digests) != 1:
        raise DeployError(f"the attestations of {image} are of {len(digests)} images instead of one")
    if not digest:  # a tag may move: what is deployed is what was verified
        name = re.sub(":[^:/]*$", "", name)
    (digest,) = digests
    say(f"verified: {name}@{digest} was built by {_IMAGE_WORKFLOW} of {repository}")
    return f"{name}@{digest}"


def verify_model(repository: str, url: str, sha256: str) -> str:
    """Return the SHA-256 of the model at a URL, which this repository's release workflow has attested.

    The embedded model needs no attestation: it is part of the repository and of the image.

    Args:
        repository: OWNER/REPO.
        url: of the model; for a private one, the environment contains MODEL_TOKEN.
        sha256: of the model, in hexadecimal; empty: unknown.

    Raises:
        DeployError: it has no attestation, or another SHA-256, or can't be downloaded.
    """
    embedded, what = sha256_of(DEFAULT_MODEL), f"the model at {url}"
    if sha256 != embedded:
        with tempfile.TemporaryDirectory(prefix="verify-") as folder:
            path = Path(folder, "model.pt")
            _download(url, path)
            actual = sha256_of(path)
            if sha256 not in ("", actual):
                raise DeployError(f"{what} has SHA-256 {actual}, not the one of --model-sha256")
            sha256 = actual
            if sha256 != embedded:
                attested = _attested(repository, _MODEL_WORKFLOW, str(path), what)
                if sha256 not in attested:
                    raise DeployError(f"the attestations that gh returned are not of {what}")
    made = "is the embedded one" if sha256 == embedded else f"was built by {_MODEL_WORKFLOW} of {repository}"
    say(f"verified: {what} {made}")
    return sha256


def _download(url: str, path: Path) -> None:
    from ml.model.download import Download, Policy
    from ml.model.http import Client, DownloadError

    if not url.startswith(("http://", "https://")):
        raise DeployError("--verify needs a --model-url that starts with https:// or http://")
    try:
        with Client(url, os.environ.get("MODEL_TOKEN") or None) as client:
            Download(client, Policy(total_s=_LIMIT_S), lambda _: None).run(Partial(path))
    except DownloadError as error:
        raise DeployError(f"the model can't be downloaded to be verified: {error}") from None


def _attested(repository: str, workflow: str, subject: str, what: str) -> set[str]:
    """Return the SHA-256 digests, in hexadecimal, in the valid attestations of a file or an image."""
    if shutil.which("gh") is None:
        raise DeployError("--verify needs gh, GitHub's command-line tool: https://cli.github.com")
    environment = {
        name: value for name, value in os.environ.items() if name in _TOKENS or not is_secret(name)
    }
    done = run(
        *("gh", "attestation", "verify", subject, "--repo", repository, "--deny-self-hosted-runners"),
        *("--signer-workflow", f"{repository}/.github/workflows/{workflow}", "--format", "json"),
        env=environment | {"GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"},
        seconds=_LIMIT_S,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.split("\n\n")[-1].strip() or f"exit code {done.returncode}").removeprefix(
            "Error: "
        )
        raise DeployError(f"{what} has no valid attestation by {workflow} of {repository}: {reason}")
    try:
        # gh before 2.67 returns 0 and no output if there is no attestation (CVE-2025-25204).
        results = [result["verificationResult"] for result in json.loads(done.stdout or "[]")]
        digests = {
            str(subject["digest"]["sha256"])
            for result in results
            if re.fullmatch(_REFS, result["signature"]["certificate"]["sourceRepositoryRef"])
            for subject in result["statement"]["subject"]
        }
    except (ValueError, LookupError, TypeError) as error:
        raise DeployError(
            f"gh's output is not what its documentation says ({type(error).__name__})"
        ) from None
    if not digests:
        raise DeployError(f"{what} has no attestation by {workflow} of {repository} on main or a tag v*")
    return digests
