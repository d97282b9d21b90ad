"""Fetch one file of the catalogue: each place in turn, into a `.part` file that is verified, then renamed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import requests
from tqdm import tqdm

from oxford102.catalog import Asset
from oxford102.errors import ToolError
from oxford102.files import part_of, sha256

TIMEOUT = (15, 60)  # seconds: to connect, and between two pieces of the answer
NOT_THE_FILE = (b"<", b"version https://git-lfs")  # how an error page or a stand-in for the file begins


def fetch(asset: Asset, target: Path, unverified: bool = False) -> str:
    """Bring a file to `target` from the first place that has it; one already there is verified and taken.

    Returns the file's SHA-256. With `unverified` a size or hash that differs is a warning, no error.
    Raises ToolError that names each place with its reason, the hash, and where to put the file by hand.
    """
    if target.exists():
        return take(asset, target, unverified)
    target.parent.mkdir(parents=True, exist_ok=True)
    part, reasons = part_of(target), []
    for url in asset.urls:
        try:
            _save(url, asset, part)
            digest, wrong = _inspect(part, asset)
            if wrong and not unverified:
                raise ToolError(f"what it sent {wrong}")
        except (ToolError, requests.RequestException) as error:
            part.unlink(missing_ok=True)
            reasons.append(f"  {url}: {_reason(error)}")
            continue
        part.replace(target)
        _warn(target, wrong)
        print(f"{target}: fetched from {url}")
        return digest
    raise ToolError("\n".join([f"{asset.name} could not be fetched:", *reasons, _by_hand(asset, target)]))


def take(asset: Asset, path: Path, unverified: bool = False) -> str:
    """Verify a file in place and return its SHA-256; raises ToolError unless it is the asset."""
    if not path.is_file():
        raise ToolError(f"{path} is not a file, expected {asset.name}; move it out of the way")
    digest, wrong = _inspect(path, asset)
    if wrong and not unverified:
        raise ToolError(f"{path} {wrong}; put the right one in its place, or take this one with --unverified")
    _warn(path, wrong)
    print(f"{path}: already there")
    return digest


def _inspect(path: Path, asset: Asset) -> tuple[str, str]:
    """A file's SHA-256, and in words how it differs from the catalogue ("" if it does not)."""
    size, digest = path.stat().st_size, sha256(path)
    if asset.size not in (None, size):
        return digest, f"has {size:,} bytes, expected {asset.size:,}"
    if asset.sha256 not in (None, digest):
        return digest, f"has sha256 {digest}, expected {asset.sha256}"
    return digest, ""


def _warn(path: Path, wrong: str) -> None:
    if wrong:
        print(f"warning: {path} {wrong}; taken unverified", file=sys.stderr)


def _save(url: str, asset: Asset, part: Path) -> None:
    """Write what the URL answers to `part`; raises unless it answers with a file to its last byte."""
    with requests.get(url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}) as answer:
        if not answer.ok:
            raise ToolError(f"{answer.status_code} {answer.reason}")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise ToolError("it answers with an HTML page, not with the file")
        total = int(answer.headers.get("Content-Length", 0)) or asset.size
        bar = tqdm(desc=asset.name, total=total, unit="B", unit_scale=True, disable=None)
        with bar, part.open("wb") as file:
            for index, block in enumerate(answer.iter_content(1 << 20)):
                if index == 0 and block.startswith(NOT_THE_FILE):
                    raise ToolError("it answers with a page or a pointer, not with the file")
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())


def _reason(error: BaseException) -> str:
    """The first cause of an error in one line: requests wraps "connection refused" four times."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__


def _by_hand(asset: Asset, target: Path) -> str:
    facts = f" ({asset.size:,} bytes, sha256 {asset.sha256})" if asset.sha256 else ""
    return f"Put {asset.name}{facts} at {target.absolute()} by hand and run the command again."
