"""Known vulnerabilities of what is installed, by pip-audit: ``tox -e audit``.

One that is found fails. Where the service that knows them cannot be reached, as offline, a message says that nothing
was audited, and it passes: a change is not worse for that. Arguments go to pip-audit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

UNREACHABLE = (
    "ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "Max retries exceeded", "HTTPError",
    "ServiceError", "ConnectionResetError", "NewConnectionError", "NameResolutionError", "failed to connect",
    "Connection refused", "RetryError", "Tip: your network may be blocking", "Couldn't connect",
)  # fmt: skip
"""What pip-audit says where the service gives no answer, or one that is none of its own."""

PATIENCE = 300


def vulnerable(report: dict[str, Any]) -> list[str]:
    """The vulnerabilities that a report names, a line each."""
    return [
        f"{each['name']} {each['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no release'}"
        for each in report["dependencies"]
        for found in each.get("vulns", ())
    ]


def main(arguments: Sequence[str]) -> int:
    """Audit, and say what came of it."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"dependencies not audited: the vulnerability service gave no answer within {PATIENCE} s")
        return 0
    try:
        report = json.loads(done.stdout)
    except ValueError:
        words = done.stderr.strip().splitlines() or ["no message"]
        if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
            print(f"dependencies not audited: the vulnerability service cannot be reached ({words[-1][:300]})")
            return 0
        print(f"pip-audit failed with status {done.returncode}:\n{done.stderr[-3000:]}", file=sys.stderr)
        return 1
    found = vulnerable(report)
    audited = [each for each in report["dependencies"] if "vulns" in each]
    if not audited and not done.returncode:
        # An index that mirrors packages may have nothing of what is known about them.
        print(f"dependencies not audited: the service knows none of {len(report['dependencies'])} packages")
        return 0
    print(f"{len(audited)} packages audited, {len(found)} vulnerabilities found", *found, sep="\n")
    return 1 if found or done.returncode else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
