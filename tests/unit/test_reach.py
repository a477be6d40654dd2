"""Where loads may read: addresses of the open internet, and stores that are no way around the settings."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from dataloader.connectors.files.bucket import find_in_bucket
from dataloader.connectors.files.reach import is_public
from dataloader.exceptions import PermanentError, SourceError
from dataloader.logger.patterns import mask_text


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "169.254.169.254",
        "::ffff:10.0.0.1",
        "2002:a00:1::",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::5db8:d822",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "fec0::1",
        "fd00::1",
        "ff0e::1",
    ],
)
def test_an_address_that_leads_into_a_private_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::93.184.216.34"])
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("scheme", ["local", "file"])
async def test_a_file_of_this_machine_is_no_object_of_a_store(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "f.csv").write_text("n\n1\n")

    for source in (f"{scheme}://{tmp_path}/f.csv", f"{scheme}://{tmp_path}/*.csv"):
        with pytest.raises(PermanentError, match="is a file of this machine; name it by its path"):
            await find_in_bucket(source, max_files=10)


@pytest.mark.parametrize("source", ["generic://x/f.csv", "dir://x/f.csv", "reference://x/f.csv", "ftp://127.0.0.1:1/f"])
async def test_a_store_that_cannot_be_opened_says_so(source: str) -> None:
    with pytest.raises((PermanentError, SourceError), match=r"is not supported|could not be read"):
        await find_in_bucket(source, max_files=10)


def without_host(path: str) -> str:
    """Return a path as stores on servers of files do, those of sftp and ftp: without the host of its address."""
    return str(MemoryFileSystem._strip_protocol(path.removeprefix("hosted://example.com")))


@pytest.mark.parametrize("scheme", ["hosted", "memory"])
async def test_files_that_a_pattern_names_are_found_again_by_their_addresses(scheme: str) -> None:
    own = {"protocol": "hosted", "store": {}, "pseudo_dirs": [""], "_strip_protocol": staticmethod(without_host)}
    fsspec.register_implementation("hosted", type("Hosted", (MemoryFileSystem,), own), clobber=True)
    fsspec.filesystem(scheme).pipe_file("/data/a.csv", b"n\n1\n")
    source = "hosted://example.com/data/*.csv" if scheme == "hosted" else "memory://data/*.csv"

    (file,) = await find_in_bucket(source, max_files=10)

    assert file.name == source.replace("*", "a")
    assert (await file.look()).size == 4


async def test_without_credentials_an_error_says_where_they_are_taken_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    (file,) = await find_in_bucket("s3://market-data/f.csv", max_files=1)

    with pytest.raises(SourceError) as caught:
        await file.look()

    told = (
        "s3://market-data/f.csv could not be read: this machine has no credentials for it; give them to its environment"
    )
    assert mask_text(caught.value.message).startswith(told)
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in mask_text(caught.value.message)
