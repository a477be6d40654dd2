"""A page that lists the endpoints, made of nothing but itself: it loads no script, style or font."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse

router = APIRouter(include_in_schema=False)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
td { padding: .3rem .6rem; border-top: 1px solid #ddd; vertical-align: top; }
.method { font-weight: 600; }
h2 { margin-top: 2rem; text-transform: capitalize; }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd; } td { border-color: #444; } a { color: #8bf; }
}
"""


@router.get("/")
async def index(request: Request) -> JSONResponse:
    """Where to go from here."""
    links = {"docs": "/docs", "openapi": "/openapi.json", "api": "/api/v1/jobs", "status": "/status"}
    return JSONResponse({"name": "dataloader", "version": request.app.version, "links": links})


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """List the endpoints for people."""
    return HTMLResponse(render(request.app.openapi()))


def render(document: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document."""
    info = document["info"]
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    sections = "".join(_section(tag, operations) for tag in document["tags"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_prose(info['description'])}</p>"
        f'<p>Everything in detail, for programs and viewers: <a href="/openapi.json">/openapi.json</a></p>'
        f"{sections}</body></html>"
    )


def _section(tag: dict[str, str], operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    rows = "".join(
        f'<tr><td class="method">{method.upper()}</td><td><code>{escape(path)}</code></td>'
        f"<td>{_prose(operation['summary'])}<br><small>{_prose(operation['description'])}</small></td></tr>"
        for method, path, operation in operations
        if tag["name"] in operation["tags"]
    )
    return f"<h2>{escape(tag['name'])}</h2><p>{_prose(tag['description'])}</p><table>{rows}</table>"


def _prose(text: str) -> str:
    """Return Markdown of one kind, code, as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
