"""TLS credentials that follow their files, so that certificates are renewed without a restart."""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the PEM files lie.

    Attributes:
        certificate: certificate chain, leaf first.
        key: private key of the leaf, without a passphrase.
        client_ca: authorities of callers' certificates; None takes callers without one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Read the files and return credentials that read them again, at a new connection, once they changed.

    Files that do not fit together any more (half-way through a renewal, say) leave the last good ones in use.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: certificate, key or authorities are no valid PEM, or do not belong together.
    """
    reloader = _Reloader(files)
    return grpc.dynamic_ssl_server_credentials(
        reloader.configuration,
        reloader.reload_if_changed,
        require_client_authentication=files.client_ca is not None,
    )


class _Reloader:
    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()  # gRPC asks from its own threads
        self._stamp = self._read_stamp()
        self.configuration = self._read()

    def reload_if_changed(self) -> grpc.ServerCertificateConfiguration:
        with self._lock:
            try:
                stamp = self._read_stamp()
                if stamp != self._stamp:
                    self.configuration = self._read()
                    self._stamp = stamp
                    _log.info("certificates reloaded")
            except OSError as error:  # ssl.SSLError is one too
                _log.warning("certificates changed but cannot be used, keeping the last ones: %s", error)
            return self.configuration

    def _read_stamp(self) -> tuple[tuple[int, int, int], ...]:
        paths = (self._files.certificate, self._files.key, self._files.client_ca)
        stats = [path.stat() for path in paths if path is not None]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        # OpenSSL checks what gRPC would only notice at a handshake: that the key belongs to the certificate.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._files.certificate, self._files.key)
        pair = (self._files.key.read_bytes(), self._files.certificate.read_bytes())
        if self._files.client_ca is None:
            return grpc.ssl_server_certificate_configuration([pair])
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self._files.client_ca)
        return grpc.ssl_server_certificate_configuration([pair], self._files.client_ca.read_bytes())
