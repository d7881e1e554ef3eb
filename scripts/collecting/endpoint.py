"""What a client asks of the live service, from many threads."""

import json
from typing import Any

from common.patient import Answer, Client, ServiceError


class Endpoint:
    """The service at a URL.

    Args:
        url: http(s), of the service's root.
        key: sent as X-API-Key.
        patience_s: how long a request is tried anew, and how long nothing at all may be answered.

    Raises:
        ServiceError: the URL is none, or the key can't be sent.
    """

    def __init__(self, url: str, key: str | None, patience_s: float) -> None:
        self._client = Client(url, {"X-API-Key": key} if key else {}, "API_KEY", patience_s)
        self.url = self._client.url
        """Without anything secret."""
        self.stop = self._client.stop

    def model(self) -> dict[str, Any]:
        """Return what the service says of its model.

        Raises:
            ServiceError: it can't be had, or is no description of a model.
        """
        answer = self._client.ask("GET", "/model")
        if answer.status != 200:
            raise ServiceError(f"{self.url}/model: {answer.error}")
        told = dict(answer.content)
        classes = told.get("classes")
        texts = [told.get("version"), told.get("sha256"), *(classes if isinstance(classes, list) else [None])]
        if not all(isinstance(text, str) and text for text in texts):
            raise ServiceError(f"{self.url}/model: not what this service answers")
        return told

    def predict(self, photo: bytes) -> Answer:
        """Send a photo; raises as `common.patient.Client.ask`."""
        return self._client.ask("POST", "/predict", photo, "image/jpeg")  # what it is, its content tells

    def feedback(self, predicted: str, actual: str, request_id: str) -> Answer:
        """Tell the true label of an answer; raises as `common.patient.Client.ask`."""
        told = {"predicted": predicted, "actual": actual, "request_id": request_id}
        return self._client.ask("POST", "/feedback", json.dumps(told).encode(), "application/json")
