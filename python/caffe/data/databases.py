"""The two kinds of database that Caffe knows, LMDB and LevelDB, behind one way of reading and one of writing.

LevelDB needs the ``plyvel`` package; where it is missing, opening a LevelDB says how to get it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import lmdb

from caffe import glog
from caffe.errors import DataError
from caffe.proto.caffe_pb2 import DataParameter

BACKENDS = {"lmdb": DataParameter.LMDB, "leveldb": DataParameter.LEVELDB}
"""What the commands' flag -backend may be."""

MAP_SIZE = 1 << 40
"""The most an LMDB can grow to, in bytes; nothing of it is taken before it is needed, but addresses."""

LEAST_MAP_SIZE = 1 << 28

LEVELDB_OPTIONS = {"block_size": 1 << 16, "write_buffer_size": 1 << 28, "max_open_files": 100}
"""Caffe's settings for LevelDB: bytes of a block, bytes gathered in memory before a file is written, open files."""


class Records(Protocol):
    """A database open for reading."""

    def __len__(self) -> int:
        """Count the records."""

    def read(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """Give keys and values in the order of the keys, from the record numbered ``start`` on."""

    def close(self) -> None:
        """Close the database; what `read` gave ends too."""


class Batch(Protocol):
    """Records on their way into a new database."""

    def put(self, key: bytes, value: bytes) -> object:
        """Add a record."""

    def commit(self) -> None:
        """Write what was put since the last commit."""


def open_database(source: str, backend: DataParameter.DB) -> Records:
    """Open a database for reading.

    Raises:
        DataError: there is no database of this kind, it is empty or locked, or it is a LevelDB and there is no plyvel.
    """
    database: Records = _Lmdb(source) if backend == DataParameter.LMDB else _LevelDb(source)
    if not len(database):
        database.close()
        raise DataError(f"{source}: the database has no records; make it again with convert_imageset")
    return database


_environments: WeakValueDictionary[tuple[int, int], lmdb.Environment] = WeakValueDictionary()
"""LMDBs that are being read, by their file's device and inode: a process may open each but once."""


class _Lmdb:
    def __init__(self, source: str) -> None:
        self._source = source
        file = Path(source, "data.mdb")
        if not file.exists():
            raise DataError(
                f"Check failed: mdb_status == 0 (2 vs. 0) No such file or directory: {source} is no LMDB "
                f"(a folder with data.mdb); {_cure(source)}"
            )
        status = file.stat()
        place = status.st_dev, status.st_ino
        try:
            environment = _environments.get(place) or lmdb.open(source, readonly=True, lock=False)
            self._transaction: Any = environment.begin()  # None once this is closed
        except lmdb.Error as problem:
            raise DataError(
                f"Check failed: mdb_status == 0 {problem}: {source} cannot be opened; where this process reads it "
                "already, close that first, else make it again with convert_imageset"
            ) from problem
        _environments[place] = environment
        self._count = environment.stat()["entries"]
        glog.info("db_lmdb.cpp:35", f"Opened lmdb {source}")
        whole = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if status.st_size < whole:  # no error: pages that were never used may be missing at the end
            glog.warning(
                "db_lmdb.cpp:35",
                f"{file} has {status.st_size} bytes, {whole} were expected: where it was cut short, reading it ends "
                "the process (Bus error); copy it anew, or make it again with convert_imageset",
            )

    def __len__(self) -> int:
        return self._count

    def read(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        try:
            cursor = self._transaction.cursor()
            cursor.first()
            for _ in range(start):
                cursor.next()
            yield from cursor.iternext()
        except lmdb.Error as problem:
            raise DataError(f"{self._source}: the LMDB cannot be read: {problem}; make it again") from problem

    def close(self) -> None:
        if self._transaction:
            self._transaction.abort()
        self._transaction = None  # the last one that is let go closes the environment


class _LevelDb:
    def __init__(self, source: str) -> None:
        self._source = source
        self._error = _plyvel(source).Error
        failed = f"Check failed: status.ok() Failed to open leveldb {source}"
        if not Path(source, "CURRENT").exists():  # LevelDB itself would leave files there
            raise DataError(
                f"{failed}: it is no LevelDB (a folder with CURRENT), which is what data_param means where it "
                f"has no backend; {_cure(source)}"
            )
        try:
            self._database = _plyvel(source).DB(source, **LEVELDB_OPTIONS)
        except self._error as problem:
            raise DataError(
                f"{failed}: {_words(problem)} (a LevelDB is written to where it is opened, and opened once at a "
                "time: an LMDB is not, see convert_imageset -backend lmdb)"
            ) from problem
        glog.info("db_leveldb.cpp:18", f"Opened leveldb {source}")
        self._count = sum(1 for _ in self._keys())

    def _keys(self) -> Iterator[bytes]:
        try:
            yield from self._database.iterator(include_value=False)
        except self._error as problem:
            raise self._unreadable(problem) from problem

    def __len__(self) -> int:
        return self._count

    def read(self, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
        first = next(islice(self._keys(), start, None), None)
        try:
            yield from self._database.iterator(start=first, verify_checksums=True)
        except self._error as problem:
            raise self._unreadable(problem) from problem

    def _unreadable(self, problem: Exception) -> DataError:
        return DataError(f"{self._source}: the LevelDB cannot be read: {_words(problem)}; make it again")

    def close(self) -> None:
        self._database.close()


def _cure(source: str) -> str:
    """Say what to do about a folder that is no database of the kind that was expected."""
    for name, file in (("LMDB", "data.mdb"), ("LEVELDB", "CURRENT")):
        if Path(source, file).exists():
            return f"it is of the other kind: write backend: {name} (of a command: -backend {name.lower()})"
    return "make it with convert_imageset"


def _plyvel(source: str) -> Any:
    try:
        import plyvel
    except ImportError as problem:
        raise DataError(
            f"{source}: LevelDB needs the plyvel package: pip install plyvel-ci (the extra leveldb); or make an "
            "LMDB with convert_imageset -backend lmdb, and write backend: LMDB"
        ) from problem
    return plyvel


def _words(problem: Exception) -> str:
    """Give a message of plyvel, which has it in bytes."""
    first = problem.args[0] if problem.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(problem)


@contextmanager
def new_database(path: str, backend: DataParameter.DB) -> Iterator[Batch]:
    """Open a new database beside ``path`` for writing; it becomes ``path`` when all went well.

    Raises:
        DataError: there is something at ``path``, its folder is missing, or the database cannot be written.
    """
    target = Path(path)
    if target.exists() or target.is_symlink():
        old = any(Path(target, file).exists() for file in ("data.mdb", "CURRENT"))
        cure = f"remove the database there (rm -r {path}) or give another name" if old else "give another name"
        raise DataError(
            f"Check failed: mkdir(source.c_str(), 0744) == 0 (-1 vs. 0) mkdir {path} failed: File exists; {cure}"
        )
    if not target.parent.is_dir():
        raise DataError(f"mkdir {path} failed: there is no folder {target.parent}; make it first")
    write = _write_lmdb if backend == DataParameter.LMDB else _write_leveldb
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with write(str(temporary), path) as batch:
            yield batch
            batch.commit()
        temporary.chmod(0o755)  # a temporary folder is closed to others
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _LmdbBatch:
    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._transaction = environment.begin(write=True)
        self.put = self._transaction.put

    def commit(self) -> None:
        self._transaction.commit()
        self._transaction = self._environment.begin(write=True)
        self.put = self._transaction.put


@contextmanager
def _write_lmdb(folder: str, name: str) -> Iterator[Batch]:
    try:
        with _lmdb_within_limits(folder) as environment:
            glog.info("db_lmdb.cpp:35", f"Opened lmdb {name}")
            yield _LmdbBatch(environment)
            environment.sync(True)
    except lmdb.Error as problem:
        raise DataError(f"cannot write the database {name}: {problem}") from problem


def _lmdb_within_limits(folder: str) -> lmdb.Environment:
    """A new LMDB with as many addresses as a limit on them (ulimit -v) leaves it."""
    size = MAP_SIZE
    while True:
        try:
            return lmdb.open(folder, map_size=size, sync=False)
        except lmdb.MemoryError:
            if size <= LEAST_MAP_SIZE:
                raise
        size //= 2


class _LevelDbBatch:
    def __init__(self, database: Any) -> None:
        self._batch = database.write_batch(sync=True)
        self.put = self._batch.put

    def commit(self) -> None:
        self._batch.write()
        self._batch.clear()


@contextmanager
def _write_leveldb(folder: str, name: str) -> Iterator[Batch]:
    plyvel = _plyvel(name)
    try:
        with plyvel.DB(folder, create_if_missing=True, **LEVELDB_OPTIONS) as database:
            glog.info("db_leveldb.cpp:18", f"Opened leveldb {name}")
            yield _LevelDbBatch(database)
    except plyvel.Error as problem:
        raise DataError(f"cannot write the database {name}: {_words(problem)}") from problem
