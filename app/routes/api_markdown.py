"""The reference of the HTTP API in Markdown, made from its OpenAPI document."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

Node = Mapping[str, Any]


def reference(document: Node) -> str:
    """Return the reference for an OpenAPI document, Markdown."""
    return "\n".join(_lines(document)).rstrip() + "\n"


def row(*cells: str) -> str:
    """Return a row of a Markdown table, without the end of the line."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _lines(document: Node) -> Iterator[str]:
    info = document["info"]
    yield from (f"# {info['title']}: the HTTP API", "", info["summary"], "", info["description"].rstrip(), "")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from (f"## `{method.upper()} {path}`", "", f"{operation['summary']}.", "")
            yield from _operation(document, operation)
    yield from ("## Types", "")
    for name, schema in document["components"]["schemas"].items():
        yield from (f"### {name}", "")
        yield from _schema(schema)


def _operation(document: Node, operation: Node) -> Iterator[str]:
    if "description" in operation:
        yield from (operation["description"].rstrip(), "")
    if keys := [name for one in operation.get("security", []) for name in one]:
        schemes = document["components"]["securitySchemes"]
        yield from (f"Key: {'; or '.join(_scheme(schemes[name]) for name in keys)}.", "")
    if parameters := [_resolve(document, one) for one in operation.get("parameters", [])]:
        yield from ("| parameter | in | type | |", "| --- | --- | --- | --- |")
        for one in parameters:
            yield row(f"`{one['name']}`", one["in"], _type(one["schema"]), _flat(one["description"]))
        yield ""
    if body := operation.get("requestBody"):
        yield from ("| body | type |", "| --- | --- |")
        for media, one in body["content"].items():
            yield row(f"`{media}`", _type(one["schema"]))
        yield ""
    yield from ("| status | body | |", "| --- | --- | --- |")
    for status, response in operation["responses"].items():
        one = _resolve(document, response)
        bodies = [f"`{media}`: {_type(body['schema'])}" for media, body in one.get("content", {}).items()]
        yield row(status, ", ".join(bodies) or "none", _flat(one["description"]))
    yield ""


def _schema(schema: Node) -> Iterator[str]:
    if "description" in schema:
        yield from (_flat(schema["description"]), "")
    if not schema.get("properties"):
        yield from (f"Type: {_type(schema)}.", "")
        return
    yield from ("| field | type | |", "| --- | --- | --- |")
    for field, one in schema["properties"].items():
        optional = "" if field in schema.get("required", []) else "optional"
        about = "; ".join(filter(None, (optional, _flat(one.get("description", "")))))
        yield row(f"`{field}`", _type(one), about)
    yield ""
    for example in schema.get("examples", []):
        yield from ("```json", json.dumps(example, indent=2), "```", "")


def _type(schema: Node) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "oneOf" in schema:
        return " or ".join(_type(one) for one in schema["oneOf"])
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return " or ".join(f"`{json.dumps(one)}`" for one in values)
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    if schema.get("format") == "binary":
        return "bytes"
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "minimum" in schema:
        text += f" from {schema['minimum']}" + (f" to {schema['maximum']}" if "maximum" in schema else "")
    return text


def _resolve(document: Node, node: Node) -> Node:
    """Return what a reference names; other nodes as they are."""
    if "$ref" not in node:
        return node
    target = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def _scheme(scheme: Node) -> str:
    how = f"`{scheme['name']}: KEY`" if scheme["type"] == "apiKey" else "`Authorization: Bearer KEY`"
    return f"{how} ({scheme['description'].rstrip('.')})" if "description" in scheme else how


def _flat(text: str) -> str:
    return " ".join(text.split())
