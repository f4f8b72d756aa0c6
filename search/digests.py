"""Names for what is too long to be one."""

from collections.abc import Iterable
from hashlib import blake2b


def digest(words: Iterable[str]) -> str:
    """A few letters in place of many words, for the names of files and for identities."""
    return blake2b("\n".join(words).encode(errors="surrogateescape"), digest_size=4).hexdigest()
