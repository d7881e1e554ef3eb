"""Which answers may get feedback: their request ids are signed, and each is counted once."""

import base64
import binascii
import heapq
import hmac
import secrets
import struct
import threading
import time

MAX_AGE_S = 7 * 24 * 3600
"""How long after an answer its feedback is accepted."""
MAX_REMEMBERED = 20_000
"""How many answers with feedback are remembered, a few megabytes. For each of them, a photo was predicted."""

_STATEMENT = struct.Struct(">IH")  # seconds since 1970, number of photos
_MAC_BYTES = 12
_TOKEN_LENGTH = (_STATEMENT.size + _MAC_BYTES) * 4 // 3  # without padding: 18 is a multiple of 3


class InvalidIdError(ValueError):
    """Feedback with this request id isn't accepted; the message is for the client."""


class AnsweredRequests:
    """Signs the ids of answered requests, and accepts feedback once for each photo of them.

    A signed id is the request's id, a full stop, and a token: the time, the number of photos, and an
    HMAC-SHA256 of both, the id, and the label if there is one photo. So nothing is stored for an answer. Only
    answers that have had their feedback are remembered, and only in this process.
    """

    def __init__(self, secret: str | None) -> None:
        """Use the secret, or a random one that is lost at the end of the process."""
        self._key = secret.encode() if secret else secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._counts: dict[bytes, int] = {}  # feedback so far, by MAC
        self._by_time: list[tuple[int, bytes]] = []  # heap: the time and MAC of each of them
        self._forgotten_up_to = 0  # time of the latest answer that was removed because there were too many

    def sign(self, request_id: str, labels: list[str]) -> str:
        """Return the signed id of a request whose photos got these labels."""
        statement = _STATEMENT.pack(int(time.time()), len(labels))
        mac = self._mac(request_id, statement, labels[0] if len(labels) == 1 else "")
        return f"{request_id}.{base64.urlsafe_b64encode(statement + mac).decode()}"

    def accept(self, signed_id: str, label: str) -> bool:
        """Return whether feedback on a prediction counts; False: the answer has had its feedback already.

        Args:
            signed_id: what `sign` returned.
            label: the predicted label.

        Raises:
            InvalidIdError: this service hasn't given such an answer, or too long ago.
        """
        request_id, _, token = signed_id.rpartition(".")
        try:
            content = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            content = b""
        statement, mac = content[: _STATEMENT.size], content[_STATEMENT.size :]
        if len(token) != _TOKEN_LENGTH or len(mac) != _MAC_BYTES:
            raise InvalidIdError("'request_id' must be the one in the body of the answer to /predict")
        answered, photos = _STATEMENT.unpack(statement)
        expected = self._mac(request_id, statement, label if photos == 1 else "")
        if not hmac.compare_digest(mac, expected):
            raise InvalidIdError(
                "this service has given no answer with this 'request_id' and this 'predicted'; after a "
                "restart, it knows its earlier answers only if FEEDBACK_SECRET is set"
            )
        with self._lock:
            oldest = max(int(time.time()) - MAX_AGE_S, self._forgotten_up_to)
            if answered <= oldest:
                raise InvalidIdError("the answer with this 'request_id' is too old for feedback")
            return self._count(mac, answered, photos)

    def _count(self, mac: bytes, answered: int, photos: int) -> bool:
        if (count := self._counts.get(mac, 0)) >= photos:
            return False
        if not count:
            heapq.heappush(self._by_time, (answered, mac))
        self._counts[mac] = count + 1
        if len(self._by_time) > MAX_REMEMBERED:
            # An answer that is forgotten could be counted again, so all that are as old no longer count.
            self._forgotten_up_to, forgotten = heapq.heappop(self._by_time)
            del self._counts[forgotten]
        return True

    def _mac(self, request_id: str, statement: bytes, label: str) -> bytes:
        # The statement has a fixed length and an id contains no NUL, so no two messages are the same.
        message = b"\0".join((statement, request_id.encode(errors="replace"), label.encode()))
        return hmac.digest(self._key, message, "sha256")[:_MAC_BYTES]
