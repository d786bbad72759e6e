"""``python -m text4seg_client``: the same as ``text4seg``."""

import sys

from text4seg_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
