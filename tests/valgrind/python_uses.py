"""Every public call of the Python package once, as tests/python/test_leaks.py has them,
for a run under valgrind."""

import logging
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from test_leaks import CASES, SLOW_CASES, World

logging.getLogger("memguard").disabled = True
warnings.simplefilter("ignore")
for name, (call, _) in (CASES | SLOW_CASES).items():
    print(name, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        call(world)
        world.close()
print("well")
