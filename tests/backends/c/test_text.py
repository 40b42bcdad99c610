import pytest

from edgecc.backends.c.text import LINE, call_text, filled, listed_lines, strip_parentheses


@pytest.mark.parametrize(("text", "expected"), [
    ("(a + b)", "a + b"), ("(a) + (b)", "(a) + (b)"), ("((a))", "(a)"), ("(float)(a)", "(float)(a)"), ("f(a)", "f(a)"), ("", "")])
def test_parentheses_around_everything_are_dropped(text, expected):
    assert strip_parentheses(text) == expected


def test_arguments_are_bare():
    assert call_text("f", ["(a + b)", "c", "(float)(d)"]) == "f(a + b, c, (float)(d))"


@pytest.mark.parametrize(("row", "expected"), [
    ("rintf({0})", "rintf(a + b)"), ("vfmaq_f32({1}, {0}, {1})", "vfmaq_f32(c, a + b, c)"), ("({0} + {1})", "((a + b) + c)"),
    ("(float){0}", "(float)(a + b)"), ("f({0}[1], {0})", "f((a + b)[1], a + b)"), ("(type){{{0}, {1}}}", "(type){(a + b), c}"),
    ("f(-{0}, {1})", "f(-(a + b), c)")])
def test_operands_keep_parentheses_where_they_are_needed(row, expected):
    assert filled(row, ["(a + b)", "c"]) == expected


def test_lists_break_where_a_line_is_full():
    assert listed_lines("f", ["a"], ";") == ["f(a);"]
    items = [f"argument_{number}" for number in range(20)]
    first, *more = listed_lines("  call", items, ";")
    assert first.startswith("  call(argument_0, ") and all(line.startswith("       argument_") for line in more)
    assert [item.strip() for line in (first, *more) for item in line.strip().removeprefix("call(").removesuffix(");").split(",") if item] == items
    assert max(map(len, (first, *more))) <= LINE < len(first) + len(" argument_10,")


def test_a_list_is_aligned_no_further_than_the_middle_of_the_line():
    lines = listed_lines("x" * 100, ["y" * 30, "z" * LINE], "")
    assert lines == ["x" * 100 + "(" + "y" * 30 + ",", " " * (LINE // 2) + "z" * LINE + ")"]


def test_separators_end_lines():
    assert listed_lines("  if ", ["a" * 60, "b" * 60], " return 1;", " ||") == ["  if (" + "a" * 60 + " ||", " " * 6 + "b" * 60 + ") return 1;"]
