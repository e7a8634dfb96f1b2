"""What streams cost that outlive their pod or their replica."""
