"""Write docs/API.md, the reference of the HTTP API, from app/openapi.yaml."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts.common.generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "app" / "openapi.yaml"
TARGET = ROOT / "docs" / "API.md"

Node = Mapping[str, Any]


class Reference:
    """An OpenAPI document as Markdown."""

    def __init__(self, document: Node) -> None:
        """Take the document as YAML contains it, with its references."""
        self.document = document

    def text(self) -> str:
        """Return the Markdown."""
        info = self.document["info"]
        lines = [
            f"# {info['title']}: the HTTP API",
            "",
            "<!-- Generated from app/openapi.yaml by `python -m scripts.api_reference`: edit that file. -->",
            "",
            info["summary"],
            "",
            info["description"].rstrip(),
            "",
        ]
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                lines += self._operation(f"{method.upper()} {path}", operation)
        lines += ["## Types", ""]
        for name, schema in self.document["components"]["schemas"].items():
            lines += self._schema(name, schema)
        return "\n".join(lines).rstrip() + "\n"

    def _operation(self, title: str, operation: Node) -> Iterator[str]:
        yield from (f"## `{title}`", "", f"{operation['summary']}.", "")
        if "description" in operation:
            yield from (operation["description"].rstrip(), "")
        if keys := [name for one in operation.get("security", []) for name in one]:
            schemes = self.document["components"]["securitySchemes"]
            yield from (f"Key: {'; or '.join(_scheme(schemes[name]) for name in keys)}.", "")
        if parameters := [self._resolve(one) for one in operation.get("parameters", [])]:
            yield from ("| parameter | in | type | |", "| --- | --- | --- | --- |")
            for one in parameters:
                yield _row(
                    f"`{one['name']}`", one["in"], self._type(one["schema"]), _flat(one["description"])
                )
            yield ""
        if body := operation.get("requestBody"):
            yield from ("| body | type |", "| --- | --- |")
            for media, one in body["content"].items():
                yield _row(f"`{media}`", self._type(one["schema"]))
            yield ""
        yield from ("| status | body | |", "| --- | --- | --- |")
        for status, response in operation["responses"].items():
            one = self._resolve(response)
            bodies = [f"`{m}`: {self._type(c['schema'])}" for m, c in one.get("content", {}).items()]
            yield _row(status, ", ".join(bodies) or "none", _flat(one["description"]))
        yield ""

    def _schema(self, name: str, schema: Node) -> Iterator[str]:
        yield from (f"### {name}", "")
        if "description" in schema:
            yield from (_flat(schema["description"]), "")
        properties = schema.get("properties", {})
        if not properties:
            yield from (f"Type: {self._type(schema)}.", "")
            return
        yield from ("| field | type | |", "| --- | --- | --- |")
        for field, one in properties.items():
            optional = "" if field in schema.get("required", []) else "optional"
            description = _flat(one.get("description", ""))
            yield _row(
                f"`{field}`", self._type(one), "; ".join(part for part in (optional, description) if part)
            )
        yield ""
        for example in schema.get("examples", []):
            yield from ("```json", json.dumps(example, indent=2), "```", "")

    def _type(self, schema: Node) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if "oneOf" in schema:
            return " or ".join(self._type(one) for one in schema["oneOf"])
        if "const" in schema:
            return f"`{json.dumps(schema['const'])}`"
        if "enum" in schema:
            return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
        kind = schema.get("type", "any")
        if kind == "array":
            return f"list of {self._type(schema['items'])}"
        if "additionalProperties" in schema and isinstance(schema["additionalProperties"], Mapping):
            return f"object of {self._type(schema['additionalProperties'])}"
        text = " or ".join(kind) if isinstance(kind, list) else str(kind)
        if schema.get("format") == "binary":
            text = "bytes"
        if "minimum" in schema:
            text += f" from {schema['minimum']}" + (f" to {schema['maximum']}" if "maximum" in schema else "")
        return text

    def _resolve(self, node: Node) -> Node:
        if "$ref" not in node:
            return node
        target = self.document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return target


def _scheme(scheme: Node) -> str:
    how = f"`{scheme['name']}: KEY`" if scheme["type"] == "apiKey" else "`Authorization: Bearer KEY`"
    return f"{how} ({scheme['description'].rstrip('.')})" if "description" in scheme else how


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _flat(text: str) -> str:
    return " ".join(text.split())


def reference() -> str:
    """Return the document, Markdown."""
    return Reference(yaml.safe_load(SOURCE.read_text("utf-8"))).text()


if __name__ == "__main__":
    sys.exit(write_or_check(reference, TARGET, __doc__))
