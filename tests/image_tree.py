"""What a target of the Dockerfile holds, laid out in a folder: its files, and its packages and no others.

Packages are those of this interpreter, linked: whatever is not in a target's requirement files is not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from deploy.checks.facts import ROOT
from deploy.checks.images import Stage


@dataclass(frozen=True, slots=True)
class ImageTree:
    """A laid out image: `work` is its working directory, `packages` its site-packages."""

    stage: Stage
    work: Path
    packages: Path
    home: Path
    """The home directory, which does not exist in the image either."""

    def environment(self, **settings: str) -> dict[str, str]:
        """What a process in the image finds, with settings of the caller's on top."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(self.packages),
            "OMP_NUM_THREADS": "1",
            **{name: value for name, value in self.stage.environment.items() if name != "PATH"},
            **settings,
        }

    def command(self, *command: str) -> list[str]:
        """A command of the image, `python ...`, as it is run here: -S leaves our own packages out."""
        assert command[0] == "python"
        return [sys.executable, "-S", *command[1:]]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*command),
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def files(self) -> set[Path]:
        """Every file in it, in linked folders too."""
        return {Path(folder) / name for folder, _, names in os.walk(self.work) for name in names}


def lay_out(stage: Stage, stages: Mapping[str, Stage], folder: Path) -> ImageTree:
    """Copy what the target copies, and link what its requirement files install."""
    work, packages = folder / "text4seg", folder / "packages"
    packages.mkdir(parents=True)
    for source, target in stage.copies:
        place = work / PurePosixPath(target)
        if target.endswith("/"):
            place = place / Path(source).name
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(ROOT / source, place)
    names = set()
    for file in stage.requirements(stages):
        names |= {_normal(line.partition("==")[0]) for line in (ROOT / file).read_text().split()}
    _link(names, packages)
    return ImageTree(stage, work, packages, folder / "home")


def _copy(source: Path, target: Path) -> None:
    """Link files one by one: cached bytecode would come along with a folder."""
    if source.is_file():
        target.symlink_to(source)
        return
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)


def _link(names: set[str], target: Path) -> None:
    owned: dict[PurePosixPath, set[str]] = {}
    files: dict[PurePosixPath, Any] = {}
    for distribution in metadata.distributions():
        name = _normal(distribution.name)
        for file in distribution.files or ():
            path = PurePosixPath(file)
            if ".." in path.parts or "__pycache__" in path.parts:
                continue
            for place in (path, *path.parents):
                owned.setdefault(place, set()).add(name)
            if name in names:
                files[path] = distribution.locate_file(file)
    done: set[PurePosixPath] = set()
    for path, source in files.items():
        # The highest folder that holds files of the chosen packages alone is linked as a whole.
        whole = _whole(path, owned, names)
        if whole in done:
            continue
        done.add(whole)
        place = target / whole
        place.parent.mkdir(parents=True, exist_ok=True)
        origin = Path(str(source))
        for _ in range(len(path.parts) - len(whole.parts)):
            origin = origin.parent
        place.symlink_to(origin)


def _whole(
    path: PurePosixPath, owned: Mapping[PurePosixPath, set[str]], names: Iterable[str]
) -> PurePosixPath:
    chosen = set(names)
    above = [each for each in reversed(path.parents) if each.parts]
    return next((each for each in above if owned[each] <= chosen), path)


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
