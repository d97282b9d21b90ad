"""A set of twelve drawn pictures in Oxford's layout, and a server that answers as the tests tell it."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
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


class Server:
    """Answers path by path: `pages[path] = (status, headers, body)`; `asked` lists the paths in order."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                status, headers, body = server.pages.get(self.path, (404, {}, b"no such file"))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Serve a body; returns its URL."""
        self.pages[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
        return self.url + path


@pytest.fixture
def flowers(tmp_path: Path) -> Flowers:
    return Flowers(tmp_path / "source")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


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
