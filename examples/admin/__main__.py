"""Serve the pages.

python examples/admin                                     # a temporary RocksDB store
python examples/admin kvdialect+lmdb:////data/books       # any store, by its URL at the SQL door
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    import uvicorn

    from admin.app import create_app
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    print(f'examples/admin needs {missing}; pip install ".[full,web-examples]" brings it', file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="examples/admin", description="Pages for the records of a store.")
    parser.add_argument("url", nargs="?", help="URL of the store at the SQL door; a temporary one if left out")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"kvdialect+rocksdb:///{folder}/books"
        uvicorn.run(create_app(url), port=arguments.port)


if __name__ == "__main__":
    main()
