"""What a target of the Dockerfile holds, laid out in a folder: its files, and its packages and no others.

A folder stands for the root of the image's file system. Packages are those of this interpreter, linked:
whatever is not in a target's requirement files is not there. Or they are installed anew, as the Dockerfile
does it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from deploy.checks.facts import ROOT
from deploy.checks.images import Stage

_WORKDIR = PurePosixPath("/text4seg")
_INSTALL_S = 1800


@dataclass(frozen=True, slots=True)
class ImageTree:
    """A laid out image."""

    stage: Stage
    root: Path
    installed: bool
    """Whether it has packages of its own, in /venv, or links to those of this interpreter, in /packages."""

    @property
    def work(self) -> Path:
        """Its working directory."""
        return _inside(self.root, _WORKDIR)

    @property
    def home(self) -> Path:
        """The home directory, which does not exist in the image either."""
        return self.root / "home"

    def environment(self, **settings: str) -> dict[str, str]:
        """What a process in the image finds, with settings of the caller's on top."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            **({} if self.installed else {"PYTHONPATH": str(self.root / "packages")}),
            "OMP_NUM_THREADS": "1",
            **{name: value for name, value in self.stage.environment.items() if name != "PATH"},
            **settings,
        }

    def command(self, *command: str) -> list[str]:
        """A command of the image, `python ...`, as it is run here: -S leaves our own packages out."""
        assert command[0] == "python"
        python = [str(self.root / "venv/bin/python")] if self.installed else [sys.executable, "-S"]
        return [*python, *command[1:]]

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
        """Every file in its working directory, in linked folders too."""
        return {Path(folder) / name for folder, _, names in os.walk(self.work) for name in names}


def lay_out(stage: Stage, stages: Mapping[str, Stage], root: Path, *, install: bool) -> ImageTree:
    """Copy what the target copies, and install what its requirement files name, or link it."""
    _copy_all(stage, root)
    if install:
        for name in stage.stages:
            _install(stages[name], stages, root)
    else:
        names = set()
        for file in stage.requirements(stages):
            names |= {_normal(line.partition("==")[0]) for line in (ROOT / file).read_text().split()}
        (root / "packages").mkdir(parents=True)
        _link(names, root / "packages")
    return ImageTree(stage, root, install)


def _install(stage: Stage, stages: Mapping[str, Stage], root: Path) -> None:
    """Run the commands of a stage that installs packages, in ``root`` for /; pip uses its cache, if any."""
    _copy_all(stage, root)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in (*stages[stage.base].commands, *stage.commands):
        words = [str(_inside(root, word)) if word.startswith("/") else word for word in shlex.split(command)]
        done = subprocess.run(
            words, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=_INSTALL_S
        )
        assert done.returncode == 0, done.stderr


def _inside(root: Path, path: str | PurePosixPath) -> Path:
    return root / PurePosixPath(path).relative_to("/")


def _copy_all(stage: Stage, root: Path) -> None:
    for source, target in stage.copies:
        place = _inside(root, _WORKDIR / target)
        if target.endswith("/"):
            place = place / Path(source).name
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(ROOT / source, place)


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
