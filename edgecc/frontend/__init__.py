"""From an ONNX file to a verified Graph IR.

`import_model` is the whole interface; `import_model_with_report` also says what was assumed.
"""

from edgecc.frontend.importing import ImportReport, import_model, import_model_with_report
from edgecc.frontend.limits import Limits

__all__ = ["ImportReport", "Limits", "import_model", "import_model_with_report"]
