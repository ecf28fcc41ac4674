-- One endpoint for each customer: psql --set url=… --set secret=whsec_… --file endpoints.sql
select breakwater.set_endpoint('acme', :'url', array[:'secret'], reason => 'acme has signed up');

-- An event for it. Enqueue in the transaction that causes the event.
insert into breakwater.job (kind, payload)
values ('webhook.deliver',
        '{"endpoint": "acme", "type": "order.paid", "at": "2030-01-31T08:00:00Z", "data": {"order": 7}}');
