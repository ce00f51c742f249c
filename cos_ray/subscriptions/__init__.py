"""Live streams of events: tailing the journal and fanning out, bounded per listener. To come."""
