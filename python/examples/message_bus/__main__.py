import sys
from pathlib import Path

# `python python/examples/message_bus` works as `python -m message_bus` does.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from message_bus.host import main

if __name__ == "__main__":
    sys.exit(main())
