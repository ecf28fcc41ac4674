"""A handler that does nothing, for benchmarks."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from breakwater_stdio import serve  # noqa: E402

serve(lambda job: None)
