"""Short names from long texts: for files and identities."""

import re
from collections.abc import Iterable
from hashlib import blake2b


def slug(text: str) -> str:
    """A file name's worth of a description: lower case, words joined by hyphens.

    >>> slug("AMD EPYC (family 26 model 2), 2 CPUs")
    'amd-epyc-family-26-model-2-2-cpus'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def digest(words: Iterable[str]) -> str:
    """A few letters in place of many words, for the names of files and for identities."""
    return blake2b("\n".join(words).encode(errors="surrogateescape"), digest_size=4).hexdigest()
