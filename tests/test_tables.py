"""Columns that line up, whatever is in them."""

from mobile_centernet.tables import markdown_table, text_table


def test_columns_line_up_each_on_its_side() -> None:
    rows = [("model", "ms", "runs on"), ("hrnet_w16", "7.5", "cpu"), ("dla", "12.25", "")]
    assert text_table(rows, "<><").splitlines() == [
        "model         ms  runs on",
        "hrnet_w16    7.5  cpu",
        "dla        12.25",
    ]


def test_the_last_side_holds_for_all_further_columns() -> None:
    assert text_table([("a", "b", "c"), ("1", "22", "333")], "<>") == "a   b    c\n1  22  333"


def test_a_zero_column_or_width_is_no_special_case() -> None:
    assert text_table([("", ""), ("", "x")], "<") == "\n  x"


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert markdown_table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1/2 | 3 |"


def test_names_are_no_markup() -> None:
    cell = "<script>x</script> & ![y](javascript:z) `code`"
    shown = r"&lt;script>x&lt;/script> &amp; !\[y\](javascript:z) \`code\`"
    assert markdown_table(("a",), [(cell,)]) == f"| a |\n| --- |\n| {shown} |"


def test_what_would_act_on_a_terminal_is_shown_as_text() -> None:
    assert text_table([("tag", "\x1b]0;owned\x07a\nb"), ("é", "車")], "<") == "tag  \\x1b]0;owned\\x07a\\nb\né    車"
