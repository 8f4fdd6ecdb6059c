"""emert-edge: one file a command."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; ends the process with 0, 1 (the work failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    try:
        signal.signal(signal.SIGTERM, _terminated)
        from emert_edge.cli.app import run_command_line  # here, so that Ctrl-C while it loads ends as quietly as later

        run_command_line(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except ImportError as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(f"emert-edge: a library is missing or broken ({error}); `emert-edge doctor` says which")


def _terminated(number: int, frame: object) -> None:
    """End as an error would: what was written aside is cleared away."""
    sys.exit(128 + number)
