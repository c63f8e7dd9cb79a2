"""Lets pages of other sites ask from within a browser, and read what they are told (CORS)."""

from collections.abc import Sequence

from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp


class Origins(CORSMiddleware):
    """ASGI middleware: pages of `origins` ("*": all) may ask, and other sites' may not."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]):
        told = ("x-request-id", "retry-after")
        super().__init__(app, allow_origins=origins, allow_methods="*", allow_headers="*", expose_headers=told)
