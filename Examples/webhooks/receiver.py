"""A receiver of webhooks, as a customer would write it, without dependencies.

It checks the signature of each request as Standard Webhooks describes it, ignores repetitions, and prints one line for
each new message.

Usage: receiver.py PORT SECRET, where the port 0 is any that is free
"""

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # Seconds. An older request may be one that somebody recorded and sends again.


def is_signed(secret: str, headers, body: bytes) -> bool:
    """Whether one of the signatures in the headers is right, and the request is not old."""
    number, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > TOLERANCE:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{number}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(wanted, given) for given in headers.get("webhook-signature", "").split())


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is signed, and 401 to everything else."""

    secret = ""
    seen: set = set()  # A real receiver keeps these in its database.

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not is_signed(self.secret, self.headers, body):
            return self.answer(401)
        if self.headers["webhook-id"] not in self.seen:
            self.seen.add(self.headers["webhook-id"])
            message = json.loads(body)
            print(message["type"], json.dumps(message["data"]), flush=True)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Receiver.secret = sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/in", file=sys.stderr, flush=True)
    server.serve_forever()
