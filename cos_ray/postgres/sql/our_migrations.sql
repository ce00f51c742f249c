-- Which of our own migrations have been applied.
create table if not exists cos_ray_migrations (
    number integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
)
