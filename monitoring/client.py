"""Client of Prometheus' HTTP API."""

from collections.abc import Mapping
from typing import Any

import requests

from ml.api_session import session
from ml.model.errors import one_line

_ATTEMPTS = 3
_CONNECT_S = 3.0

Series = list[tuple[dict[str, str], Any]]
"""Labels of each series, with its sample or its samples: pairs of a time and the value as text."""


class PrometheusError(Exception):
    """Prometheus does not answer, or rejects a query. The message is one line and holds no secret."""


class Prometheus:
    """Prometheus at a URL.

    Args:
        url: of Prometheus, http or https, without query.
        token: Bearer token; empty: none.
        timeout_s: how long it may take to answer a query.
    """

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._session = session(
            token=token or None,
            attempts=_ATTEMPTS,
            backoff_s=0.5,
            retry_after_max_s=5,
            timeout_s=(_CONNECT_S, timeout_s),
            methods={"POST"},  # queries change nothing
        )

    def at(self, query: str, time: float) -> Series:
        """Return each series of a query with its sample at a time, in Unix seconds.

        Raises:
            PrometheusError: see there.
        """
        return self._result("/api/v1/query", {"query": query, "time": time}, "value")

    def between(self, query: str, start: float, end: float, step: float) -> Series:
        """Return each series of a query with its samples at start, start + step ... end, in Unix seconds.

        Raises:
            PrometheusError: see there.
        """
        form: dict[str, str | float] = {"query": query, "start": start, "end": end, "step": step}
        return self._result("/api/v1/query_range", form, "values")

    def _result(self, path: str, form: Mapping[str, str | float], key: str) -> Series:
        try:
            # A redirected POST would arrive as a GET without its query.
            response = self._session.post(self.url + path, form, allow_redirects=False)
        except requests.RequestException as error:
            reason = f"no answer after {_ATTEMPTS} attempts ({type(error).__name__})"
            raise PrometheusError(f"{self.url}: {reason}; is this the URL of Prometheus?") from None
        try:
            content = response.json()
            if response.ok and not response.is_redirect:
                return [(dict(one["metric"]), one[key]) for one in content["data"]["result"]]
            reason = one_line(str(content["error"]), 200)
        except (ValueError, KeyError, TypeError):
            reason = f"status {response.status_code}, which is not an answer of Prometheus"
        if response.status_code in (401, 403):
            reason = f"status {response.status_code}: set PROMETHEUS_TOKEN to a valid token"
        raise PrometheusError(f"{self.url}{path}: {reason}")
