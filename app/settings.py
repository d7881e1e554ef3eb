"""Every environment variable of the service, in one frozen object: the operator's manual."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

from app import cpu

EMBEDDED = Path(__file__).with_name("default") / "model.pt"
"""The model that comes with the service."""

_MEGABYTE = 1024 * 1024


class SettingsError(ValueError):
    """A variable with a value that the service can't use; the message is one line that names it."""


@dataclass(frozen=True)
class Settings:
    """How the service runs. An empty variable counts as unset; secrets don't show in `repr`."""

    host: str = "0.0.0.0"  # noqa: S104  (a container that listens on loopback only is of no use)
    """HOST: address to listen on. `127.0.0.1` keeps the service on this machine."""

    port: int = 8080
    """PORT: TCP port, 0 to 65535. 0 takes a free one; the log line at start says which."""

    model_url: str | None = field(default=None, repr=False)
    """MODEL_URL: where `model.pt` comes from, `http://`, `https://` or `file://` with an absolute path.
    Unset: the default model that comes with the service. Its query and user info are never logged."""

    model_sha256: str | None = None
    """MODEL_SHA256: SHA-256 of the model file, 64 hexadecimal digits. Any other file stops the start."""

    model_cache_dir: Path = Path("/tmp/cats-vs-dogs")  # noqa: S108  (nothing is written before it is used)
    """MODEL_CACHE_DIR: folder that downloaded models go to, made where it is missing. Default:
    `cats-vs-dogs` under XDG_CACHE_HOME, else under ~/.cache, else under the system's temporary folder."""

    model_token: str | None = field(default=None, repr=False)
    """MODEL_TOKEN: sent as `Authorization: Bearer ...` when the model is downloaded, as a private release
    asset needs. Not sent on to another host that the download is redirected to."""

    engine: str = "auto"
    """ENGINE: what runs the network: `onnx`, `torch`, or `auto`, which takes what the file allows."""

    threads: int = 1
    """THREADS: threads that one prediction uses, 1 to 256. Predictions run side by side already, so more
    than 1 shortens a single answer and costs throughput under load."""

    max_concurrency: int = field(default_factory=cpu.available)
    """MAX_CONCURRENCY: predictions that run at once, 1 to 256. Default: one for each processor that this
    process may use, by its container's CPU quota; more take one another's caches (docs/performance.md)."""

    max_queue: int = 64
    """MAX_QUEUE: predictions that wait for a slot, 0 to 1024. One more is told to come back (503)."""

    request_timeout_s: int = 10
    """REQUEST_TIMEOUT_S: seconds that a prediction waits for a slot, 1 to 3600; then 503. As many seconds of
    a processor's time are spent on the photos of one request; if they are not enough: 413."""

    drain_seconds: int = 25
    """DRAIN_SECONDS: after SIGTERM or SIGINT, seconds that requests under way have to finish, 0 to 3600;
    it is over as soon as they have. Orchestrators kill after 30 s by default, so stay below."""

    max_upload_mb: int = 10
    """MAX_UPLOAD_MB: largest request body, in units of 1,048,576 bytes, 1 to 1024. Larger: 413."""

    max_pixels: int = 50_000_000
    """MAX_PIXELS: largest image, width times height, by its header, before it is decoded. Larger: 422.
    A transparent WebP, the worst, takes 18 bytes a pixel of memory while it is decoded, and MAX_CONCURRENCY
    photos may be decoded at once: where memory is small and anyone may send photos, lower both."""

    unknown: bool = True
    """UNKNOWN: `on`: a photo that shows none of the classes is labelled `unknown`, where the model can tell
    and has no class of that name; `off`: it gets the likeliest class all the same. Either way the answer says
    how well `known` it is."""

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """API_KEYS: comma-separated keys. When set, `/predict` and `/feedback` need one of them, as
    `Authorization: Bearer KEY` or `X-API-Key: KEY`. Unset: open to everyone."""

    metrics_token: str | None = field(default=None, repr=False)
    """METRICS_TOKEN: when set, `/metrics` needs it, as `Authorization: Bearer TOKEN`. Unset: open to everyone
    who reaches the service."""

    metrics_push_url: str | None = field(default=None, repr=False)
    """METRICS_PUSH_URL: a Prometheus Pushgateway, `http://` or `https://`, that the metrics are sent to, for
    where nothing can scrape. User info in it is sent as basic authentication. Unset: nothing is sent."""

    metrics_push_seconds: int = 15
    """METRICS_PUSH_SECONDS: how often they are sent, 1 to 3600 seconds."""

    cors_origins: tuple[str, ...] = ()
    """CORS_ORIGINS: comma-separated origins whose pages may call the service from a browser, as in
    `https://example.org`, or `*` for all. Unset: none but the service's own page."""

    log_level: str = "info"
    """LOG_LEVEL: `debug`, `info`, `warning` or `error`. One line a request is logged at `info`."""

    log_format: str = "json"
    """LOG_FORMAT: `json`, one object a line, or `text`, for people."""

    @property
    def max_upload_bytes(self) -> int:
        """Largest request body, in bytes."""
        return self.max_upload_mb * _MEGABYTE

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read and check every variable.

        Raises:
            SettingsError: a value is unknown or out of range.
        """
        env = _Environment(environ)
        return cls(
            host=env.text("HOST") or cls.host,
            port=env.integer("PORT", cls.port, 0, 65_535),
            model_url=env.model_url("MODEL_URL"),
            model_sha256=env.sha256("MODEL_SHA256"),
            model_cache_dir=env.cache_folder("MODEL_CACHE_DIR"),
            model_token=env.token("MODEL_TOKEN"),
            engine=env.choice("ENGINE", cls.engine, ("auto", "onnx", "torch")),
            threads=env.integer("THREADS", cls.threads, 1, 256),
            max_concurrency=env.integer("MAX_CONCURRENCY", cpu.available(), 1, 256),
            max_queue=env.integer("MAX_QUEUE", cls.max_queue, 0, 1024),
            request_timeout_s=env.integer("REQUEST_TIMEOUT_S", cls.request_timeout_s, 1, 3600),
            drain_seconds=env.integer("DRAIN_SECONDS", cls.drain_seconds, 0, 3600),
            max_upload_mb=env.integer("MAX_UPLOAD_MB", cls.max_upload_mb, 1, 1024),
            max_pixels=env.integer("MAX_PIXELS", cls.max_pixels, 1, 2_000_000_000),
            unknown=env.choice("UNKNOWN", "on", ("on", "off")) == "on",
            api_keys=env.keys("API_KEYS"),
            metrics_token=env.token("METRICS_TOKEN"),
            metrics_push_url=env.http_url("METRICS_PUSH_URL"),
            metrics_push_seconds=env.integer("METRICS_PUSH_SECONDS", cls.metrics_push_seconds, 1, 3600),
            cors_origins=env.origins("CORS_ORIGINS"),
            log_level=env.choice("LOG_LEVEL", cls.log_level, ("debug", "info", "warning", "error")),
            log_format=env.choice("LOG_FORMAT", cls.log_format, ("json", "text")),
        )


class _Environment:
    """Typed reading of variables; each method raises SettingsError with one line."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not low <= int(text) <= high:
            raise SettingsError(f"{name}={text!r:.60}: must be a whole number from {low} to {high}")
        return int(text)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name).lower() or default
        if text not in allowed:
            raise SettingsError(f"{name}={text!r:.60}: must be one of {', '.join(allowed)}")
        return text

    def sha256(self, name: str) -> str | None:
        text = self.text(name).lower()
        if text and not re.fullmatch(r"[0-9a-f]{64}", text):
            raise SettingsError(f"{name}={text!r:.80}: must be 64 hexadecimal digits")
        return text or None

    def http_url(self, name: str) -> str | None:
        if not (text := self.text(name)):
            return None
        parts = self._parts(name)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{name}: must start with http:// or https://")
        return text

    def model_url(self, name: str) -> str | None:
        text = self.text(name)
        if not text:
            return None
        parts = self._parts(name)
        if parts.scheme == "file":
            if parts.hostname not in (None, "localhost") or not parts.path.startswith("/"):
                raise SettingsError(
                    f"{name}: a file URL needs an absolute path, as in file:///models/model.pt"
                )
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"{name}: must start with http://, https:// or file://")
        return text

    def _parts(self, name: str) -> SplitResult:
        try:  # the value may hold secrets, so no message repeats it
            parts = urlsplit(self.text(name))
            _ = parts.port
        except ValueError:
            raise SettingsError(f"{name}: not a valid URL") from None
        return parts

    def cache_folder(self, name: str) -> Path:
        if folder := self.text(name):
            return Path(folder)
        if folder := self.text("XDG_CACHE_HOME"):
            return Path(folder, "cats-vs-dogs")
        if home := self.text("HOME"):
            return Path(home, ".cache", "cats-vs-dogs")
        if folder := self.text("TMPDIR"):
            return Path(folder, "cats-vs-dogs")
        return Settings.model_cache_dir

    def token(self, name: str) -> str | None:
        text = self.text(name)
        if not re.fullmatch(r"[!-~]*", text):
            raise SettingsError(f"{name}: must be printable ASCII without spaces")
        return text or None

    def keys(self, name: str) -> tuple[str, ...]:
        text = self.text(name)
        keys = tuple(key.strip() for key in text.split(",") if key.strip())
        if text and not keys:  # someone meant to close the service: don't leave it open
            raise SettingsError(f"{name}: set, but holds no key")
        return keys

    def origins(self, name: str) -> tuple[str, ...]:
        origins = tuple(origin.strip() for origin in self.text(name).split(",") if origin.strip())
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?", origin, re.ASCII):
                raise SettingsError(f"{name}: {origin!r:.80} is no origin, such as https://example.org")
        return origins
