"""TLS of the service: a certificate and its key in files, read again when they are renewed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

from aifs_tune.errors import RequestError

Version: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class TlsFiles:
    """A certificate with those that signed it, and its key without a password, each in a PEM file.

    Raises
    ------
    RequestError
        If a file cannot be read, or if the key is not that of the certificate.
    """

    certificate: Path
    key: Path

    def __post_init__(self) -> None:
        self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def version(self) -> Version | None:
        """Return what changes when a file is replaced or written; None while one is not there."""
        try:
            certificate, key = (file.stat() for file in (self.certificate, self.key))
        except OSError:
            return None
        return (certificate.st_mtime_ns, certificate.st_ino), (key.st_mtime_ns, key.st_ino)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make ``context`` use the files for the connections that come.

        Raises
        ------
        RequestError
            If a file cannot be read, or if the key is not that of the certificate.
        """
        for option, file in (("--tls-certificate", self.certificate), ("--tls-key", self.key)):
            try:
                file.read_bytes()
            except OSError as error:
                raise RequestError(f"{option}: {file} cannot be read: {error.strerror}") from None
        try:
            context.load_cert_chain(self.certificate, self.key, password=self._refuse_password)
        except ssl.SSLError as error:
            raise RequestError(
                f"--tls-certificate: {self.certificate} and {self.key} cannot be used ({error.reason or error}); "
                "allowed: PEM files of a certificate and of its key"
            ) from None

    def _refuse_password(self) -> NoReturn:
        raise RequestError(f"--tls-key: {self.key} has a password; allowed: a key without one that only you can read")


class RenewedTls:
    """Keeps the context of a running server at the newest certificate.

    Parameters
    ----------
    files
        The files, which may be replaced while the server runs.
    context
        The context that they were loaded into.
    """

    def __init__(self, files: TlsFiles, context: ssl.SSLContext) -> None:
        self._files, self._context = files, context
        self._version = files.version()

    def update(self) -> None:
        """Load the files again if they changed; while they do not fit together, the old certificate stays.

        Raises
        ------
        RequestError
            If they changed and cannot be used; raised once for each change.
        """
        found = self._files.version()
        if found != self._version:
            self._version = found
            TlsFiles(self._files.certificate, self._files.key)  # checks them apart: a failure would leave no key
            self._files.load_into(self._context)
