"""Every setting of the service, read from environment variables.

Each is one field of `Settings`: parser, default, and meaning for the operator. Its variable has the field's
name in upper case. `python -m scripts.settings_reference` generates docs/settings.md from them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from app import memory, parsers
from app.parsers import Network, Origin, SettingsError
from ml.model import NAME
from ml.model.host import available_cpus

__all__ = ["EMBEDDED", "Network", "Settings", "SettingsError", "probable_typos", "variable"]

EMBEDDED = Path(__file__).with_name("default") / "model.pt"
"""The model that is part of the service."""

_MB = 1024 * 1024
_ORIGIN = r"\*|https?://[a-z0-9.-]+(:\d{1,5})?"


def _cache_folder(environ: Mapping[str, str]) -> Path:
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA", "TMPDIR", "TEMP"):
        if base := environ.get(name, "").strip():
            return Path(base, ".cache" if name == "HOME" else "", NAME)
    return Path("/tmp", NAME)  # noqa: S108  (nothing is written there before it is needed)


def _setting(
    meaning: str, parser: parsers.Parser, default: Any = None, *, shown: str = "", secret: bool = False
) -> Any:
    """Return a field of `Settings`.

    Args:
        meaning: what the setting does, for the operator; Markdown.
        parser: how the variable's text becomes a value.
        default: the value if the variable is unset or empty; a function computes it from the environment.
        shown: how the default reads in the documentation; empty: derived from `default`.
        secret: whether the value is kept out of `repr`.
    """
    metadata = {"meaning": meaning, "parser": parser, "default": default, "shown": shown}
    if callable(default):
        return field(default_factory=lambda: default({}), repr=not secret, metadata=metadata)
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """How the service runs. An empty variable counts as unset. Secrets don't show in `repr`."""

    host: str = _setting(
        "Address to listen on; a name stands for all of its addresses. `::`: every IPv6 and IPv4 address. "
        "`0.0.0.0`: every IPv4 address. `localhost` or `127.0.0.1` makes the service reachable from this "
        "machine only. The log line at start shows a URL that answers.",
        parsers.text("an address or a host name", ".+"),
        "0.0.0.0",  # noqa: S104  (in a container, a service that listens on loopback only is unreachable)
    )
    port: int = _setting(
        "TCP port to listen on. 0 picks a free port; the log line at start shows it. The health check of the "
        "image reads HOST and PORT from the environment only, not from `.env`.",
        parsers.integer(0, 65_535),
        8080,
    )
    model_url: str | None = _setting(
        "Where `model.pt` comes from. A `file://` URL needs an absolute path. Unset: the default model, "
        "which is part of the service. The URL's query and user info are never logged.",
        parsers.url("http", "https", "file"),
        secret=True,
    )
    model_sha256: str | None = _setting(
        "SHA-256 of the model file. If the file has another one, the service doesn't start.",
        parsers.Parser("64 hexadecimal digits", parsers.sha256),
    )
    model_public_key: tuple[bytes, ...] = _setting(
        "If set, a model from MODEL_URL needs a signature that one of these Ed25519 keys made, at MODEL_URL "
        "with `.sig` after its path (docs/deployment.md, *Signed models*). Otherwise the service doesn't "
        "start. Several keys let you replace one. Unset: no signature is needed.",
        parsers.Parser("comma-separated public keys, each in PEM or base64", parsers.public_keys),
        (),
    )
    model_cache_dir: Path = _setting(  # noqa: RUF009  (it is a dataclass field)
        "Folder for downloaded models. It is created if it doesn't exist.",
        parsers.Parser("a path", lambda _, text: Path(text)),
        _cache_folder,
        shown="`cats-vs-dogs` in the user's cache folder (XDG_CACHE_HOME, `~/.cache` or LOCALAPPDATA), "
        "or else in the system's temporary folder",
    )
    model_token: str | None = _setting(
        "Sent as `Authorization: Bearer TOKEN` when the model is downloaded, which private release assets "
        "need. It is not sent to another host if the download is redirected there.",
        parsers.text("printable ASCII without spaces", "[!-~]+"),
        secret=True,
    )
    engine: str = _setting(
        "Runtime for the network: `onnx` needs a model file with an ONNX model, `torch` needs "
        "`requirements-torch.txt`, and `auto` uses the ONNX model if the file has one, torch otherwise.",
        parsers.choice("auto", "onnx", "torch"),
        "auto",
    )
    threads: int = _setting(
        "Threads that one prediction uses. Predictions run in parallel anyway, so more than 1 shortens a "
        "single response and costs throughput under load.",
        parsers.integer(1, 256),
        1,
    )
    max_concurrency: int = _setting(
        "Number of workers: predictions that run in parallel. More workers than CPUs slow each other down "
        "(docs/performance.md).",
        parsers.integer(1, 256),
        lambda _: available_cpus(),
        shown="number of CPUs available to the process, within its container's CPU quota",
    )
    max_queue: int = _setting(
        "Length of the queue: predictions that wait for a worker. If the queue is full, further requests are "
        "rejected (503).",
        parsers.integer(0, 1024),
        64,
    )
    request_timeout_s: int = _setting(
        "Queue timeout: seconds that a prediction may wait for a worker before it is rejected (503). It is "
        "also the CPU time in seconds for the photos of one request; a request that needs more gets 413. And "
        "it is the limit for one run of the ONNX model, after which the request gets 500.",
        parsers.integer(1, 3600),
        10,
    )
    drain_seconds: int = _setting(
        "Seconds that requests in progress have to finish after SIGTERM or SIGINT. The service stops as "
        "soon as they are finished. Orchestrators kill after 30 s by default, so stay below.",
        parsers.integer(0, 3600),
        25,
    )
    max_upload_mb: int = _setting(
        "Largest body of a prediction, in units of 1,048,576 bytes. Larger bodies get 413, and all other "
        "requests may have 4,096 bytes. In JSON, base64 makes a "
        "photo a third larger. It is also the limit for a compressed body once it is decompressed, and for a "
        "photo that the service fetches (ALLOWED_IMAGE_HOSTS).",
        parsers.integer(1, 1024),
        10,
    )
    max_pixels: int = _setting(
        "Largest image, width times height, read from its header before it is decoded. Larger images get "
        "422. A JPEG that is decoded at half its width and height, or less, may have four times as many "
        "pixels. What a photo costs is limited by MAX_PHOTO_MB.",
        parsers.integer(1, 2_000_000_000),
        50_000_000,
    )
    max_photo_mb: int | None = _setting(
        "Memory that decoding one photo may take, in units of 1,048,576 bytes; a photo that takes more gets "
        "422. Up to MAX_CONCURRENCY photos are decoded at the same time, or as many as the container has "
        "memory for. A JPEG takes little, a PNG 4 to 18 bytes per pixel (usually 4), AVIF, HEIC 8 to 19, "
        "WebP 16 to 18.",
        parsers.integer(16, 65_536),
        shown="what the container's memory limit leaves for each worker, from 64 to 1,024",
    )
    unknown: bool = _setting(
        "`on`: a photo that shows none of the classes gets the label `unknown`, if the model has an "
        "out-of-distribution (OOD) score and no class of that name. `off`: it gets the most likely class. "
        "The response contains the score (`known`) either way.",
        parsers.switch(),
        True,
    )
    api_keys: tuple[str, ...] = _setting(
        "If set, `/predict`, `/v2/.../infer` and `/feedback` need one of these keys, as `Authorization: "
        "Bearer KEY` or `X-API-Key: KEY`. Unset: open to everyone.",
        parsers.items("comma-separated keys", ".+"),
        (),
        secret=True,
    )
    feedback_secret: str | None = _setting(
        "Key with which the service signs the `request_id` of each prediction, which feedback needs. Unset: "
        "a random one at each start, so feedback is accepted only from the process that gave the answer. Set "
        "the same one for all replicas.",
        parsers.text("at least 16 printable ASCII characters without spaces", "[!-~]{16,}"),
        secret=True,
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "Networks of the reverse proxies in front of the service. If a connection comes from one of them, "
        "the limits per client use the rightmost entry of `X-Forwarded-For` that is not a trusted proxy. "
        "`X-Forwarded-Proto` of such a connection says whether the service's own address, which the page "
        "shows in links, begins with https. Unset: the headers are ignored. docs/deployment.md has the value "
        "for each platform.",
        parsers.Parser("comma-separated IP networks such as `10.0.0.0/8`", parsers.networks),
        (),
    )
    metrics_token: str | None = _setting(
        "If set, `/metrics` needs it, as `Authorization: Bearer TOKEN`. Unset: open to everyone who can "
        "reach the service.",
        parsers.text("printable ASCII without spaces", "[!-~]+"),
        secret=True,
    )
    metrics_push_url: str | None = _setting(
        "A Prometheus Pushgateway to send the metrics to, for services that Prometheus can't scrape. User "
        "info in the URL is sent as basic authentication. Unset: nothing is sent.",
        parsers.url("http", "https"),
        secret=True,
    )
    metrics_push_seconds: int = _setting(
        "Seconds between two pushes to METRICS_PUSH_URL.",
        parsers.integer(1, 3600),
        15,
    )
    allowed_image_hosts: tuple[Origin, ...] = _setting(
        'Hosts that `/predict` may fetch an image from if it gets `{"url": ...}`. Only https, except for a '
        "host written as `http://HOST`; only the usual port, except for one written as `HOST:PORT`. A host "
        "with an address that isn't public is rejected, unless that address itself is in this list. "
        "Subdomains and redirects to other hosts don't count as allowed. The service connects directly, "
        "not through a proxy. Unset: no image is fetched.",
        parsers.Parser("comma-separated hosts such as `photos.example.org`", parsers.origins),
        (),
    )
    deployment: str | None = _setting(
        "Name of this deployment, in the metric `deployment_info`. `python -m deploy --canary` sets it, to "
        "tell two versions apart. Unset: no such metric.",
        parsers.text("1 to 63 letters, digits and `-`", "[A-Za-z0-9-]{1,63}"),
    )
    cors_origins: tuple[str, ...] = _setting(
        "Origins whose pages may call the service from a browser; `*` for all. Unset: only its own page.",
        parsers.items("comma-separated origins such as https://example.org, or `*`", _ORIGIN, parsers.origin),
        (),
    )
    collect_to: str | None = _setting(
        "Folder or bucket that keeps photos for later training: a path, `s3://BUCKET/PREFIX` or "
        "`gs://BUCKET/PREFIX` ([privacy.md](privacy.md)). A bucket needs `requirements-collect.txt`; its "
        "credentials come from where its own tools look for them. Unset: no photo is kept.",
        parsers.Parser("a folder, or the address of a bucket", parsers.store),
    )
    collect_consent: str = _setting(
        "`ask`: only photos whose sender allows it are kept, with `keep=1` in the API or on the page. "
        "`always`: all photos may be kept, except with `keep=0`, and the page says so.",
        parsers.choice("ask", "always"),
        "ask",
    )
    collect_operator: str | None = _setting(
        "Name and address of whoever keeps the photos and deletes them on request. The page shows both. "
        "Unset: the page says *the operator of this service*.",
        parsers.text("1 to 200 printable characters", r"[^\x00-\x1f\x7f]{1,200}"),
    )
    collect_days: int = _setting(
        "Number of days for which photos are kept, as the page states it. The service deletes nothing: "
        "`python -m ml collected STORE --older-than DAYS` does, or a rule of the bucket.",
        parsers.integer(1, 3650),
        90,
    )
    collect_unsure: float = _setting(
        "Photos are kept if the probability of their most likely class is lower. 0: none for that reason.",
        parsers.share(),
        0.8,
    )
    collect_random: float = _setting(
        "Share of all photos that is kept at random, whatever their answer. 0: none.",
        parsers.share(),
        0.01,
    )
    collect_photos_per_day: int = _setting(
        "Photos that this process keeps in a day (UTC) at most. Half of them are only for the random share, "
        "if there is one.",
        parsers.integer(1, 1_000_000),
        1000,
    )
    collect_mb_per_day: int = _setting(
        "The same in units of 1,048,576 bytes. A kept photo usually takes 0.1 to 0.3 of them.",
        parsers.integer(1, 1_000_000),
        200,
    )
    collect_photos_per_client: int = _setting(
        "Photos that this process keeps in a day from one client address, or from one /64 network of IPv6; "
        "as many again may be drawn at random. Behind a proxy, set TRUSTED_PROXIES.",
        parsers.integer(1, 1_000_000),
        20,
    )
    log_level: str = _setting(
        "Least severe level that is logged. Each request is logged as one line at `info`.",
        parsers.choice("debug", "info", "warning", "error"),
        "info",
    )
    log_format: str = _setting(
        "`json`: one JSON object per line. `text`: for people.",
        parsers.choice("json", "text"),
        "json",
    )

    @property
    def max_upload_bytes(self) -> int:
        """Largest request body, in bytes."""
        return self.max_upload_mb * _MB

    @property
    def max_photo_bytes(self) -> int:
        """Memory that decoding one photo may take, in bytes."""
        if self.max_photo_mb is not None:
            return self.max_photo_mb * _MB
        return memory.for_photo(self._decoding_bytes, self.max_concurrency)

    @property
    def costly_photos(self) -> int:
        """Number of photos that may take MAX_PHOTO_MB at the same time."""
        return memory.photos_at_once(self._decoding_bytes, self.max_photo_bytes, self.max_concurrency)

    @property
    def _decoding_bytes(self) -> float:
        return memory.for_decoding(self.max_upload_bytes, self.max_concurrency, self.collect_to is not None)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read and check every variable.

        Raises:
            SettingsError: a value is invalid or out of range.
        """
        values = {}
        for setting in fields(cls):
            if text := environ.get(variable(setting), "").strip():
                values[setting.name] = setting.metadata["parser"].parse(variable(setting), text)
            elif callable(default := setting.metadata["default"]):
                values[setting.name] = default(environ)
        return cls(**values)


def variable(setting: Field[Any]) -> str:
    """Return the environment variable of a field of `Settings`."""
    return setting.name.upper()


def probable_typos(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the names of variables that are probably misspelt settings, each with the setting's name.

    A variable counts if its name is very similar to that of a setting that isn't set itself, and begins with
    the same letter. HOST and PORT are too short to tell typos from other programs' variables.
    """
    settings = [variable(setting) for setting in fields(Settings)]
    others = {name.upper(): name for name in environ if name not in settings}
    typos: dict[str, str] = {}
    for setting in settings:
        if len(setting) > 4 and not environ.get(setting, "").strip():
            candidates = [name for name in others if name.startswith(setting[0])]
            for name in difflib.get_close_matches(setting, candidates, cutoff=0.75):
                typos.setdefault(others[name], setting)
    return typos
