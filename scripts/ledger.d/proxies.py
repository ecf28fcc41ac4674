"""Proxies in front of two servers, which drop connections now and then.

    proxies.py SECONDS SEED PORT...

Prints the port of the proxy of each server. About every SECONDS, for half a second, the proxies either break connections
before the server's answers come through (so a COMMIT may have happened or not), or in the middle of what is sent. Ends
with its parent.
"""

import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "chaos.d"))
from proxy import Proxy  # noqa: E402

pause, seed = float(sys.argv[1]), int(sys.argv[2])
parent = os.getppid()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
proxies = [Proxy(int(port)) for port in sys.argv[3:]]
print(*[proxy.port for proxy in proxies], flush=True)
dice = random.Random(seed)
while os.getppid() == parent:
    time.sleep(pause * dice.uniform(0.5, 1.5))
    mode = dice.choice(["unanswered", "resets"])
    for proxy in proxies:
        proxy.set_mode(mode, dice.randrange(1 << 30))
    print(mode, file=sys.stderr, flush=True)
    time.sleep(0.5)
    for proxy in proxies:
        proxy.set_mode(None)
