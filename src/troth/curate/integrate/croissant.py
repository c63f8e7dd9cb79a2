"""croissant.json: the curated documents as machines read of them (Croissant 1.0, MLCommons 2024)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from troth.curate.document import Document
from troth.curate.integrate.figures import Figures, document_files
from troth.curate.rows import schema

_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean"}
_ABOUT = {
    "source": "Path or URI of the document, with #n for the n-th record of a file",
    "collection": "The group whose training weight the document shares",
    "text": "The curated text", "title": "Title", "publisher": "Who published it",
    "published": "ISO date of publication", "retrieved": "ISO date of retrieval",
    "licence": "Licence, as far as it is known", "encoding": "What the bytes were decoded from",
    "language": "ISO 639-1 code, or the name of a programming language",
    "kind": "prose, code, facts or table", "ancestors": "Generations of models that had a hand in the text",
    "derived_from": "The hash of the document that this one rephrases",
    "weight": "How often training reads it next to the others of its collection",
}  # fmt: skip


def write_croissant(out: Path, figures: Figures, name: str, published: str, generation: int) -> Path:
    """Write `OUT/croissant.json` about `OUT/documents`; `published` is the ISO date of the run.

    Files are named with their SHA-256, fields with their types.
    """
    files = document_files(out)
    licences = sorted(name for name in figures.by["licence"] if name)
    about = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": (
            f"{figures.total.documents:,} documents, curated by Troth as generation {generation}: every drop and every "
            "correction is explained in its ledger."
        ),
        "license": licences or ["unknown"],
        "url": out.resolve().as_uri(),
        "version": f"{generation}.0.0",
        "datePublished": published,
        "creator": {"@type": "sc:Organization", "name": "troth curate"},
        "citeAs": f"{name}, generation {generation}, curated by Troth, {published[:4]}",
        "inLanguage": sorted(name for name in figures.by["language"] if name),
        "distribution": [
            *(_file(file, out) for file in files),
            {
                "@type": "cr:FileSet", "@id": "parquet", "name": "parquet", "includes": "documents/*.parquet",
                "encodingFormat": "application/x-parquet", "description": "All curated documents",
            },
        ],
        "recordSet": [{
            "@type": "cr:RecordSet", "@id": "documents", "name": "documents", "description": "One record a document",
            "field": [_field(field) for field in schema(Document) if field.name in pq.read_schema(files[0]).names],
        }],
    }  # fmt: skip
    path = out / "croissant.json"
    path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _file(file: Path, out: Path) -> dict[str, Any]:
    place = file.relative_to(out).as_posix()
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject", "@id": place, "name": file.name, "contentUrl": place, "sha256": digest,
        "contentSize": f"{file.stat().st_size} B", "encodingFormat": "application/x-parquet",
    }  # fmt: skip


def _field(field: Any) -> dict[str, Any]:
    repeated = pa.types.is_list(field.type)
    return {
        "@type": "cr:Field", "@id": f"documents/{field.name}", "name": field.name,
        "description": _ABOUT[field.name], "dataType": _TYPES[field.type.value_type if repeated else field.type],
        **({"repeated": True} if repeated else {}),
        "source": {"fileSet": {"@id": "parquet"}, "extract": {"column": field.name}},
    }  # fmt: skip
