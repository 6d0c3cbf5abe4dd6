"""Harnesses that try to break a store, and count what they find: ``python -m reliability``.

They try the kvdialect that is installed, as a user has it. A checkout of the source, from which they run, comes after
it: there the compiled modules are missing, unless it is installed for editing.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if "kvdialect" not in sys.modules:
    sys.path.sort(key=lambda entry: Path(entry or ".").resolve() == _ROOT)
