"""Text in the encodings that people's tools write: label files, lists, names in archives."""

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "iso8859-1": "cp1252"}
"""What files of a declared encoding really hold, by Python's name of it (as browsers decode them)."""
READABLE = bytes(range(0x20, 0x7E)) + b"\\x41"
DECLARATION = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][\w.:-]*)["']""")


@dataclass(frozen=True)
class _Guess:
    """An encoding without a mark of its own. `usual`: first bytes of the characters that most texts are made of."""

    codec: str
    usual: tuple[range, ...]


GUESSES = (
    _Guess("gbk", (range(0xB0, 0xD8),)),
    _Guess("big5", (range(0xA4, 0xC7),)),
    _Guess("cp932", (range(0x82, 0x84), range(0x88, 0x98))),
)


def decode_xml(data: bytes) -> str:
    """The text of an XML file, by its byte-order mark or the encoding that it declares, otherwise UTF-8.

    Expat itself knows no encoding of several bytes but Unicode's. White space before and NULs behind are cut off.
    Raises ValueError where the bytes are of another encoding than they claim, or the claim is none of Python's.
    """
    codec = _marked(data)
    if codec is None:
        data = data.lstrip()
        declared, codec = DECLARATION.match(data), "utf-8"
        if declared:
            name, is_readable = declared[1].decode(), False
            try:
                codec = codecs.lookup(name).name
                if codec.startswith(("utf-16", "utf-32")):
                    codec = "utf-8"  # the declaration was readable as ASCII
                is_readable = READABLE.decode(codec) == READABLE.decode("ascii")
            except (LookupError, ValueError):
                pass
            if not is_readable:
                raise ValueError(f"the unknown encoding {name}")
            codec = SUPERSETS.get(codec, codec)
    try:
        return data.decode(codec).strip("\0\t\r\n ")
    except UnicodeDecodeError as error:
        raise ValueError(f"bytes that are not {error.encoding}, at {error.start}") from error


def decode_text(data: bytes, known: Collection[str] = (), *, fallback: str = "latin-1") -> str:
    """The text of a file that cannot say what its encoding is, such as a list of names.

    A byte-order mark tells, UTF-8 is told by its form. Otherwise it is the one of GBK, Big5 and Shift_JIS in which most
    lines are `known`, then the one whose characters are the most usual ones, and `fallback` where hardly any is.
    """
    codec = _marked(data) or "utf-8"
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        pass
    best, text = (0, 0.5), data.decode(fallback)
    for guess in GUESSES:
        try:
            guessed = data.decode(guess.codec)
        except UnicodeDecodeError:
            continue
        signs = [sign.encode(guess.codec) for sign in guessed if not sign.isascii()]
        usual = sum(len(sign) == 2 and any(sign[0] in part for part in guess.usual) for sign in signs)
        rank = (sum(line.strip() in known for line in guessed.splitlines()) if known else 0), usual / max(1, len(signs))
        if rank > best:
            best, text = rank, guessed
    return text


def _marked(data: bytes) -> str | None:
    """The encoding that a byte-order mark or the zeros of ASCII in UTF-16 tell."""
    for mark, codec in BOMS:
        if data.startswith(mark):
            return codec
    if len(data) >= 2 and (data[0] == 0) != (data[1] == 0):
        return "utf-16-be" if data[0] == 0 else "utf-16-le"
    return None
