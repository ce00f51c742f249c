-- The number of a release, given to it the first time, and the number of a run of its own.
insert into cos_read_side_releases as r (release)
values (%(release)s)
on conflict (release) do update set release = r.release
returning r.generation, nextval('cos_read_side_runs')
