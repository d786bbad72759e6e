"""What several files of integration tests share."""

from collections.abc import Iterator

import pytest

from tests.hand_server import HandServicer, serving
from text4seg_client.local_server import free_address, local_server


@pytest.fixture(scope="session")
def services_address() -> Iterator[str]:
    """All services as one process, with the scripted fake as the generator's model; yields host:port."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("T4S_GENERATOR_ENGINE", "scripted")
        environment.setenv("OMP_NUM_THREADS", "1")
        where = free_address()
        with local_server(where, 120.0, "--log-level=WARNING"):
            environment.undo()  # the services have it; other tests must not
            yield where


@pytest.fixture
def servicer() -> HandServicer:
    """A server whose answers are known by hand."""
    return HandServicer()


@pytest.fixture
def address(servicer: HandServicer) -> Iterator[str]:
    """Where that server listens, host:port."""
    with serving(servicer) as where:
        yield where
