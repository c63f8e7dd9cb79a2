"""As much of object stores as reading takes, served on this machine: S3's buckets and Azure's containers."""

from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

FILES = {"a.txt": b"A page that says one thing.", "b/c.jsonl": b'{"text": "One."}\n{"text": "Two."}\n'}
"""What is in the bucket or container `corpus`."""
_WRITTEN = "Wed, 01 May 2024 10:00:00 GMT"


class Objects(BaseHTTPRequestHandler):
    """Answers with the bodies, ranges and headers that both have."""

    def log_message(self, *about):
        pass

    def answer(self, status: int, body: bytes = b"", kind="application/xml", **headers) -> None:
        self.send_response(status)
        about = {"Content-Type": kind, "Content-Length": len(body), "ETag": '"abc"', "Last-Modified": _WRITTEN}
        for name, value in {**about, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def give(self, data: bytes, asked: str | None, **headers) -> None:
        """All of a file, or the range of it that is asked for."""
        if not asked or self.command == "HEAD":
            self.answer(200, data, "text/plain", **headers)
            return
        start, _, end = asked.removeprefix("bytes=").partition("-")
        piece = data[int(start) : int(end) + 1]
        where = f"bytes {start}-{int(start) + len(piece) - 1}/{len(data)}"
        self.answer(206, piece, "text/plain", Content_Range=where, **headers)

    def do_HEAD(self) -> None:
        self.do_GET()

    def asked(self) -> tuple[str, dict[str, str]]:
        """The path and what stands behind it."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        return unquote(url.path), query


def below(prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The files and the folders below a prefix."""
    found = [name for name in FILES if name.startswith(prefix)]
    deeper = {name for name in found if delimiter and delimiter in name[len(prefix) :]}
    folders = {name[: name.index(delimiter, len(prefix)) + 1] for name in deeper}
    return [name for name in found if name not in deeper], sorted(folders)


class Bucket(Objects):
    """S3: listing, heads and ranges."""

    def do_GET(self) -> None:
        path, query = self.asked()
        _, bucket, *key = path.split("/", 2)
        name = key[0] if key else ""
        if bucket != "corpus" or (name and name not in FILES):
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif name:
            self.give(FILES[name], self.headers.get("Range"))
        else:
            self.answer(200, self.listing(*below(query.get("prefix", ""), query.get("delimiter", ""))))

    def listing(self, files: list[str], folders: list[str]) -> bytes:
        entries = "".join(
            f"<Contents><Key>{name}</Key><Size>{len(FILES[name])}</Size><ETag>abc</ETag>"
            "<LastModified>2024-05-01T10:00:00.000Z</LastModified></Contents>"
            for name in files
        )
        common = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}{common}</ListBucketResult>".encode()


class Container(Objects):
    """Azure Blob without a hierarchical namespace: the container, listing, heads and ranges."""

    def do_GET(self) -> None:
        path, query = self.asked()
        name = path.split("/", 3)[3] if path.count("/") > 2 else ""
        if query.get("comp") == "list":
            self.answer(200, self.listing(*below(query.get("prefix", ""), query.get("delimiter", ""))))
        elif query.get("restype") == "container":
            self.answer(
                200, x_ms_lease_status="unlocked", x_ms_lease_state="available", x_ms_has_immutability_policy="false",
                x_ms_has_legal_hold="false", x_ms_default_encryption_scope="$account-encryption-key",
                x_ms_deny_encryption_scope_override="false", x_ms_immutable_storage_with_versioning_enabled="false",
            )  # fmt: skip
        elif query.get("action"):
            self.answer(400, kind="text/plain", x_ms_error_code="HierarchicalNamespaceNotEnabled")
        elif name in FILES:
            self.give(
                FILES[name], self.headers.get("x-ms-range"), x_ms_blob_type="BlockBlob",
                x_ms_creation_time=_WRITTEN, x_ms_server_encrypted="false",
            )  # fmt: skip
        else:
            self.answer(404, kind="text/plain", x_ms_error_code="BlobNotFound")

    def listing(self, files: list[str], folders: list[str]) -> bytes:
        entries = "".join(
            f"<Blob><Name>{name}</Name><Properties><Creation-Time>{_WRITTEN}</Creation-Time><Last-Modified>{_WRITTEN}"
            f"</Last-Modified><Etag>abc</Etag><Content-Length>{len(FILES[name])}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name in files
        )
        common = "".join(f"<BlobPrefix><Name>{folder}</Name></BlobPrefix>" for folder in folders)
        return f"<EnumerationResults><Blobs>{entries}{common}</Blobs><NextMarker/></EnumerationResults>".encode()
