"""Values of the wrong kind in the description of a model are refused with one line."""

import re
from typing import Any

import pytest

from ml.model.errors import BundleError
from ml.model.manifest import MAX_CLASSES, Manifest
from tests.conftest import manifest


def nested(depth: int, value: Any = 1) -> Any:
    for _ in range(depth):
        value = {"deeper": [value]}
    return value


KINDS: dict[str, Any] = {
    "null": None, "true": True, "zero": 0, "negative": -1, "huge integer": 10**400, "fraction": 0.5,
    "tiny": 1e-320, "NaN": float("nan"), "infinite": float("inf"), "empty text": "", "text": "text",
    "long text": "x" * 100_000, "surrogate": "\ud800", "control": "a\nb\x1b[2J", "number as text": "1",
    "empty list": [], "list": [1, 2, 3], "texts": ["a", "b"], "surrogates": ["a", "\udfff"],
    "control list": ["a", "b\r\nc"], "mixed list": ["a", None], "nested list": [["a"], ["b"]],
    "many": [f"class {number}" for number in range(MAX_CLASSES + 1)], "long names": ["a" * 5000, "b"],
    "huge list": [10**400] * 3, "true list": [True] * 3, "empty object": {}, "object": {"a": 1},
    "object of text": {"a": "b"}, "object of null": {"a": None}, "object of NaN": {"a": float("nan")},
    "object of objects": {"a": {"b": {"c": 1}}}, "object of huge": {"a": 10**400}, "deep": nested(300),
    "surrogate name": {"\ud800": 1}, "control name": {"a\x00b": 1},
    "wide": {str(number): number for number in range(20_000)},
    "surrogate value": {"a": "\ud800"}, "bad bound": {"confidence": {"x": 0.5}},
    "bound NaN": {"confidence": {"nan": 0.5}}, "label surrogate": {"labels": {"\udc00": 0.5}},
    "method only": {"method": "concepts"}, "bad method": {"method": [], "threshold": 0.5},
    "threshold text": {"method": "concepts", "threshold": "0.5"},
    "threshold true": {"method": "concepts", "threshold": True},
    "threshold NaN": {"method": "concepts", "threshold": float("nan")},
}  # fmt: skip


def outcome(changed: dict[str, Any]) -> Manifest | str:
    """The description, or why it is refused."""
    try:
        return Manifest.from_dict(changed)
    except BundleError as error:
        return str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_of_each_kind_is_refused_with_one_line_or_kept(kind: str) -> None:
    for field in manifest():
        result = outcome(manifest(**{field: KINDS[kind]}))
        if isinstance(result, str):
            assert field in result
            assert re.fullmatch(r"[ -~]{1,400}", result), ascii(result)
        else:
            assert Manifest.from_dict(result.to_dict()) == result


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("classes", "surrogates"), ("classes", "control list"), ("classes", "many"),
        ("classes", "long names"), ("version", "surrogate"), ("version", "long text"),
        ("created", "control"), ("metrics", "object of text"),
        ("metrics", "object of null"), ("metrics", "object of NaN"), ("metrics", "surrogate name"),
        ("format", "true"), ("mean", "huge list"), ("mean", "true list"), ("image_size", "huge integer"),
        ("parameters_changed", "deep"), ("parameters_changed", "surrogate value"),
        ("known", "threshold true"),
        ("shortfalls", "text"), ("shortfalls", "control list"), ("shortfalls", "many"),
        ("shortfalls", "mixed list"),
        ("parameters_changed", "object of NaN"), ("reference", "bad bound"), ("reference", "label surrogate"),
    ],
)  # fmt: skip
def test_what_no_metric_or_json_can_hold_is_refused(field: str, kind: str) -> None:
    with pytest.raises(BundleError, match=field):
        Manifest.from_dict(manifest(**{field: KINDS[kind]}))


@pytest.mark.parametrize(
    "bound", ["1_0", " 5.0 ", "5.0\n", "\uff15.0", "\u0665", "1e400", "05.0", "+5.0", ""]
)
def test_a_bound_is_written_as_a_plain_number(bound: str) -> None:
    for good in ("5.0", "0.995", "1e-05", "4096.0", "-1.28"):
        Manifest.from_dict(manifest(reference={"confidence": {good: 0.5}}))
    with pytest.raises(BundleError, match="reference"):
        Manifest.from_dict(manifest(reference={"confidence": {bound: 0.5}}))


def test_a_value_that_refers_to_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    wide: list[Any] = [1]
    for _ in range(60):
        wide = [wide, wide]  # few objects, but 2**60 values
    for value in (loop, wide):
        with pytest.raises(BundleError, match="parameters_changed"):
            Manifest.from_dict(manifest(parameters_changed={"a": value}))


@pytest.mark.parametrize("plain", [None, [], "text", 1, float("nan")])
def test_a_description_that_is_no_object_is_refused(plain: object) -> None:
    with pytest.raises(BundleError, match="not a mapping"):
        Manifest.from_dict(plain)


def test_ordinary_names_are_accepted() -> None:
    classes = ("Ragdoll & Co.", "Бигль", "柴犬", "chien à poil", "a" * 100)
    changes = {"nested": {"list": [1, None, True, "a\nb"]}}
    described = Manifest.from_dict(manifest(classes=classes, parameters_changed=changes))
    assert described.classes == classes
    assert described.parameters_changed == changes
