#!/usr/bin/env python3
"""Print the summaries of all runs below a folder, the newest first: .ci/job_summary.py [FOLDER] >> "$GITHUB_STEP_SUMMARY" """

import sys
from pathlib import Path

from summaries import fitted, summaries

LIMIT = 1024 * 1024  # of a job's page, in bytes

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    sys.stdout.buffer.write(fitted("\n".join(summaries(folder)), LIMIT).encode())
