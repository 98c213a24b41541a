"""What people see: terminal tables, pictures, and the one-file HTML report."""
