"""A stand-in for `gh attestation verify` of GitHub's command-line tool, as its manual describes it.

Run as a program, it reads the attestations from the JSON file that GH_STANDIN names:

    {"images": {"ghcr.io/o/r:tag": "<sha256>"},
     "attestations": [{"sha256": ..., "repository": ..., "workflow": ..., "ref": ...}],
     "mode": "current", "old" or "chatty"}

`old` is a version before 2.67, which returns 0 if there is no attestation; `chatty` prints no JSON. Each call
is appended to the file GH_CALLS, with the names of those environment variables whose names look secret.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path


def main() -> int:
    with Path(os.environ["GH_CALLS"]).open("a") as calls:
        secrets = [name for name in os.environ if "TOKEN" in name or "KEY" in name]
        calls.write(json.dumps([sys.argv[1:], sorted(secrets)]) + "\n")
    if sys.argv[1:3] != ["attestation", "verify"]:
        sys.exit("unknown command")
    parser = argparse.ArgumentParser()
    parser.add_argument("subject")
    for name in ("--repo", "--signer-workflow", "--format"):
        parser.add_argument(name, required=True)
    parser.add_argument("--deny-self-hosted-runners", action="store_true", required=True)
    options = parser.parse_args(sys.argv[3:])
    if not (os.environ.get("GH_TOKEN") or os.environ.get("GITHUB_TOKEN")):
        print(
            "To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN environment variable.",
            file=sys.stderr,
        )
        return 4
    state = json.loads(Path(os.environ["GH_STANDIN"]).read_text())
    if options.subject.startswith("oci://"):
        image = options.subject.removeprefix("oci://")
        digest = image.partition("@sha256:")[2] or state["images"].get(image)
        if digest is None:
            return failure("Error: failed to fetch artifact metadata: MANIFEST_UNKNOWN: manifest unknown")
    else:
        digest = hashlib.sha256(Path(options.subject).read_bytes()).hexdigest()
    known = [
        one
        for one in state["attestations"]
        if one["repository"] == options.repo and digest in [one["sha256"], *one.get("others", [])]
    ]
    if not known:
        if state["mode"] == "old":
            return 0
        return failure(
            f"✗ Loading attestations from GitHub API failed\n\nError: no attestations found for {digest}"
        )
    valid = [
        one
        for one in known
        if f"{options.repo}/.github/workflows/{one['workflow']}" == options.signer_workflow
    ]
    if not valid:
        return failure('✗ Verification failed\n\nError: verifying with issuer "sigstore.dev"')
    print("Verified!" if state["mode"] == "chatty" else json.dumps([result(one) for one in valid]))
    return 0


def failure(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def result(one: dict) -> dict:
    uri = f"https://github.com/{one['repository']}/.github/workflows/{one['workflow']}@{one['ref']}"
    certificate = {
        "subjectAlternativeName": uri,
        "issuer": "https://token.actions.githubusercontent.com",
        "buildSignerURI": uri,
        "runnerEnvironment": "github-hosted",
        "sourceRepositoryURI": f"https://github.com/{one['repository']}",
        "sourceRepositoryRef": one["ref"],
    }
    subjects = [
        {"name": "it", "digest": {"sha256": sha256}} for sha256 in [one["sha256"], *one.get("others", [])]
    ]
    statement = {"predicateType": "https://slsa.dev/provenance/v1", "subject": subjects}
    return {
        "attestation": {"bundle": {}},
        "verificationResult": {
            "statement": statement,
            "signature": {"certificate": certificate},
            "verifiedTimestamps": [{"type": "Tlog"}],
        },
    }


if __name__ == "__main__":
    sys.exit(main())
