// Records a purchase and enqueues its receipt, in one transaction.
//
// Usage: node outbox.js PURCHASE TOTAL

const { Client } = require("pg");

// Records a purchase, enqueues its receipt, and returns the job's id.
async function buy(client, purchase, total) {
  await client.query("BEGIN");
  try {
    await client.query("INSERT INTO shop.purchase (id, total) VALUES ($1, $2)", [purchase, total]);
    const { rows } = await client.query(
      "SELECT breakwater.enqueue('receipt.send', $1::jsonb, unique_key => $2) AS id",
      [JSON.stringify({ purchase }), `receipt-${purchase}`],
    );
    await client.query("COMMIT");
    return rows[0].id;
  } catch (error) {
    // There is neither a purchase nor a job.
    await client.query("ROLLBACK");
    throw error;
  }
}

async function main([purchase, total]) {
  if (total === undefined) throw new Error("usage: node outbox.js PURCHASE TOTAL");
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  try {
    console.log("job", await buy(client, Number(purchase), total));
  } finally {
    await client.end();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
