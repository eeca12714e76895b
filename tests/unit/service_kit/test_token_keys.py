"""The pinned keys: what a key set may hold, and what must not be in one."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from service_kit.credentials.files import FileUnusable
from service_kit.credentials.token_keys import read_token_keys

ED25519 = Ed25519PrivateKey.generate()
RSA = generate_private_key(65537, 2048)
to_okp, to_rsa = jwt.algorithms.OKPAlgorithm.to_jwk, jwt.algorithms.RSAAlgorithm.to_jwk
OKP_ENTRY = {**to_okp(ED25519.public_key(), as_dict=True), "kid": "ed"}
RSA_ENTRY = {**to_rsa(RSA.public_key(), as_dict=True), "kid": "rsa", "use": "sig"}
EC_ENTRY = {
    **jwt.algorithms.ECAlgorithm.to_jwk(generate_ec(SECP256R1()).public_key(), as_dict=True),
    "kid": "ec",
}
# Of no strength at all, and quickly made.
SHORT_ENTRY = {
    **to_rsa(generate_private_key(65537, 1024).public_key(), as_dict=True),  # noqa: S505
    "kid": "short",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def write(file: Path, *entries: Any) -> Path:
    file.write_text(json.dumps({"keys": list(entries)}))
    return file


@pytest.mark.requirement("FR-305")
class TestAKeySet:
    def test_says_by_id_which_algorithm_each_key_is_for(self, file: Path) -> None:
        keys = read_token_keys(write(file, OKP_ENTRY, RSA_ENTRY))
        assert {kid: key.algorithm for kid, key in keys.items()} == {"ed": "EdDSA", "rsa": "RS256"}

    def test_may_say_the_algorithm_itself(self, file: Path) -> None:
        entries = [OKP_ENTRY | {"alg": "EdDSA"}, RSA_ENTRY | {"alg": "RS256"}]
        assert read_token_keys(write(file, *entries)).keys() == {"ed", "rsa"}

    @pytest.mark.parametrize(
        "other",
        [
            EC_ENTRY,
            RSA_ENTRY | {"alg": "RS512", "kid": "other"},
            RSA_ENTRY | {"alg": "none", "kid": "other"},
            RSA_ENTRY | {"use": "enc", "alg": "RSA-OAEP", "kid": "other"},
            OKP_ENTRY | {"crv": "Ed448", "kid": "other"},
            {"kty": "of the future"},
            {},
        ],
        ids=["EC", "RS512", "none", "for encryption", "another curve", "unknown", "empty"],
    )
    def test_may_hold_keys_for_other_purposes_that_verify_nothing_here(
        self, file: Path, other: dict[str, Any]
    ) -> None:
        assert read_token_keys(write(file, other, OKP_ENTRY)).keys() == {"ed"}
        with pytest.raises(FileUnusable, match="no public key for EdDSA"):
            read_token_keys(write(file, other))

    @pytest.mark.parametrize(
        ("entry", "problem"),
        [
            (to_okp(ED25519, as_dict=True) | {"kid": "ed"}, "secret"),
            (to_rsa(RSA, as_dict=True) | {"kid": "rsa"}, "secret"),
            ({"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, "secret"),
            ({**OKP_ENTRY, "kid": ""}, "without a kid"),
            ({**OKP_ENTRY, "kid": 1}, "without a kid"),
            ({key: value for key, value in OKP_ENTRY.items() if key != "kid"}, "without a kid"),
            (SHORT_ENTRY, "fewer than 2048 bits"),
            ({"kty": "RSA", "kid": "rsa"}, "RS256 that cannot be read"),
            ({**OKP_ENTRY, "x": "AAAA"}, "EdDSA that cannot be read"),
            ({**OKP_ENTRY, "x": 1}, "EdDSA that cannot be read"),
        ],
    )
    def test_must_not_hold(self, file: Path, entry: dict[str, Any], problem: str) -> None:
        with pytest.raises(FileUnusable, match=problem) as refused:
            read_token_keys(write(file, RSA_ENTRY | {"kid": "fine"}, entry))
        for secret in filter(None, (entry.get("d"), entry.get("k"))):
            assert secret not in str(refused.value)

    def test_must_not_give_two_keys_the_same_id(self, file: Path) -> None:
        with pytest.raises(FileUnusable, match="same kid"):
            read_token_keys(write(file, OKP_ENTRY, RSA_ENTRY | {"kid": "ed"}))

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "null", '{"keys": {}}', '{"keys": [1]}', "[" * 100_000]
    )
    def test_must_be_one(self, file: Path, content: str) -> None:
        file.write_text(content)
        with pytest.raises(FileUnusable):
            read_token_keys(file)

    def test_must_be_there(self, file: Path) -> None:
        with pytest.raises(FileUnusable, match="cannot be read: No such file"):
            read_token_keys(file)
