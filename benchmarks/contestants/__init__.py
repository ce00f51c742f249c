"""Who is measured: the service in its forms, its peers, and what its parts could do at best."""
