"""Go, where it is installed: on the machine, or beside this interpreter by ``make go``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).parents[1] / "clients" / "go"
MISSING = (
    "NOT TESTED, the Go client: there is no Go as new as clients/go/go.mod asks for; `make go` installs one"
)
_LIMIT_S = 600.0
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("T4S_")},
    "PATH": _PATH,
    "GOTOOLCHAIN": "local",
}


@dataclass(frozen=True)
class Go:
    """A Go that can build the client.

    Attributes:
        command: its path.
        race: whether it can build with the race detector, which needs a C compiler.
    """

    command: str
    race: bool

    @property
    def build_flags(self) -> tuple[str, ...]:
        """The same for every build, so that packages are compiled once."""
        return ("-race",) if self.race else ()

    def run(self, *arguments: str, **environment: str) -> str:
        """Run it on the client; returns what it wrote, and fails with that."""
        done = _run(self.command, *arguments, **environment)
        assert done.returncode == 0, done.stdout
        return done.stdout


def find_go() -> Go | None:
    """The first Go that takes the client's go.mod."""
    command = shutil.which("go", path=_PATH)
    if command is None or _run(command, "list", "-m").returncode != 0:
        return None
    cgo, compiler = _run(command, "env", "CGO_ENABLED", "CC").stdout.splitlines()
    return Go(command, cgo == "1" and shutil.which(compiler.split()[0]) is not None)


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=MODULE,
        env={**_ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
    )
