"""Fetch a checkpoint from the Hugging Face hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`.

Fetched once by huggingface_hub, into the cache that other programs share, and found there again without a network.
"""

import re
from pathlib import Path

from vitral.base.errors import ConfigError, StoreError, UnknownName
from vitral.weights.pixels import PROCESSOR_FILES
from vitral.weights.reading.checkpoint_folder import ADAPTER, SHARDED, WHOLE, holds_one, is_adapter

CONFIGS = ["config.json", ADAPTER, *PROCESSOR_FILES]
SAFE = ["adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
PICKLED = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]


def fetch(name: str) -> Path:
    """The folder in the local cache that holds the checkpoint and its configs; safetensors if the hub has them.

    `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub. Raises
    `ConfigError` for a name of another form or if that library is missing, `UnknownName` if there is no such
    checkpoint, `StoreError` if it cannot be fetched.
    """
    found = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if found is None:
        raise ConfigError(
            f"{name} is not a name on the hub. Examples: hf:google/vit-base-patch16-224, or ...-224@main."
        )
    repository, revision = found[1], found[2]
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise ConfigError(f"{name} needs huggingface_hub. Install it: pip install 'vitral[hub]'.") from error
    try:
        for weights in (SAFE, PICKLED):  # in this order, so that pickles are fetched only where there is nothing else
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[*CONFIGS, *weights]))
            if holds_one(folder) or is_adapter(folder):
                return folder
    except errors.GatedRepoError as error:
        raise StoreError(
            f"{repository} requires that you accept its licence: do so on its page, and set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UnknownName(f"{repository} has no revision {revision!r}.") from error
    except errors.RepositoryNotFoundError as error:
        raise UnknownName(
            f"The hub has no {repository}, or it is private and HF_TOKEN gives no access to it."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise StoreError(
            f"{name} is not in the local cache, and the hub could not be reached. Fetch it where there is a network: "
            f"hf download {repository}"
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise StoreError(f"{name} could not be fetched: {str(error).strip().splitlines()[0]}") from error
    raise StoreError(f"{repository} does not contain a checkpoint: looked for {', '.join((*WHOLE, *SHARDED))}.")
