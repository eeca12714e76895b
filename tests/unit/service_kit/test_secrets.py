"""One secret, found or made, and a key for each purpose."""

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from service_kit import secrets
from service_kit.secrets import SecretKey, SecretUnusable, load_secret, private_folder

SECRET = "correct-horse-battery-staple-and-more"


@dataclass
class Places:
    data_dir: Path
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def derived(secret: SecretKey) -> bytes:
    return secret.derive("test")


class TestSecretKey:
    def test_derives_by_hkdf(self) -> None:
        """RFC 5869, test case 3: no salt, no info; its first 32 bytes."""
        expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
        assert SecretKey(b"\x0b" * 22).derive("").hex() == expected

    def test_derives_another_key_for_another_purpose_and_secret(self) -> None:
        keys = {
            SecretKey(secret).derive(purpose) for secret in (b"a", b"b") for purpose in ("c", "d")
        }
        assert len(keys) == 4
        assert {len(key) for key in keys} == {32}

    def test_does_not_show_itself(self) -> None:
        assert SECRET not in f"{SecretKey(SECRET.encode())!r} {vars(SecretKey(SECRET.encode()))}"


class TestLoadSecret:
    def test_makes_none_for_who_only_looks(self, tmp_path: Path) -> None:
        with pytest.raises(SecretUnusable, match="cannot be read"):
            load_secret(Places(tmp_path), make=False)
        assert list(tmp_path.iterdir()) == []

    def test_takes_the_one_that_is_set(self, tmp_path: Path) -> None:
        loaded = load_secret(Places(tmp_path, secret_key=SecretStr(SECRET)))
        extracted = hmac.digest(bytes(32), SECRET.encode(), "sha256")
        assert derived(loaded) == hmac.new(extracted, b"test\x01", hashlib.sha256).digest()
        assert list(tmp_path.iterdir()) == []

    def test_reads_the_file_that_is_named_without_its_line_break(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text(f"{SECRET}\n")
        loaded = load_secret(Places(tmp_path / "data", secret_key_file=file))
        assert derived(loaded) == derived(SecretKey(SECRET.encode()))
        assert not (tmp_path / "data").exists()

    def test_makes_one_that_only_its_owner_can_read_and_keeps_it(self, tmp_path: Path) -> None:
        places = Places(tmp_path / "new" / "data")
        first, second = load_secret(places), load_secret(places)
        assert derived(first) == derived(second)
        assert [path.name for path in places.data_dir.iterdir()] == ["secret.key"]
        assert mode_of(places.data_dir / "secret.key") == 0o600
        assert mode_of(places.data_dir) == 0o700
        assert derived(load_secret(Places(tmp_path / "other"))) != derived(first)

    def test_is_the_same_for_all_that_start_at_once(self, tmp_path: Path) -> None:
        for round_number in range(20):
            places = Places(tmp_path / str(round_number))
            with ThreadPoolExecutor(8) as pool:
                keys = set(pool.map(lambda _, p=places: derived(load_secret(p)), range(8)))
            assert len(keys) == 1
            assert [path.name for path in places.data_dir.iterdir()] == ["secret.key"]

    def test_reads_the_one_that_another_process_made_meanwhile(self, tmp_path: Path) -> None:
        path = tmp_path / "secret.key"
        path.write_text(SECRET)
        secrets._make_secret_file(path)
        assert path.read_text() == SECRET
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("content", [b"", b"short", b" " * 40, b"\xff" * 40])
    def test_refuses_a_file_without_a_secret_and_does_not_show_it(
        self, tmp_path: Path, content: bytes
    ) -> None:
        file = tmp_path / "key"
        file.write_bytes(content)
        with pytest.raises(SecretUnusable) as refused:
            load_secret(Places(tmp_path, secret_key_file=file))
        assert "short\n" not in str(refused.value)

    def test_refuses_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SecretUnusable, match="No such file"):
            load_secret(Places(tmp_path, secret_key_file=tmp_path / "missing"))

    def test_says_so_if_the_data_folder_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(SecretUnusable, match="cannot be made"):
            load_secret(Places(tmp_path / "file" / "data"))


def test_a_folder_that_exists_keeps_its_permissions(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    before = mode_of(shared)
    assert private_folder(shared) == shared
    assert mode_of(shared) == before
