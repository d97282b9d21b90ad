"""A set of twelve drawn pictures in Oxford's layout, and a server that answers as the tests tell it."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import ssl
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from oxford102.catalog import Asset, Dataset


class Flowers:
    """Twelve noise pictures of three kinds; a test spoils what it likes, then calls `write`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pixels = np.random.default_rng(5).integers(0, 256, (12, 20, 30, 3), np.uint8)  # [n, h, w, BGR]
        self.labels = [1, 2, 3] * 4
        self.splits = {"trnid": [4, 2, 9], "valid": [1, 12, 6], "tstid": [3, 5, 7, 8, 10, 11]}
        self.members = {f"jpg/image_{n + 1:05d}.jpg": self._png(n) for n in range(12)}

    def _png(self, index: int) -> bytes:
        return cv2.imencode(".png", self.pixels[index])[1].tobytes()  # lossless: the pixels are known

    def write(self) -> Dataset:
        """Write the three files; their row has the hashes of what was written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        archive = gzip.GzipFile(self.folder / "102flowers.tgz", "wb", mtime=0)  # the same bytes each time
        with archive, tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in self.members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        for name, variables in (("imagelabels.mat", {"labels": self.labels}), ("setid.mat", self.splits)):
            content = io.BytesIO()
            savemat(content, variables)
            # The first 116 bytes are a text that tells the time.
            (self.folder / name).write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + content.getvalue()[116:])
        return self.row()

    def row(self) -> Dataset:
        """The catalogue row of the files as they lie in the folder."""
        return Dataset(
            title="twelve",
            archive=self._asset("102flowers.tgz"),
            labels=self._asset("imagelabels.mat"),
            splits=self._asset("setid.mat"),
            images=12,
            class_names=("rose", "tulip", "lily"),
            sizes={"train": 3, "valid": 3, "test": 6},
        )

    def _asset(self, name: str) -> Asset:
        content = (self.folder / name).read_bytes()
        return Asset(name, (), len(content), hashlib.sha256(content).hexdigest())


Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers on loopback, path by path. `asked` lists the paths in order, `ranges` the Range of each request.

    `put` serves one answer for ever; `file` serves a file as a good server does, after some other answers.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.ranges: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.ranges.append(self.headers["Range"])
                with suppress(OSError):  # the client may leave
                    server.answers.get(self.path, server.reply(b"no such file", 404))(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = _Quiet(("127.0.0.1", 0), Handler)
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Serve one answer; returns its URL."""
        self.answers[path] = self.reply(body, status, **headers)
        return self.url + path

    def file(self, path: str, body: bytes, *first: Answer) -> str:
        """Serve a file, by ranges where they are asked for, after the answers in `first`; returns its URL."""
        queue = [*first]

        def answer(request: BaseHTTPRequestHandler) -> None:
            (queue.pop(0) if queue else self.serve(body))(request)

        self.answers[path] = answer
        return self.url + path

    @staticmethod
    def reply(body: bytes, status: int = 200, **headers: str) -> Answer:
        """The same answer, whatever is asked for."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in {"Content-Length": str(len(body)), **given}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)

        return answer

    @staticmethod
    def serve(body: bytes, cut: int | None = None) -> Answer:
        """A file, from where it is asked for; the connection is cut after so many bytes."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", request.headers["Range"] or "")
            start, status, headers = int(asked[1]) if asked else 0, 200, {"Content-Length": str(len(body))}
            if asked:
                status, headers["Content-Length"] = 206, str(len(body) - start)
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            Server.reply(body[start:][:cut], status, **headers)(request)

        return answer

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that breaks off is what the tests are about


@pytest.fixture
def flowers(tmp_path: Path) -> Flowers:
    return Flowers(tmp_path / "source")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own; it need not be used."""
    monkeypatch.setenv("OXFORD102_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def convert_imageset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime's convert_imageset as a command beside this Python, whether it is installed or not."""
    tool = tmp_path / "bin" / "convert_imageset"
    tool.parent.mkdir()
    code = "import sys\nfrom caffe.tools.convert_imageset import main\nsys.exit(main(sys.argv[1:]))\n"
    tool.write_text(f"#!{sys.executable}\n{code}")
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tool.with_name("python")))
    return tool
