"""What other packages say, as one line."""

from __future__ import annotations

import re

# Ornaments, colours and control characters; letters of any language, punctuation and currency stay.
_SIGNS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x1f\x7f]|[\u2190-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff]")


def sentence(error: BaseException) -> str:
    """Return what an exception says as one line of at most 400 characters, without ornaments."""
    text = " ".join(_SIGNS.sub(" ", str(error).strip()).split())
    text = re.sub(r"^(ERROR\W*|WARNING\W*)+", "", text).strip().rstrip(".")
    return text[:400] or type(error).__name__
