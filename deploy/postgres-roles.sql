-- The roles for compose.yaml, which are created with the database. Breakwater's own roles are created here as well, so
-- that the schema's owner needs no privilege to create roles.
\getenv owner_password OWNER_PASSWORD
\getenv worker_password WORKER_PASSWORD
\getenv admin_password ADMIN_PASSWORD
create role breakwater_enqueue nologin;
create role breakwater_worker nologin;
create role breakwater_admin nologin;
create role breakwater_monitor nologin;
create role owner login password :'owner_password';
create role worker login password :'worker_password' in role breakwater_worker;
create role admin login password :'admin_password' in role breakwater_admin;
grant create on database breakwater to owner;
