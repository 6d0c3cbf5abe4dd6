"""The harnesses are beside the package in the source tree, and not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
