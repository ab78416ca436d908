"""What people look at: the report page, the comparison of the stores. Looking changes nothing."""
