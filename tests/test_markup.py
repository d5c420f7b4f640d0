from __future__ import annotations

from mercore.markup import Grid, latex, markdown

GRID = Grid(("features", "WAF", "p"), [("few", "0.9 (0.8 to 1.0)", ""), ("all", "-0.1", "<0.001")])


def test_markdown_is_a_table_of_aligned_columns() -> None:
    assert markdown(GRID) == (
        "| features |              WAF |       p |\n"
        "| -------- | ---------------: | ------: |\n"
        "| few      | 0.9 (0.8 to 1.0) |         |\n"
        "| all      |             -0.1 | \\<0.001 |\n"
    )


def test_latex_is_a_tabular_of_booktabs() -> None:
    assert latex(GRID) == (
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "features & WAF & p \\\\\n"
        "\\midrule\n"
        "few & 0.9 (0.8 to 1.0) &  \\\\\n"
        "all & $-$0.1 & $<$0.001 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_signs_that_mean_something_are_escaped() -> None:
    grid = Grid(("a_b & c",), [("50% #1 {x} ~ ^ \\ $ a|b*[c](d)`<i>",)])
    (_, _, _, _, row, *_), (_, _, cells) = latex(grid).split("\n"), markdown(grid).splitlines()
    assert latex(grid).split("\n")[2] == "a\\_b \\& c \\\\"
    expected = (
        "50\\% \\#1 \\{x\\} \\textasciitilde{} \\textasciicircum{} \\textbackslash{} \\$ "
        "a$|$b*[c](d)`$<$i$>$ \\\\"
    )
    assert row == expected
    assert "50% #1 {x} \\~ ^ \\\\ $ a\\|b\\*\\[c\\](d)\\`\\<i\\>" in cells


def test_a_line_break_does_not_end_a_row() -> None:
    grid = Grid(("a",), [("one\n\ntwo",)])
    assert "| one two |" in markdown(grid)
    assert "one two \\\\" in latex(grid)


def test_hyphens_within_names_stay_hyphens() -> None:
    assert "mer-2024 & $-$1 to $-$0.5" in latex(Grid(("a", "b"), [("mer-2024", "-1 to -0.5")]))


def test_a_table_without_rows_has_its_heading() -> None:
    assert markdown(Grid(("a", "b"), [])) == "| a   |   b |\n| --- | --: |\n"
    assert "a & b \\\\\n\\midrule\n\\bottomrule" in latex(Grid(("a", "b"), []))
