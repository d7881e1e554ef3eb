"""Which predictions may get feedback: each has a signed id, which is counted once."""

import base64
import binascii
import heapq
import hmac
import secrets
import struct
import threading
import time

MAX_AGE_S = 7 * 24 * 3600
"""How long after a prediction its feedback is accepted."""
MAX_REMEMBERED = 20_000
"""How many predictions with feedback are remembered, a few megabytes."""

NOT_SIGNED = (
    "'request_id' must be that of the prediction, as in the body of the answer to /predict; if the answer "
    "has 'predictions', that of one of them"
)
"""Error for an id that doesn't look like a signed one."""

_STATEMENT = struct.Struct(">I3s8s")  # seconds since 1970, start of the model's SHA-256, random bytes
_RANDOM_BYTES = 8
_MAC_BYTES = 12
_TOKEN_LENGTH = (_STATEMENT.size + _MAC_BYTES) * 4 // 3  # without padding: 27 is a multiple of 3


MODEL_DIGITS = 6
"""How many hexadecimal digits of the model's SHA-256 an id contains."""


class InvalidIdError(ValueError):
    """Feedback with this request id isn't accepted; the message is for the client."""


class SignedPredictions:
    """Signs the ids of predictions, and accepts feedback once for each of them.

    A signed id is the request's id, a full stop, and a token: the time, the model, random bytes, and an
    HMAC-SHA256 of them, the request's id and the label. The random bytes make each id different, because the
    photos of a request have the same request id, and clients may send the same one again. So nothing is
    stored for a prediction. Only predictions that have had their feedback are remembered, and only in this
    process.
    """

    def __init__(self, secret: str | None) -> None:
        """Use the secret, or a random one that is lost at the end of the process."""
        self._key = secret.encode() if secret else secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._counted: set[bytes] = set()  # MACs of the predictions with feedback
        self._by_time: list[tuple[int, bytes]] = []  # heap: the time and MAC of each of them
        self._forgotten_up_to = 0  # time of the latest prediction that had to make room for others

    def sign(self, request_id: str, label: str, sha256: str) -> str:
        """Return a new signed id for a prediction of this request by the model with this SHA-256."""
        model = bytes.fromhex(sha256[:MODEL_DIGITS])
        statement = _STATEMENT.pack(int(time.time()), model, secrets.token_bytes(_RANDOM_BYTES))
        mac = self._mac(request_id, statement, label)
        return f"{request_id}.{base64.urlsafe_b64encode(statement + mac).decode()}"

    def accept(self, signed_id: str, label: str) -> bool:
        """Return whether feedback on a prediction counts; False: the prediction has had its feedback already.

        Args:
            signed_id: what `sign` returned.
            label: the predicted label.

        Raises:
            InvalidIdError: this service hasn't made such a prediction, or too long ago.
        """
        request_id, separator, token = signed_id.rpartition(".")
        try:
            content = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            content = b""
        statement, mac = content[: _STATEMENT.size], content[_STATEMENT.size :]
        if not separator or len(token) != _TOKEN_LENGTH or len(mac) != _MAC_BYTES:
            raise InvalidIdError(NOT_SIGNED)
        made, *_ = _STATEMENT.unpack(statement)
        if not hmac.compare_digest(mac, self._mac(request_id, statement, label)):
            raise InvalidIdError(
                "this service has made no prediction with this 'request_id' and this 'predicted'; after a "
                "restart, it knows its earlier predictions only if FEEDBACK_SECRET is set"
            )
        with self._lock:
            oldest = max(int(time.time()) - MAX_AGE_S, self._forgotten_up_to)
            if made <= oldest:
                raise InvalidIdError("the prediction with this 'request_id' is too old for feedback")
            return self._count(mac, made)

    @staticmethod
    def model_of(signed_id: str) -> str:
        """Return the first digits of the model's SHA-256, of an id that `accept` has accepted."""
        token = signed_id.rpartition(".")[2]
        _, model, _ = _STATEMENT.unpack(base64.urlsafe_b64decode(token)[: _STATEMENT.size])
        return str(model.hex())

    def _count(self, mac: bytes, made: int) -> bool:
        if mac in self._counted:
            return False
        self._counted.add(mac)
        heapq.heappush(self._by_time, (made, mac))
        if len(self._by_time) > MAX_REMEMBERED:
            # A prediction that is forgotten could be counted again, so all that are as old no longer count.
            self._forgotten_up_to, forgotten = heapq.heappop(self._by_time)
            self._counted.remove(forgotten)
        return True

    def _mac(self, request_id: str, statement: bytes, label: str) -> bytes:
        # The statement has a fixed length and an id contains no NUL, so no two messages are the same.
        message = b"\0".join((statement, request_id.encode(errors="replace"), label.encode()))
        return hmac.digest(self._key, message, "sha256")[:_MAC_BYTES]
