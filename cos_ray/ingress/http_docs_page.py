"""The OpenAPI document as a page to read: no script, nothing from elsewhere, no internet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0550ae, #79b8ff) }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem }
code, pre { font: 0.9em ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: var(--soft); overflow-x: auto; padding: .6rem }
a { color: var(--link) }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem .8rem }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.5rem }
summary span { opacity: .75 }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0 }
th, td { text-align: left; vertical-align: top }
.asks { border: 1px solid var(--line); border-radius: 4px; font-size: .8em; padding: 0 .4em }
"""

Document = Mapping[str, Any]


def docs_page(document: Document) -> HTMLResponse:
    """The page."""
    return HTMLResponse("\n".join(_page(document)), headers={"content-security-policy": _POLICY})


def _page(document: Document) -> Iterator[str]:
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    yield f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>"
    yield '<meta name=viewport content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
    yield f"<p>{escape(document['info']['description'])} For programs: "
    yield '<a href="openapi.json">openapi.json</a>.</p>'
    for name, scheme in document.get("components", {}).get("securitySchemes", {}).items():
        yield f"<h2 id=tokens>Tokens</h2><p><b>{escape(name)}</b>: {escape(scheme['description'])}, "
        yield "in the header <code>authorization: Bearer &lt;token&gt;</code>. What needs one is marked.</p>"
    for tag, operations in _by_tag(document).items():
        yield f"<h2>{escape(tag)}</h2>"
        for path, method, operation in operations:
            yield from _operation(path, method, operation)
    yield "<h2>schemas</h2>"
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        if schema.get("type") == "object":
            yield f'<details open id="{escape(name)}"><summary><b>{escape(name)}</b> '
            yield f"<span>{escape(schema.get('description', ''))}</span></summary>"
            yield from _fields(schema)
            yield "</details>"
    yield "</body></html>"


def _by_tag(document: Document) -> dict[str, list[tuple[str, str, Document]]]:
    found: dict[str, list[tuple[str, str, Document]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            found.setdefault(operation["tags"][0], []).append((path, method, operation))
    return found


def _operation(path: str, method: str, operation: Document) -> Iterator[str]:
    mark = " <span class=asks>token</span>" if "security" in operation else ""
    yield f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code>{mark} "
    yield f"<span>{escape(operation.get('description', ''))}</span></summary>"
    parameters = operation.get("parameters", ())
    if parameters:
        rows = [
            (each["name"], each["in"], each["schema"], each.get("description", "")) for each in parameters
        ]
        yield from _table(("parameter", "in", "type", ""), rows)
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        yield f"<h4>Body: {escape(kind)}</h4>"
        yield from _fields(content["schema"])
    for status, response in operation["responses"].items():
        yield f"<h4>{escape(status)}: {escape(response['description'])}</h4>"
        for kind, content in response.get("content", {}).items():
            yield f"<p>{escape(kind)}: {_type(content['schema'])}</p>"
        headers = response.get("headers", {})
        if headers:
            rows = [(name, "header", each["schema"], each["description"]) for name, each in headers.items()]
            yield from _table(("header", "in", "type", ""), rows)
    yield "</details>"


def _fields(schema: Document) -> Iterator[str]:
    required = schema.get("required", ())
    rows = [
        (name, "required" if name in required else "", field, field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    yield from _table(("field", "", "type", ""), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, str, Document, str]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{each}' for each in head)}"
    for name, place, schema, description in rows:
        yield f"<tr><td><code>{escape(name)}</code><td>{escape(place)}<td>{_type(schema)}"
        yield f"<td>{escape(description)}"
    yield "</table>"


def _type(schema: Document) -> str:
    """In HTML, in one line."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return escape(str(schema.get("type", "any")))
