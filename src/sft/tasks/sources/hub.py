"""One file of a hub data set, through the hub's own client and its cache. Imported only when one is needed."""

from __future__ import annotations

from huggingface_hub import constants, hf_hub_download

from sft.errors import DataError


def fetch_file(repository: str, name: str, *, instead: str) -> str:
    """Return the local path of a file of a data set, fetched if it is not in the cache.

    The client's own variables hold: HF_ENDPOINT, HF_TOKEN, HF_HUB_CACHE, HF_HUB_OFFLINE. ``instead`` says what a user
    without a connection can give.

    Raises:
        DataError: naming the file and why it could not be had.
    """
    try:
        return str(hf_hub_download(repository, name, repo_type="dataset"))
    except Exception as error:  # the client lets through errors of its transport
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        raise DataError(
            f"{repository}: the file {name!r} could not be had from {constants.ENDPOINT}: {reason}. Check the "
            f"connection, or {instead}"
        ) from error
