"""Labels, lists and names are read in the encodings that people's tools write them in."""

from pathlib import Path

import pytest
from defusedxml import ElementTree
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.data.encodings import decode_text, decode_xml
from mobile_centernet.data.readers.ivslab import read_ivslab

TEXTS = {
    "gb2312": "台北街道", "GBK": "臺北車輛", "gb18030": "北京㐀", "big5": "臺北市區", "Big5-HKSCS": "香港道路",
    "shift_jis": "東京タワー", "cp932": "①東京", "euc-jp": "東京タワー", "euc-kr": "서울거리", "windows-1252": "Straße",
    "ISO-8859-1": "Málaga", "koi8-r": "Москва", "utf-8": "Köln 東京", "us-ascii": "Taipei",
}  # fmt: skip
XML = "<annotation><database>{text}</database><object><name>vehicle</name></object></annotation>"


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("before", ["", "\n", "\r\n  \n"])
@pytest.mark.parametrize("quote", "'\"")
def test_xml_is_decoded_as_it_declares(encoding: str, before: str, quote: str) -> None:
    text = f"{before}<?xml version={quote}1.0{quote} encoding={quote}{encoding}{quote} standalone={quote}yes{quote}?>\n"
    data = (text + XML.format(text=TEXTS[encoding])).encode(encoding)
    assert ElementTree.fromstring(decode_xml(data + b"\0\0\n")).findtext("database") == TEXTS[encoding]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8", "utf-32"])
@pytest.mark.parametrize("declared", ["utf-16", "UTF-8", "GBK", None])
def test_unicode_tells_by_its_bytes(encoding: str, declared: str | None) -> None:
    """Whatever is declared: the file was saved again by an editor."""
    text = "Köln 東京"
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    data = (head + XML.format(text=text)).encode(encoding)
    if encoding == "utf-8" and declared == "GBK":
        assert "東京" not in decode_xml(data)  # nothing says that this is a lie
    else:
        assert ElementTree.fromstring(decode_xml(data)).findtext("database") == text


@pytest.mark.parametrize("name", ["klingon", "zlib", "hex", "rot13", "unicode_escape", "utf-7", "punycode", "cp037"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"the unknown encoding {name}"):
        decode_xml(f'<?xml version="1.0" encoding="{name}"?><annotation/>'.encode())


@given(st.binary(max_size=60), st.sampled_from([b"", b'<?xml version="1.0" encoding="big5"?>', b"\xff\xfe", b"\0<"]))
def test_any_bytes_are_text_or_a_value_error(data: bytes, head: bytes) -> None:
    assert isinstance(decode_text(head + data), str)
    try:
        decode_xml(head + data)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gbk", "台北街道/夜晚"), ("big5", "臺北市區/夜間行車"), ("shift_jis", "東京タワー/昼"), ("utf-8", "台北"),
        ("utf-16", "台北"), ("utf-16-le", "a/台北"), ("utf-8-sig", "台北"), ("latin-1", "Málaga/Straße"),
    ],
)  # fmt: skip
def test_a_list_is_decoded_by_its_characters(encoding: str, name: str) -> None:
    assert decode_text(f"{name}\nAll/{name}_00001\n".encode(encoding)).splitlines() == [name, f"All/{name}_00001"]


def test_names_that_are_there_decide_where_characters_do_not() -> None:
    big5 = "北京".encode("gbk").decode("big5")
    assert decode_text("北京".encode("gbk"), {big5}) == big5
    assert decode_text("北京".encode("gbk"), {"北京"}) == decode_text("北京".encode("gbk")) == "北京"


@pytest.mark.parametrize("encoding", ["gbk", "big5", "shift_jis", "utf-16", "utf-8-sig"])
def test_a_set_labelled_on_such_a_machine_is_read_whole(tmp_path: Path, write_image, encoding: str) -> None:
    name = "東京/東京_00001"
    train = tmp_path / "ivslab_train"
    write_image(train / f"JPEGImages/All/{name}.jpg")
    label = train / f"Annotations/All/{name}.xml"
    label.parent.mkdir(parents=True)
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    declared = encoding.removesuffix("-sig")
    text = f"<annotation><folder>東京</folder><object><name>車輛</name>{box}</object></annotation>"
    label.write_bytes(f'\n<?xml version="1.0" encoding="{declared}"?>\n{text}'.encode(encoding))
    (train / "ImageSets").mkdir()
    (train / "ImageSets/All.txt").write_bytes(f"All/{name}\n".encode(encoding))
    raw = read_ivslab(tmp_path)
    assert raw.findings == ()
    assert [(frame.name, frame.boxes[0].category) for frame in raw.frames] == [(name, "車輛")]
