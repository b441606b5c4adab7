"""What is installed for a gateway: packages that somebody has to trust and keep up to date, and their size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.gateway.gateways import PEERS, ROOT, Portkey
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS: Final = "leeward[gateway]"
INSTALLERS: Final = {"pip", "setuptools"}


class Installed(NamedTuple):
    """How many packages, how large in all, and the version of the first."""

    packages: int
    mib: float
    version: str


def installed(name: str) -> Installed | None:
    """What a gateway brings; None if it is not installed."""
    if name == "portkey":
        return _of_node(Portkey.home / "node_modules")
    if name not in PEERS:
        found = list(_needed(Requirement(OURS)))
        return Installed(len(found), _mib(found), distribution("leeward").version)
    folder = ROOT / f".venv-gw-{name}"
    there = distributions(path=list(map(str, folder.glob("lib/python*/site-packages"))))
    found = [package for package in there if canonicalize_name(package.name) not in INSTALLERS]
    version = next((each.version for each in found if canonicalize_name(each.name) == PEERS[name].distribution), "")
    return Installed(len(found), _mib(found), version) if version else None


def _needed(wanted: Requirement) -> Iterator[Distribution]:
    """A package and all that it asks for, here; each once."""
    ends, seen = [(wanted.name, frozenset(wanted.extras))], set()
    while ends:
        name, extras = ends.pop()
        new = name not in {package for package, _ in seen}
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        if new:
            yield package
        for requirement in map(Requirement, package.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                ends.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))


def _mib(packages: Iterable[Distribution]) -> float:
    files = {Path(package.locate_file(file)) for package in packages for file in package.files or ()}
    return sum(file.lstat().st_size for file in files if file.is_file()) / (1 << 20)


def _of_node(modules: Path) -> Installed | None:
    lock = modules / ".package-lock.json"
    if not lock.exists():
        return None
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    size = sum(file.lstat().st_size for file in modules.rglob("*") if file.is_file())
    return Installed(len(packages), size / (1 << 20), packages[f"node_modules/{Portkey.distribution}"]["version"])
