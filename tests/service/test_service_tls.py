"""Tests of HTTPS with a certificate in files, and of the headers of proxies."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from services import SPACE, Service, storage_in, token

from aifs_tune.errors import RequestError
from aifs_tune.service.server import check_proxy
from aifs_tune.service.tls import RenewedTls, TlsFiles

NEW = {"space": SPACE, "search": {"sampler": "random"}}


def write_certificate(folder: Path, *, password: bytes | None = None) -> tuple[Path, Path]:
    """A new self-signed certificate for this machine and its key, in place of those that are there."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tune.lab")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return files


def served_certificate(service: Service) -> str:
    return ssl.get_server_certificate((service.host, service.port), timeout=30)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def service(files, tmp_path_factory):
    storage = storage_in(tmp_path_factory.mktemp("https"))
    with Service(storage, "--tls-certificate", str(files[0]), "--tls-key", str(files[1])) as running:
        running.storage = storage
        yield running


def test_client_and_command_line_speak_https(service, files, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    asked = (
        "import sys; from aifs_tune import Client; client = Client(sys.argv[1]); "
        "study = client.open_study('lab', space={'x': {'type': 'float', 'low': 0, 'high': 1}}, sampler='random'); "
        "study.tell(study.ask(), 0.5); print(study.counts()['complete'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked, service.url], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "1\n", done.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "aifs_tune", "trials", "lab", "--format", "csv"],
        env={**os.environ, "AIFS_TUNE_URL": service.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "complete" in listed.stdout, listed.stderr


def test_pages_and_links_are_https(service, files):
    with service.http(verify=ssl.create_default_context(cafile=str(files[0]))) as http:
        assert http.post("/v1/studies", json={"name": "pages", **NEW}).status_code == 201
        assert http.post("/v1/studies/pages/ask", json={"n": 2}).status_code == 201
        assert http.get("/v1/studies/pages/trials?limit=1").links["next"]["url"].startswith(service.url)
        assert http.get("/studies/pages").status_code == 200
        bearer = {"Authorization": f"Bearer {token(service.storage, 'read')}", "Origin": service.url}
        cookie = http.put("/v1/session", headers=bearer).headers["set-cookie"]
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))


def test_neither_plain_http_nor_old_tls_nor_an_unknown_authority(service):
    with pytest.raises(httpx.TransportError):
        httpx.get(service.url.replace("https:", "http:"), timeout=30)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(service.url, timeout=30)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection((service.host, service.port), timeout=30) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
        old.wrap_socket(plain),
    ):
        pass


def test_a_renewed_certificate_is_used_without_a_restart(service, files, tmp_path):
    before = served_certificate(service)
    assert before.split() == files[0].read_text().split()
    renewed = write_certificate(tmp_path)
    renewed[0].replace(files[0])
    until = time.monotonic() + 30
    while not any("the old certificate stays in use" in line for line in service.said):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert served_certificate(service) == before, "the key does not fit yet"
    renewed[1].replace(files[1])
    while (now := served_certificate(service)) == before:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert now.split() == files[0].read_text().split()


def test_files_that_cannot_be_used_are_refused(tmp_path, run):
    for name in ("other", "locked"):
        (tmp_path / name).mkdir()
    certificate, key = write_certificate(tmp_path)
    _, other_key = write_certificate(tmp_path / "other")
    _, locked_key = write_certificate(tmp_path / "locked", password=b"secret")
    for given, said in (
        ((tmp_path / "none.pem", key), "--tls-certificate: .*none.pem cannot be read"),
        ((certificate, tmp_path / "none.pem"), "--tls-key: .*none.pem cannot be read"),
        ((certificate, locked_key), "--tls-key: .* has a password"),
        ((certificate, other_key), "cannot be used .*MISMATCH"),
        ((key, certificate), "cannot be used"),
    ):
        with pytest.raises(RequestError, match=said):
            TlsFiles(*given)
    files = TlsFiles(certificate, key)
    renewed = RenewedTls(files, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    renewed.update()
    key.unlink()
    with pytest.raises(RequestError, match="cannot be read"):
        renewed.update()
    renewed.update()  # it is said once
    for words in (("--tls-key", str(key)), ("--tls-certificate", str(certificate))):
        refused = run("serve", "--port", "0", *words)
        assert (refused.code, "--tls-certificate and --tls-key together" in refused.err) == (2, True)


def test_headers_of_a_proxy_count_only_if_it_is_trusted(tmp_path):
    storage = storage_in(tmp_path)
    forwarded = {
        "Authorization": f"Bearer {token(storage, 'manage')}",
        "Host": "tune.lab",
        "X-Forwarded-For": "198.51.100.9, 192.0.2.7",
        "X-Forwarded-Proto": "https",
    }
    for n, (proxy, scheme, address) in enumerate(
        (("127.0.0.1", "https", "192.0.2.7"), ("10.0.3.0/24", "http", "127.0.0.1"))
    ):
        words = ("--allow-host", "tune.lab", "--trust-proxy", proxy)
        with Service(storage, *words) as running, running.http(headers=forwarded) as http:
            assert http.post("/v1/studies", json={"name": f"s{n}", **NEW}).status_code == 201
            assert http.post(f"/v1/studies/s{n}/ask", json={"n": 2}).status_code == 201
            following = http.get(f"/v1/studies/s{n}/trials?limit=1").links["next"]["url"]
            assert following.startswith(f"{scheme}://tune.lab/")
            assert {e["address"] for e in http.get(f"/v1/audit?study=s{n}").json()["entries"]} == {address}
            odd = {"X-Forwarded-For": "unknown"}
            assert http.post(f"/v1/studies/s{n}/ask", json={}, headers=odd).status_code == 201
            newest = http.get("/v1/audit?limit=1").json()["entries"][0]
            assert newest["address"] == (None if proxy == "127.0.0.1" else "127.0.0.1")


def test_behind_a_trusted_proxy_every_request_needs_a_token(run):
    refused = run("serve", "--port", "0", "--trust-proxy", "127.0.0.1")
    assert (refused.code, "there is no valid one" in refused.err) == (2, True)


@pytest.mark.parametrize("given", ["*", "", "0.0.0.0/0", "::/0", "tune.lab", "10.0.3.7/24", "127.0.0.1,10.0.0.1"])
def test_what_is_not_the_address_of_a_proxy_is_refused(given):
    with pytest.raises(RequestError, match=r"--trust-proxy: .* allowed: such as"):
        check_proxy(given)


def test_addresses_of_proxies():
    assert [check_proxy(given) for given in ("127.0.0.1", "::1", "10.0.3.0/24")] == ["127.0.0.1", "::1", "10.0.3.0/24"]
