"""The images' commands, run from what the images would hold: files and packages of each target, no more.

Packages are linked. With ``--install`` (``make test-images``) they are installed anew, as the Dockerfile
does it.
"""

from __future__ import annotations

import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from PIL import Image
from skimage import data

from deploy.checks.facts import ROOT
from deploy.checks.images import read_dockerfile
from tests.image_tree import ImageTree, lay_out
from text4seg import wire
from text4seg.segmentation import ImageContent, PhraseQuery, RefineMode, SegmentOptions, SegmentRequest
from text4seg.v1.segmentation_service_pb2_grpc import SegmentationServiceStub

SERVICES = ("generator", "refiner", "orchestrator")
PATIENT_S = 200
IMPORT_ALL = """
import importlib, importlib.util, json, pathlib, sys
for path in sorted(pathlib.Path(".").rglob("*.py")):
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    if path.name != "__main__.py" and not name.startswith("services.chassis"):
        importlib.import_module(name)
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"loaded": loaded, "torch": importlib.util.find_spec("torch") is not None}))
"""


@pytest.fixture(scope="module")
def trees(pytestconfig: pytest.Config) -> Iterator[dict[str, ImageTree]]:
    stages, install = read_dockerfile(), bool(pytestconfig.getoption("--install"))
    # Not pytest's own folders, which it keeps for a while: installed packages are large.
    with TemporaryDirectory(prefix="text4seg-images-") as folder:
        yield {name: lay_out(stages[name], stages, Path(folder) / name, install=install) for name in SERVICES}


def test_what_is_installed_is_what_the_tests_run_with() -> None:
    tested = set((ROOT / "requirements" / "dev.txt").read_text("utf-8").split())
    stages = read_dockerfile()
    for name in SERVICES:
        for file in stages[name].requirements(stages):
            assert set((ROOT / file).read_text("utf-8").split()) <= tested, file


@pytest.mark.parametrize("name", SERVICES)
def test_every_module_finds_what_it_imports(trees: dict[str, ImageTree], name: str) -> None:
    done = trees[name].run("python", "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    loaded = set(told["loaded"])
    assert {"services", "text4seg", "grpc"} <= loaded
    assert ("torch" in loaded) == told["torch"] == (name != "orchestrator")
    assert ("cv2" in loaded) == (name == "refiner")
    assert not loaded & {"pytest", "text4seg_client", "training"}


class Container:
    """A process that runs an image's entry point."""

    def __init__(self, tree: ImageTree, folder: Path, **settings: str) -> None:
        self.tree = tree
        self._out = folder / f"{tree.stage.name}.out"
        self._err = folder / f"{tree.stage.name}.err"
        prefix = f"T4S_{tree.stage.name.upper()}_"
        # The image's own ports may be taken here; a probe may ask at the main port as well.
        ports = {"ADDRESS": "127.0.0.1:0", "HEALTH_ADDRESS": "", "METRICS_ADDRESS": "127.0.0.1:0"}
        with self._out.open("w") as out, self._err.open("w") as err:
            self._popen = subprocess.Popen(
                tree.command(*tree.stage.entrypoint),
                cwd=tree.work,
                env=tree.environment(**{prefix + name: value for name, value in ports.items()}, **settings),
                stdout=out,
                stderr=err,
            )

    def until(self, ask: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENT_S
        while time.monotonic() < end:
            if answer := ask():
                return answer
            assert self._popen.poll() is None, self._err.read_text()
            time.sleep(0.1)
        raise AssertionError(f"no answer; {self._out.read_text()} {self._err.read_text()}")

    def address(self) -> str:
        def bound() -> str | None:
            lines = self._out.read_text().split("\n")[:-1]
            listening = [each for each in map(json.loads, lines) if each.get("message") == "listening"]
            return listening[0]["address"] if listening else None

        return str(self.until(bound))

    def wait_until_healthy(self) -> None:
        *probe, _ = self.tree.stage.healthcheck
        address = self.address()
        self.until(lambda: self.tree.run(*probe, address).returncode == 0)

    def stop(self) -> int:
        self._popen.terminate()
        return self._popen.wait(PATIENT_S)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENT_S)


@contextmanager
def running(tree: ImageTree, folder: Path, **settings: str) -> Iterator[Container]:
    container = Container(tree, folder, **settings)
    try:
        yield container
    finally:
        container.kill()


def photograph() -> bytes:
    file = io.BytesIO()
    Image.fromarray(data.chelsea()).save(file, "JPEG")  # type: ignore[no-untyped-call]
    return file.getvalue()


def test_the_images_answer_a_call_and_write_nothing(trees: dict[str, ImageTree], tmp_path: Path) -> None:
    before = {name: tree.files() for name, tree in trees.items()}
    with ExitStack() as stack:
        peers = {
            name: stack.enter_context(running(trees[name], tmp_path)) for name in ("generator", "refiner")
        }
        told = {f"T4S_ORCHESTRATOR_{name.upper()}_ADDRESS": peer.address() for name, peer in peers.items()}
        public = stack.enter_context(running(trees["orchestrator"], tmp_path, **told))
        for container in (*peers.values(), public):
            container.wait_until_healthy()
        options = SegmentOptions(refine=RefineMode.REQUIRED)
        asked = SegmentRequest(ImageContent(photograph()), PhraseQuery(("cat",)), options)
        with grpc.insecure_channel(public.address()) as channel:
            stub: Any = SegmentationServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = wire.segment_answer_from_proto(
                stub.Segment(wire.segment_request_to_proto(asked), timeout=PATIENT_S)
            )
        assert answer.versions.model.startswith("text4seg-nano")
        assert [(region.label, region.refined) for region in answer.regions] == [("cat", True)]
        assert [container.stop() for container in (public, *peers.values())] == [0, 0, 0]
    assert {name: tree.files() for name, tree in trees.items()} == before
    assert not any(tree.home.exists() for tree in trees.values())
