"""The pages that Troth ships."""

from importlib.resources import files
from pathlib import Path


def library_pages() -> Path:
    """Folder of the shipped pages. Raises ValueError where this installation carries none."""
    pages = Path(str(files("troth").joinpath("library", "pages")))
    if not pages.is_dir():
        raise ValueError("library: this installation of Troth carries no pages; give a path in data.sources instead")
    return pages
