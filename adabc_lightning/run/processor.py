"""Which processor this is."""

import hashlib
import platform
import re
from pathlib import Path


def processor() -> str:
    """Its make and model, as far as the system says."""
    named = re.search(r"^model name\s*:\s*(.+)$", _information(), re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def fingerprint() -> str:
    """Eight hex digits of what it can do: clouds give processors of several kinds one name."""
    told = re.findall(r"^(?:cpu family|model|stepping|flags|Features)\s*:.*$", _information(), re.M)
    return hashlib.sha256("\n".join(sorted(set(told))).encode()).hexdigest()[:8]


def _information() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
