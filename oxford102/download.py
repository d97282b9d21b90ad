"""Bring files of the catalogue to their places: what is there is verified, what is not is fetched into the cache.

A file is downloaded to a `.part` in the cache folder, verified, renamed, then linked to where it is wanted. So an
interrupted download goes on where it stopped, all checkouts share one copy, and no wrong file bears a final name.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import urlsplit

from tqdm import tqdm

from oxford102.cache import Need, cache_folder, locked, place
from oxford102.catalog import Asset
from oxford102.errors import ToolError
from oxford102.files import part_of, sha256
from oxford102.transfer import Patience, RefusedError, Transfer

PARALLEL = 4  # files at once
BY_HAND = (
    "Put each file at its place by hand and run the command again; --mirror URL asks another place first.\n"
    "Behind a proxy, set https_proxy and http_proxy."
)


@dataclass(frozen=True)
class Want:
    """A file of the catalogue, and where it shall be."""

    asset: Asset
    target: Path


@dataclass(frozen=True)
class Ways:
    """How files are brought: `mirror` is the base of URLs to ask first, `offline` asks nobody, and with
    `unverified` a size or hash that differs is a warning, no error; such a file never enters the cache."""

    mirror: str | None = None
    offline: bool = False
    unverified: bool = False
    cache: Path = field(default_factory=cache_folder)
    patience: Patience = field(default_factory=Patience)

    def urls(self, asset: Asset) -> tuple[str, ...]:
        """The places that have a file, in the order in which they are asked."""
        first = (f"{self.mirror.rstrip('/')}/{asset.name}",) if self.mirror else ()
        return first + asset.urls


class Tell(Protocol):
    """Prints a line, as `print` does."""

    def __call__(self, text: str, /, *, file: TextIO | None = None) -> None:
        """Print to `file`, None for the standard output."""


class UnfetchedError(ToolError):
    """No place has the file; the message names each with its reason, the hash, and the path to put it by hand."""


def fetch_all(wants: Sequence[Want], ways: Ways) -> dict[Want, str | ToolError]:
    """Bring files to their places, some at a time under one progress display; returns their SHA-256, or why not."""
    show, slots, wants = _Show(), threading.BoundedSemaphore(PARALLEL), list(dict.fromkeys(wants))

    def work(want: Want) -> None:
        with slots:
            try:
                show.done(want, _bring(want, ways, show))
            except Exception as error:  # handed to the thread that waits
                show.done(want, error)

    try:
        for want in wants:
            # Daemons: after Ctrl-C nobody waits for an answer that may take its time.
            threading.Thread(target=work, args=(want,), daemon=True).start()
        return show.until_done(wants)
    finally:
        show.stop.set()


def summary(errors: Iterable[ToolError]) -> str:
    """All that went wrong in one message."""
    errors = list(errors)
    unfetched = [str(error) for error in errors if isinstance(error, UnfetchedError)]
    lines = [str(error) for error in errors if not isinstance(error, UnfetchedError)]
    if unfetched:
        count = "1 file is" if len(unfetched) == 1 else f"{len(unfetched)} files are"
        lines += [f"{count} missing:", *unfetched, BY_HAND]
    return "\n".join(lines)


def take(asset: Asset, path: Path, unverified: bool = False, tell: Tell = print) -> str:
    """Verify a file in place and return its SHA-256; raises ToolError unless it is the asset."""
    if not path.is_file():
        raise ToolError(f"{path} is not a file, expected {asset.name}; move it out of the way")
    digest, wrong = _inspect(path, asset)
    if wrong and not unverified:
        raise ToolError(f"{path} {wrong}; put the right one in its place, or take this one with --unverified")
    _warn(path, wrong, tell)
    tell(f"{path}: already there")
    return digest


def room_for(wants: Iterable[Want], ways: Ways) -> list[Need]:
    """The room that the files take which are not here yet."""
    needs = []
    for want in wants:
        stored = ways.cache / want.asset.name
        if not (want.target.exists() or stored.exists() or ways.offline or ways.unverified):
            part = part_of(stored)
            here = part.stat().st_size if part.exists() else 0
            needs.append(Need(want.asset.name, ways.cache, max(0, (want.asset.size or 0) - here)))
    return needs


class _Show:
    """What the working threads say and how far they are, shown by the thread that waits for them."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.sizes: dict[str, int] = {}  # bytes of the files under way, and below, how many are here
        self.here: dict[str, int] = {}
        self.outcomes: dict[Want, str | Exception] = {}
        self._events: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def tell(self, text: str, /, *, file: TextIO | None = None) -> None:
        self._events.put(partial(tqdm.write, text, file=file))

    def note(self, text: str) -> None:
        self.tell(text, file=sys.stderr)

    def done(self, want: Want, outcome: str | Exception) -> None:
        self._events.put(partial(self.outcomes.__setitem__, want, outcome))

    def until_done(self, wants: Sequence[Want]) -> dict[Want, str | ToolError]:
        """What became of the files, once all are done."""
        with tqdm(desc="fetching", total=0, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            while len(self.outcomes) < len(wants):
                with suppress(queue.Empty):
                    self._events.get(timeout=0.1)()
                bar.total = sum(self.sizes.copy().values())
                bar.update(sum(self.here.copy().values()) - bar.n)
        return {want: _expected(self.outcomes[want]) for want in wants}


def _expected(outcome: str | Exception) -> str | ToolError:
    """A hash or an error of the user's world; raises any other."""
    if isinstance(outcome, OSError):
        return ToolError(f"{outcome.filename}: {outcome.strerror}" if outcome.filename else str(outcome))
    if isinstance(outcome, str | ToolError):
        return outcome
    raise outcome


def _bring(want: Want, ways: Ways, show: _Show) -> str:
    """The SHA-256 of the file, once it is at its place."""
    asset, target = want.asset, want.target
    if target.exists():
        return take(asset, target, ways.unverified, show.tell)
    stored = ways.cache / asset.name
    lock = stored.with_name(f".{asset.name}.lock")
    with locked(lock, lambda: show.note(f"{asset.name}: another process is fetching it; waiting for that")):
        if asset.sha256 and _is_stored(asset, stored, show):
            place(stored, target)
            show.tell(f"{target}: from {stored}")
            return asset.sha256
        if ways.unverified or asset.sha256 is None:
            return _bring_unverified(want, ways, show)
        url = _download(want, part_of(stored), ways, show)
        part_of(stored).replace(stored)
        place(stored, target)
        show.tell(f"{target}: fetched from {url}")
        return asset.sha256


def _bring_unverified(want: Want, ways: Ways, show: _Show) -> str:
    """Download straight to the place, from the start: no hash would tell whether going on has gone well."""
    part = part_of(want.target)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    url = _download(want, part, ways, show)
    digest, wrong = _inspect(part, want.asset)
    part.replace(want.target)
    _warn(want.target, wrong, show.tell)
    show.tell(f"{want.target}: fetched from {url}")
    return digest


def _is_stored(asset: Asset, stored: Path, show: _Show) -> bool:
    if not stored.is_file():
        return False
    wrong = _inspect(stored, asset)[1]
    if wrong:
        show.note(f"warning: {stored} {wrong}; not used")
    return not wrong


def _download(want: Want, part: Path, ways: Ways, show: _Show) -> str:
    """Get the file into `part`; returns the URL that gave it."""
    asset, urls, reasons = want.asset, ways.urls(want.asset), []
    for index, url in enumerate(urls, 1):
        try:
            if ways.offline:
                raise RefusedError("not asked, --offline")
            _download_from(url, asset, part, ways, show)
            return url
        except RefusedError as error:
            reasons.append(f"    {url}: {error}")
            if index < len(urls) and not ways.offline:
                show.note(f"{asset.name}: {_host(url)}: {error}; asking {_host(urls[index])} next")
        except OSError as error:
            why = f"{part}: {error.strerror or error}"
            raise ToolError(f"{why}; mend that and run the command again, it goes on from there") from error
        finally:
            show.sizes.pop(asset.name, None)
            show.here.pop(asset.name, None)
    facts = f" ({asset.size:,} bytes, sha256 {asset.sha256})" if asset.sha256 else ""
    raise UnfetchedError("\n".join([f"  {asset.name}{facts}", *reasons, f"    its place: {want.target.absolute()}"]))


def _download_from(url: str, asset: Asset, part: Path, ways: Ways, show: _Show) -> None:
    """Get the file from one place, whole and right; raises RefusedError where it has another."""
    mixed = part.exists()  # begun elsewhere
    if not (mixed and part.stat().st_size == asset.size):
        size = None if ways.unverified else asset.size
        show.sizes[asset.name] = asset.size or 0

        def arrived(offset: int) -> None:
            show.here[asset.name] = offset

        Transfer(url, part, size, ways.patience, show.stop, arrived, show.note).run()
    wrong = _inspect(part, asset)[1]
    if not wrong or ways.unverified:
        return
    part.unlink()
    if not mixed:
        raise RefusedError(f"what it sent {wrong}")
    _download_from(url, asset, part, ways, show)


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _inspect(path: Path, asset: Asset) -> tuple[str, str]:
    """A file's SHA-256, and in words how it differs from the catalogue ("" if it does not)."""
    size, digest = path.stat().st_size, sha256(path)
    if asset.size not in (None, size):
        return digest, f"has {size:,} bytes, expected {asset.size:,}"
    if asset.sha256 not in (None, digest):
        return digest, f"has sha256 {digest}, expected {asset.sha256}"
    return digest, ""


def _warn(path: Path, wrong: str, tell: Tell) -> None:
    if wrong:
        tell(f"warning: {path} {wrong}; taken unverified", file=sys.stderr)
