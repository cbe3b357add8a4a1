"""Looks into a wheel and a source distribution: ``check_distributions.py SOURCE WHEEL SDIST``."""

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "sm_multilevel"
# What a source distribution needs beside the package, so that it can be built, tested and read.
WITH_SOURCE = ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.cfg", "PKG-INFO")


def main(source: str, wheel: str, sdist: str) -> None:
    """Exit with a message where something is missing or too much."""
    root = Path(source)
    ours = {str(p.relative_to(root)) for p in (root / PACKAGE).rglob("*") if p.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    data = [name for name in ours if not name.endswith(".py")]
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    info = {name for name in found if ".dist-info/" in name}
    _same(wheel, found - info, ours)
    if not any(name.endswith("LICENSE") for name in info):
        sys.exit(f"{wheel} has no licence.")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    missing = sorted((ours | set(WITH_SOURCE)) - names)
    if missing:
        sys.exit(f"{sdist} lacks {', '.join(missing)}.")
    if not any(name.startswith("tests/") for name in names):
        sys.exit(f"{sdist} has no tests.")
    print(f"{len(ours)} files in the wheel, {len(data)} of them data; {len(names)} in the source distribution")


def _same(wheel: str, found: set[str], ours: set[str]) -> None:
    for what, names in (("lacks", ours - found), ("should not have", found - ours)):
        if names:
            sys.exit(f"{wheel} {what} {', '.join(sorted(names))}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
