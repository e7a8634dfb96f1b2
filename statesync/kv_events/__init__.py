"""What engines say of their KV caches, and a prefix index that uses it. Imported only where a pool has `kv_events`."""
