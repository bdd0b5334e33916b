"""Everything that acting does, from an empty folder on, in a process that is recorded; it speaks into a file there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from acting import Steps, act
from ledger import make
from writing_process import say

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    make(folder)
    say("made")
    act(folder, Steps(None))
