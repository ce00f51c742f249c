-- Whether this change of types is known, and whether Chief of State has written to the journal.
select
    exists (select from cos_type_changes where old_type = %(old)s and new_type = %(new)s),
    exists (select from cos_journal_writers where writer = 'chief_of_state')
