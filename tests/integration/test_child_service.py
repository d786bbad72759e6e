"""Services that training starts for itself: they say why they ended, and never outlive their use."""

from pathlib import Path

import grpc
import pytest

from text4seg.v1.generator_service_pb2_grpc import GeneratorServiceStub
from training.child_service import ServiceEndedError, child_service
from training.nano.asking import generator, wait_until_loaded


def test_a_service_that_ends_at_start_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    ended = pytest.raises(ServiceEndedError, match=r"services\.generator ended at start with exit code 1")
    with ended, generator(tmp_path, threads=1):
        pass
    assert f"cannot start: checkpoint {tmp_path}" in capfd.readouterr().err


def test_a_service_ends_with_its_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "service.log"
    with (
        child_service("services.generator", {"T4S_GENERATOR_ENGINE": "scripted"}, log=log) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        wait_until_loaded(GeneratorServiceStub(channel), service)  # type: ignore[no-untyped-call]
        assert service.process.poll() is None
    assert service.process.poll() == 0
    assert "serving" in log.read_text()
    assert capfd.readouterr() == ("", "")
