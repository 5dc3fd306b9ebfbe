import sys
from pathlib import Path

# `python python/examples/trading` works as `python -m trading` does.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trading.host import main

if __name__ == "__main__":
    sys.exit(main())
