"""Short names from long texts: for files and identities."""

import re
from collections.abc import Iterable
from hashlib import blake2b


def slug(text: str) -> str:
    """A description as a file name: lower case, words joined by hyphens.

    >>> slug("AMD EPYC (family 26 model 2), 2 CPUs")
    'amd-epyc-family-26-model-2-2-cpus'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def digest(texts: Iterable[str]) -> str:
    """Short hash of texts, for file names and identities."""
    return blake2b("\n".join(texts).encode(errors="surrogateescape"), digest_size=4).hexdigest()
