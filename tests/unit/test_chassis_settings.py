"""Settings that every service has."""

import pytest
from pydantic import ValidationError

from services.chassis.settings import ServerSettings, split_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("[::1]", 65535)),
    ],
)
def test_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["localhost", ":50051", "localhost:", "localhost:http", "a:65536", "a:-1", "a:²"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="is not host:port"):
        ServerSettings(address=address)


def test_an_address_to_listen_on_is_needed_and_one_for_probes_is_not() -> None:
    with pytest.raises(ValidationError):
        ServerSettings(address="")
    assert ServerSettings(health_address="").health_address == ""


def test_api_keys_are_split_and_never_shown() -> None:
    settings = ServerSettings(api_keys=" key-1, key-2 ,,")

    assert settings.accepted_keys() == ("key-1", "key-2")
    assert "key-1" not in repr(settings)
    assert ServerSettings().accepted_keys() == ()


@pytest.mark.parametrize(
    "settings", [{"tls_key": "a"}, {"tls_certificate": "a"}, {"tls_client_ca": "a"}, {"unheard_of": 1}]
)
def test_half_a_tls_setting_or_an_unknown_one_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings(**settings)


def test_the_environment_sets_what_the_call_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T4S_QUEUE", "3")
    monkeypatch.setenv("T4S_CONCURRENCY", "4")

    settings = ServerSettings(concurrency=2)

    assert (settings.concurrency, settings.queue) == (2, 3)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        ServerSettings().queue = 1  # type: ignore[misc]
