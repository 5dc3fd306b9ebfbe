import sys
from pathlib import Path

# `python python/examples/packet_pipeline` works as `python -m packet_pipeline` does.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from packet_pipeline.host import main

if __name__ == "__main__":
    sys.exit(main())
