-- The application's own table.
create schema if not exists shop;
create table if not exists shop.purchase (
    id    bigint primary key,
    total numeric not null check (total > 0),
    at    timestamptz not null default now()
);
