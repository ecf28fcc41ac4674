"""A coroutine that does nothing, for benchmarks."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from breakwater_stdio import serve_async  # noqa: E402


async def handle(job):
    return None


serve_async(handle)
