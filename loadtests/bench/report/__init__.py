"""What reports share: the machine and versions they were measured on."""
