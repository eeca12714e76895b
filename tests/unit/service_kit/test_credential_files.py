"""Certificates, keys and tokens in files."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from deploy.authority import Authority, Identity
from service_kit.credentials.files import (
    FileUnusable,
    belong_together,
    read_certificates,
    read_private_key,
    read_token,
)

AUTHORITY = Authority()
SHOP, EDGE = AUTHORITY.issue("shop"), AUTHORITY.issue("edge")


def kept(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def locked(identity: Identity) -> bytes:
    key = load_pem_private_key(identity.key, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))


@pytest.mark.requirement("FR-315")
class TestACertificateAndItsKey:
    def test_are_read_as_they_are(self, tmp_path: Path) -> None:
        chain = SHOP.certificate + AUTHORITY.certificate
        assert read_certificates(kept(tmp_path, "chain.pem", chain)) == chain
        assert read_private_key(kept(tmp_path, "shop.key", SHOP.key)) == SHOP.key

    def test_belong_together_or_do_not(self, tmp_path: Path) -> None:
        key = kept(tmp_path, "shop.key", SHOP.key)
        chain = SHOP.certificate + AUTHORITY.certificate
        assert belong_together(key, kept(tmp_path, "chain.pem", chain))
        # The first of a chain is the one that counts.
        turned = AUTHORITY.certificate + SHOP.certificate
        assert not belong_together(key, kept(tmp_path, "turned.pem", turned))
        assert not belong_together(key, kept(tmp_path, "edge.pem", EDGE.certificate))

    @pytest.mark.parametrize(
        "content",
        [b"", b"secret", SHOP.key, SHOP.certificate[:100], SHOP.certificate.replace(b"M", b"N")],
        ids=["empty", "text", "a key", "cut off", "changed"],
    )
    def test_must_be_a_certificate(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(FileUnusable, match="holds no certificate") as refused:
            read_certificates(kept(tmp_path, "file.pem", content))
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "content",
        [b"", b"secret", SHOP.certificate, SHOP.key[:100], locked(SHOP)],
        ids=["empty", "text", "a certificate", "cut off", "with a password"],
    )
    def test_must_be_a_key(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(FileUnusable, match="holds no private key") as refused:
            read_private_key(kept(tmp_path, "file.key", content))
        assert "secret" not in str(refused.value)

    def test_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileUnusable, match="cannot be read: No such file"):
            read_certificates(tmp_path / "missing.pem")
        with pytest.raises(FileUnusable, match="cannot be read: Is a directory"):
            read_private_key(tmp_path)


@pytest.mark.requirement("FR-311")
class TestAToken:
    def test_is_read_without_the_line_break_at_its_end(self, tmp_path: Path) -> None:
        assert read_token(kept(tmp_path, "token", b"a.b.c\n")) == "a.b.c"

    @pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"a\nb", "tök.en".encode()])
    def test_must_be_one(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(FileUnusable, match="holds no token"):
            read_token(kept(tmp_path, "token", content))
