-- Put down for good that Chief of State has written to the journal.
insert into cos_journal_writers (writer) values ('chief_of_state') on conflict do nothing
