import pytest

from edgecc.backends.c.text import call_text, filled, strip_parentheses


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
