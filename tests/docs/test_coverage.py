"""The coverage page says what the table of converters and the record of the onnx package's tests say."""

import onnx
import pytest

from tests.support import coverage


@pytest.mark.filterwarnings("ignore")
def test_the_coverage_page_is_up_to_date(request):
    wanted = coverage.page()
    if request.config.getoption("--bless"):
        coverage.PAGE.write_text(wanted, encoding="utf-8")
    text = coverage.PAGE.read_text(encoding="utf-8")
    if f"in onnx {onnx.__version__}:" not in text:
        pytest.skip("the page was made with another version of onnx")
    assert text == wanted, "run pytest --bless tests/docs/test_coverage.py"
