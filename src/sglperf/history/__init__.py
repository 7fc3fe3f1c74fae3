"""Every run's results in a database: SQLite, or PostgreSQL where several machines write."""
