"""Where files are: on this machine or at an fsspec URL."""

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=64)
def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path there.

    Credentials and endpoints come from the environment, as each client has them. Where fsspec lacks its client for
    `s3`, `gs`, `abfs` or `abfss`, pyarrow's own is used. Raises ValueError naming the URL where none can be had.
    """
    from fsspec.core import url_to_fs

    try:
        found: tuple[Any, str] = url_to_fs(url)
    except ImportError as error:
        found = _by_pyarrow(url, error)
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error
    return found


def _by_pyarrow(url: str, missing: ImportError) -> tuple[Any, str]:
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    if url.partition("://")[0] not in ("s3", "gs", "abfs", "abfss"):
        raise ValueError(f"{url}: {missing}") from missing
    try:
        store, path = FileSystem.from_uri(url)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{url}: {error}") from error
    return ArrowFSWrapper(store), path
