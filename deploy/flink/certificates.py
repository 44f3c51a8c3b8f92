"""The secret of a local cluster: one key, which every part of it and its clients have.

Flink runs what it is sent, on its REST port and between its processes. With mutual TLS it listens
to those alone who hold the key, and the key lies in a folder that only the user reads.

https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/deployment/security/security-ssl/
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from glossator.deploy.flink import private
from glossator.pipeline.engines.flink import AUTHORITY, CERTIFICATE

_KEYSTORE = "flink.p12"
_VALID_DAYS = 3650
_ALGORITHMS = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
)
"""Flink's own choice has been given up by Java."""


def make(folder: Path) -> dict[str, str | bool]:
    """Makes the key anew and writes it in the forms that Flink and our client want.

    Args:
        folder: Flink's configuration, which only the user reads.

    Returns:
        Flink's options, the password of its keystore among them.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    own = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    password = secrets.token_hex(32)
    store = pkcs12.serialize_key_and_certificates(
        b"flink", key, certificate, None, serialization.BestAvailableEncryption(password.encode())
    )
    private.write(folder / AUTHORITY, pem)
    private.write(folder / CERTIFICATE, own + pem)
    private.write(folder / _KEYSTORE, store)
    return _options(str(folder / _KEYSTORE), password)


def _options(store: str, password: str) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {
        "security.ssl.algorithms": ",".join(_ALGORITHMS),
        "security.ssl.rest.authentication-enabled": True,
    }
    for part in ("internal", "rest"):
        prefix = f"security.ssl.{part}"
        options |= {
            f"{prefix}.enabled": True,
            f"{prefix}.keystore": store,
            f"{prefix}.keystore-type": "PKCS12",
            f"{prefix}.keystore-password": password,
            f"{prefix}.key-password": password,
            f"{prefix}.truststore": store,  # Java trusts the certificate of a key that it has
            f"{prefix}.truststore-type": "PKCS12",
            f"{prefix}.truststore-password": password,
        }
    return options


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Signed by itself, for `localhost`; of both ends of a connection."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    addresses = [x509.IPAddress(ip_address(address)) for address in ("127.0.0.1", "::1")]
    ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = {
        name: name in ("digital_signature", "key_cert_sign")
        for name in (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        )
    }
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.KeyUsage(**usage), True)
        .add_extension(x509.ExtendedKeyUsage(ends), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False)
        .sign(key, hashes.SHA256())
    )
