"""``python -m kvdialect.cli`` is ``kvdialect``."""

from kvdialect.cli import main

main()
