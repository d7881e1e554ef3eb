"""Puts an image and a model where they serve, tests them there, and goes back if the test fails.

This folder also holds the manifests of Kubernetes (`k8s/`) and Cloud Run (`cloudrun/`).
"""

TARGETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "docker": ("deploy.docker", "a container on this machine, run by docker or podman", ()),
    "render": (
        "deploy.render",
        "an image-backed web service on Render",
        ("RENDER_API_KEY", "RENDER_SERVICE_ID"),
    ),
    "cloud-run": (
        "deploy.cloud_run",
        "a service on Google Cloud Run",
        ("CLOUD_RUN_SERVICE", "GCP_ACCESS_TOKEN"),
    ),
    "kubernetes": ("deploy.kubernetes", "a Kubernetes cluster; by default kind on this machine", ()),
}
"""Every target, by its name on the command line: the module of its command (see `ml.cli`), a summary, and
variables: if one of them is set, `python -m deploy deliver` picks the target. A new target needs a module and
one line here."""
