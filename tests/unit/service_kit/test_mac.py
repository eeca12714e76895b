"""The HMAC is the standard's."""

import hmac

from service_kit.mac import hmac_sha256


def test_it_is_that_of_rfc_4231() -> None:
    """Test case 1 of RFC 4231, section 4.2."""
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert hmac_sha256(b"\x0b" * 20, b"Hi There").hex() == expected


def test_a_key_longer_than_a_block_is_hashed_first() -> None:
    key, content = bytes(range(200)), b"content" * 1000
    assert hmac_sha256(key, content) == hmac.digest(key, content, "sha256")
