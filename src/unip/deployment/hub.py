"""Segmentation models on the Hugging Face hub: a repository holds what a model folder holds."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub import errors as hub_errors

from unip.errors import UnipError
from unip.segmentation.calibration import FILE
from unip.vit.sources import REPOSITORY, WEIGHTS_NAME, parse_source

FILES = ("config.json", WEIGHTS_NAME, FILE, "README.md")
REMEDY = "Download the repository elsewhere and give its folder."


def fetch_folder(source: str) -> Path:
    """Return the local folder of a repository's model, downloaded if it is not in the cache.

    Args:
        source: ``hf:OWNER/NAME``, perhaps with ``@REVISION``.

    Raises:
        UnipError: The hub cannot be reached and the cache has no such model, or there is none.
    """
    found = parse_source(source)
    if not REPOSITORY.fullmatch(found.repository):
        raise UnipError(f"{source} is not a repository name", "Give hf:OWNER/NAME.")
    unreachable: Exception
    try:
        return Path(snapshot_download(found.name, revision=found.revision, allow_patterns=list(FILES)))
    except (hub_errors.RepositoryNotFoundError, hub_errors.RevisionNotFoundError) as error:
        raise UnipError(f"the hub has no {found.repository}, or it needs a login", REMEDY) from error
    except hub_errors.HFValidationError as error:
        raise UnipError(f"{source} is not a repository name", "Give hf:OWNER/NAME.") from error
    except Exception as error:  # whatever the HTTP library of this hub client raises without a network
        unreachable = error
    raise UnipError(f"the hub could not be reached for {found.repository}", REMEDY) from unreachable


def push_folder(folder: Path, repository: str, *, private: bool, token: str | None, message: str) -> str:
    """Upload a model folder; see :meth:`unip.deployment.model.Model.push_to_hub`.

    Returns:
        The address of the commit.

    Raises:
        UnipError: The name is none, or the hub refuses or cannot be reached.
    """
    if not REPOSITORY.fullmatch(repository) or "@" in repository:
        raise UnipError(f"{repository!r} is not a repository name", "Give OWNER/NAME.")
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=list(FILES), commit_message=message
        )
    except Exception as error:  # of the hub, or whatever its HTTP library raises without a network
        first = str(error).strip().partition("\n")[0]
        if isinstance(error, hub_errors.HfHubHTTPError | hub_errors.LocalTokenNotFoundError):
            fix = "Log in with `hf auth login`, or give a token that may write."
            raise UnipError(f"the hub did not take {repository}: {first}", fix) from error
        fix = f"Check the connection, or upload the files of {folder} from elsewhere: {', '.join(FILES)}."
        raise UnipError(f"the hub could not be reached for {repository}: {first}", fix) from error
    return str(done.commit_url)
