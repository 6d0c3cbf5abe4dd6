"""Makes the plug-in distribution in ``site`` visible, as an installation would."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))
