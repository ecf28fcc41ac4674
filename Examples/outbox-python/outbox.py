"""Records a purchase and enqueues its receipt, in one transaction.

Usage: outbox.py PURCHASE TOTAL
"""

import os
import sys

import psycopg
from psycopg.types.json import Jsonb


def buy(connection: psycopg.Connection, purchase: int, total: str) -> int:
    """Records a purchase, enqueues its receipt, and returns the job's id."""
    # The block is one transaction: if anything in it fails, there is neither a purchase nor a job.
    with connection.transaction():
        connection.execute("INSERT INTO shop.purchase (id, total) VALUES (%s, %s)", (purchase, total))
        row = connection.execute(
            "SELECT breakwater.enqueue('receipt.send', %s, unique_key => %s)",
            (Jsonb({"purchase": purchase}), f"receipt-{purchase}"),
        ).fetchone()
    return row[0]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        print("job", buy(database, int(sys.argv[1]), sys.argv[2]))
