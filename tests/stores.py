"""An S3 store on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

_NOBODY = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Store:
    """A bucket ``lab``; ``environment`` is what a process needs to reach it."""

    environment: Mapping[str, str]
    client: Any

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="lab", Key=key, Body=content)

    def put_folder(self, key: str, folder: Path) -> str:
        """The URL of a copy of ``folder``."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{key}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://lab/{key}"


@contextmanager
def s3_endpoint(url: str) -> Iterator[None]:
    """S3 is asked for at this URL, by whoever asks meanwhile."""
    file_system = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        file_system.clear_instance_cache()
        yield
    file_system.clear_instance_cache()


@contextmanager
def s3_store() -> Iterator[Store]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = _NOBODY | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    try:
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="lab")
        yield Store(environment, client)
    finally:
        server.stop()
        fsspec.filesystem("s3").clear_instance_cache()
