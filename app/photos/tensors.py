"""Photos in a request of the Open Inference Protocol: encoded ones as BYTES, pixels as UINT8.

A tensor is JSON, or follows the JSON as bytes (the binary tensor data extension of Triton and KServe).
"""

import json
import math
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from app.photos import MAX_PHOTOS, documents

JSON_SIZE = "Inference-Header-Content-Length"
"""Header of a body with binary tensors: how many of its bytes are JSON."""
IMAGE, PIXELS = "image", "pixels"
"""The inputs, of which a request has one: encoded photos as BYTES [N], pixels as UINT8 [N, size, size, 3]."""

_JSON_NUMBERS = 600_000
"""Pixels in JSON: 2 photos of 260 x 260, or one of any size. A parsed number takes up to 40 bytes."""
_MAX_TEXTS = 1000
"""Texts and objects of a document; 100 photos in base64 have 100."""
_SIZE = re.compile(r"[0-9]{1,10}", re.ASCII)


class InferenceRequest(NamedTuple):
    """What a request asks for.

    Attributes:
        id: the client's own id of the request; None: it has none.
        photos: encoded images, or pixels [N, size, size, 3].
        outputs: names of the outputs to return, each with whether it should be binary; empty: all outputs.
        binary: whether outputs should be binary if `outputs` is empty.
    """

    id: str | None
    photos: Sequence[bytes | NDArray[np.uint8]]
    outputs: dict[str, bool]
    binary: bool


def parse(body: bytes, json_size: str, size: int) -> InferenceRequest:
    """Return the request in a body.

    Args:
        body: JSON, and tensors in binary form after it.
        json_size: how many bytes are JSON, the header Inference-Header-Content-Length; empty: all of them.
        size: height and width of the network's input, in pixels.

    Raises:
        BadRequest: it is not valid, or has no photo.
        RequestEntityTooLarge: it has too many photos, numbers or texts.
    """
    if json_size and not (_SIZE.fullmatch(json_size) and int(json_size) <= len(body)):
        raise BadRequest(f"{JSON_SIZE} must be the size of the JSON in the body")
    end = int(json_size) if json_size else len(body)
    document = _load(body[:end] if json_size else body, size)
    inputs, own_id = document.get("inputs"), document.get("id")
    if not (own_id is None or isinstance(own_id, str)):
        raise BadRequest("'id' must be a string")
    expected = f"'{IMAGE}' (BYTES [N]) or '{PIXELS}' (UINT8 [N, {size}, {size}, 3])"
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise BadRequest(f"'inputs' must be a list of one tensor: {expected}")
    tensor = inputs[0]
    kind = tensor.get("name"), tensor.get("datatype")
    if kind not in ((IMAGE, "BYTES"), (PIXELS, "UINT8")):
        raise BadRequest(f"name and datatype of the input must be those of {expected}")
    shape = _shape(tensor.get("shape"), (size, size, 3) if kind[0] == PIXELS else ())
    binary_size = _parameters(tensor).get("binary_data_size")
    if binary_size is not None and tensor.get("data") is not None:
        raise BadRequest("the input has both 'data' and 'binary_data_size'")
    if (0 if binary_size is None else binary_size) != len(body) - end:
        raise BadRequest("'binary_data_size' must be the number of bytes after the JSON")
    binary = None if binary_size is None else memoryview(body)[end:]
    photos = (_pixels if kind[0] == PIXELS else _images)(tensor.get("data"), binary, shape)
    flag = _parameters(document).get("binary_data_output") is True
    return InferenceRequest(own_id, photos, _outputs(document.get("outputs"), flag), flag)


def _load(text: bytes, size: int) -> dict[str, Any]:
    numbers = max(_JSON_NUMBERS, 3 * size * size)
    # A pixel may be a list of its own. Parsed values take many times the memory of their text.
    if text.count(b",") > numbers + _MAX_TEXTS or text.count(b"[") > numbers // 2 + _MAX_TEXTS:
        raise RequestEntityTooLarge(f"the JSON has more than {numbers} numbers; send pixels in binary form")
    if text.count(b'"') > 2 * _MAX_TEXTS or text.count(b"{") > _MAX_TEXTS:
        raise RequestEntityTooLarge(f"the JSON has more than {_MAX_TEXTS} strings or objects")
    try:
        document = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise BadRequest("the body isn't valid JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def _parameters(node: dict[str, Any]) -> dict[str, Any]:
    parameters = node.get("parameters")
    if parameters is None:  # clients that write every optional field write null
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest("'parameters' must be a JSON object")
    return parameters


def _shape(shape: Any, photo: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of N photos, each of the shape `photo`; encoded ones may be [N, 1] too."""
    valid = isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape)
    if not valid or not shape or not (tuple(shape[1:]) == photo or (not photo and shape[1:] == [1])):
        raise BadRequest(f"the input's 'shape' must be {['N', *photo]}".replace("'N'", "N"))
    if shape[0] > MAX_PHOTOS:
        raise RequestEntityTooLarge(f"the input has more than {MAX_PHOTOS} photos; send fewer per request")
    return tuple(shape)


def _flat(data: Any) -> list[Any]:
    """Return the elements of a tensor, which may be in lists of lists."""
    while isinstance(data, list) and set(map(type, data)) == {list}:
        data = list(chain.from_iterable(data))
    if not isinstance(data, list):
        raise BadRequest("the input must have 'data', a list, or 'binary_data_size'")
    return data


def _pixels(data: Any, binary: memoryview | None, shape: tuple[int, ...]) -> Sequence[NDArray[np.uint8]]:
    try:
        content = bytes(_flat(data)) if binary is None else binary
    except (TypeError, ValueError):
        raise BadRequest(f"the data of '{PIXELS}' must be whole numbers from 0 to 255") from None
    if len(content) != math.prod(shape):
        raise BadRequest(f"'{PIXELS}' has {len(content)} numbers, but its shape requires {math.prod(shape)}")
    return list(np.frombuffer(content, np.uint8).reshape(shape))


def _images(data: Any, binary: memoryview | None, shape: tuple[int, ...]) -> Sequence[bytes]:
    if binary is None:
        texts = _flat(data)
        images = [documents.decode(text, f"element {number}") for number, text in enumerate(texts, 1)]
    else:
        images = _split(binary, shape[0])
    if len(images) != shape[0]:
        raise BadRequest(f"'{IMAGE}' has {len(images)} photos, but its shape requires {shape[0]}")
    for number, image in enumerate(images, 1):
        if not image:
            raise BadRequest(f"element {number} of '{IMAGE}' is empty")
    return images


def _split(binary: memoryview, count: int) -> list[bytes]:
    """Return `count` elements, each of which begins with its size in 4 bytes, little endian."""
    images, position = [], 0
    for _ in range(count):
        start = position + 4
        position = start + int.from_bytes(binary[position:start], "little")
        images.append(bytes(binary[start:position]))
    if position != len(binary):
        raise BadRequest(f"the bytes of '{IMAGE}' aren't {count} elements, each after its size in 4 bytes")
    return images


def _outputs(outputs: Any, binary: bool) -> dict[str, bool]:
    if outputs is None:
        return {}
    if not (isinstance(outputs, list) and all(isinstance(each, dict) for each in outputs)):
        raise BadRequest("'outputs' must be a list of objects")
    names: dict[str, bool] = {}
    for each in outputs:
        if not isinstance(each.get("name"), str):
            raise BadRequest("each of 'outputs' must have a 'name'")
        names[each["name"]] = _parameters(each).get("binary_data", binary) is True
    return names
