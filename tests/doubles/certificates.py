"""Throw-away certificate authorities for tests, and TLS contexts made of them."""

import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

HOUR = timedelta(hours=1)


class CertificateAuthority:
    """A self-signed authority that issues certificates for servers and clients."""

    def __init__(self, common_name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = _builder(common_name, timedelta(days=1)).public_key(self._key.public_key())
        self.certificate = (
            builder.issuer_name(_name(common_name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return pem(self.certificate)

    def issue(
        self, common_name: str, key: PublicKey, lifetime: timedelta = HOUR, hosts: Sequence[str] = ()
    ) -> x509.Certificate:
        """A certificate for `hosts` (names or addresses); for a client, if there are none.

        A lifetime below zero makes one that has expired.
        """
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(common_name, lifetime).public_key(key).issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(authority, critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def server_context(
        self,
        common_name: str,
        hosts: Sequence[str],
        *,
        lifetime: timedelta = HOUR,
        clients: "CertificateAuthority | None" = None,
    ) -> ssl.SSLContext:
        """A server's side of TLS 1.3. With `clients`, each client must show a certificate of that authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.issue(common_name, key.public_key(), lifetime, hosts)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with tempfile.NamedTemporaryFile("w") as chain:  # the ssl module reads a key from a file only
            chain.write(pem(certificate) + secret)
            chain.flush()
            context.load_cert_chain(chain.name)
        if clients is not None:
            context.load_verify_locations(cadata=clients.pem)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def write(self, path: Path) -> Path:
        """Writes the authority's own certificate, for `sslrootcert`."""
        path.write_text(self.pem)
        return path


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _builder(common_name: str, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    start = min(now, now + lifetime) - HOUR
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
