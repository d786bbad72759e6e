"""Fetch weights into a folder, once: ``python fetch.py weights.json FOLDER``. Standard library only.

``weights.json`` is a list of ``{"path", "url", "sha256"}``. A file that is there with the right checksum
stays as it is; one with another checksum is fetched anew; what arrives with another checksum is thrown away,
and fails. A file appears under its name only when it is complete: who reads the folder meanwhile sees none by
half.
"""

from __future__ import annotations

import hashlib
import json
import sys
import urllib.request
from pathlib import Path

_PIECE = 1 << 20
_TIMEOUT_S = 60.0


def sha256_of(file: Path) -> str:
    """Return the lower-case hexadecimal SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def fetch(url: str, sha256: str, target: Path) -> None:
    """Fetch one file.

    Raises:
        OSError: it cannot be fetched or written.
        ValueError: it has another checksum.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, part.open("wb") as file:
            while piece := response.read(_PIECE):
                file.write(piece)
        if (found := sha256_of(part)) != sha256:
            raise ValueError(f"{url}: SHA-256 is {found}, not {sha256}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Fetch all; returns the exit code."""
    manifest, folder = Path(arguments[0]), Path(arguments[1]).resolve()
    for entry in json.loads(manifest.read_text("utf-8")):
        target = (folder / entry["path"]).resolve()
        if not target.is_relative_to(folder):
            print(f"{entry['path']} is outside of the folder", file=sys.stderr)
            return 1
        if target.is_file() and sha256_of(target) == entry["sha256"]:
            print(f"{entry['path']}: there already")
            continue
        try:
            fetch(entry["url"], entry["sha256"], target)
        except (OSError, ValueError) as error:
            print(f"{entry['path']}: {error}", file=sys.stderr)
            return 1
        print(f"{entry['path']}: fetched")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
