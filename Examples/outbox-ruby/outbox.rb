# frozen_string_literal: true

# Records a purchase and enqueues its receipt, in one transaction.
#
# Usage: ruby outbox.rb PURCHASE TOTAL

require "json"
require "pg"

# Records a purchase, enqueues its receipt, and returns the job's id.
def buy(connection, purchase, total)
  # If anything in the block fails, there is neither a purchase nor a job.
  connection.transaction do
    connection.exec_params("INSERT INTO shop.purchase (id, total) VALUES ($1, $2)", [purchase, total])
    rows = connection.exec_params(
      "SELECT breakwater.enqueue('receipt.send', $1::jsonb, unique_key => $2) AS id",
      [JSON.generate(purchase: purchase), "receipt-#{purchase}"]
    )
    rows[0]["id"]
  end
end

abort "usage: ruby outbox.rb PURCHASE TOTAL" unless ARGV.size == 2
connection = PG.connect(ENV.fetch("DATABASE_URL"))
begin
  puts "job #{buy(connection, Integer(ARGV[0]), ARGV[1])}"
rescue PG::Error => e
  abort e.message
ensure
  connection.close
end
