insert into breakwater.schema_version (version, name) values (1, '0001_initial');
