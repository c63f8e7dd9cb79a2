"""GET /: a page to chat with the model, one file without anything from elsewhere."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

# The page runs its own script and talks to this server; whatever a model writes can load and send nothing.
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def page_router() -> APIRouter:
    """The chat page; it finds the model and everything else by the API."""
    router = APIRouter()
    page = files("troth.serve.api").joinpath("templates/chat.html").read_text(encoding="utf-8")

    @router.get("/", include_in_schema=False)
    async def chat() -> HTMLResponse:
        return HTMLResponse(page, headers=_HEADERS)

    return router
