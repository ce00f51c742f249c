-- By which version of its library the database's texts were sorted when it was made, and by which one
-- now, where these differ. Only databases that sort by a library know of versions.
select datcollversion, pg_database_collation_actual_version(oid)
from pg_database
where datname = current_database()
    and datcollversion <> pg_database_collation_actual_version(oid)
