"""Download, check and read the files of the CIFAR data sets.

The files are pickles. Each file must match its SHA-256 before it is read, by an unpickler that
knows numpy arrays and nothing else. So a file whose checksum was put into the table by mistake
cannot run code either. Correct files are never downloaded again. The archive is checked in the
same way before it is opened, and unpacked with tarfile's `data` filter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench_core.errors import DataError

# how numpy's own pickles begin; its module's name differs between versions
_RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
# errors of a file that holds no batch
MALFORMED = (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Source:
    """Origin and checksums of a data set's files.

    title        for messages
    url, archive, archive_sum   the original archive, its file name, its SHA-256
    folder       that the archive holds and that lies in the data directory
    sums         SHA-256 of every file in it that is used
    """

    title: str
    url: str
    archive: str
    archive_sum: str
    folder: str
    sums: Mapping[str, str]

    @property
    def checksum(self) -> str:
        """One for all files, for the identity of a cell."""
        return hashlib.sha256("".join(self.sums.values()).encode()).hexdigest()[:32]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensure(source: Source, root: Path) -> None:
    """Check the files in `root`, or download them. Raises DataError with one line."""
    home = root / source.folder
    missing = [name for name in source.sums if not (home / name).is_file()]
    if missing and root.resolve().name == source.folder:
        raise DataError(
            f"--data-dir {root}: is the folder of the files; give the folder that holds it, "
            f"{root.resolve().parent}"
        )
    if missing:
        download(source, root, f"{home}: {', '.join(missing)} missing")
    for name, expected in source.sums.items():
        try:
            found = sha256(home / name)
        except OSError as error:
            raise DataError(f"{home / name}: cannot be read: {error.strerror}") from None
        if found != expected:
            raise DataError(
                f"{home / name}: corrupt: SHA-256 is {found[:12]}…, not {expected[:12]}…; it was "
                "not opened; remove the file and put the original in its place, or remove the "
                "folder to download it again"
            )


def download(source: Source, root: Path, why: str) -> None:
    """Fetch the archive and unpack the files; one line and nothing left behind where that fails."""
    from torchvision.datasets.utils import download_url

    hint = (
        f"put torchvision's {source.title} files into {root / source.folder}, or name the folder "
        f"that holds {source.folder}/ with --data-dir or BENCH_DATA_DIR"
    )
    fresh = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            download_url(source.url, temporary, source.archive)
            path = Path(temporary) / source.archive
            if sha256(path) != source.archive_sum:
                raise DataError(
                    f"{why}; the downloaded archive is not the original (SHA-256 differs); {hint}"
                )
            with tarfile.open(path) as archive:
                archive.extractall(temporary, filter="data")
            (root / source.folder).mkdir(exist_ok=True)
            for name in source.sums:
                os.replace(Path(temporary) / source.folder / name, root / source.folder / name)
    except (OSError, RuntimeError, tarfile.TarError) as error:
        with contextlib.suppress(OSError):  # the folders that we made, if nothing is in them
            for folder in fresh:
                folder.rmdir()
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise DataError(f"{why}, and the download failed ({reason}); {hint}") from None


class PlainUnpickler(pickle.Unpickler):
    """Unpickler of plain data: dictionaries, lists, strings, numbers and numpy arrays.

    It refuses every other name in a pickle.
    """

    known: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # as Python 2 wrote the originals
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}; only numpy arrays and plain data are read"
            )
        return self.known[module, name]


def read(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images (N, 3, 32, 32) uint8 and labels (N,) int64 of one batch file.

    `labels` is the key of the labels. Raises DataError.
    """
    try:
        with path.open("rb") as file:
            batch = PlainUnpickler(file, encoding="latin1").load()  # strings of Python 2
        images = np.ascontiguousarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        return images, np.array(batch[labels], dtype=np.int64)
    except MALFORMED as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a batch file of CIFAR: {reason}") from None
