"""Tell which installed distribution brought the file of a module.

A distribution claims a file, from the strongest claim to the weakest:

    LISTED    its RECORD lists the file with the hash that the file has
    SAME      its RECORD lists the file, which has changed since; or it has no RECORD, lies in the
              same folder, and an entry point of it names the module
    EDITABLE  it is an editable installation of a folder that holds the file
    BESIDE    it has no RECORD and lies in the same folder

A file that no distribution claims (a checkout on the import path) belongs to whoever imports it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bench_core.names import FILE, OURS
from bench_core.registry.distributions import normalised
from bench_core.registry.modules import contents, place
from bench_core.results.hashing import digest, digest_bytes

LISTED, SAME, EDITABLE, BESIDE, NONE = 4, 3, 2, 1, 0
Claim = tuple[int, int]  # strength; of editable installations the deeper folder is the stronger


@dataclass(frozen=True)
class Installation:
    """An installed distribution.

    home      the folder that its files stand in
    record    its RECORD; "" if it has none
    editable  the folder that it is an editable installation of; "" if it is none
    """

    name: str
    version: str
    home: str
    record: str
    editable: str
    metadata: metadata.Distribution

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def names(self, module: str) -> bool:
        """Test whether an entry point names a module or a package of it."""
        modules = [point.value.partition(":")[0].strip() for point in self.metadata.entry_points]
        return any(f"{module}.".startswith(f"{each}.") for each in modules)

    def listed(self, file: str) -> str | None:
        """Return the hash in RECORD of a file, relative to `home`; None if it is not listed."""
        if file not in self.record:
            return None
        line = re.search(rf'^"?{re.escape(file)}"?,([^,\n]*),', self.record, re.MULTILINE)
        return line[1] if line else None

    def claim(self, module: str, path: Path) -> Claim:
        """Return how well this distribution can claim the file of a module."""
        file = _inside(path, self.home)
        if file is not None and self.record:
            if (stated := self.listed(file)) is not None:
                return (LISTED if stated == _hash(module, path, stated) else SAME), 0
        elif file is not None and file in _files_of(module):
            return (SAME if self.names(module) else BESIDE), 0
        if self.editable and file is None and _inside(path, self.editable) is not None:
            return EDITABLE, len(self.editable)
        return NONE, 0

    def has_another(self, module: str, path: Path) -> bool:
        """Test whether it brought a module of this name that stands elsewhere."""
        files = [f for f in _files_of(module) if self.listed(f) is not None or not self.record]
        places = [Path(self.home, file) for file in files]
        others = [other for other in places if other.is_file()]
        return any(not path.is_file() or not other.samefile(path) for other in others)

    def modules(self) -> Iterator[tuple[str, Path]]:
        """Yield the name and the file of each module in its RECORD."""
        files = re.findall(r'^"?([^".,\n][^",\n]*\.py)"?,', self.record, re.MULTILINE)
        for file in sorted(files):
            if (path := Path(self.home, file)).is_file():
                yield file.removesuffix(".py").removesuffix("/__init__").replace("/", "."), path

    @cached_property
    def requires(self) -> set[str]:
        """Return the names of the distributions that it needs, without those of its extras."""
        needed = [text for text in self.metadata.requires or () if "extra ==" not in text]
        return {normalised(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in needed}

    def code(self) -> str:
        """Compute the digest of its version and of its Python files."""
        sums = {name: digest_bytes(path.read_bytes()) for name, path in self.modules()}
        return digest([self.version, sums])


def installations() -> list[Installation]:
    """Return the distributions on the import path; of equal names the first, as for imports."""
    with contextlib.suppress(OSError):
        times = [os.stat(entry).st_mtime_ns for entry in sys.path if os.path.isdir(entry)]
        return _installations((*sys.path, *times))
    return _installations.__wrapped__(())


@lru_cache(maxsize=1)
def _installations(_path: tuple[object, ...]) -> list[Installation]:
    listed: dict[tuple[str, str], Installation] = {}
    for each in metadata.distributions():
        with contextlib.suppress(Exception):  # unreadable metadata: `entry_points` reports them
            about = each.read_text("METADATA") or each.read_text("PKG-INFO") or ""
            # the parser of `metadata` takes as long as all the rest
            fields = dict(re.findall(r"^(Name|Version):[ \t]*(\S+)", about, re.MULTILINE))
            name, version = normalised(fields.get("Name", "unknown")), fields.get("Version", "0")
            home = os.path.realpath(str(each.locate_file("")))
            record, origin = (each.read_text(file) or "" for file in ("RECORD", "direct_url.json"))
            one = Installation(name, version, home, record, _editable(origin), each)
            listed.setdefault((name, home), one)
    return list(listed.values())


def _editable(direct_url: str) -> str:
    url = json.loads(direct_url) if direct_url else {}
    if not url.get("dir_info", {}).get("editable"):
        return ""
    return os.path.realpath(url2pathname(urlsplit(url["url"]).path))


def _inside(path: Path, folder: str) -> str | None:
    """Return a path relative to a folder, with slashes; None if it lies elsewhere.

    The file itself may be a link into the cache of an installer.
    """
    whole = Path(os.path.realpath(path.parent), path.name)
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else None


def _files_of(module: str) -> tuple[str, str]:
    file = module.replace(".", "/")
    return f"{file}.py", f"{file}/__init__.py"


def _hash(module: str, path: Path, stated: str) -> str:
    """Return the hash of a file in the form that RECORD states: `sha256=…`."""
    algorithm = stated.partition("=")[0]
    if algorithm not in hashlib.algorithms_guaranteed:
        return ""
    value = hashlib.new(algorithm, contents(module, path)).digest()
    return f"{algorithm}={urlsafe_b64encode(value).decode().rstrip('=')}"


def stranger(module: str, distribution: str) -> str | None:
    """Say that the file of a module is another distribution's and not that of `distribution`.

    None: it is its own, or no other distribution claims it as well, or a user named the file.
    """
    path = None if distribution == OURS or distribution.endswith(FILE) else place(module)
    if path is None:
        return None
    own = [each for each in installations() if each.name == distribution]
    claim = max((each.claim(module, path) for each in own), default=(NONE, 0))
    others = [(each.claim(module, path), each) for each in _others(own)]
    best, other = max(others, key=lambda pair: pair[0], default=((NONE, 0), None))
    proven = best[0] > BESIDE or any(each.has_another(module, path) for each in own)
    if other is None or best[0] == NONE or best < claim or not proven:
        return None
    if best == claim and claim[0] != SAME:
        return None
    remedy = f"uninstall {distribution} or {other.name}, or give their modules different names"
    return f"the module {module}, {path}, belongs to {other}: {remedy}"


def misplaced(module: str, distribution: str) -> str | None:
    """Say that a distribution brought a module of this name, but another one's is imported."""
    own = [each for each in installations() if each.name == distribution and each.record]
    listed = any(each.listed(file) is not None for each in own for file in _files_of(module))
    return stranger(module, distribution) if listed else None


def _others(own: list[Installation]) -> list[Installation]:
    """Return the other distributions, without metadata that a build left in an editable folder."""
    names, folders = {each.name for each in own}, [each.editable for each in own if each.editable]
    return [
        each
        for each in installations()
        if each.name not in names
        and (each.record or not any(Path(each.home).is_relative_to(folder) for folder in folders))
    ]


def installer(path: Path) -> Installation | None:
    """Return the distribution whose RECORD lists a file; None if there is none.

    The files of an editable installation are not listed.
    """
    for each in installations() if path.is_file() else ():
        file = _inside(path, each.home)
        if file is not None and each.listed(file) is not None:
            return each
    return None
