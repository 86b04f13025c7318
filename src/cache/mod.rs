//! Caching as data: rules, plans and the session that runs them.
