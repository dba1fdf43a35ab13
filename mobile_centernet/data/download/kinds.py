"""What a file is that is no archive that can be read: told by its first bytes, so that errors can say it."""

import re

BEGIN = 1024
"""Bytes that suffice to tell."""
_HTML = re.compile(
    rb"\s*(<!--.*?-->\s*)*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head|body|script|meta)\b", re.I | re.S
)
_NOT_READ = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"MSCF", "a cabinet of Windows"),
    (b"\x1f\x9d", "a file of compress (.Z)"),
)


def foreign_kind(begin: bytes) -> str:
    """What a file that begins so is, and what to do about it; empty where that cannot be told.

    Args:
        begin: the first `BEGIN` bytes.
    """
    for magic, kind in _NOT_READ:
        if begin.startswith(magic):
            return f"{kind}, which is not read: pack it again as zip or tar.gz"
    text = begin.removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(text):
        return "an HTML page (sign in? token_env names the variable that holds a token; or the address of a web page)"
    if text.lstrip()[:1] in (b"{", b"[", b"<"):
        return "text, which a server answers in place of a file: " + repr(text[:80].decode(errors="replace"))
    if text.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself"
    return ""
